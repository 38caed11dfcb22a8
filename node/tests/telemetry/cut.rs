//! The cut of SYNs made by hand: in the kernel, while nobody reads anything.

use super::*;
use stead_node::telemetry::ForgedLimit;
use stead_proto::guard::{Prefix, Rate};

const RATE: Rate = Rate { per_second: 10, burst: 20 };

fn limit(spared: &[&str]) -> ForgedLimit {
    let prefix = |text: &&str| {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), bits: bits.parse().unwrap() }
    };
    ForgedLimit { rate: RATE, spared: spared.iter().map(prefix).collect() }
}

/// Sends, and tells what was counted of these SYNs.
fn told_of(sensors: &mut Sensors, send: impl FnOnce()) -> Egress {
    sensors.read();
    send();
    parts(&collect(sensors, |sum| parts(sum).0.syn.sum() >= N)).0
}

/// Sends, and tells how many SYNs were counted, cut off and answered; the peer refuses each that it gets.
fn told(sensors: &mut Sensors, send: impl FnOnce()) -> Egress {
    sensors.read();
    send();
    let told = collect(sensors, |sum| {
        let (egress, ..) = parts(sum);
        egress.syn.sum() >= N && egress.rst_matched + egress.syn_cut >= N
    });
    let (egress, .., uplink) = parts(&told);
    assert!(
        egress.segments.abs_diff(uplink.sent) <= BETWEEN_MAX,
        "what was cut off reached no uplink: {} segments, {} sent",
        egress.segments,
        uplink.sent
    );
    egress
}

#[test]
fn syns_made_by_hand_are_held_to_the_limit_without_anybody_awake() {
    for hook in [Hook::Tcx, Hook::Clsact] {
        bench(move |bench| {
            let (mut sensors, missing) = Sensors::open_at("uplink", hook);
            assert_eq!((missing.as_slice(), sensors.hook()), (&[][..], Some(hook)));
            for ipv6 in [false, true] {
                for frames in [false, true] {
                    // Written anew: the burst is there again only after its time.
                    wait_for("the burst to be there again", {
                        let free = stead_node::sys::now().after(stead_proto::time::Span::from_ms(2_100));
                        move || stead_node::sys::now() >= free
                    });
                    sensors.limit_forged(limit(&[]));
                    let begun = stead_node::sys::now();
                    let egress = told(&mut sensors, || {
                        if frames {
                            let frame = |n| by_hand(ipv6, n).frame();
                            send_frames(bench.uplink.ifindex, false, frame, COUNT);
                        } else {
                            send_raw(|n| (peer(ipv6), by_hand(ipv6, n).packet()), COUNT);
                        }
                    });
                    let seconds = stead_node::sys::now().since(begun).as_ms() / 1_000 + 1;
                    let most = u64::from(RATE.burst) + seconds * u64::from(RATE.per_second);
                    let left = N - egress.syn_cut;
                    assert_eq!(egress.syn.forged(), N, "each is counted, ipv6 {ipv6}, frames {frames}");
                    assert_eq!(egress.rst_matched, left, "what is not cut off arrives, and nothing else");
                    assert!(
                        (u64::from(RATE.burst)..=most).contains(&left),
                        "{left} of {N} left in {seconds} s, ipv6 {ipv6}, frames {frames}"
                    );
                }
            }
        });
    }
}

#[test]
fn what_is_not_made_by_hand_and_what_is_spared_passes() {
    bench(|bench| {
        let mut sensors = open();
        sensors.limit_forged(limit(&["10.77.0.0/24", "fd77::2/128"]));
        for ipv6 in [false, true] {
            let egress = told(&mut sensors, || {
                senders::connect(SocketAddr::new(peer(ipv6), CLOSED), COUNT);
            });
            assert_eq!((egress.syn.tcp, egress.syn_cut), (N, 0), "a TCP socket");
            let by_hand = |n| (peer(ipv6), by_hand(ipv6, n).packet());
            let egress = told(&mut sensors, || send_raw(by_hand, COUNT));
            assert_eq!((egress.syn.raw, egress.syn_cut), (N, 0), "to a destination that the site allows");
        }
        let inner = Inner::behind(bench);
        let egress = told(&mut sensors, || {
            inner.run(|| senders::connect(SocketAddr::new(peer(false), CLOSED), COUNT));
        });
        assert_eq!((egress.syn.forwarded, egress.syn_cut), (N, 0), "of a container");

        // The site takes one back: its destination is held to the limit again, the other one is not.
        sensors.limit_forged(limit(&["fd77::2/128"]));
        let raw = |ipv6| move |n| (peer(ipv6), by_hand(ipv6, 3_000 + n).packet());
        assert!(told(&mut sensors, || send_raw(raw(false), COUNT)).syn_cut > N / 2);
        assert_eq!(told(&mut sensors, || send_raw(raw(true), COUNT)).syn_cut, 0);
    });
}

