//! The lease gate against the real kernel: two hosts on a wire, in namespaces of their own.
//!
//! Datagrams carry the time at which they were sent. "Nothing leaves after the expiry" is therefore exact:
//! no datagram that was sent at or after it may ever arrive, however the machine is loaded.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{
    Bench, Datagram, HERE_MAC, HERE4, HERE6, PEER_MAC, PEER4, PEER6, Sender, Tap, VIP4, VIP6, bench, in_ms,
    ip, packet_socket, percentiles, wait_for, wait_until,
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant as Stopwatch},
};
use stead_node::{
    kernel::gate::{Gate, GateConfig, GateError, Rung, Shortfall},
    sys::now,
    vip::Vip,
};
use stead_proto::time::{Instant, Span};

const BOTH: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
const EXACT: [Rung; 2] = [Rung::Tcx, Rung::Clsact];
const GATES: [Rung; 3] = [Rung::Tcx, Rung::Clsact, Rung::Nft];

fn config(bench: &Bench, wanted: Rung) -> GateConfig {
    GateConfig {
        uplink_ifindex: bench.uplink.ifindex,
        instance: "test-mesh".into(),
        addresses: BOTH.to_vec(),
        wanted: Some(wanted),
    }
}

/// A gate on exactly this rung.
fn gate_on(bench: &Bench, rung: Rung) -> Gate {
    let (gate, shortfalls) = Gate::open(&config(bench, rung)).unwrap();
    assert_eq!((gate.rung(), shortfalls), (rung, vec![]));
    gate
}

fn signed_us(later: Instant, earlier: Instant) -> i64 {
    i64::try_from(later.as_ns()).unwrap() / 1_000 - i64::try_from(earlier.as_ns()).unwrap() / 1_000
}

/// What the peer heard, once the sender has stopped.
fn heard(bench: &Bench, tap: &Tap) -> Vec<Datagram> {
    bench.mark_end();
    tap.datagrams()
}

fn late(heard: &[Datagram], expiry: Instant) -> Vec<i64> {
    let late = heard.iter().filter(|datagram| datagram.sent >= expiry);
    late.map(|datagram| signed_us(datagram.sent, expiry)).collect()
}

#[test]
fn nothing_leaves_after_the_expiry_while_the_owner_does_nothing() {
    for rung in EXACT {
        bench(move |bench| {
            bench.hold_addresses();
            let mut gate = gate_on(bench, rung);
            let tap = bench.tap();
            let (mut last_sent_us, mut last_read_us) = (vec![], vec![]);
            for round in 0..20 {
                let address = BOTH[round % 2];
                let (expiry, heard) = std::thread::scope(|scope| {
                    let ear = scope.spawn(|| tap.datagrams());
                    let sender = Sender::start(address, Duration::from_micros(5));
                    let expiry = in_ms(50);
                    gate.set(address, expiry).unwrap();
                    wait_until(expiry.after(Span::from_ms(30)));
                    sender.stop();
                    bench.mark_end();
                    (expiry, ear.join().unwrap())
                });
                assert!(heard.len() > 100, "{} datagrams were let out before the expiry", heard.len());
                assert_eq!(late(&heard, expiry), [], "sent after the expiry, and heard");
                let last = heard.last().unwrap();
                last_sent_us.push(signed_us(last.sent, expiry));
                last_read_us.push(signed_us(heard.iter().map(|d| d.read).max().unwrap(), expiry));
            }
            println!(
                "FIGURE {rung}: last datagram handed to the kernel, µs after expiry: {}",
                percentiles(last_sent_us)
            );
            println!(
                "FIGURE {rung}: last datagram read at the peer, µs after expiry: {}",
                percentiles(last_read_us)
            );
        });
    }
}

