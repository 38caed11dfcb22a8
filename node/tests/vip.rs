//! The vip driver against the real kernel: two hosts on a wire, in namespaces of their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{
    Bench, HERE_MAC, HERE4, PEER_MAC, PEER4, PEER6, VIP4, VIP6, bench, in_ms, ip, percentiles, wait_for,
};
use std::{
    future::Future,
    net::IpAddr,
    time::{Duration, Instant as Stopwatch},
};
use stead_node::{
    kernel::gate::{Gate, GateConfig},
    sys::now,
    vip::{
        Presence, Vip,
        announce::{Announcements, Announcer, Order, due},
        probe::{Probe, probe},
        rtnl::{Rtnl, RtnlError},
        watch::{Event, Watch},
    },
};

const BOTH: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

/// Runs `future` in this thread, and so in this thread's namespace.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Whether the peer can open a connection to `address`.
fn answers(bench: &Bench, address: IpAddr) -> bool {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    bench.at_peer(|| {
        std::net::TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(2)).is_ok()
    })
}

#[test]
fn claiming_and_releasing_are_idempotent() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        for address in BOTH {
            assert_eq!(vip.presence(address).unwrap(), Presence::Absent);
            vip.release(address).unwrap();
            for _ in 0..2 {
                vip.claim(address, bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
                assert_eq!(vip.presence(address).unwrap(), Presence::Ours { ifindex: bench.uplink.ifindex });
                assert!(answers(bench, address), "{address} answers");
            }
            for _ in 0..2 {
                vip.release(address).unwrap();
                assert_eq!(vip.presence(address).unwrap(), Presence::Absent);
            }
        }
    });
}

#[test]
fn nothing_uses_a_claimed_address_as_its_source() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        for address in BOTH {
            vip.claim(address, bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
        }
        for to in ["10.77.0.2", "fd77::2"] {
            let route = ip(&format!("route get {to}"));
            assert!(route.contains("src 10.77.0.1 ") || route.contains("src fd77::1 "), "{route}");
        }
        ip("route add default via 10.77.0.2");
        let route = ip("route get 192.0.2.7");
        assert!(route.contains("src 10.77.0.1 "), "{route}");
    });
}

#[test]
fn an_address_is_no_source_even_where_it_is_the_only_one() {
    bench(|bench| {
        ip("addr del 10.77.0.1/24 dev uplink");
        ip("route add 10.77.0.0/24 dev uplink scope link");
        Vip::open().unwrap().claim(VIP4.into(), bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
        let route = ip("route get 10.77.0.2");
        assert!(!route.contains(&VIP4.to_string()), "{route}");
    });
}

#[test]
fn what_an_earlier_run_left_is_recognised_and_what_others_own_is_not() {
    bench(|bench| {
        let mut earlier = Vip::open().unwrap();
        for address in BOTH {
            earlier.claim(address, bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
        }
        assert_eq!(earlier.leftovers().unwrap(), []);
        let mut later = Vip::open().unwrap();
        let left = later.leftovers().unwrap();
        assert_eq!(left, BOTH.map(|address| (address, bench.uplink.ifindex)));
        let foreign = Presence::Foreign { ifindex: bench.uplink.ifindex };
        assert_eq!(later.presence(HERE4.into()).unwrap(), foreign);
        for address in BOTH {
            later.release(address).unwrap();
        }
        assert_eq!(later.leftovers().unwrap(), []);
    });
}

#[test]
fn extending_seldom_costs_a_system_call_and_brings_back_what_was_deleted() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        let start = now();
        let at = |ms| start.after(stead_proto::time::Span::from_ms(ms));
        assert!(!vip.extend(VIP4.into(), at(0), at(1_500)).unwrap(), "it was never claimed");
        vip.claim(VIP4.into(), bench.uplink.ifindex, at(0), at(1_500)).unwrap();
        let told =
            (1..=20).filter(|beat| vip.extend(VIP4.into(), at(beat * 100), at(beat * 100 + 1_500)).unwrap());
        assert!(told.count() <= 4);
        ip("addr del 10.77.0.100/32 dev uplink");
        assert!(vip.extend(VIP4.into(), at(4_000), at(5_500)).unwrap());
        assert_eq!(vip.presence(VIP4.into()).unwrap(), Presence::Ours { ifindex: bench.uplink.ifindex });
    });
}

