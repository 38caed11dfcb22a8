//! The shield against the real kernel: a flood of invented sources, and real visitors beside it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "shield/across.rs"]
mod across;
mod common;
#[path = "shield/flood.rs"]
mod flood;
#[path = "shield/host.rs"]
mod host;
#[path = "shield/visitors.rs"]
mod visitors;

use common::{Bench, VIP4, VIP6, bench, ip, wait_for};
use flood::{Card, Flood};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use stead_node::shield::{
    Counts, Notice, ShieldError,
    cookies::{self, CookieNotice},
    counts,
    proxy::{Shield, State},
    queues::{Queue, queues},
};
use visitors::{BACKLOG, Download, Goodput, Idler, PORT, Visitors, serve, vip, visit};

static TURN: Mutex<()> = Mutex::new(());
const LASTS: Duration = Duration::from_secs(5);
/// Handshakes may straddle a change for so long; then the shield may end its draining.
const GRACE: Duration = Duration::from_secs(4);

/// A bench whose near side serves the endpoint and routes its answers to invented visitors to the peer.
fn site(test: impl FnOnce(&Bench) + Send + 'static) {
    // One at a time: a flood would count against somebody else's figures.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    bench(|bench| {
        ip("addr add 10.77.0.100/32 dev uplink");
        ip("addr add fd77::100/128 dev uplink nodad");
        ip(&format!("route add {} via 10.77.0.2", flood::SOURCES));
        ip(&format!("-6 route add {} via fd77::2", flood::SOURCES6));
        bench.at_peer(|| {
            ip("addr add 10.77.0.3/24 dev wire");
            // Nobody comes from there who is not told to.
            ip("addr add fd77::3/64 dev wire nodad preferred_lft 0");
        });
        serve();
        for ipv6 in [false, true] {
            bench.at_peer(|| visit(vip(ipv6)).unwrap());
        }
        test(bench);
    });
}

fn endpoint() -> Vec<(IpAddr, Vec<u16>)> {
    vec![(VIP4.into(), vec![PORT]), (VIP6.into(), vec![PORT])]
}

/// A shield on a host that lacks nothing.
fn open() -> Shield {
    let (shield, notices) = Shield::open("uplink");
    assert_eq!(notices, [], "nothing is missing on this machine");
    shield
}

fn nft(script: &str) -> String {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nftables is installed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}

fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// Entries of the connection table that floods have left.
fn tracked_of_flood() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
    let of_flood = |line: &&str| line.contains("src=10.200.") || line.contains("src=fd99:");
    table.lines().filter(of_flood).map(str::to_owned).collect()
}

fn tend_until(shield: &mut Shield, wanted: State) {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let state = shield.tend().unwrap();
        if state == wanted {
            return;
        }
        assert!(Instant::now() < end, "{state:?} and not {wanted:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets time pass in which visitors are served.
fn meanwhile(visitors: &Visitors, wait: Duration) {
    let (end, before) = (Instant::now() + wait, visitors.served());
    wait_for("visitors to be served", || Instant::now() > end && visitors.served() > before);
}

fn visited(bench: &Bench, ipv6: bool) -> Goodput {
    let visitors = Visitors::start(bench, ipv6);
    std::thread::sleep(LASTS);
    visitors.stop()
}

#[test]
fn visitors_are_served_beside_a_flood() {
    site(|bench| {
        for ipv6 in [false, true] {
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            let told = |what: &str, met: &Goodput, sent: u64| {
                println!("GOODPUT {family}, {what:32} {} | {sent} SYNs in {:?}", met.told(), met.lasted);
            };
            let calm = visited(bench, ipv6);
            told("no flood", &calm, 0);

            sysctl("ipv4/tcp_syncookies", "0");
            let flood = Flood::start(bench, ipv6, PORT);
            let lost = visited(bench, ipv6);
            told("flood, cookies off, backlog 128", &lost, flood.stop());

            sysctl("ipv4/tcp_syncookies", "1");
            let flood = Flood::start(bench, ipv6, PORT);
            let cookies = visited(bench, ipv6);
            told("flood, cookies", &cookies, flood.stop());

            let mut shield = open();
            let flood = Flood::start(bench, ipv6, PORT);
            shield.raise(&endpoint()).unwrap();
            let (before, tracked) = (counts().unwrap(), tracked_of_flood());
            let shielded = visited(bench, ipv6);
            let sent = flood.stop();
            let Counts { syns, handshakes, .. } = counts().unwrap();
            told("flood, shield raised", &shielded, sent);
            println!(
                "{} SYNs and {} handshakes at the proxy",
                syns - before.syns,
                handshakes - before.handshakes
            );
            // Some came while the kernel already tracked, and the rules did not stand yet.
            // Half a second of it: on a busy machine that is how long the rules take to stand.
            assert!(tracked.len() < 10_000, "{} of the flood are tracked", tracked.len());
            assert!(tracked_of_flood().len() <= tracked.len(), "the flood fills the connection table");
            shield.lower().unwrap();
            tend_until(&mut shield, State::Lowered);

            for met in [&calm, &cookies, &shielded] {
                assert_eq!(met.failures, [""; 0]);
            }
            assert!(lost.per_second() < calm.per_second() / 10.0, "the flood was one");
            assert!(shielded.per_second() > calm.per_second() / 4.0, "the shield helps");
            assert!(handshakes - before.handshakes >= u64::try_from(shielded.served_us.len()).unwrap());
        }
    });
}

/// A stateful firewall as many hosts have it, with somebody who may not come in.
const FIREWALL: &str = "
table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        ct state invalid drop
        ct state new tcp flags & (fin | syn | rst | ack) != syn drop
        meta l4proto { icmp, icmpv6 } accept
        ip saddr 10.77.0.3 drop
        ip6 saddr fd77::3 drop
        ct state new tcp dport 8080 accept
    }
}
";