#[test]
fn a_closed_gate_stops_arp_icmp_tcp_and_nd_and_nothing_else() {
    for rung in GATES {
        bench(move |bench| {
            bench.hold_addresses();
            let mut gate = gate_on(bench, rung);
            let own = [IpAddr::V4(HERE4), IpAddr::V6(HERE6)];
            for (address, own) in BOTH.into_iter().zip(own) {
                assert!(!resolves(bench, address), "{rung}: {address} is closed from the start");
                assert!(!echoes(bench, address) && !connects(bench, address), "{rung}: closed {address}");
                gate.set(address, in_ms(20_000)).unwrap();
                wait_for("the gate to open", || resolves(bench, address));
                assert!(echoes(bench, address) && connects(bench, address), "{rung}: open {address}");
                gate.close(address).unwrap();
                // The peer knows the hardware address now, so this is about IP alone.
                assert!(
                    !echoes(bench, address) && !connects(bench, address),
                    "{rung}: closed again {address}"
                );
                assert!(!resolves(bench, address), "{rung}: {address} is closed again");
                assert!(
                    resolves(bench, own) && echoes(bench, own) && connects(bench, own),
                    "{rung}: {own} is not ours to gate"
                );
            }
            gate.forget(VIP4.into()).unwrap();
            assert!(connects(bench, VIP4.into()), "{rung}: a forgotten address is nobody's business");
            assert!(matches!(gate.set(VIP4.into(), in_ms(1)), Err(GateError::NotWatched(_))));
        });
    }
}

