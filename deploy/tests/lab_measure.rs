//! The lab's instruments against the kernel: the tap names the right sender, the visitor the right outage.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod common;

use common::{eventually, in_lab, passes, site, udp};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::{fs, thread};
use stead_deploy::lab::outage::{is_good, outages, silences};
use stead_deploy::lab::overlap::{Entitled, overlap};
use stead_deploy::lab::tap::{Answer, Capture, RECORDS_MAX, Tap};
use stead_deploy::lab::visitor::{Outcome, Route, Visit, Visitor};
use stead_deploy::lab::{Lab, Place, Shape, now};
use stead_proto::time::Span;

const TOLERANCE_MS: u64 = 20;

/// Node 1 answers the visitor under the address, then node 0 does, then node 1 again.
fn take_turns(lab: &Lab, vip: IpAddr, visitor: IpAddr) -> Capture {
    let tap = Tap::start(lab, &[vip], RECORDS_MAX).unwrap();
    let began = now();
    let asking = udp(lab, Place::Visitor, visitor);
    lab.add_address(Place::Node(1), vip).unwrap();
    let holder = udp(lab, Place::Node(1), vip);
    assert!(passes(&asking, &holder) && passes(&holder, &asking));
    lab.add_address(Place::Node(0), vip).unwrap();
    let intruder = udp(lab, Place::Node(0), vip);
    assert!(passes(&intruder, &asking) && passes(&holder, &asking));
    let capture = tap.stop().unwrap();
    let ended = now();
    assert!(capture.records.iter().all(|record| began < record.at && record.at < ended), "one clock");
    capture
}

#[test]
fn the_tap_proves_who_answered_over_ip4_and_the_oracle_names_the_late_frame() {
    in_lab("the_tap_proves_who_answered_over_ip4_and_the_oracle_names_the_late_frame", || {
        let lab = Lab::start(Shape::of(2)).unwrap();
        let vip: IpAddr = "10.83.0.100".parse().unwrap();
        let capture = take_turns(&lab, vip, lab.ip4(Place::Visitor).into());
        let of = |node| {
            capture.records.iter().filter(move |record| record.node == node).map(|record| record.answer)
        };
        let arp_reply = |answer| matches!(answer, Answer::Arp { reply: true, .. });
        let udp = |answer| matches!(answer, Answer::Ip { protocol: 17, ports: Some((7_000, 7_000)), .. });
        assert!(of(1).any(arp_reply) && of(1).any(udp) && of(0).any(udp), "{capture:?}");
        assert!(!of(0).any(arp_reply), "nobody asked node 0");
        let report = overlap(&capture, Entitled::ByAnnouncement);
        println!("{report}");
        let history = &report.addresses[&vip];
        assert_eq!(capture.lost, 0);
        assert_eq!(history.holds.iter().map(|hold| hold.node).collect::<Vec<_>>(), [1, 0]);
        assert!(history.violations.iter().any(|v| v.frame.node == 1 && udp(v.frame.answer)), "{report}");
    });
}

#[test]
fn the_tap_proves_who_answered_over_ip6() {
    in_lab("the_tap_proves_who_answered_over_ip6", || {
        let lab = Lab::start(Shape::of(2)).unwrap();
        let vip: IpAddr = "fd83::100".parse().unwrap();
        let capture = take_turns(&lab, vip, lab.ip6(Place::Visitor).into());
        let of = |node| {
            capture.records.iter().filter(move |record| record.node == node).map(|record| record.answer)
        };
        let advert = |answer| matches!(answer, Answer::NeighbourAdvert { .. });
        let udp = |answer| matches!(answer, Answer::Ip { protocol: 17, .. });
        assert!(of(1).any(advert) && of(1).any(udp) && of(0).any(udp), "{capture:?}");
        assert!(!overlap(&capture, Entitled::ByAnnouncement).is_clean());
    });
}

#[test]
fn a_full_tap_counts_what_it_lost_and_then_proves_nothing() {
    in_lab("a_full_tap_counts_what_it_lost_and_then_proves_nothing", || {
        let lab = Lab::start(Shape::of(1)).unwrap();
        let own: IpAddr = lab.ip4(Place::Node(0)).into();
        let tap = Tap::start(&lab, &[own], 1).unwrap();
        let node = udp(&lab, Place::Node(0), own);
        let visitor = udp(&lab, Place::Visitor, lab.ip4(Place::Visitor).into());
        assert!(passes(&node, &visitor) && passes(&node, &visitor));
        let capture = tap.stop().unwrap();
        assert!(capture.records.len() == 1 && capture.lost > 0, "{capture:?}");
        assert!(!overlap(&capture, Entitled::ByAnnouncement).is_clean());
    });
}

