//! The SYN limit against the real kernel: real senders, counted on the victim's side, in own namespaces.
//!
//! Needs root and nft.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::panic,
    unsafe_code,
    reason = "a test fails by panicking, and sends what only system calls can send"
)]

#[path = "guard/two.rs"]
mod two;
#[path = "guard/uplinks.rs"]
mod uplinks;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    mem::{size_of, zeroed},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::{Child, Command},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use stead_node::guard::{
    limiter::{Counters, Found, Guard},
    rules::Rung,
};
use stead_proto::guard::{Allowed, GuardPolicy, Prefix, Rate};

const PACE: u32 = 2_000;
const SECONDS: u32 = 2;
/// Limit and burst over the sending time, with one second of slack for a slow machine.
const TRICKLE_MAX: u64 = 10 + 10 * (SECONDS as u64 + 1);

/// Kills and collects its process, also on panic.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The victim's namespace, at the other end of the wire.
struct Peer(Reaped);

impl Peer {
    /// Waits until the process has a namespace of its own.
    fn entered(process: Reaped) -> Self {
        let peer = Self(process);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(peer.ns()).map_or(true, |ns| ns == own) {
            assert!(Instant::now() < end, "the peer has no namespace");
            thread::yield_now();
        }
        peer
    }

    fn ns(&self) -> String {
        format!("/proc/{}/ns/net", self.0.0.id())
    }

    fn sh(&self, line: &str) -> String {
        sh(&format!("nsenter --net={} {line}", self.ns()))
    }

    fn syns(&self) -> u64 {
        let said = self.sh("nft list counter netdev ear syn");
        said.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    }

    /// How many SYNs arrive while `send` runs.
    fn count(&self, send: impl FnOnce()) -> u64 {
        let before = self.syns();
        send();
        self.syns() - before
    }
}

fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs `test` in a namespace of its own, with a wire to a peer's. Returns nothing that outlives it.
fn on_a_wire(test: impl FnOnce(&Peer, u32) + Send + 'static) {
    let done = thread::spawn(move || {
        // SAFETY: changes the namespace of this thread only.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "this test needs root");
        let peer =
            Peer::entered(Reaped(Command::new("unshare").args(["-n", "sleep", "300"]).spawn().unwrap()));
        sh(&format!(
            "ip link add up0 address 02:00:00:00:00:01 type veth peer name dn0 address 02:00:00:00:00:02 netns {}",
            peer.0.0.id()
        ));
        sh(
            "ip addr add 10.78.0.1/24 dev up0 && ip addr add fd78::1/64 dev up0 nodad && ip link set up0 up && ip link set lo up",
        );
        peer.sh("ip addr add 10.78.0.2/24 dev dn0");
        peer.sh("ip addr add 10.78.0.3/24 dev dn0");
        peer.sh("ip link set dn0 up");
        sh("ip neigh replace 10.78.0.2 lladdr 02:00:00:00:00:02 dev up0");
        listen_for_syns(&peer);
        let index = std::fs::read_to_string("/proc/thread-self/net/dev").map(|_| sh("ip -o link show up0"));
        let index = index.unwrap().split(':').next().unwrap().parse().unwrap();
        test(&peer, index);
    });
    done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Counts the SYNs that arrive, with and without a tag, from zero.
fn listen_for_syns(peer: &Peer) {
    peer.sh("nft flush ruleset");
    for line in [
        "add table netdev ear",
        "add counter netdev ear syn",
        "'add chain netdev ear in { type filter hook ingress device dn0 priority 0; }'",
        "'add rule netdev ear in @ll,96,16 0x0800 @ll,184,8 6 @ll,376,8 & 0x12 == 0x02 counter name syn'",
        "'add rule netdev ear in @ll,96,16 0x8100 @ll,216,8 6 @ll,408,8 & 0x12 == 0x02 counter name syn'",
    ] {
        peer.sh(&format!("nft {line}"));
    }
}

/// Runs `work` on a thread in the namespace of a process.
fn inside<T: Send>(host: &Peer, work: impl FnOnce() -> T + Send) -> T {
    let ns = File::open(host.ns()).unwrap();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: changes the namespace of this thread only.
            assert_eq!(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open(index: u32, policy: GuardPolicy) -> Guard {
    let (guard, shortfalls) = Guard::open("up0", index, policy).unwrap();
    assert_eq!((guard.rung(), shortfalls), (Rung::NetdevEgress, vec![]));
    guard
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Connect,
    Raw,
    Packet,
    Bypass,
    Disguised,
    Tagged,
}

fn ip_syn(n: u32) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 78, 0, 1, 10, 78, 0, 2];
    let sum = ip.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend((1024 + n as u16 % 60_000).to_be_bytes());
    ip.extend([0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    ip
}

/// Sends SYNs at [`PACE`] for [`SECONDS`]; how many were handed to the kernel.
fn flood(way: Way, index: u32) {
    let start = Instant::now();
    // SAFETY: plain socket calls with structures that live through the call.
    unsafe {
        let (family, kind, protocol) = match way {
            Way::Connect | Way::Raw => (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
            Way::Packet | Way::Bypass | Way::Disguised | Way::Tagged => (libc::AF_PACKET, libc::SOCK_RAW, 0),
        };
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        assert!(fd >= 0);
        if matches!(way, Way::Bypass) {
            let one = 1_i32;
            let set =
                libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, (&raw const one).cast(), 4);
            assert_eq!(set, 0);
        }
        let mut to4: libc::sockaddr_in = zeroed();
        to4.sin_family = libc::AF_INET as u16;
        to4.sin_port = 9_u16.to_be();
        to4.sin_addr.s_addr = u32::from_ne_bytes([10, 78, 0, 2]);
        let mut link: libc::sockaddr_ll = zeroed();
        link.sll_family = libc::AF_PACKET as u16;
        link.sll_ifindex = index as i32;
        link.sll_protocol = match way {
            Way::Disguised => 0x88b5_u16.to_be(),
            Way::Tagged => 0x8100_u16.to_be(),
            Way::Connect | Way::Raw | Way::Packet | Way::Bypass => 0x0800_u16.to_be(),
        };
        for n in 0..PACE * SECONDS {
            while start.elapsed() < Duration::from_secs(1) * n / PACE {
                thread::sleep(Duration::from_micros(200));
            }
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
            if matches!(way, Way::Tagged) {
                frame.extend([0x81, 0, 0, 5]);
            }
            frame.extend([8, 0]);
            let ip = ip_syn(n);
            frame.extend(&ip);
            match way {
                Way::Connect => {
                    let tcp = libc::socket(
                        libc::AF_INET,
                        libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                        0,
                    );
                    libc::connect(tcp, (&raw const to4).cast(), size_of::<libc::sockaddr_in>() as u32);
                    libc::close(tcp);
                }
                Way::Raw => {
                    libc::sendto(
                        fd,
                        ip.as_ptr().cast(),
                        ip.len(),
                        0,
                        (&raw const to4).cast(),
                        size_of::<libc::sockaddr_in>() as u32,
                    );
                }
                Way::Packet | Way::Bypass | Way::Disguised | Way::Tagged => {
                    libc::sendto(
                        fd,
                        frame.as_ptr().cast(),
                        frame.len(),
                        0,
                        (&raw const link).cast(),
                        size_of::<libc::sockaddr_ll>() as u32,
                    );
                }
            }
        }
        libc::close(fd);
    }
}

#[test]
fn each_way_of_sending_passes_with_a_licence_and_trickles_without() {
    on_a_wire(|peer, index| {
        for way in [Way::Connect, Way::Raw, Way::Packet, Way::Bypass, Way::Disguised, Way::Tagged] {
            let policy = GuardPolicy { licence_ms: 30_000, ..GuardPolicy::default() };
            let mut guard = open(index, policy);
            guard.lift().unwrap();
            let free = peer.count(|| flood(way, index));
            assert!(free >= u64::from(PACE * SECONDS) * 9 / 10, "{way:?}: {free} passed with a licence");
            let start = Instant::now();
            guard.throttle().unwrap();
            let took = start.elapsed();
            let cut = peer.count(|| flood(way, index));
            println!(
                "FIGURE {way:?}: {free} licensed, {cut} throttled in {SECONDS} s; throttle took {took:?}"
            );
            assert!((1..=TRICKLE_MAX).contains(&cut), "{way:?}: {cut} passed without a licence");
            guard.close().unwrap();
        }
    });
}

#[test]
fn what_happens_several_times_a_second_costs_microseconds() {
    on_a_wire(|_, index| {
        let mut guard = open(index, GuardPolicy::default());
        let mut cost = |what: &str, calls: &mut dyn FnMut(&mut Guard)| {
            let start = Instant::now();
            (0..200).for_each(|_| calls(&mut guard));
            let each = start.elapsed() / 200;
            println!("FIGURE {what}: {each:?}");
            assert!(each < Duration::from_millis(5), "{what} takes {each:?}");
        };
        cost("renew", &mut |guard| guard.renew().unwrap());
        cost("counters", &mut |guard| assert_eq!(guard.counters().unwrap(), Counters::default()));
        cost("verify", &mut |guard| assert_eq!(guard.verify().unwrap(), Found::Intact));
        cost("throttle and lift", &mut |guard| {
            guard.throttle().unwrap();
            guard.lift().unwrap();
        });
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        guard.close().unwrap();
    });
}

#[test]
fn another_policy_loses_neither_counts_nor_licence_nor_throttle() {
    on_a_wire(|peer, index| {
        let mut guard = open(index, GuardPolicy { licence_ms: 30_000, ..GuardPolicy::default() });
        guard.renew().unwrap();
        assert!(peer.count(|| flood(Way::Raw, index)) > 3_000);
        let before = guard.counters().unwrap();
        let narrow = Rate { per_second: 100, burst: 10 };
        let policy = GuardPolicy { licence_ms: 30_000, ceiling: Some(narrow), ..GuardPolicy::default() };
        guard.follow(policy).unwrap();
        assert_eq!(guard.counters().unwrap(), before);
        let capped = peer.count(|| flood(Way::Raw, index));
        assert!((150..=350).contains(&capped), "{capped} passed below a ceiling of 100/s");
        guard.throttle().unwrap();
        guard.follow(GuardPolicy::default()).unwrap();
        assert!(guard.is_throttled());
        assert!((1..=TRICKLE_MAX).contains(&peer.count(|| flood(Way::Raw, index))));
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        guard.close().unwrap();
    });
}

#[test]
fn without_the_netdev_hook_the_output_hook_limits_what_passes_it() {
    on_a_wire(|peer, index| {
        let (mut guard, _) = Guard::open_at("up0", index, GuardPolicy::default(), Rung::InetOutput).unwrap();
        assert_eq!(guard.rung(), Rung::InetOutput);
        for way in [Way::Connect, Way::Raw] {
            assert!((1..=TRICKLE_MAX).contains(&peer.count(|| flood(way, index))), "{way:?}");
        }
        assert!(peer.count(|| flood(Way::Packet, index)) > 3_000, "that it escapes is what `cost` says");
        guard.renew().unwrap();
        assert!(peer.count(|| flood(Way::Raw, index)) > 3_000);
        guard.close().unwrap();
    });
}

#[test]
fn without_nft_there_is_no_limit_and_that_is_said_with_what_to_do() {
    on_a_wire(|_, index| {
        // SAFETY: this thread gets file systems of its own; the strings outlive the calls.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let private = libc::MS_PRIVATE | libc::MS_REC;
            let root = c"/".as_ptr();
            assert_eq!(libc::mount(root, root, root, private, std::ptr::null()), 0);
            for nft in [c"/usr/sbin/nft", c"/sbin/nft", c"/usr/bin/nft"] {
                libc::mount(c"/dev/null".as_ptr(), nft.as_ptr(), root, libc::MS_BIND, std::ptr::null());
            }
        }
        let (mut guard, shortfalls) = Guard::open("up0", index, GuardPolicy::default()).unwrap();
        assert_eq!(guard.rung(), Rung::None);
        let said = shortfalls.join("; ");
        assert!(said.contains("install the package nftables"), "{said}");
        assert!(Rung::None.cost().contains("nothing limits"), "what that costs");
        guard.renew().unwrap();
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        assert_eq!(guard.counters().unwrap(), Counters::default());
        guard.close().unwrap();
    });
}

#[test]
fn a_quarantined_host_reaches_only_its_friends_and_an_allowed_destination_has_its_own_rate() {
    on_a_wire(|peer, index| {
        let to = Prefix::host([10, 78, 0, 2].into());
        let rate = Rate { per_second: 100, burst: 10 };
        let policy =
            GuardPolicy { allowed: vec![Allowed { to, port: Some(9), rate }], ..GuardPolicy::default() };
        let mut guard = open(index, policy);
        guard.throttle().unwrap();
        let allowed = peer.count(|| flood(Way::Raw, index));
        assert!((150..=350).contains(&allowed), "{allowed} passed at 100/s");
        guard.quarantine(&[Prefix::host([10, 78, 0, 3].into())]).unwrap();
        assert_eq!(peer.count(|| flood(Way::Raw, index)), 0);
        let refused = guard.counters().unwrap().refused;
        assert!(refused >= u64::from(PACE * SECONDS) * 9 / 10, "{refused} refused");
        let _listener = listen_at(peer, "10.78.0.3:80");
        TcpStream::connect_timeout(&"10.78.0.3:80".parse().unwrap(), Duration::from_secs(2)).unwrap();
        guard.lift().unwrap();
        assert_eq!(peer.count(|| flood(Way::Raw, index)), 0, "a quarantine outlasts a throttle");
        guard.release().unwrap();
        guard.renew().unwrap();
        assert!(peer.count(|| flood(Way::Raw, index)) > 3_000);
        guard.close().unwrap();
    });
}

#[test]
fn a_second_agent_takes_over_and_a_stranger_who_deletes_is_found_out() {
    on_a_wire(|peer, index| {
        sh("nft add table netdev foreign && nft add counter netdev foreign mine");
        let mut first = open(index, GuardPolicy::default());
        first.throttle().unwrap();
        let passed = peer.count(|| flood(Way::Raw, index));
        assert!((1..=TRICKLE_MAX).contains(&passed));
        let before = first.counters().unwrap();
        drop(first);
        let mut second = open(index, GuardPolicy::default());
        assert_eq!(second.counters().unwrap(), before);
        assert!(second.is_throttled() && !second.is_quarantined(), "a throttle outlives its agent");
        assert_eq!(second.verify().unwrap(), Found::Intact);
        sh("nft add rule netdev foreign nothing 2>/dev/null || nft add chain netdev foreign nothing");
        assert_eq!(second.verify().unwrap(), Found::Intact, "what others do is theirs");
        for meddling in [
            format!("flush chain netdev stead_guard_{index} syn"),
            format!("delete table netdev stead_guard_{index}"),
            format!("'add element netdev stead_guard_{index} licence {{ {index} }}'"),
            format!("'delete element netdev stead_guard_{index} throttle {{ {index} }}'"),
            format!("'add element netdev stead_guard_{index} friends4 {{ 10.78.0.2 }}'"),
        ] {
            sh(&format!("nft {meddling}"));
            assert_eq!(second.verify().unwrap(), Found::Restored, "{meddling}");
            assert!(second.is_throttled());
            assert!((1..=TRICKLE_MAX).contains(&peer.count(|| flood(Way::Raw, index))), "{meddling}");
        }
        assert_eq!(second.verify().unwrap(), Found::Intact);
        assert!((1..=TRICKLE_MAX).contains(&peer.count(|| flood(Way::Raw, index))));
        second.close().unwrap();
        assert_eq!(sh("nft list tables").trim(), "table netdev foreign");
        assert!(sh("nft list table netdev foreign").contains("counter mine"));
    });
}

/// Not a behaviour of its own: the process that the next test kills.
#[test]
fn helper_that_renews() {
    let Ok(index) = std::env::var("STEAD_TEST_RENEWS") else { return };
    let mut guard = open(index.parse().unwrap(), GuardPolicy::default());
    loop {
        guard.renew().unwrap();
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_killed_agent_leaves_the_limit_while_the_site_goes_on() {
    on_a_wire(|peer, index| {
        let listener = TcpListener::bind("10.78.0.1:80").unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhere");
            }
        });
        let me = std::env::current_exe().unwrap();
        let helper = Command::new(me)
            .args(["--exact", "helper_that_renews"])
            .env("STEAD_TEST_RENEWS", index.to_string())
            .spawn();
        let helper = Reaped(helper.unwrap());
        let end = Instant::now() + Duration::from_secs(10);
        while !Command::new("sh")
            .args(["-c", &format!("nft list set netdev stead_guard_{index} licence 2>&1 | grep -q elements")])
            .status()
            .unwrap()
            .success()
        {
            assert!(Instant::now() < end, "the helper never renewed");
        }
        let (stop, visits) = (AtomicBool::new(false), AtomicU32::new(0));
        let ns = File::open(peer.ns()).unwrap();
        thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                // SAFETY: changes the namespace of this thread only.
                assert_eq!(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                while !stop.load(Ordering::Relaxed) {
                    let mut stream =
                        TcpStream::connect_timeout(&"10.78.0.1:80".parse().unwrap(), Duration::from_secs(1))
                            .unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                    let mut said = String::new();
                    stream.read_to_string(&mut said).unwrap();
                    assert!(said.ends_with("here"));
                    visits.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(10));
                }
            });
            assert!(peer.count(|| flood(Way::Raw, index)) > 3_000);
            drop(helper);
            let killed = Instant::now();
            // Two floods of two seconds are longer than the licence and its second.
            flood(Way::Raw, index);
            flood(Way::Raw, index);
            assert!(killed.elapsed() >= Duration::from_millis(3_990));
            let after = peer.count(|| flood(Way::Raw, index));
            stop.store(true, Ordering::Relaxed);
            visitor.join().unwrap();
            println!(
                "FIGURE 4 s after SIGKILL: {after} SYNs in 2 s; {} visits without failure",
                visits.load(Ordering::Relaxed)
            );
            assert!((1..=TRICKLE_MAX).contains(&after), "{after} after the licence");
        });
        open(index, GuardPolicy::default()).close().unwrap();
    });
}

fn listen_at(peer: &Peer, address: &'static str) -> TcpListener {
    inside(peer, || TcpListener::bind(address).unwrap())
}