#[test]
fn an_established_connection_stands_still_after_the_expiry_and_goes_on_when_reopened() {
    for rung in GATES {
        bench(move |bench| {
            bench.hold_addresses();
            let mut gate = gate_on(bench, rung);
            gate.set(VIP4.into(), in_ms(20_000)).unwrap();
            wait_for("the gate to open", || resolves(bench, VIP4.into()));
            let listener = TcpListener::bind((VIP4, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            let mut far = bench.at_peer(|| TcpStream::connect(to).unwrap());
            let (mut near, _) = listener.accept().unwrap();
            near.write_all(b"1").unwrap();
            assert_eq!(read_one(&mut far, Duration::from_secs(2)), Some(b'1'));
            gate.close(VIP4.into()).unwrap();
            near.write_all(b"2").unwrap();
            assert_eq!(read_one(&mut far, Duration::from_millis(300)), None);
            gate.set(VIP4.into(), in_ms(20_000)).unwrap();
            assert_eq!(read_one(&mut far, Duration::from_secs(5)), Some(b'2'));
        });
    }
}

#[test]
fn renewals_keep_the_traffic_going_without_a_lost_datagram() {
    for (rung, lease_ms, beat_ms) in [(Rung::Tcx, 500, 3), (Rung::Clsact, 500, 3), (Rung::Nft, 500, 25)] {
        bench(move |bench| {
            bench.hold_addresses();
            let mut gate = gate_on(bench, rung);
            gate.set(VIP4.into(), in_ms(20_000)).unwrap();
            wait_for("the gate to open", || resolves(bench, VIP4.into()));
            let tap = bench.tap();
            let sender = Sender::start(VIP4.into(), Duration::from_micros(200));
            let mut cost_ns = vec![];
            let end = in_ms(1_000);
            while now() < end {
                let start = Stopwatch::now();
                gate.set(VIP4.into(), in_ms(lease_ms)).unwrap();
                cost_ns.push(i64::try_from(start.elapsed().as_nanos()).unwrap());
                std::thread::sleep(Duration::from_millis(beat_ms));
            }
            gate.set(VIP4.into(), in_ms(20_000)).unwrap();
            let sent = sender.stop();
            let numbers: Vec<u64> = heard(bench, &tap).iter().map(|datagram| datagram.number).collect();
            assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "{rung}: every datagram arrived, in order");
            println!(
                "FIGURE {rung}: set() of a busy address, ns: {} ({sent} datagrams, 0 lost)",
                percentiles(cost_ns)
            );
        });
    }
}

#[test]
fn when_close_returns_nothing_more_is_let_out() {
    for rung in GATES {
        bench(move |bench| {
            bench.hold_addresses();
            let mut gate = gate_on(bench, rung);
            let tap = bench.tap();
            let mut took_us = vec![];
            for round in 0..10 {
                let address = BOTH[round % 2];
                gate.set(address, in_ms(20_000)).unwrap();
                wait_for("the gate to open", || resolves(bench, address));
                tap.drain();
                let sender = Sender::start(address, Duration::from_micros(5));
                tap.find(Duration::from_secs(5), |frame| common::datagram(frame).is_some()).expect("traffic");
                let start = now();
                gate.close(address).unwrap();
                let closed = now();
                took_us.push(signed_us(closed, start));
                wait_until(closed.after(Span::from_ms(20)));
                sender.stop();
                let heard = heard(bench, &tap);
                assert_eq!(late(&heard, closed), [], "{rung}: sent after close() had returned, and heard");
            }
            println!("FIGURE {rung}: close() takes, µs: {}", percentiles(took_us));
        });
    }
}

#[test]
fn a_late_expiry_is_taken_back_by_an_earlier_one() {
    bench(|bench| {
        bench.hold_addresses();
        let mut gate = gate_on(bench, Rung::Tcx);
        let tap = bench.tap();
        let sender = Sender::start(VIP4.into(), Duration::from_micros(50));
        gate.set(VIP4.into(), in_ms(20_000)).unwrap();
        let expiry = in_ms(30);
        gate.set(VIP4.into(), expiry).unwrap();
        wait_until(expiry.after(Span::from_ms(30)));
        sender.stop();
        let heard = heard(bench, &tap);
        assert!(!heard.is_empty());
        assert_eq!(late(&heard, expiry), []);
    });
}

#[test]
fn the_nft_rung_closes_within_its_slack() {
    bench(|bench| {
        bench.hold_addresses();
        let mut gate = gate_on(bench, Rung::Nft);
        let tap = bench.tap();
        let mut over_us = vec![];
        for round in 0..10 {
            let address = BOTH[round % 2];
            tap.drain();
            let sender = Sender::start(address, Duration::from_micros(50));
            let expiry = in_ms(300);
            gate.set(address, expiry).unwrap();
            wait_until(expiry.after(Span::from_ms(200)));
            sender.stop();
            let heard = heard(bench, &tap);
            let last = heard.iter().map(|datagram| datagram.sent).max().expect("some were let out");
            over_us.push(signed_us(last, expiry));
        }
        println!(
            "FIGURE nft: last datagram handed to the kernel, µs after expiry: {}",
            percentiles(over_us.clone())
        );
        let slack_us = i64::try_from(Rung::Nft.slack_ms()).unwrap() * 1_000;
        assert!(over_us.iter().all(|us| *us <= slack_us), "{over_us:?}");
    });
}

#[test]
fn the_lifetime_rung_silences_the_address_by_itself() {
    bench(|bench| {
        let mut gate = gate_on(bench, Rung::Lifetime);
        let mut vip = Vip::open().unwrap();
        let expiry = in_ms(1_000);
        gate.watch(VIP4.into()).unwrap();
        gate.set(VIP4.into(), expiry).unwrap();
        vip.claim(VIP4.into(), bench.uplink.ifindex, now(), expiry).unwrap();
        let tap = bench.tap();
        let sender = Sender::start(VIP4.into(), Duration::from_micros(200));
        // It is over when the bound socket can send no more.
        let mut last = None;
        while let Some((_, frame)) =
            tap.find(Duration::from_millis(400), |frame| common::datagram(frame).is_some())
        {
            last = common::datagram(&frame);
            assert!(now() < expiry.after(Span::from_ms(10_000)), "it never stopped");
        }
        sender.stop();
        let over_us = signed_us(last.expect("traffic").1, expiry);
        println!("FIGURE lifetime: last datagram handed to the kernel, µs after expiry: {over_us}");
        // No upper bound: the kernel promises none (see `Rung::slack_ms`), only that it ends.
        assert!(over_us > 0, "the address has to last as long as the lease");

        vip.claim(VIP4.into(), bench.uplink.ifindex, now(), in_ms(20_000)).unwrap();
        assert!(connects(bench, VIP4.into()));
        gate.close(VIP4.into()).unwrap();
        assert!(!resolves(bench, VIP4.into()));
        gate.close(VIP4.into()).unwrap();
    });
}

/// The part of [`the_gate_outlives_its_agent`] that is the agent: opens the gate, says so, does nothing more.
fn be_the_agent(ifindex: u32, rung: &str) -> ! {
    let rung = *Rung::ALL.iter().find(|known| known.to_string() == rung).unwrap();
    let config = GateConfig {
        uplink_ifindex: ifindex,
        instance: "test-mesh".into(),
        addresses: BOTH.to_vec(),
        wanted: Some(rung),
    };
    let (mut gate, _) = Gate::open(&config).unwrap();
    let expiry = in_ms(800);
    gate.set(VIP4.into(), expiry).unwrap();
    println!("\nREADY {}", expiry.as_ns());
    loop {
        std::thread::park();
    }
}

fn spawn_agent(bench: &Bench, rung: Rung) -> (Child, Instant) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "the_gate_outlives_its_agent"])
        .env("STEAD_TEST_AGENT", format!("{}:{rung}", bench.uplink.ifindex))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("READY ").map(str::to_owned));
    let expiry = Instant::from_ns(ready.expect("the agent opened its gate").parse().unwrap());
    (child, expiry)
}