fn visiting(lab: &Lab) -> Visitor {
    let visitor =
        Visitor::start(lab, Route::to(SocketAddr::new(lab.ip4(Place::Node(0)).into(), 80))).unwrap();
    eventually("some good visits", 5, || {
        visitor.so_far().visits.iter().filter(|visit| is_good(visit)).count() > 20
    });
    visitor
}

/// Waits until a visit that was due after now went well.
fn served_again(visitor: &Visitor) {
    let since = now();
    eventually("served again", 5, || {
        visitor.so_far().visits.iter().any(|visit| visit.due > since && is_good(visit))
    });
}

/// The visitor says how late he was himself, on a busy machine: so much he may be wrong beyond the tolerance.
fn assert_alike(what: &str, measured: Span, fault: Span, visits: &[Visit]) {
    let late = visits.iter().map(|visit| visit.late).max().unwrap();
    println!("{what}: measured {measured}, fault {fault}, {} visits, at most {late} late", visits.len());
    let wrong_ms = measured.as_ms().abs_diff(fault.as_ms());
    assert!(wrong_ms <= TOLERANCE_MS + late.as_ms(), "{what}: {measured} instead of {fault}, {late} late");
}

#[test]
fn an_outage_of_300_ms_is_measured_within_20_ms() {
    in_lab("an_outage_of_300_ms_is_measured_within_20_ms", || {
        let directory = tempfile::tempdir().unwrap();
        let mut lab = Lab::start(Shape::of(1)).unwrap();
        let mut site = site(&lab, 0, &directory);
        let visitor = visiting(&lab);

        let cut_at = now();
        lab.partition(&[&[Place::Visitor], &[Place::Node(0)]]).unwrap();
        thread::sleep(Duration::from_millis(300));
        lab.heal_all().unwrap();
        let cut_for = now().since(cut_at);
        served_again(&visitor);
        let visits = visitor.so_far().visits;
        let [outage] = outages(&visits)[..] else { panic!("{:?}", outages(&visits)) };
        assert_alike("cut cable, as an outage", outage.length().unwrap(), cut_for, &visits);

        let stopped_at = now();
        site.stop().unwrap();
        thread::sleep(Duration::from_millis(300));
        site.cont().unwrap();
        let stopped_for = now().since(stopped_at);
        served_again(&visitor);
        let diary = visitor.stop().unwrap();
        let paused: Vec<_> = silences(&diary.visits, Span::from_ms(100))
            .into_iter()
            .filter(|gap| gap.until.is_some_and(|until| until > stopped_at))
            .collect();
        let [silence] = paused[..] else { panic!("{paused:?}") };
        assert_alike("stopped server, as a silence", silence.length().unwrap(), stopped_for, &diary.visits);

        let good = Outcome::Ok { status: 200, served_by: Some("web-0".into()) };
        assert!(diary.visits.iter().any(|visit| visit.outcome == good));
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        println!("processor time of test and visitor: {} ms", cpu.tv_sec * 1_000 + cpu.tv_nsec / 1_000_000);
        assert_eq!(diary.lost, 0);
    });
}

#[test]
fn a_killed_site_refuses_and_a_hung_one_times_out() {
    in_lab("a_killed_site_refuses_and_a_hung_one_times_out", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(1)).unwrap();
        let mut site = site(&lab, 0, &directory);
        let visitor = visiting(&lab);
        let saw = |outcome: &Outcome| visitor.so_far().visits.iter().any(|visit| visit.outcome == *outcome);
        assert!(!saw(&Outcome::Timeout) && !saw(&Outcome::Refused));
        fs::write(directory.path().join("hang-0"), "").unwrap();
        eventually("a timeout", 5, || saw(&Outcome::Timeout));
        fs::remove_file(directory.path().join("hang-0")).unwrap();
        served_again(&visitor);
        site.kill_9().unwrap();
        eventually("a refusal", 5, || saw(&Outcome::Refused));
    });
}