#[test]
fn an_abandoned_address_disappears_by_itself() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        let valid_until = in_ms(1_000);
        for address in BOTH {
            vip.claim(address, bench.uplink.ifindex, now(), valid_until).unwrap();
        }
        wait_for("both addresses to expire", || {
            let gone = BOTH.map(|address| vip.presence(address).unwrap() == Presence::Absent);
            assert!(now() > valid_until || gone == [false, false], "gone before its time");
            gone == [true, true]
        });
        let late = now().since(valid_until);
        println!("FIGURE lifetime: gone {} after the lease's end", late);
    });
}

#[test]
fn errors_say_what_is_missing_and_what_to_do() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        let no_interface = vip.claim(VIP4.into(), 4_711, now(), in_ms(1_000)).unwrap_err();
        assert!(matches!(no_interface, RtnlError::NoInterface), "{no_interface}");
        assert!(matches!(Rtnl::open().unwrap().link(4_711), Err(RtnlError::NoInterface)));
        std::fs::write("/proc/sys/net/ipv6/conf/uplink/disable_ipv6", "1").unwrap();
        let no_ipv6 = vip.claim(VIP6.into(), bench.uplink.ifindex, now(), in_ms(1_000)).unwrap_err();
        assert!(matches!(no_ipv6, RtnlError::NoIpv6), "{no_ipv6:?}");
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )
        .unwrap();
        let not_permitted = vip.claim(VIP4.into(), bench.uplink.ifindex, now(), in_ms(1_000)).unwrap_err();
        assert!(not_permitted.to_string().contains("CAP_NET_ADMIN"), "{not_permitted}");
        let silent = Announcer::open(&bench.uplink).unwrap_err();
        assert!(silent.to_string().contains("CAP_NET_RAW"), "{silent}");
    });
}

#[test]
fn neighbours_follow_an_announcement_at_once() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        let announcer = Announcer::open(&bench.uplink).unwrap();
        for address in BOTH {
            // The neighbour believes the address to be at its old holder.
            bench.at_peer(|| {
                ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:99 dev wire nud stale"))
            });
            let start = Stopwatch::now();
            vip.claim(address, bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
            announcer.announce(address).unwrap();
            let said = start.elapsed();
            let moved =
                || bench.at_peer(|| ip(&format!("neigh show {address}"))).contains("02:00:00:00:00:01");
            wait_for("the neighbour to follow", moved);
            println!("FIGURE claim and announcement of {address}: {said:?}");
        }
    });
}

#[test]
fn the_burst_follows_the_schedule_and_again_starts_over() {
    bench(|bench| {
        let tap = bench.tap();
        let announcement =
            |frame: &[u8]| frame.get(12..14) == Some(&[8, 6]) && frame[6..12] == HERE_MAC && frame[21] == 1;
        let hear = |count: usize, since: stead_proto::time::Instant| -> Vec<u64> {
            let next = || tap.find(Duration::from_secs(5), announcement).expect("one more announcement").0;
            (0..count).map(|_| next().since(since).as_ms()).collect()
        };
        let announcer = Announcer::open(&bench.uplink).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let announcements = runtime.block_on(async { Announcements::spawn(announcer) });

        let start = now();
        assert!(announcements.order(Order::Start(VIP4.into())));
        let heard_ms = hear(5, start);
        println!("FIGURE announcements heard after, ms: {heard_ms:?}");
        let due_ms: Vec<u64> = (0..5).map_while(due).map(stead_proto::time::Span::as_ms).collect();
        assert!(heard_ms.iter().zip(&due_ms).all(|(heard, due)| heard >= due), "not before their time");
        assert!(heard_ms[4] < 1_000, "the burst is over within a second");

        let start = now();
        assert!(announcements.order(Order::Again));
        let heard_ms = hear(3, start);
        assert!(heard_ms[2] < 400, "connectivity is back, so the burst starts over: {heard_ms:?}");
    });
}