#[test]
fn the_gate_outlives_its_agent() {
    if let Ok(role) = std::env::var("STEAD_TEST_AGENT") {
        let (ifindex, rung) = role.split_once(':').unwrap();
        be_the_agent(ifindex.parse().unwrap(), rung);
    }
    for (rung, signal) in
        [(Rung::Tcx, "KILL"), (Rung::Clsact, "KILL"), (Rung::Nft, "KILL"), (Rung::Tcx, "STOP")]
    {
        bench(move |bench| {
            bench.hold_addresses();
            let (mut agent, expiry) = spawn_agent(bench, rung);
            let tap = bench.tap();
            wait_for("the gate to open", || resolves(bench, VIP4.into()));
            let sender = Sender::start(VIP4.into(), Duration::from_micros(20));
            let kill =
                Command::new("kill").args([format!("-{signal}"), agent.id().to_string()]).status().unwrap();
            assert!(kill.success());
            let gone = now();
            wait_until(expiry.after(Span::from_ms(200)));
            sender.stop();
            let heard = heard(bench, &tap);
            agent.kill().unwrap();
            agent.wait().unwrap();
            assert!(heard.iter().any(|datagram| datagram.sent > gone), "it stays open until the expiry");
            let allowed = if rung == Rung::Nft { Span::from_ms(rung.slack_ms()) } else { Span::ZERO };
            assert_eq!(late(&heard, expiry.after(allowed)), [], "{rung} after SIG{signal}");
            let last = heard.iter().map(|datagram| datagram.sent).max().unwrap();
            println!(
                "FIGURE {rung}, agent SIG{signal}: last datagram {} µs after expiry",
                signed_us(last, expiry)
            );
            assert!(!resolves(bench, VIP4.into()), "and closed it stays");
        });
    }
}

#[test]
fn a_restarted_agent_finds_an_unexpired_lease_open_and_traffic_never_stops() {
    for rung in EXACT {
        bench(move |bench| {
            bench.hold_addresses();
            let expiry = in_ms(20_000);
            let mut earlier = gate_on(bench, rung);
            earlier.set(VIP4.into(), expiry).unwrap();
            drop(earlier);
            assert!(resolves(bench, VIP4.into()));
            let tap = bench.tap();
            let open = Sender::start(VIP4.into(), Duration::from_micros(20));
            for _ in 0..5 {
                let gate = gate_on(bench, rung);
                assert_eq!(gate.watched(), [(VIP4.into(), Some(expiry)), (VIP6.into(), Some(Instant::ZERO))]);
            }
            let sent = open.stop();
            let numbers: Vec<u64> = heard(bench, &tap).iter().map(|datagram| datagram.number).collect();
            assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "{rung}");
        });
    }
}

#[test]
fn a_closed_address_stays_closed_across_restarts_and_changes_of_rung() {
    bench(|bench| {
        bench.hold_addresses();
        drop(gate_on(bench, Rung::Tcx));
        let tap = bench.tap();
        let closed = Sender::start(VIP6.into(), Duration::from_micros(20));
        for rung in [
            Rung::Tcx,
            Rung::Clsact,
            Rung::Clsact,
            Rung::Nft,
            Rung::Nft,
            Rung::Clsact,
            Rung::Tcx,
            Rung::Nft,
            Rung::Tcx,
        ] {
            drop(gate_on(bench, rung));
        }
        assert!(closed.stop() > 1_000);
        assert_eq!(heard(bench, &tap).len(), 0);
        // And none of the earlier rungs is left behind to keep it closed.
        let mut gate = gate_on(bench, Rung::Tcx);
        gate.set(VIP6.into(), in_ms(20_000)).unwrap();
        assert!(connects(bench, VIP6.into()));
    });
}

