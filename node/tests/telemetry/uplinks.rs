//! Uplinks that are not a plain network card: a bridge, a macvlan device, one that was made anew.
//!
//! Bonds, teams and VLAN devices hand packets down with their sockets as macvlan devices do; this kernel may not
//! have them, so they are not tried here.

use super::{
    COUNT, N, Row, add, collect,
    common::{self, Bench, HERE4, HERE6, PEER4, bench, ip, link_named, wait_for},
    forget_destinations, open, parts, peer,
    senders::{self, CLOSED, Inner, send_frames, send_raw},
};
use std::net::{IpAddr, SocketAddr};
use stead_node::telemetry::{Sensor, Sensors};
use stead_proto::telemetry::BySource;

/// This host's addresses move from the cable to a device above it, which from then on is the uplink.
fn put_above_the_cable(bench: &Bench, kind: &str) {
    for command in [
        "link set uplink down",
        "addr flush dev uplink",
        "link set uplink name port address 02:00:00:00:00:11",
        "link set port up",
        &format!("link add {kind}"),
        "link set uplink up",
        "addr add 10.77.0.1/24 dev uplink",
        "addr add fd77::1/64 dev uplink nodad",
    ] {
        ip(command);
    }
    for ipv6 in [false, true] {
        ip(&format!("neigh replace {} lladdr 02:00:00:00:00:02 dev uplink nud permanent", peer(ipv6)));
    }
    // Otherwise the cable itself may tell that it has the address, and answers would go past the device.
    for address in [IpAddr::V4(HERE4), IpAddr::V6(HERE6)] {
        let known = format!("neigh replace {address} lladdr 02:00:00:00:00:01 dev wire nud permanent");
        bench.at_peer(|| drop(ip(&known)));
    }
}

/// Each way to send through a device above the cable is told once, and by its socket; what goes around the
/// queueing discipline of that device is told as `around`.
fn check_each_way(bench: &Bench, sensors: &mut Sensors, through: &str, around: BySource) {
    let ifindex = link_named("uplink").ifindex;
    for ipv6 in [false, true] {
        forget_destinations(sensors);
        let row = Row::new(&format!("{through}, connect()"), ipv6);
        let row = Row { syn: BySource { tcp: N, ..row.syn }, active_opens: N, ..row };
        row.check(bench, sensors, || senders::connect(SocketAddr::new(peer(ipv6), CLOSED), COUNT));

        let row = Row::new(&format!("{through}, raw"), ipv6);
        let row = Row { syn: BySource { raw: N, ..row.syn }, ..row };
        row.check(bench, sensors, || {
            send_raw(|n| (peer(ipv6), super::by_hand(ipv6, n).packet()), COUNT);
        });

        let row = Row::new(&format!("{through}, AF_PACKET"), ipv6);
        let row = Row { syn: BySource { packet: N, ..row.syn }, ..row };
        row.check(bench, sensors, || {
            send_frames(ifindex, false, |n| super::by_hand(ipv6, 2_000 + n).frame(), COUNT);
        });

        let row = Row::new(&format!("{through}, AF_PACKET with PACKET_QDISC_BYPASS"), ipv6);
        let row = Row { syn: around, ..row };
        row.check(bench, sensors, || {
            send_frames(ifindex, true, |n| super::by_hand(ipv6, 3_000 + n).frame(), COUNT);
        });
    }
}