#[test]
fn a_probe_finds_a_host_that_has_the_address_and_nobody_else() {
    bench(|bench| {
        let ask =
            |address: IpAddr| block_on(probe(&bench.uplink, address, Duration::from_millis(300))).unwrap();
        for (address, peers) in [(VIP4.into(), PEER4.into()), (VIP6.into(), IpAddr::from(PEER6))] {
            assert_eq!(ask(address), Probe::Free);
            let start = Stopwatch::now();
            assert_eq!(ask(peers), Probe::TakenBy(PEER_MAC));
            println!("FIGURE probe of a taken {peers}: {:?}", start.elapsed());
        }
    });
}

#[test]
fn a_probe_works_behind_a_closed_gate() {
    bench(|bench| {
        let taken = [IpAddr::V4(PEER4), IpAddr::V6(PEER6)];
        let config = GateConfig {
            uplink_ifindex: bench.uplink.ifindex,
            instance: "probe".into(),
            addresses: taken.to_vec(),
            wanted: None,
        };
        Gate::open(&config).unwrap();
        for address in taken {
            let found = block_on(probe(&bench.uplink, address, Duration::from_millis(300))).unwrap();
            assert_eq!(found, Probe::TakenBy(PEER_MAC), "{address}");
        }
    });
}

#[test]
fn what_happens_behind_our_back_is_told_within_50_ms() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        block_on(async {
            let mut watch = Watch::open().unwrap();
            let ifindex = bench.uplink.ifindex;
            let mut late_us = Vec::new();
            for _ in 0..20 {
                for address in BOTH {
                    vip.claim(address, ifindex, now(), in_ms(30_000)).unwrap();
                    await_event(&mut watch, |event| {
                        *event == Event::AddressPut { address, ifindex, ours: true }
                    })
                    .await;
                    Rtnl::open().unwrap().remove_address(address, ifindex).unwrap();
                    let start = Stopwatch::now();
                    await_event(&mut watch, |event| *event == Event::AddressGone { address, ifindex }).await;
                    late_us.push(i64::try_from(start.elapsed().as_micros()).unwrap());
                }
            }
            assert!(late_us.iter().all(|us| *us < 50_000));
            println!("FIGURE deletion seen after, µs: {}", percentiles(late_us));
        });
    });
}

#[test]
fn an_interface_that_goes_down_is_renamed_or_vanishes_is_told() {
    bench(|bench| {
        block_on(async {
            let mut watch = Watch::open().unwrap();
            let ifindex = bench.uplink.ifindex;
            ip("link set uplink down");
            await_event(&mut watch, |event| matches!(event, Event::LinkDown { ifindex: i, name } if *i == ifindex && name == "uplink")).await;
            ip("link set uplink name other");
            await_event(&mut watch, |event| matches!(event, Event::LinkRenamed { from, to, .. } if from == "uplink" && to == "other")).await;
            ip("link set other up");
            await_event(
                &mut watch,
                |event| matches!(event, Event::LinkUp { ifindex: i, .. } if *i == ifindex),
            )
            .await;
            // Pulling the other end is a lost carrier.
            bench.at_peer(|| ip("link set wire down"));
            await_event(
                &mut watch,
                |event| matches!(event, Event::LinkDown { ifindex: i, .. } if *i == ifindex),
            )
            .await;
            ip("link del other");
            await_event(
                &mut watch,
                |event| matches!(event, Event::LinkGone { ifindex: i, .. } if *i == ifindex),
            )
            .await;
        });
    });
}

#[test]
fn an_overflow_is_told_instead_of_hidden() {
    bench(|bench| {
        let mut vip = Vip::open().unwrap();
        block_on(async {
            let mut watch = Watch::open().unwrap();
            // Nobody reads meanwhile; each round is two messages, and the default buffer holds some hundreds.
            for _ in 0..3_000 {
                vip.claim(VIP4.into(), bench.uplink.ifindex, now(), in_ms(30_000)).unwrap();
                vip.release(VIP4.into()).unwrap();
            }
            await_event(&mut watch, |event| *event == Event::Missed).await;
        });
    });
}

async fn await_event(watch: &mut Watch, wanted: impl Fn(&Event) -> bool) {
    let search = async { while !wanted(&watch.next().await.unwrap()) {} };
    tokio::time::timeout(Duration::from_secs(5), search).await.expect("the event comes");
}
