//! The lab's network: everybody reaches everybody, cuts are directed, links and addresses change.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod common;

use common::{in_lab, passes, udp};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;
use stead_deploy::lab::{Lab, LabError, Place, Shape};

const A: Place = Place::Node(0);
const B: Place = Place::Node(1);
const C: Place = Place::Node(2);

fn sockets4(lab: &Lab) -> Vec<(Place, UdpSocket)> {
    lab.places().map(|place| (place, udp(lab, place, lab.ip4(place).into()))).collect()
}

/// The directed pairs between which a datagram passes.
fn open_pairs(sockets: &[(Place, UdpSocket)]) -> Vec<(Place, Place)> {
    let pairs = sockets.iter().flat_map(|from| sockets.iter().map(move |to| (from, to)));
    let others = pairs.filter(|(from, to)| from.0 != to.0);
    others.filter(|(from, to)| passes(&from.1, &to.1)).map(|(from, to)| (from.0, to.0)).collect()
}

#[test]
fn all_places_reach_one_another_in_both_families_and_set_up_is_quick() {
    in_lab("all_places_reach_one_another_in_both_families_and_set_up_is_quick", || {
        let start = || {
            let began = Instant::now();
            (Lab::start(Shape::of(3)).unwrap(), began.elapsed())
        };
        let mut starts: Vec<_> = (0..3).map(|_| start()).collect();
        let took: Vec<u128> = starts.iter().map(|(_, took)| took.as_millis()).collect();
        println!("set-up of 3 nodes, visitor and switch: {took:?} ms");
        assert!(took.iter().min().is_some_and(|ms| *ms < 300), "{took:?}");
        let (lab, _) = starts.pop().unwrap();
        assert_eq!(open_pairs(&sockets4(&lab)).len(), 12);
        let sockets6: Vec<_> =
            lab.places().map(|place| (place, udp(&lab, place, lab.ip6(place).into()))).collect();
        assert_eq!(open_pairs(&sockets6).len(), 12);
    });
}

#[test]
fn a_cut_stops_one_direction_between_two_places_and_nothing_else() {
    in_lab("a_cut_stops_one_direction_between_two_places_and_nothing_else", || {
        let mut lab = Lab::start(Shape::of(3)).unwrap();
        let sockets = sockets4(&lab);
        let all = open_pairs(&sockets);
        assert_eq!(all.len(), 12);
        let without = |cuts: &[(Place, Place)]| -> Vec<(Place, Place)> {
            all.iter().filter(|pair| !cuts.contains(pair)).copied().collect()
        };
        lab.cut(A, B).unwrap();
        assert_eq!(open_pairs(&sockets), without(&[(A, B)]));
        lab.cut(Place::Visitor, B).unwrap();
        assert_eq!(open_pairs(&sockets), without(&[(A, B), (Place::Visitor, B)]));
        lab.heal(A, B).unwrap();
        assert_eq!(open_pairs(&sockets), without(&[(Place::Visitor, B)]));
        lab.heal_all().unwrap();
        assert_eq!(open_pairs(&sockets), all);
    });
}

#[test]
fn a_partition_and_a_lost_host_are_cuts_both_ways() {
    in_lab("a_partition_and_a_lost_host_are_cuts_both_ways", || {
        let mut lab = Lab::start(Shape::of(3)).unwrap();
        let sockets = sockets4(&lab);
        let all = open_pairs(&sockets);
        assert_eq!(all.len(), 12);
        lab.partition(&[&[A], &[B, C]]).unwrap();
        let open = open_pairs(&sockets);
        let crossing = |pair: &&(Place, Place)| [(A, B), (B, A), (A, C), (C, A)].contains(pair);
        assert_eq!((open.len(), open.iter().filter(crossing).count()), (8, 0), "{open:?}");
        lab.heal_all().unwrap();
        lab.isolate(A).unwrap();
        let open = open_pairs(&sockets);
        assert_eq!((open.len(), open.iter().filter(|(from, to)| *from == A || *to == A).count()), (6, 0));
        lab.heal_all().unwrap();
        assert_eq!(open_pairs(&sockets), all);
    });
}

#[test]
fn a_pulled_cable_comes_back_with_the_addresses_it_had() {
    in_lab("a_pulled_cable_comes_back_with_the_addresses_it_had", || {
        let lab = Lab::start(Shape::of(2)).unwrap();
        let (a, b) = (udp(&lab, A, lab.ip6(A).into()), udp(&lab, B, lab.ip6(B).into()));
        assert!(passes(&a, &b) && passes(&b, &a));
        lab.link_down(A).unwrap();
        assert!(!passes(&a, &b) && !passes(&b, &a));
        lab.link_up(A).unwrap();
        common::eventually("the link carries again", 3, || passes(&a, &b) && passes(&b, &a));
        assert_eq!(lab.addresses(A).unwrap(), [IpAddr::V4(lab.ip4(A)), IpAddr::V6(lab.ip6(A))]);
    });
}

#[test]
fn addresses_are_replaced_added_and_deleted() {
    in_lab("addresses_are_replaced_added_and_deleted", || {
        let lab = Lab::start(Shape::of(2)).unwrap();
        let new: [IpAddr; 2] = ["10.83.0.77".parse().unwrap(), "fd83::77".parse().unwrap()];
        for ip in new {
            lab.set_address(A, ip).unwrap();
            lab.set_address(A, ip).unwrap();
            let own = if ip.is_ipv4() { lab.ip4(B).into() } else { lab.ip6(B).into() };
            assert!(passes(&udp(&lab, A, ip), &udp(&lab, B, own)), "{ip}");
        }
        assert_eq!(lab.addresses(A).unwrap(), new);
        let vip = "10.83.0.100".parse().unwrap();
        lab.add_address(A, vip).unwrap();
        assert!(lab.delete_address(A, vip).unwrap());
        assert!(!lab.delete_address(A, vip).unwrap());
        assert_eq!(lab.addresses(A).unwrap(), new);
    });
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    in_lab("a_place_that_is_not_there_is_refused", || {
        let mut lab = Lab::start(Shape::of(1)).unwrap();
        assert!(matches!(lab.cut(A, B), Err(LabError::NoSuchPlace(_))));
        assert!(lab.cuts().is_empty());
        assert!(matches!(Lab::start(Shape::of(0)), Err(LabError::TooManyNodes { .. })));
    });
}
