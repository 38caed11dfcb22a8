//! The limit on uplinks that are bridges, that are renamed, or that are made anew.

use super::{PACE, Peer, Reaped, SECONDS, TRICKLE_MAX, Way, flood, on_a_wire, open, sh};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use stead_node::guard::{
    limiter::{Found, Guard},
    rules::Rung,
};
use stead_proto::guard::GuardPolicy;

const ALL: u64 = (PACE * SECONDS) as u64;

fn index_of(name: &str) -> u32 {
    sh(&format!("ip -o link show {name}")).split(':').next().unwrap().parse().unwrap()
}

/// A bridge forwards nothing before the kernel has noticed its ports.
fn wait_until_up(name: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    while !sh(&format!("ip -o link show {name}")).contains("state UP") {
        assert!(Instant::now() < end, "{name} does not come up");
    }
}

/// A cable as it was, by another index.
fn make_anew(name: &str, peer: &Peer) {
    sh(&format!(
        "ip link add {name} address 02:00:00:00:00:01 type veth peer name dn0 address 02:00:00:00:00:02 netns {}",
        peer.0.0.id()
    ));
    sh(&format!("ip addr add 10.78.0.1/24 dev {name} && ip link set {name} up"));
    sh(&format!("ip neigh replace 10.78.0.2 lladdr 02:00:00:00:00:02 dev {name}"));
    peer.sh("ip addr add 10.78.0.2/24 dev dn0");
    peer.sh("ip link set dn0 up");
    super::listen_for_syns(peer);
}

fn assert_cut(peer: &Peer, index: u32, way: Way, when: &str) {
    let passed = peer.count(|| flood(way, index));
    assert!((1..=TRICKLE_MAX).contains(&passed), "{when}, {way:?}: {passed} passed");
}

#[test]
fn a_bridge_is_limited_and_the_guests_behind_its_other_ports_are_not() {
    on_a_wire(|peer, _| {
        for line in [
            "ip link set up0 down && ip addr flush dev up0",
            "ip link add br0 address 02:00:00:00:00:01 type bridge",
            "ip link set up0 master br0 && ip link set up0 up && ip link set br0 up",
            "ip addr add 10.78.0.1/24 dev br0",
            "ip neigh replace 10.78.0.2 lladdr 02:00:00:00:00:02 dev br0",
        ] {
            sh(line);
        }
        let guest = Reaped(Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap());
        let guest = super::Peer::entered(guest);
        sh(&format!("ip link add door type veth peer name in0 netns {}", guest.0.0.id()));
        sh("ip link set door master br0 && ip link set door up");
        guest.sh("ip addr add 10.78.0.9/24 dev in0");
        guest.sh("ip link set in0 up");
        guest.sh("ip neigh replace 10.78.0.2 lladdr 02:00:00:00:00:02 dev in0");

        ["up0", "door", "br0"].into_iter().for_each(wait_until_up);

        let index = index_of("br0");
        let policy = GuardPolicy { licence_ms: 30_000, ..GuardPolicy::default() };
        let (mut guard, shortfalls) = Guard::open("br0", index, policy).unwrap();
        assert_eq!((guard.rung(), shortfalls), (Rung::NetdevEgress, vec![]));
        guard.lift().unwrap();
        let licensed = peer.count(|| flood(Way::Raw, index));
        assert!(licensed >= ALL * 9 / 10, "{licensed} passed with a licence");
        assert_eq!(guard.counters().unwrap().licensed, licensed, "each is counted once");
        guard.throttle().unwrap();
        for way in [Way::Connect, Way::Bypass] {
            assert_cut(peer, index, way, "from the bridge");
        }
        let before = guard.counters().unwrap();
        let inside = super::inside(&guest, || index_of("in0"));
        let passed = peer.count(|| super::inside(&guest, || flood(Way::Raw, inside)));
        assert!(passed >= ALL * 9 / 10, "{passed} of a guest passed");
        assert_eq!(guard.counters().unwrap(), before, "a guest is not this host");
        guard.close().unwrap();
    });
}

#[test]
fn the_limit_follows_an_uplink_that_is_renamed_or_made_anew() {
    on_a_wire(|peer, index| {
        let mut guard = open(index, GuardPolicy::default());
        guard.throttle().unwrap();
        sh("ip link set up0 name up1");
        assert_eq!(guard.verify().unwrap(), Found::Intact, "nobody meddled with the rules");
        assert_cut(peer, index, Way::Raw, "renamed");
        // Who gets the old name is no uplink of ours.
        sh("ip link add up0 type veth peer name elsewhere");
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        assert!(!sh(&format!("nft list table netdev stead_guard_{index}")).contains("up0"));

        // As a driver does that is loaded again: the name stays, the index is another one.
        sh("ip link del up1");
        assert_eq!(guard.verify().unwrap(), Found::Intact, "without an uplink there is nothing to limit");
        make_anew("up1", peer);
        let anew = index_of("up1");
        assert_ne!(anew, index);
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        assert!(guard.is_throttled(), "a throttle goes with the uplink");
        assert_cut(peer, anew, Way::Raw, "made anew");
        guard.lift().unwrap();
        let passed = peer.count(|| flood(Way::Raw, anew));
        assert!(passed >= ALL * 9 / 10, "{passed} passed with a licence on the new uplink");
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        guard.close().unwrap();
        assert_eq!(sh("nft list tables").trim(), "", "no table of the earlier uplink is left");
    });
}

#[test]
fn the_limit_of_an_uplink_that_is_no_more_does_not_fall_on_the_one_of_its_name() {
    on_a_wire(|peer, index| {
        sh("nft add table netdev stead_guard_mine && nft add table netdev theirs");
        // Its agent dies, as it leaves the limit; then the uplink goes.
        drop(open(index, GuardPolicy::default()));
        sh("ip link del up0");
        make_anew("up0", peer);
        let anew = index_of("up0");
        assert_ne!(anew, index);
        let mut guard = open(anew, GuardPolicy { licence_ms: 30_000, ..GuardPolicy::default() });
        guard.lift().unwrap();
        let passed = peer.count(|| flood(Way::Raw, anew));
        assert!(passed >= ALL * 9 / 10, "{passed} passed with a licence");
        assert_eq!(guard.verify().unwrap(), Found::Intact);
        guard.close().unwrap();
        let left = sh("nft list tables");
        assert_eq!(left, "table netdev stead_guard_mine\ntable netdev theirs\n", "only what is not ours");
    });
}