fn rules_of_all() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_proxy_offers_what_the_listener_would() {
    site(|bench| {
        let tap = bench.tap();
        for mtu in ["1500", "1400"] {
            ip(&format!("link set uplink mtu {mtu}"));
            for ipv6 in [false, true] {
                let mut shield = open();
                let options = || {
                    tap.drain();
                    bench.at_peer(|| visit(vip(ipv6)).unwrap());
                    let found = tap.find(Duration::from_secs(2), |frame| syn_ack_options(frame).is_some());
                    syn_ack_options(&found.unwrap().1).unwrap()
                };
                let listener = options();
                shield.raise(&endpoint()).unwrap();
                let before = counts().unwrap().syns;
                assert_eq!((options(), counts().unwrap().syns), (listener, before + 1), "MTU {mtu}");
                shield.lower().unwrap();
                tend_until(&mut shield, State::Lowered);
            }
        }
    });
}

/// Kinds and lengths of a SYN-ACK's options in their order of kinds, with the values of those that have fixed ones.
fn syn_ack_options(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let tcp = match frame.get(12..14)? {
        [0x08, 0x00] if frame[23] == 6 => &frame[34..],
        [0x86, 0xdd] if frame[20] == 6 => &frame[54..],
        _ => return None,
    };
    (tcp[0..2] == PORT.to_be_bytes() && tcp[13] & 0x12 == 0x12).then_some(())?;
    let mut rest = &tcp[20..usize::from(tcp[12] >> 4) * 4];
    let mut options = vec![];
    while let [kind, ..] = rest {
        let length = if *kind < 2 { 1 } else { usize::from(rest[1]) };
        match kind {
            0 | 1 => {}
            8 => options.push(vec![8]),
            _ => options.push(rest[..length].to_vec()),
        }
        rest = &rest[length..];
    }
    options.sort();
    Some(options)
}

#[test]
fn a_syn_at_the_proxy_costs_little_more_than_at_the_listener() {
    site(|bench| {
        for ipv6 in [false, true] {
            // The queue is full, as it is in a flood.
            flood::cost_of_a_syn(bench, ipv6, PORT);
            let listener = flood::cost_of_a_syn(bench, ipv6, PORT);
            let mut shield = open();
            shield.raise(&endpoint()).unwrap();
            let before = counts().unwrap().syns;
            let proxy = flood::cost_of_a_syn(bench, ipv6, PORT);
            println!(
                "FIGURE {}: a SYN costs {listener:?} with cookies, {proxy:?} at the proxy, sending included ({} seen)",
                if ipv6 { "IPv6" } else { "IPv4" },
                counts().unwrap().syns - before
            );
            assert!(proxy < listener * 3, "{proxy:?} and {listener:?}");
            shield.lower().unwrap();
            tend_until(&mut shield, State::Lowered);
        }
    });
}
