//! A real bundle, and every way in which one is not.

use super::*;
use crate::bundle::Named;
use serde_json::Value;
use stead_proto::id::NodeId;
use stead_proto::lookout::{Flood, Posture, TrafficSeen};
use stead_proto::report::link;
use stead_proto::sign::{SecretKey, Signed};
use stead_proto::state::{Authority, Isolation, State};
use stead_proto::tribunal::{Certificate, Ground as Found, Place, Probe, Sanction, Subject, Testimony};
use zeroize::Zeroizing;

const BAD: u64 = 2;

fn key(node: u64) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([u8::try_from(node).unwrap(); 32]))
}

fn genesis() -> Genesis {
    let mut answers = crate::sample::healthy();
    let state = crate::sample::status(&mut answers, 1).state.clone();
    let mut members: Vec<_> = state.members.into_values().collect();
    members.iter_mut().for_each(|member| member.key = key(member.id.0).public());
    Genesis { nonce: [3; 16], members, operators: state.operators, site: state.site }
}

fn report() -> Report {
    let flood = Flood { worst: Level::Convict, peak: 1_030, sent: 4_000, escaped: 21, ..Flood::default() };
    let traffic = TrafficSeen { posture: Posture::Throttled, flood: Some(flood), ..TrafficSeen::default() };
    let mut answers = crate::sample::healthy();
    let report = crate::sample::status(&mut answers, BAD).own.clone();
    Report { from: NodeId(BAD), traffic, ..report }
}

struct Night {
    state: State,
    genesis: Vec<u8>,
    confession: Signed<Report>,
}

fn night(change: impl Fn(&mut Testimony)) -> Night {
    let genesis = genesis();
    let cluster = genesis.cluster().unwrap();
    let mut state = State::begin(cluster, &genesis);
    let confession = key(BAD).sign(cluster, &report()).unwrap();
    let testimony = |by: u64| {
        let mut testimony = Testimony {
            subject: Subject { node: NodeId(BAD), key: key(BAD).public() },
            sanction: Sanction::Isolate,
            electorate: 0,
            by: NodeId(by),
            grounds: vec![Found::Confession { report: link(&confession) }, Found::AtHome],
            unix_ms: 1_800_000_000_000 + by,
            heard: Some(Place { incarnation: 2, sequence: 40 + by * 1_000 }),
        };
        change(&mut testimony);
        key(by).sign(cluster, &testimony).unwrap()
    };
    let by = Authority::Peers(Certificate::of(vec![testimony(1), testimony(3)]));
    state.isolations.insert(NodeId(BAD), Isolation { index: 9, unix_ms: 0, by });
    Night { state, genesis: codec::encode(&genesis, 1 << 20).unwrap(), confession }
}

fn bundle(change: impl Fn(&mut Testimony)) -> Bundle {
    let Night { state, genesis, confession } = night(change);
    Bundle::of(&state, &genesis, NodeId(BAD), &[confession.clone(), confession]).unwrap()
}

fn text(bundle: &Bundle) -> Vec<u8> {
    serde_json::to_vec(bundle).unwrap()
}

fn refused(change: impl Fn(&mut Bundle)) -> String {
    let mut bundle = bundle(|_| ());
    change(&mut bundle);
    verify(&text(&bundle), None).unwrap_err()
}

#[test]
fn what_a_mesh_wrote_holds_and_both_paths_agree() {
    let night = night(|_| ());
    let bundle = Bundle::of(&night.state, &night.genesis, NodeId(BAD), &[night.confession]).unwrap();
    let verdict = verify(&text(&bundle), Some(&night.genesis)).unwrap();
    assert_eq!((verdict.subject.as_str(), verdict.needed, verdict.missing), ("b", 2, 0));
    assert_eq!(verdict.witnesses.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "w"]);
    assert!(verdict.reports[0].contains("4000 in all, 21 left the host"), "{:?}", verdict.reports);
    assert_eq!((verdict.unanchored.len(), verdict.cluster), (0, night.state.cluster.to_string()));
    let Authority::Peers(certificate) = &night.state.isolations[&NodeId(BAD)].by else { panic!("by peers") };
    let mut before = night.state.clone();
    before.isolations.clear();
    assert!(before.check_certificate(certificate).is_ok());
}

