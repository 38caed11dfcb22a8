//! The lookout driven through whole floods.

use super::*;
use crate::telemetry::{BySource, Egress, KernelTcp, Uplink};
use alloc::vec;

const TICK: Span = Span::from_ms(100);

fn calm() -> Sample {
    Sample {
        elapsed: TICK,
        egress: Some(Egress::default()),
        netdev_syn: Some(0),
        inbound_syn: Some(0),
        kernel: Some(KernelTcp::default()),
        uplink: Some(Uplink::default()),
    }
}

fn sends(syn: BySource) -> Sample {
    let kernel = Some(KernelTcp { active_opens: syn.tcp, ..KernelTcp::default() });
    let egress = Some(Egress { syn, ..Egress::default() });
    Sample { egress, netdev_syn: Some(syn.sum()), kernel, ..calm() }
}

fn raw(count: u64) -> Sample {
    sends(BySource { raw: count, ..BySource::default() })
}

fn limited() -> Lookout {
    Lookout::new(Resumed { limited: true, ..Resumed::default() })
}

fn run(lookout: &mut Lookout, ticks: u64, sample: &Sample, cut: u64) -> Orders {
    let watched = Watched {
        sample: sample.clone(),
        cut: Some(cut),
        top: Some(("192.0.2.1".parse().unwrap(), 990)),
        integrity: Some(Integrity::Ours),
        ..Watched::default()
    };
    let orders = (0..ticks).map(|tick| lookout.tick(Instant::ZERO, 1_000 + tick * 100, &watched)).last();
    orders.expect("at least one tick")
}

#[test]
fn a_raw_flood_is_throttled_and_told_in_the_tick_that_shows_it() {
    let mut lookout = limited();
    assert!(!run(&mut lookout, 10, &calm(), 0).throttle);
    let orders = run(&mut lookout, 1, &raw(100), 0);
    assert_eq!((orders.throttle, orders.urgent, orders.search), (true, true, true));
    let seen = lookout.seen();
    assert_eq!((seen.posture, seen.out.forged, seen.out.cut), (Posture::Throttled, 100, 0));
    let flood = seen.flood.as_ref().unwrap();
    assert_eq!((flood.worst, flood.sent, flood.escaped), (Level::Convict, 100, 100));
    assert_eq!(flood.targets, vec!["192.0.2.1".parse::<IpAddr>().unwrap()]);
    // The same once more is no news.
    assert!(!run(&mut lookout, 1, &raw(100), 0).urgent);
}

#[test]
fn what_is_cut_at_tc_was_sent_and_did_not_leave() {
    let mut lookout = limited();
    let mut flooded = raw(100);
    flooded.egress.as_mut().unwrap().syn_cut = 90;
    run(&mut lookout, 1, &flooded, 0);
    let flood = lookout.flood().unwrap();
    assert_eq!((flood.worst, flood.sent, flood.escaped), (Level::Convict, 100, 10));
    assert_eq!(lookout.seen().out.cut, 90);
}

#[test]
fn a_record_tells_of_the_second_before_it_was_noticed() {
    let mut lookout = limited();
    // A flood of TCP sockets needs a moment; what it sent until then left the host.
    let one = sends(BySource { tcp: 20, ..BySource::default() });
    let ticks = (1..20).find(|_| run(&mut lookout, 1, &one, 0).throttle).expect("it is noticed");
    assert!((2..=10).contains(&ticks), "{ticks} ticks: this test is about those before the last one");
    let flood = lookout.flood().unwrap();
    assert_eq!((flood.sent, flood.escaped), (20 * ticks, 20 * ticks));
}

#[test]
fn a_flood_that_only_the_limit_still_sees_goes_on() {
    let mut lookout = limited();
    run(&mut lookout, 1, &raw(100), 0);
    // Ten minutes in which the detectors see nothing, for everything is cut before them.
    assert!(run(&mut lookout, 6_000, &calm(), 100).throttle);
    let flood = lookout.flood().unwrap();
    assert_eq!((flood.sent, flood.escaped, flood.ended_unix_ms), (600_100, 100, None));
    // Then it ends, and is told of for a minute more.
    assert!(!run(&mut lookout, 101, &calm(), 0).throttle);
    assert!(lookout.flood().is_some_and(|flood| flood.ended_unix_ms.is_some()));
    run(&mut lookout, 601, &calm(), 0);
    assert_eq!(lookout.flood(), None);
}