#[test]
fn an_uplink_that_vanished_and_came_back_is_gated_again() {
    bench(|bench| {
        drop(gate_on(bench, Rung::Tcx));
        let index = bench.uplink.ifindex;
        ip("link del uplink");
        assert!(matches!(Gate::open(&config(bench, Rung::Tcx)), Err(GateError::Uplink { .. })));
        ip(&format!("link add uplink index {index} address 02:00:00:00:00:01 type veth peer name far"));
        ip("link set uplink up");
        ip("link set far up");
        bench.hold_addresses();
        ip(&format!("route add {PEER4} dev uplink"));
        ip(&format!("neigh replace {PEER4} lladdr 02:00:00:00:00:02 dev uplink"));
        let tap = Tap(packet_socket(&common::link_named("far"), 3));
        let mut gate = gate_on(bench, Rung::Tcx);
        let expiry = in_ms(50);
        gate.set(VIP4.into(), expiry).unwrap();
        let sender = Sender::start(VIP4.into(), Duration::from_micros(50));
        wait_until(expiry.after(Span::from_ms(50)));
        sender.stop();
        ip(&format!("addr add {HERE4}/32 dev uplink"));
        let heard = heard(bench, &tap);
        assert!(heard.len() > 10);
        assert_eq!(late(&heard, expiry), []);
    });
}

#[test]
fn uninstalling_leaves_nothing_behind() {
    for rung in GATES {
        bench(move |bench| {
            bench.hold_addresses();
            drop(gate_on(bench, rung));
            assert!(!connects(bench, VIP4.into()));
            Gate::uninstall("test-mesh").unwrap();
            assert!(connects(bench, VIP4.into()) && connects(bench, VIP6.into()), "{rung}");
            let left = std::fs::read_dir("/sys/fs/bpf/stead").map_or(0, |entries| entries.count());
            assert_eq!(left, 0, "{rung}");
            let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&tables.stdout), "", "{rung}");
            let filters =
                Command::new("tc").args(["filter", "show", "dev", "uplink", "egress"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&filters.stdout), "", "{rung}");
            Gate::uninstall("test-mesh").unwrap();
        });
    }
}

#[test]
fn what_cannot_be_had_is_said_with_reason_and_cost() {
    bench(|bench| {
        use rustix::mount::{MountFlags, mount, mount_bind};
        // No BPF file system, and no place to mount one.
        mount("none", "/sys/fs", "tmpfs", MountFlags::empty(), None).unwrap();
        let wanted = GateConfig { wanted: None, ..config(bench, Rung::Tcx) };
        let (gate, shortfalls) = Gate::open(&wanted).unwrap();
        assert_eq!(gate.rung(), Rung::Nft);
        assert_eq!(rungs(&shortfalls), [Rung::Clsact], "both fail for one reason, told once");
        assert!(shortfalls[0].to_string().contains("/sys/fs/bpf"), "{}", shortfalls[0]);
        // No nft either.
        for path in ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"] {
            if std::path::Path::new(path).exists() {
                mount_bind("/dev/null", path).unwrap();
            }
        }
        let (gate, shortfalls) = Gate::open(&wanted).unwrap();
        assert_eq!(gate.rung(), Rung::Lifetime);
        assert_eq!(rungs(&shortfalls), [Rung::Clsact, Rung::Nft]);
        assert!(shortfalls[1].to_string().contains("nft"), "{}", shortfalls[1]);
        for shortfall in shortfalls {
            println!("SHORTFALL {shortfall}");
        }
    });
}

#[test]
fn the_gate_has_room_for_so_many_addresses_and_says_when_it_is_full() {
    bench(|bench| {
        let mut gate = gate_on(bench, Rung::Tcx);
        let nth = |n: u8| IpAddr::V4(Ipv4Addr::new(10, 78, 0, n));
        for n in 2..64 {
            gate.watch(nth(n)).unwrap();
            gate.watch(nth(n)).unwrap();
        }
        assert!(matches!(gate.watch(nth(99)), Err(GateError::Full)));
        gate.forget(nth(5)).unwrap();
        gate.watch(nth(99)).unwrap();
    });
}

