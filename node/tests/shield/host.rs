//! Hosts that lack something, or have rules of their own.

use super::*;

#[test]
fn whom_the_firewall_keeps_out_the_shield_does_not_let_in() {
    site(|bench| {
        nft(FIREWALL);
        let mut shield = open();
        shield.raise(&endpoint()).unwrap();
        for (from, ipv6) in [("10.77.0.3:0", false), ("[fd77::3]:0", true)] {
            let from: SocketAddr = from.parse().unwrap();
            let error = bench.at_peer(|| {
                let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
                socket.bind(&from.into()).unwrap();
                socket.connect_timeout(&vip(ipv6).into(), Duration::from_millis(1_500)).unwrap_err()
            });
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            bench.at_peer(|| visit(vip(ipv6)).unwrap());
        }
        assert_eq!(counts().unwrap().syns, 2, "the proxy saw those alone who may come");
    });
}

#[test]
fn ipv6_is_left_alone_where_the_kernels_proxy_would_drop_it() {
    site(|bench| {
        let mut shield = open();
        shield.raise(&endpoint()).unwrap();
        let flood = Flood::through(Card::IsPlain, bench, true, PORT);
        let visitors = Visitors::start(bench, false);
        let mut told = None;
        wait_for("the shield to notice", || {
            told = shield.tend().err();
            told.is_some()
        });
        assert!(matches!(told, Some(ShieldError::Mute { family: "IPv6" })), "{told:?}");
        bench.at_peer(|| visit(vip(true)).unwrap());
        assert!(shield.is_raised(), "for IPv4 it stands");
        meanwhile(&visitors, Duration::from_millis(500));
        drop(flood);
        assert_eq!(visitors.stop().failures, [""; 0]);
        assert_eq!(shield.tend().unwrap(), State::Raised);
        let only6 = [(VIP6.into(), vec![PORT])];
        assert!(matches!(shield.raise(&only6), Err(ShieldError::Mute { family: "IPv6" })));
    });
}

#[test]
fn a_shield_that_keeps_everybody_out_is_lowered() {
    site(|bench| {
        // Before the input hook: the proxy never sees an ACK.
        nft("table inet strict {
            chain prerouting {
                type filter hook prerouting priority -150;
                iif uplink tcp flags & (syn | ack) == ack ct state new drop
            }
        }");
        let mut shield = open();
        let _visitor = Idler::start(bench, false);
        shield.raise(&endpoint()).unwrap();
        let flood = Flood::start(bench, false, PORT);
        let (start, mut told) = (Instant::now(), None);
        while told.is_none() && start.elapsed() < Duration::from_secs(10) {
            told = shield.tend().err();
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(matches!(told, Some(ShieldError::Starved)), "{told:?}");
        println!("FIGURE a starved shield was lowered after {:?}", start.elapsed());
        bench.at_peer(|| visit(vip(false)).unwrap());
        drop(flood);
        assert!(!shield.is_raised());
        assert!(matches!(shield.raise(&endpoint()), Err(ShieldError::Starved)));
    });
}

#[test]
fn cookies_are_switched_on_and_set_back_unless_somebody_else_changed_them() {
    site(|_| {
        for (found, changed_to, left) in [("0", None, 0), ("0", Some("2"), 2), ("1", None, 1), ("2", None, 2)]
        {
            sysctl("ipv4/tcp_syncookies", found);
            let (shield, notices) = Shield::open("uplink");
            let switched_on = Notice::Cookies(CookieNotice::SwitchedOn);
            assert_eq!(notices.contains(&switched_on), found == "0");
            assert_eq!(cookies::read().unwrap(), found.parse::<u8>().unwrap().max(1));
            if let Some(value) = changed_to {
                sysctl("ipv4/tcp_syncookies", value);
            }
            shield.close().unwrap();
            assert_eq!(cookies::read().unwrap(), left);
        }
        forbid_cookies();
        let (shield, notices) = Shield::open("uplink");
        let Some(Notice::Cookies(notice @ CookieNotice::Off { .. })) = notices.first() else {
            panic!("{notices:?}")
        };
        println!("TOLD {notice}");
        shield.close().unwrap();
    });
}

/// As in a container: no cookies, and nobody may change that.
fn forbid_cookies() {
    sysctl("ipv4/tcp_syncookies", "0");
    mount_bind("/proc/sys/net", "/proc/sys/net").unwrap();
    mount_remount("/proc/sys/net", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
}

#[test]
fn where_cookies_cannot_be_had_the_shield_brings_visitors_back() {
    site(|bench| {
        forbid_cookies();
        let (mut shield, _) = Shield::open("uplink");
        for ipv6 in [false, true] {
            let flood = Flood::start(bench, ipv6, PORT);
            let lost = visited(bench, ipv6);
            shield.raise(&endpoint()).unwrap();
            let start = Instant::now();
            let visitors = Visitors::start(bench, ipv6);
            while visitors.served() < 1_000 {
                assert!(start.elapsed() < Duration::from_secs(60), "{} served", visitors.served());
                std::thread::sleep(Duration::from_millis(10));
            }
            println!(
                "FIGURE without cookies, {}: {} before, 1000 served {:?} after raising",
                if ipv6 { "IPv6" } else { "IPv4" },
                lost.told(),
                start.elapsed()
            );
            println!("FIGURE meanwhile {}", visitors.stop().told());
            flood.stop();
            shield.lower().unwrap();
            tend_until(&mut shield, State::Lowered);
        }
    });
}

/// Puts a script in nft's place, in this test's mount namespace.
fn replace_nft(script: &str) {
    let nft =
        ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].into_iter().find(|path| fs::exists(path).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let fake = directory.path().join("nft");
    fs::write(&fake, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    mount_bind(&fake, nft.expect("nftables is installed")).unwrap();
}

#[test]
fn without_synproxy_cookies_serve_alone_and_that_is_said() {
    site(|bench| {
        sysctl("ipv4/tcp_syncookies", "0");
        replace_nft("echo 'Error: Could not process rule: No such file or directory' >&2; exit 1");
        let (mut shield, notices) = Shield::open("uplink");
        let [Notice::Cookies(CookieNotice::SwitchedOn), notice @ Notice::NoProxy { .. }] = &notices[..]
        else {
            panic!("{notices:?}")
        };
        println!("TOLD {notice}");
        let error = shield.raise(&endpoint()).unwrap_err();
        assert!(matches!(error, ShieldError::NoProxy(_)), "{error}");
        assert_eq!((shield.state(), shield.tend().unwrap()), (State::Lowered, State::Lowered));
        let flood = Flood::start(bench, false, PORT);
        let visitors = Visitors::start(bench, false);
        meanwhile(&visitors, Duration::from_secs(1));
        drop(flood);
        assert_eq!(visitors.stop().failures, [""; 0]);
        shield.close().unwrap();
    });
}

#[test]
fn an_nft_that_hangs_does_not_hang_the_shield() {
    site(|_| {
        let mut shield = open();
        replace_nft("exec sleep 60");
        let start = Instant::now();
        assert!(shield.raise(&endpoint()).is_err());
        let took = start.elapsed();
        println!("FIGURE a hanging nft cost {took:?}");
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(shield.state(), State::Lowered);
    });
}
