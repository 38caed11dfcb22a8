//! Certificates that hold, and every way in which one does not.

use super::*;
use crate::sign::SecretKey;
use crate::tribunal::testimony::{Ground, Place, Probe};
use alloc::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

const CLUSTER: ClusterId = ClusterId([7; 32]);
const BOTH: [Ground; 2] = [Ground::Probed(Probe::HostKey), Ground::Probed(Probe::Content)];

fn key(node: u64) -> SecretKey {
    let [low, ..] = node.to_le_bytes();
    SecretKey::from_seed(&Zeroizing::new([low; 32]))
}

fn electorate(n: u64) -> Electorate {
    let voters = (1..=n).map(|node| (NodeId(node), key(node).public())).collect();
    let others = BTreeMap::from([(NodeId(99), key(99).public())]);
    Electorate { index: 5, voters, others, judges: true }
}

fn against(node: u64, by: u64) -> Testimony {
    Testimony {
        subject: Subject { node: NodeId(node), key: key(node).public() },
        sanction: Sanction::Isolate,
        electorate: 5,
        by: NodeId(by),
        grounds: BOTH.to_vec(),
        unix_ms: 1_000_000,
        heard: None,
    }
}

fn signed(testimony: &Testimony) -> Signed<Testimony> {
    key(testimony.by.0).sign(CLUSTER, testimony).unwrap()
}

fn certificate(node: u64, by: &[u64]) -> Certificate {
    Certificate::of(by.iter().map(|by| signed(&against(node, *by))).collect())
}

fn judge(n: u64, isolated: &[u64], certificate: &Certificate) -> Result<Verdict, Disbelief> {
    let isolated = isolated.iter().copied().map(NodeId).collect();
    let electorate = electorate(n);
    certificate.verify(&Court {
        cluster: CLUSTER,
        electorate: &electorate,
        isolated: &isolated,
        rules: Rules::SOUND,
    })
}

#[test]
fn more_than_half_convict_and_the_accused_is_among_the_n() {
    for (n, needed) in [(3, 2), (4, 3), (5, 3), (7, 4), (9, 5)] {
        let by: Vec<u64> = (2..=n).collect();
        let (enough, too_few) = by.split_at(needed);
        assert!(too_few.len() < needed);
        let verdict = judge(n, &[], &certificate(1, enough)).unwrap();
        assert_eq!((verdict.subject.node, verdict.testimonies.len()), (NodeId(1), needed));
        let fewer = judge(n, &[], &certificate(1, &enough[1..]));
        assert_eq!(fewer, Err(Disbelief::Witnesses { given: needed - 1, needed }));
    }
    assert_eq!(electorate(2).threshold(Sanction::Isolate), 2, "of two, one cannot convict the other");
}