#[test]
fn a_gate_that_would_vanish_with_the_agent_is_not_called_one() {
    bench(|bench| {
        // As in a unit with a private mount namespace on a host where nobody mounted the file system.
        rustix::mount::unmount("/sys/fs/bpf", rustix::mount::UnmountFlags::empty()).unwrap();
        let (gate, shortfalls) = Gate::open(&config(bench, Rung::Tcx)).unwrap();
        assert_eq!((gate.rung(), rungs(&shortfalls)), (Rung::Nft, vec![Rung::Clsact]));
        assert!(shortfalls[0].to_string().contains("would end with it"), "{}", shortfalls[0]);
    });
}

#[test]
fn without_privileges_every_better_rung_is_a_shortfall() {
    bench(|bench| {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        // A child of uid 0 would get its capabilities back.
        rustix::thread::set_no_new_privs(true).unwrap();
        let (gate, shortfalls) = Gate::open(&config(bench, Rung::Tcx)).unwrap();
        assert!(gate.rung() > Rung::Clsact);
        // Once if both fail for the same reason; which map is missed first is chance.
        assert!(rungs(&shortfalls).contains(&Rung::Clsact));
    });
}

/// One frame and what the gate has to do with it at egress and at ingress while the address is closed.
struct Case {
    what: &'static str,
    frame: Vec<u8>,
    egress_drops: bool,
    ingress_drops: bool,
}