/// The limit in the kernel with this slack, which malware with root finds as well: other tests have theirs.
fn limit_of(slack: u64) -> aya::maps::Array<aya::maps::MapData, [u64; 2]> {
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    let named = maps.filter(|map| map.name_as_str() == Some("sensor_limit"));
    named
        .filter_map(|map| aya::maps::MapData::from_id(map.id()).ok())
        .filter_map(|map| aya::maps::Map::Array(map).try_into().ok())
        .find(|map: &aya::maps::Array<_, [u64; 2]>| map.get(&0, 0).is_ok_and(|[_, is]| is == slack))
        .expect("it is in the kernel")
}

#[test]
fn a_limit_that_somebody_lifted_is_said_and_put_back() {
    bench(|_| {
        let mut sensors = open();
        let rate = Rate { per_second: 10, burst: 23 };
        sensors.limit_forged(ForgedLimit { rate, spared: vec![] });
        limit_of(2_300_000_000).set(0, [0, 0], 0).unwrap();
        wait_for("the sensor to say so", || {
            sensors.read();
            sensors.missing().iter().any(|lacking| lacking.why.contains("limit on SYNs made by hand"))
        });
        let raw = |n| (peer(false), by_hand(false, n).packet());
        assert!(told(&mut sensors, || send_raw(raw, COUNT)).syn_cut > N / 2, "it holds again");
    });
}

#[test]
fn a_killed_agents_cut_goes_on_until_its_successor_takes_over() {
    goes_on(|killed, pinned| {
        // A killed process closes everything and removes nothing.
        let stash = pinned.with_file_name("stash");
        std::fs::rename(pinned, &stash).unwrap();
        drop(killed);
        std::fs::rename(&stash, pinned).unwrap();
    });
}

#[test]
fn an_agent_that_ends_in_good_order_leaves_its_cut_too() {
    goes_on(|ended, _| ended.leave());
}

fn goes_on(end: impl FnOnce(Sensors, &std::path::Path) + Send + 'static) {
    let pin = std::path::Path::new("/sys/fs/bpf/stead/here-sensor");
    let attached = || SchedClassifier::query_tcx("uplink", TcAttachType::Egress).unwrap().1.len();
    bench(move |bench| {
        let pinned = pin.join(bench.uplink.ifindex.to_string()).join("sensor_egress");
        let mut first = open();
        first.limit_forged(limit(&[]));
        first.outlive("here");
        // As if an earlier one had been killed on an interface that is gone.
        let gone = pin.join("4000000");
        std::fs::create_dir(&gone).unwrap();
        end(first, &pinned);

        let before = received_by_peer(bench);
        send_raw(|n| (peer(false), by_hand(false, n).packet()), COUNT);
        let heard = received_by_peer(bench) - before;
        assert!((1..N / 2).contains(&heard), "nobody lives, and {heard} of {N} left");

        let mut successor = open();
        successor.limit_forged(limit(&[]));
        successor.outlive("here");
        wait_for("the predecessor's program to go", || attached() == 1);
        assert!(!gone.exists(), "what is left on other interfaces goes, too");
        let egress = told(&mut successor, || {
            send_raw(|n| (peer(false), by_hand(false, 1_000 + n).packet()), COUNT);
        });
        assert_eq!((egress.syn.raw, egress.rst_matched), (N, N - egress.syn_cut), "counted once");

        drop(successor);
        wait_for("the successor's program to go", || attached() == 0);
        assert!(!pin.exists(), "nothing is left behind");
    });
}

#[test]
fn a_virtual_machine_on_a_bridge_is_no_raw_socket() {
    bench(|_| {
        let guest = senders::tap_device("guest");
        for command in [
            "link add br0 type bridge",
            "link set guest master br0",
            "link set uplink master br0",
            "link set guest up",
            "link set br0 up",
        ] {
            ip(command);
        }
        let mut sensors = open();
        sensors.limit_forged(limit(&[]));
        sensors.read();
        wait_for("the bridge to forward", || {
            let frame = Syn { from: Ipv4Addr::new(10, 77, 0, 9).into(), ..by_hand(false, 0) }.frame();
            std::io::Write::write_all(&mut &guest, &frame).unwrap();
            sensors.read().egress.unwrap().syn.sum() > 0
        });
        let egress = told_of(&mut sensors, || {
            for n in 0..COUNT {
                let syn = Syn { from: Ipv4Addr::new(10, 77, 0, 9).into(), ..by_hand(false, n) };
                std::io::Write::write_all(&mut &guest, &syn.frame()).unwrap();
            }
        });
        assert_eq!((egress.syn, egress.syn_cut), (BySource { forwarded: N, ..BySource::default() }, 0));
    });
}

#[test]
fn a_header_torn_into_fragments_hides_no_syn() {
    bench(|_| {
        let mut sensors = open();
        sensors.limit_forged(limit(&[]));
        sensors.read();
        // The first eight bytes of a SYN behind an IPv4 header that says that more follow: what `nmap -f` sends.
        let first = |n| {
            let mut packet = by_hand(false, n).packet();
            packet.truncate(28);
            packet[2..4].copy_from_slice(&28_u16.to_be_bytes());
            packet[6] = 0x20;
            (peer(false), packet)
        };
        let egress = told_of(&mut sensors, || send_raw(first, COUNT));
        assert_eq!((egress.syn.raw, egress.raw_other), (N, 0));
        assert!(egress.syn_cut > N / 2, "{} of {N} were cut off", egress.syn_cut);
    });
}