#[test]
fn one_flipped_bit_of_anything_signed_is_refused() {
    let good = bundle(|_| ());
    let sealed = good.testimonies.iter().chain(&good.reports);
    let lengths: Vec<usize> =
        sealed.flat_map(|one| [one.key.len(), one.statement.len(), one.signature.len()]).collect();
    let mut tried = 0;
    for (field, digits) in lengths.into_iter().enumerate() {
        for bit in 0..digits * 4 {
            let mut bent = good.clone();
            let mut all: Vec<&mut String> = bent
                .testimonies
                .iter_mut()
                .chain(&mut bent.reports)
                .flat_map(|one| [&mut one.key, &mut one.statement, &mut one.signature])
                .collect();
            let mut bytes = unhex(all[field]).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            *all[field] = crate::bundle::hex(&bytes);
            assert!(verify(&text(&bent), None).is_err(), "field {field}, bit {bit}");
            tried += 1;
        }
    }
    assert!(tried > 4_000, "{tried} bits");
}

#[test]
fn one_flipped_bit_of_the_genesis_is_another_mesh() {
    let good = bundle(|_| ());
    for bit in 8..good.genesis.len() * 4 {
        let mut bent = good.clone();
        let mut bytes = unhex(&bent.genesis).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bent.genesis = crate::bundle::hex(&bytes);
        assert!(verify(&text(&bent), None).is_err(), "bit {bit}");
    }
}

#[test]
fn no_flipped_byte_anywhere_makes_another_verdict() {
    let good = bundle(|_| ());
    let (whole, verdict) = (text(&good), verify(&text(&good), None).unwrap());
    for place in 0..whole.len() {
        for flip in [1, 2, 16, 32] {
            let mut bent = whole.clone();
            bent[place] ^= flip;
            if let Ok(other) = verify(&bent, None) {
                // Names are for people and signed by nobody but the genesis.
                let same = (other.cluster, other.needed, other.reports)
                    == (verdict.cluster.clone(), verdict.needed, verdict.reports.clone());
                assert!(same, "byte {place} ^ {flip}");
            }
        }
    }
}

#[test]
fn too_few_of_one_time_or_thing_and_the_accused_himself_do_not_convict() {
    assert!(refused(|bundle| drop(bundle.testimonies.pop())).contains("1 witnesses, where it takes 2"));
    assert!(refused(|bundle| bundle.testimonies.clear()).contains("no testimony"));
    assert!(
        refused(|bundle| bundle.testimonies[1] = bundle.testimonies[0].clone()).contains("testifies twice")
    );
    assert!(refused(|bundle| bundle.subject = 3).contains("not ask to isolate the node"));
    assert!(refused(|bundle| bundle.members[2].judges = false).contains("does not judge"));
    let with = |change: fn(&mut Testimony)| verify(&text(&bundle(change)), None).unwrap_err();
    assert!(
        with(|t| if t.by.0 == 3 {
            t.unix_ms += 60_001
        })
        .contains("more than a minute")
    );
    assert!(
        with(|t| if t.by.0 == 3 {
            t.electorate = 8
        })
        .contains("about one thing")
    );
    assert!(with(|t| t.sanction = Sanction::Demote).contains("do not ask to isolate"));
    assert!(with(|t| t.grounds = vec![Found::AtHome, Found::Silence]).contains("does not suffice"));
    assert!(with(|t| t.grounds = vec![Found::Probed(Probe::Ports); 2]).contains("does not suffice"));
}