#[test]
fn each_kind_of_frame_is_judged_as_the_header_says_and_in_a_few_nanoseconds() {
    use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
    bench(|_| {
        let mut object =
            aya::Ebpf::load(aya::include_bytes_aligned!("../src/kernel/bpf/gate.bpf.o")).unwrap();
        let mut slots: aya::maps::HashMap<_, [u8; 16], u32> =
            object.take_map("gate_slots").unwrap().try_into().unwrap();
        let mut expiries: aya::maps::Array<_, u64> =
            object.take_map("gate_expiries").unwrap().try_into().unwrap();
        slots.insert(VIP4.to_ipv6_mapped().octets(), 7, 0).unwrap();
        slots.insert(VIP6.octets(), 9, 0).unwrap();
        for name in ["stead_ingress", "stead_egress"] {
            let program: &mut SchedClassifier = object.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let judge = |name: &str, frame: &[u8], repeat: u32| {
            let program: &SchedClassifier = object.program(name).unwrap().try_into().unwrap();
            let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
            let result = program.test_run(options).unwrap_or_else(|error| panic!("{error:?}: {frame:02x?}"));
            (result.return_value.cast_signed(), result.duration)
        };
        let verdict = |drops: bool| if drops { 2 } else { -1 };
        for case in cases() {
            assert_eq!(
                judge("stead_egress", &case.frame, 1).0,
                verdict(case.egress_drops),
                "egress: {}",
                case.what
            );
            assert_eq!(
                judge("stead_ingress", &case.frame, 1).0,
                verdict(case.ingress_drops),
                "ingress: {}",
                case.what
            );
        }
        for slot in [7, 9] {
            expiries.set(slot, in_ms(60_000).as_ns(), 0).unwrap();
        }
        for case in cases() {
            assert_eq!(judge("stead_egress", &case.frame, 1).0, -1, "open egress: {}", case.what);
            assert_eq!(judge("stead_ingress", &case.frame, 1).0, -1, "open ingress: {}", case.what);
        }
        for (what, frame) in [
            ("not IP at all (the cost of measuring)", ethernet(0x88cc, &[0; 50])),
            ("IPv4, not gated", ipv4(HERE4, PEER4, 0)),
            ("IPv4, gated and open", ipv4(VIP4, PEER4, 0)),
            ("IPv6, gated and open", ipv6(VIP6, PEER6, 17, &[0; 8])),
        ] {
            println!(
                "FIGURE gate program, {what}: {:?} per packet",
                judge("stead_egress", &frame, 1_000_000).1
            );
        }
    });
}

#[test]
fn the_committed_objects_are_what_their_sources_compile_to() {
    if Command::new("clang-14").arg("--version").output().is_err() {
        println!("NOT CHECKED: clang-14 is not installed here, so no object was compared with its source");
        return;
    }
    for object in ["src/kernel/bpf/gate.bpf.o", "src/telemetry/bpf/sensor.bpf.o"] {
        let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(object);
        let build = committed.with_file_name("build");
        let rebuilt = tempfile::NamedTempFile::new().unwrap();
        let status = Command::new(&build).arg(rebuilt.path()).status().unwrap();
        assert!(status.success(), "{} failed", build.display());
        let same = std::fs::read(rebuilt.path()).unwrap() == std::fs::read(&committed).unwrap();
        assert!(same, "{object} is stale: run {} and commit the result", build.display());
    }
}

fn cases() -> Vec<Case> {
    let case = |what, frame, egress_drops, ingress_drops| Case { what, frame, egress_drops, ingress_drops };
    let na = |target: Ipv6Addr| neighbour(136, target);
    let ns = |target: Ipv6Addr| neighbour(135, target);
    let hop_by_hop = |next: u8, body: &[u8]| [&[next, 0, 5, 2, 0, 0, 1, 0], body].concat();
    let fragment = |next: u8, offset: u16, body: &[u8]| {
        let [high, low] = (offset << 3).to_be_bytes();
        [&[next, 0, high, low, 0, 0, 0, 1], body].concat()
    };
    let nested = |levels: u8, body: &[u8]| {
        (0..levels).fold((58u8, body.to_vec()), |(next, body), _| {
            (60, [&[next, 0, 1, 4, 0, 0, 0, 0], &body[..]].concat())
        })
    };
    let (next7, nested7) = nested(7, &na(VIP6));
    let from_vip = ipv4(VIP4, PEER4, 0);
    vec![
        case("IPv4 from the address", from_vip.clone(), true, false),
        case("IPv4 to the address", ipv4(PEER4, VIP4, 0), false, true),
        case("IPv4 of others", ipv4(HERE4, PEER4, 0), false, false),
        case("a later IPv4 fragment from the address", ipv4(VIP4, PEER4, 185), true, false),
        case("a later IPv4 fragment to the address", ipv4(PEER4, VIP4, 185), false, true),
        case("VLAN-tagged IPv4 from the address", tagged(&[0x8100], &from_vip), true, false),
        case("double-tagged IPv4 from the address", tagged(&[0x88a8, 0x8100], &from_vip), true, false),
        case("VLAN-tagged ARP reply of the address", tagged(&[0x8100], &arp(2, VIP4, PEER4)), true, false),
        case("an ARP reply of the address", arp(2, VIP4, PEER4), true, false),
        case("an ARP request by the address", arp(1, VIP4, PEER4), true, false),
        case("an ARP request for the address", arp(1, PEER4, VIP4), false, true),
        case("a gratuitous request: ours is held back, another's is heard", arp(1, VIP4, VIP4), true, false),
        case("a gratuitous reply: likewise", arp(2, VIP4, VIP4), true, false),
        case(
            "an ARP probe for the address: ours goes out, another's is not answered",
            arp(1, Ipv4Addr::UNSPECIFIED, VIP4),
            false,
            true,
        ),
        case("ARP of others", arp(1, HERE4, PEER4), false, false),
        case("IPv6 from the address", ipv6(VIP6, PEER6, 17, &[0; 8]), true, false),
        case("IPv6 to the address", ipv6(PEER6, VIP6, 17, &[0; 8]), false, true),
        case("IPv6 of others", ipv6(HERE6, PEER6, 17, &[0; 8]), false, false),
        case(
            "an advertisement of the address from another source",
            ipv6(HERE6, PEER6, 58, &na(VIP6)),
            true,
            false,
        ),
        case("an advertisement of another target", ipv6(HERE6, PEER6, 58, &na(HERE6)), false, false),
        case("a solicitation of the address", ipv6(PEER6, HERE6, 58, &ns(VIP6)), false, true),
        case("a solicitation of another target", ipv6(PEER6, HERE6, 58, &ns(HERE6)), false, false),
        case(
            "an advertisement behind hop-by-hop options",
            ipv6(HERE6, PEER6, 0, &hop_by_hop(58, &na(VIP6))),
            true,
            false,
        ),
        case(
            "a solicitation behind hop-by-hop options",
            ipv6(PEER6, HERE6, 0, &hop_by_hop(58, &ns(VIP6))),
            false,
            true,
        ),
        case(
            "an advertisement in a first fragment",
            ipv6(HERE6, PEER6, 44, &fragment(58, 0, &na(VIP6))),
            true,
            false,
        ),
        case(
            "bytes that look like one in a later fragment",
            ipv6(HERE6, PEER6, 44, &fragment(58, 5, &na(VIP6))),
            false,
            false,
        ),
        case(
            "a later IPv6 fragment from the address",
            ipv6(VIP6, PEER6, 44, &fragment(58, 5, &[0; 8])),
            true,
            false,
        ),
        case("an advertisement behind seven headers", ipv6(HERE6, PEER6, next7, &nested7), true, false),
        case("VLAN-tagged advertisement", tagged(&[0x8100], &ipv6(HERE6, PEER6, 58, &na(VIP6))), true, false),
        case(
            "ARP cut off before its addresses",
            ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0]),
            false,
            false,
        ),
        case("another ethertype", ethernet(0x88cc, &[0; 50]), false, false),
    ]
}

fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&PEER_MAC[..], &HERE_MAC, &ethertype.to_be_bytes(), body].concat()
}

fn tagged(tags: &[u16], frame: &[u8]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| [tag.to_be_bytes(), [0, 7]].concat()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, fragment: u16) -> Vec<u8> {
    let [high, low] = fragment.to_be_bytes();
    let header =
        [&[0x45, 0, 0, 28, 0, 0, high, low, 64, 17, 0, 0][..], &from.octets(), &to.octets(), &[0; 8]]
            .concat();
    ethernet(0x0800, &header)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    ethernet(
        0x86dd,
        &[&[0x60, 0, 0, 0, length[0], length[1], next, 255][..], &from.octets(), &to.octets(), body].concat(),
    )
}

fn neighbour(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

fn arp(operation: u8, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    ethernet(0x0806, &[&head[..], &HERE_MAC, &from.octets(), &[0; 6], &to.octets()].concat())
}

fn rungs(shortfalls: &[Shortfall]) -> Vec<Rung> {
    shortfalls.iter().map(|shortfall| shortfall.rung).collect()
}

/// Whether the peer gets an answer to an ARP request or a solicitation for `address`.
fn resolves(bench: &Bench, address: IpAddr) -> bool {
    use stead_node::vip::probe::{Probe, probe};
    bench.at_peer(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wire = common::link_named("wire");
        let found = runtime.block_on(probe(&wire, address, Duration::from_millis(100))).unwrap();
        found == Probe::TakenBy(HERE_MAC)
    })
}

/// Whether the peer, which knows the hardware address, gets an echo from `address`.
fn echoes(bench: &Bench, address: IpAddr) -> bool {
    use socket2::{Domain, Protocol, Socket, Type};
    bench.at_peer(|| {
        ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:01 dev wire nud permanent"));
        let (domain, protocol, request, reply, offset) = match address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, [8, 0, 0xf7, 0xff, 0, 0, 0, 0], 0, 20),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, [128, 0, 0, 0, 0, 0, 0, 0], 129, 0),
        };
        let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        socket.connect(&std::net::SocketAddr::new(address, 0).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket.send(&request).unwrap();
        let mut answer = [0; 256];
        let echoed = socket.read(&mut answer).is_ok_and(|_| answer[offset] == reply);
        ip(&format!("neigh del {address} dev wire"));
        echoed
    })
}

/// Whether the peer, which knows the hardware address, can open a TCP connection to `address`.
fn connects(bench: &Bench, address: IpAddr) -> bool {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    bench.at_peer(|| {
        ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:01 dev wire nud permanent"));
        let connected = TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok();
        ip(&format!("neigh del {address} dev wire"));
        connected
    })
}

fn read_one(stream: &mut TcpStream, wait: Duration) -> Option<u8> {
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}