#[test]
fn who_has_no_clock_in_common_has_the_reports_of_the_accused() {
    let with = |change: &dyn Fn(&mut Testimony)| {
        let at = |sequence| Some(Place { incarnation: 4, sequence });
        let one = Testimony { heard: at(1_000), ..against(1, 2) };
        let mut other =
            Testimony { heard: at(1_000 + SPREAD_REPORTS_MAX), unix_ms: 9_000_000, ..against(1, 3) };
        change(&mut other);
        judge(3, &[], &Certificate::of(vec![signed(&one), signed(&other)])).map(drop)
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let apart = Err(Disbelief::Spread);
    assert_eq!(with(&|t| t.heard = None), apart);
    assert_eq!(with(&|t| t.heard.as_mut().unwrap().sequence += 1), apart);
    assert_eq!(with(&|t| t.heard.as_mut().unwrap().incarnation += 1), apart);
    assert_eq!(with(&|t| t.unix_ms = 1_000_001 + CLOCKS_APART_MS_MAX), apart, "not even on the same day");
    assert_eq!(with(&|t| (t.heard, t.unix_ms) = (None, 1_000_001)), Ok(()), "or the clocks agree");
}

#[test]
fn nobody_is_judged_where_the_charter_does_not_allow_it() {
    let silent = Electorate { judges: false, ..electorate(3) };
    let court =
        Court { cluster: CLUSTER, electorate: &silent, isolated: &BTreeSet::new(), rules: Rules::SOUND };
    assert_eq!(certificate(1, &[2, 3]).verify(&court), Err(Disbelief::Charter));
}

#[test]
fn who_does_not_vote_can_be_convicted_and_cannot_convict() {
    assert!(judge(3, &[], &certificate(99, &[1, 2])).is_ok());
    assert_eq!(judge(3, &[], &certificate(1, &[2, 99])), Err(Disbelief::Witness(NodeId(99))));
    assert_eq!(judge(3, &[], &certificate(8, &[1, 2])), Err(Disbelief::Stranger(NodeId(8))));
}

#[test]
fn nobody_speaks_twice_for_another_or_against_himself() {
    assert_eq!(judge(3, &[], &certificate(1, &[2, 2])), Err(Disbelief::Twice(NodeId(2))));
    assert_eq!(judge(3, &[], &certificate(1, &[2, 1])), Err(Disbelief::Void(NodeId(1))));
    let borrowed = key(2).sign(CLUSTER, &against(1, 3)).unwrap();
    let borrowed = Certificate::of(vec![signed(&against(1, 2)), borrowed]);
    assert_eq!(judge(3, &[], &borrowed), Err(Disbelief::Witness(NodeId(3))));
}

#[test]
fn the_word_of_the_isolated_is_void_and_never_too_many_are_isolated() {
    assert_eq!(judge(5, &[2], &certificate(1, &[2, 3, 4])), Err(Disbelief::Void(NodeId(2))));
    assert!(judge(5, &[2], &certificate(1, &[3, 4, 5])).is_ok(), "two of five may be out");
    assert_eq!(judge(3, &[9], &certificate(1, &[2, 3])), Err(Disbelief::Budget(1)));
    assert!(judge(3, &[1], &certificate(1, &[2, 3])).is_ok(), "the same once more is no further one");
}

#[test]
fn testimonies_of_different_times_things_or_electorates_do_not_add_up() {
    let with = |change: &dyn Fn(&mut Testimony)| {
        let mut other = against(1, 3);
        change(&mut other);
        judge(3, &[], &Certificate::of(vec![signed(&against(1, 2)), signed(&other)]))
    };
    assert!(with(&|t| t.unix_ms += SPREAD_MS_MAX).is_ok());
    assert_eq!(with(&|t| t.unix_ms += SPREAD_MS_MAX + 1), Err(Disbelief::Spread));
    assert_eq!(with(&|t| t.unix_ms = u64::MAX), Err(Disbelief::Spread));
    assert_eq!(with(&|t| t.sanction = Sanction::Demote), Err(Disbelief::Mixed));
    assert_eq!(with(&|t| t.electorate = 4), Err(Disbelief::Mixed));
    assert_eq!(with(&|t| t.subject.key = key(9).public()), Err(Disbelief::Stranger(NodeId(1))));
    assert_eq!(with(&|t| t.grounds.truncate(1)), Err(Disbelief::Grounds(NodeId(3))));
    let another = |t: &mut Testimony| t.subject = Subject { node: NodeId(99), key: key(99).public() };
    assert_eq!(with(&another), Err(Disbelief::Mixed));
}

#[test]
fn nothing_carries_over_into_another_mesh() {
    let electorate = electorate(3);
    let isolated = BTreeSet::new();
    let court = Court {
        cluster: ClusterId([8; 32]),
        electorate: &electorate,
        isolated: &isolated,
        rules: Rules::SOUND,
    };
    assert_eq!(certificate(1, &[2, 3]).verify(&court), Err(Disbelief::Signature(SignError::Signature)));
}

#[test]
fn more_witnesses_than_can_vote_are_refused_before_a_signature_is_looked_at() {
    let by: Vec<u64> = core::iter::repeat_n(2, VOTERS_MAX + 1).collect();
    let refused = Err(Disbelief::Witnesses { given: VOTERS_MAX + 1, needed: VOTERS_MAX });
    assert_eq!(judge(3, &[], &certificate(1, &by)), refused);
}

proptest! {
    #[test]
    fn one_flipped_bit_anywhere_is_refused(position in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = crate::codec::encode(&certificate(1, &[2, 3]), 10_000).unwrap();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let believed = crate::codec::decode::<Certificate>(&bytes, 10_000)
            .is_ok_and(|altered| judge(3, &[], &altered).is_ok());
        prop_assert!(!believed, "bit {bit} of byte {at}");
    }

    #[test]
    fn liars_alone_never_convict(n in 3..=9_u64, accused in 1..=9_u64, seed: u64) {
        let accused = accused.min(n);
        let liars = (n - 1) / 2;
        let others: Vec<u64> = (1..=n).filter(|node| *node != accused).collect();
        let skip = usize::try_from(seed).unwrap_or_default() % others.len();
        let count = usize::try_from(liars).unwrap();
        let by: Vec<u64> = others.iter().copied().cycle().skip(skip).take(count).collect();
        prop_assert!(judge(n, &[], &certificate(accused, &by)).is_err());
    }
}