#[test]
fn a_padded_electorate_needs_more_witnesses_and_strangers_are_named() {
    let extra =
        |id: u64| Named { id, name: format!("x{id}"), key: key(id).public().to_string(), judges: true };
    assert!(refused(|bundle| bundle.members.push(extra(9))).contains("2 witnesses, where it takes 3"));
    // Whoever leaves a judge out is found out by the genesis.
    let mut bundle = bundle(|_| ());
    bundle.members.retain(|member| member.id != 3);
    bundle.testimonies.pop();
    bundle.members[1].judges = false;
    let verdict = verify(&text(&bundle), None).unwrap();
    assert_eq!((verdict.needed, verdict.absent), (1, vec!["b".to_string(), "w".to_string()]));
}

#[test]
fn a_confession_that_is_missing_is_said_and_another_one_is_refused() {
    let mut bundle = bundle(|_| ());
    let confession = bundle.reports.pop().unwrap();
    assert_eq!(verify(&text(&bundle), None).unwrap().missing, 1);
    bundle.reports = vec![confession.clone(), confession];
    assert!(verify(&text(&bundle), None).is_ok(), "the same twice is the same");
    let mut other = night(|_| ());
    let calm = Report { traffic: TrafficSeen::default(), ..report() };
    other.confession = key(BAD).sign(other.state.cluster, &calm).unwrap();
    let calm = Bundle::of(&other.state, &other.genesis, NodeId(BAD), &[other.confession]).unwrap();
    assert!(verify(&text(&calm), None).unwrap_err().contains("none that a testimony names"));
}

#[test]
fn other_meshes_versions_sizes_and_shapes_are_refused() {
    let good = bundle(|_| ());
    let own = codec::encode(&Genesis { nonce: [9; 16], ..genesis() }, 1 << 20).unwrap();
    assert!(verify(&text(&good), Some(&own)).unwrap_err().contains("another mesh"));
    assert!(refused(|bundle| bundle.stead_evidence = 2).contains("version 2"));
    assert!(verify(&vec![b' '; BYTES_MAX + 1], None).unwrap_err().contains("no bundle has more"));
    let whole = text(&good);
    for length in (0..whole.len()).step_by(37) {
        assert!(verify(&whole[..length], None).unwrap_err().contains("no bundle"), "{length}");
    }
    let mut more: Value = serde_json::from_slice(&whole).unwrap();
    more["note"] = "trust me".into();
    assert!(verify(&serde_json::to_vec(&more).unwrap(), None).unwrap_err().contains("unknown field"));
}

/// What two reports come to in a bundle whose witnesses swear that they contradict each other.
fn contradicting(one: &Report, other: &Report) -> Result<Vec<String>, String> {
    let cluster = genesis().cluster().unwrap();
    let both = [one, other].map(|report| key(BAD).sign(cluster, report).unwrap());
    let ground = Found::Contradiction { one: link(&both[0]), other: link(&both[1]) };
    let night = night(|testimony| testimony.grounds = vec![ground]);
    let bundle = Bundle::of(&night.state, &night.genesis, NodeId(BAD), &both).unwrap();
    verify(&text(&bundle), Some(&night.genesis)).map(|verdict| verdict.reports)
}

#[test]
fn a_contradiction_is_two_reports_that_no_honest_chain_holds() {
    let one = Report { sequence: 40, ..report() };
    let twice = contradicting(&one, &Report { unix_ms: one.unix_ms + 1, ..one.clone() }).unwrap();
    assert_eq!(twice, [format!("report {}.40, twice, and not the same", one.incarnation)]);
    let next = Report { sequence: 41, previous: [7; 32], ..one.clone() };
    assert!(contradicting(&next, &one).unwrap()[0].ends_with(".41 that follows another one"));

    let previous = link(&key(BAD).sign(genesis().cluster().unwrap(), &one).unwrap());
    let honest = Report { sequence: 41, previous, ..one.clone() };
    for other in [
        honest,
        Report { sequence: 42, ..one.clone() },
        Report { incarnation: 99, ..one.clone() },
        one.clone(),
    ] {
        let why = contradicting(&one, &other).unwrap_err();
        assert!(why.contains("do not contradict"), "{why}");
    }
}