#[test]
fn an_agent_that_starts_in_the_middle_of_a_flood_goes_on_where_the_last_one_ended() {
    let mut first = limited();
    run(&mut first, 1, &raw(100), 0);
    let resumed = Resumed { limited: true, throttled: true, flood: first.flood().cloned() };
    let mut second = Lookout::new(resumed);
    assert!(run(&mut second, 1, &calm(), 50).throttle);
    assert_eq!(second.flood().unwrap().sent, 150);
    assert!(run(&mut second, 1_000, &calm(), 50).throttle, "it was convicted before");
}

#[test]
fn a_new_flood_within_the_minute_has_a_record_of_its_own() {
    let mut lookout = limited();
    run(&mut lookout, 1, &raw(100), 0);
    run(&mut lookout, 320, &calm(), 0);
    assert!(lookout.flood().is_some_and(|flood| flood.ended_unix_ms.is_some()));
    run(&mut lookout, 1, &raw(30), 0);
    assert_eq!(lookout.flood().map(|flood| (flood.sent, flood.ended_unix_ms)), Some((30, None)));
}

#[test]
fn a_victim_is_not_throttled_and_shielded_only_where_cookies_cannot_be_had() {
    for (cookies, drops) in [(1_000, 0), (0, 1_000)] {
        let mut lookout = limited();
        let kernel = KernelTcp {
            queue_full_cookies: cookies,
            cookies_sent: cookies,
            queue_full_drops: drops,
            ..KernelTcp::default()
        };
        let flooded = Sample { kernel: Some(kernel), inbound_syn: Some(1_010), ..calm() };
        let orders = run(&mut lookout, 1, &flooded, 0);
        assert_eq!((orders.throttle, orders.shield, orders.urgent), (false, drops > 0, true));
        let attack = lookout.seen().attack.unwrap();
        assert_eq!(
            (attack.received, attack.queue_full, lookout.seen().flood.is_none()),
            (1_010, 1_000, true)
        );
        assert_eq!(run(&mut lookout, 50, &calm(), 0).shield, drops > 0, "it stays for as long as the flood");
        assert!(!run(&mut lookout, 70, &calm(), 0).shield);
        assert!(lookout.seen().attack.is_some_and(|attack| attack.ended_unix_ms.is_some()));
    }
}

#[test]
fn without_a_limit_a_flood_is_told_all_the_same() {
    let mut lookout = Lookout::new(Resumed::default());
    let orders = run(&mut lookout, 1, &raw(100), 0);
    assert_eq!((orders.throttle, lookout.seen().posture), (true, Posture::Unlimited));
    assert!(lookout.flood().is_some());
}

#[test]
fn only_who_saw_can_be_blinded() {
    let mut lookout = limited();
    let without = Sample { egress: None, ..calm() };
    run(&mut lookout, 1, &without, 0);
    assert_eq!(lookout.seen().blinded, []);
    run(&mut lookout, 1, &calm(), 0);
    run(&mut lookout, 1, &without, 0);
    assert!(lookout.seen().blinded.contains(&Detector::Provenance));
}

#[test]
fn senders_are_named_once_and_cut_at_a_letter() {
    let mut lookout = limited();
    lookout.accuse(&["nobody floods yet".into()]);
    run(&mut lookout, 1, &raw(100), 0);
    let long = "é".repeat(60);
    lookout.accuse(&[long.clone(), long, "gcc.sh[7]".into()]);
    let senders = &lookout.flood().unwrap().senders;
    assert_eq!(senders.len(), 2);
    assert!(senders[0].len() <= SENDER_BYTES_MAX && senders[1] == "gcc.sh[7]");
}