#[test]
fn a_bridge_as_uplink_is_seen_like_a_network_card_and_its_other_ports_are_not_this_host() {
    bench(|bench| {
        put_above_the_cable(bench, "uplink address 02:00:00:00:00:01 type bridge");
        ip("link set port master uplink");
        let guest = Inner::beside();
        let mut sensors = open();
        check_each_way(bench, &mut sensors, "bridge", BySource::default());

        // What a guest sends through the bridge is not sent by this host. With br_netfilter the kernel shows it
        // to the forward hook, too.
        for filtered in ["0", "1"] {
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", filtered).unwrap();
            let heard_before = super::received_by_peer(bench);
            let mut told = sensors.read();
            guest.run(|| senders::connect(SocketAddr::new(PEER4.into(), CLOSED), COUNT));
            add(&mut told, &sensors.read());
            assert!(super::received_by_peer(bench) - heard_before >= N, "the guest is on the wire");
            let (egress, netdev, kernel, _) = parts(&told);
            println!("MATRIX bridged, br_netfilter {filtered}: {:?} netdev {netdev} {kernel:?}", egress.syn);
            assert_eq!((egress.syn, netdev), (BySource::default(), 0), "br_netfilter {filtered}");
            assert_eq!((kernel.active_opens, kernel.forwarded_syn), (0, 0), "br_netfilter {filtered}");
        }
    });
}

#[test]
fn a_device_above_the_uplink_hides_no_socket_and_may_be_the_uplink_itself() {
    bench(|bench| {
        put_above_the_cable(
            bench,
            "link port name uplink address 02:00:00:00:00:01 type macvlan mode private",
        );
        let mut above = open();
        check_each_way(bench, &mut above, "macvlan", BySource::default());
        drop(above);
        let (mut below, missing) = Sensors::open("port");
        assert_eq!(missing, []);
        // Going around the device's queueing discipline, it does not go around that of the cable.
        let around = BySource { packet: N, ..BySource::default() };
        check_each_way(bench, &mut below, "below a macvlan", around);
    });
}

#[test]
fn an_uplink_made_anew_between_two_readings_counts_from_zero() {
    bench(|bench| {
        let mut sensors = open();
        let before = bench.uplink.ifindex;
        send_frames(before, false, |n| super::by_hand(false, n).frame(), COUNT);
        collect(&mut sensors, |sum| parts(sum).3.sent >= N);
        // As a driver does that is loaded again: same name, another index, every counter at zero.
        for command in [
            "link del uplink",
            "link add uplink address 02:00:00:00:00:01 type veth peer name far",
            "link set far up",
            "link set uplink up",
            "addr add 10.77.0.1/24 dev uplink",
        ] {
            ip(command);
        }
        let uplink = common::link_named("uplink").ifindex;
        assert_ne!(uplink, before);
        let mut blind = Vec::new();
        wait_for("the sensors to see again", || {
            let told = sensors.read();
            blind.extend(sensors.missing().iter().map(|missing| missing.sensor));
            assert!(told.uplink.is_none_or(|uplink| uplink.sent < N), "{told:?}");
            assert!(told.egress.is_none_or(|egress| egress.segments < N), "{told:?}");
            sensors.missing().is_empty()
        });
        for sensor in [Sensor::Egress, Sensor::Netdev, Sensor::Uplink] {
            assert!(blind.contains(&sensor), "that {sensor} was blind is said");
        }
        send_frames(uplink, false, |n| super::by_hand(false, n).frame(), 100);
        let told = collect(&mut sensors, |sum| parts(sum).0.syn.packet >= 100);
        let (egress, netdev, _, counters) = parts(&told);
        assert_eq!((egress.syn.packet, netdev), (100, 100));
        assert!((100..N).contains(&counters.sent), "{counters:?}");
    });
}

#[test]
fn counters_that_somebody_reset_lose_what_was_before_and_nothing_after() {
    bench(|bench| {
        let mut sensors = open();
        let uplink = bench.uplink.ifindex;
        send_frames(uplink, false, |n| super::by_hand(false, n).frame(), COUNT);
        let told = collect(&mut sensors, |sum| parts(sum).1 >= N);
        assert_eq!(parts(&told).1, N);
        super::strangers::run("nft reset counters netdev");
        send_frames(uplink, false, |n| super::by_hand(false, n).frame(), 100);
        let told = collect(&mut sensors, |sum| parts(sum).0.syn.packet >= 100);
        let (egress, netdev, ..) = parts(&told);
        assert_eq!((egress.syn.packet, netdev), (100, 100));
        assert_eq!(sensors.missing(), [], "nothing was lost but the past");
    });
}
