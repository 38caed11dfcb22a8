//! Certificates that elect, and such that do not.

use super::{CertificateError, Elected, ElectionCertificate, Electorate, Grant};
use crate::id::{ClusterId, NodeId};
use crate::sign::{SecretKey, Signed};
use alloc::{collections::BTreeSet, vec, vec::Vec};
use proptest::prelude::*;
use zeroize::Zeroizing;

const HERE: ClusterId = ClusterId([1; 32]);

fn key(node: u64) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([u8::try_from(node).unwrap(); 32]))
}

fn set(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    nodes.into_iter().map(NodeId).collect()
}

/// Voters 1 to `voters`; the roster has twelve members.
fn electorate(voters: u64) -> Electorate {
    let keys = (1..=12).map(|node| (NodeId(node), key(node).public())).collect();
    Electorate { keys, memberships: vec![vec![set(1..=voters)]], membership: Some(10) }
}

fn grant(voter: u64) -> Grant {
    Grant { term: 7, candidate: NodeId(2), last: Some((6, 90)), membership: Some(10), voter: NodeId(voter) }
}

fn signed(grant: Grant) -> Signed<Grant> {
    key(grant.voter.0).sign(HERE, &grant).unwrap()
}

fn of(voters: impl IntoIterator<Item = u64>) -> Vec<Signed<Grant>> {
    voters.into_iter().map(|voter| signed(grant(voter))).collect()
}

fn judge(grants: Vec<Signed<Grant>>, electorate: &Electorate) -> Result<Elected, CertificateError> {
    ElectionCertificate::of(grants).verify(HERE, electorate)
}

#[test]
fn a_majority_elects_and_less_does_not() {
    let elected = Ok(Elected { term: 7, leader: NodeId(2) });
    for voters in 1..=9 {
        let majority = voters / 2 + 1;
        assert_eq!(judge(of(1..=majority), &electorate(voters)), elected, "{voters}");
        let few = judge(of(1..majority), &electorate(voters));
        assert!(matches!(few, Err(CertificateError::TooFew(_) | CertificateError::Count(0))), "{voters}");
    }
}

#[test]
fn each_of_two_sets_of_voters_needs_its_majority() {
    let mut joint = electorate(0);
    joint.memberships = vec![vec![set(1..=3), set(3..=7)]];
    assert_eq!(judge(of([1, 2, 3]), &joint), Err(CertificateError::TooFew(3)));
    assert_eq!(judge(of([3, 4, 5, 6]), &joint), Err(CertificateError::TooFew(4)));
    assert!(judge(of([1, 3, 4, 5]), &joint).is_ok());
    joint.memberships.push(vec![set(1..=3)]);
    assert!(judge(of([1, 2]), &joint).is_ok(), "the newer one may never have been committed");
}

#[test]
fn foreign_repeated_and_mixed_grants_are_refused() {
    let five = electorate(5);
    assert_eq!(judge(of([8, 9, 10]), &five), Err(CertificateError::TooFew(3)), "members without a vote");
    assert_eq!(judge(of([1, 1, 1]), &five), Err(CertificateError::Repeated(NodeId(1))));
    let lent = key(3).sign(HERE, &grant(4)).unwrap();
    let with = |last| [of([1, 2]), vec![last]].concat();
    assert_eq!(judge(with(lent), &five), Err(CertificateError::Key(NodeId(4))));
    let older = signed(Grant { term: 6, ..grant(3) });
    assert_eq!(judge(with(older), &five), Err(CertificateError::Mixed));
    let other = signed(Grant { candidate: NodeId(3), ..grant(3) });
    assert_eq!(judge(with(other), &five), Err(CertificateError::Mixed));
    let elsewhere = key(3).sign(ClusterId([2; 32]), &grant(3)).unwrap();
    assert!(matches!(judge(with(elsewhere), &five), Err(CertificateError::Grant(_))));
    let many = judge(vec![signed(grant(1)); 19], &five);
    assert_eq!(many, Err(CertificateError::Count(19)), "bounded before anything is verified");
    let last = |voter| signed(Grant { term: u64::MAX, ..grant(voter) });
    assert_eq!(judge([1, 2, 3].map(last).to_vec(), &five), Err(CertificateError::Term(u64::MAX)));
}

#[test]
fn who_lags_believes_as_many_members_that_it_knows_as_there_can_be_liars_and_one_more() {
    let newer = |voter| signed(Grant { membership: Some(11), ..grant(voter) });
    for (voters, vouchers) in [(1_u64, 2_u64), (2, 2), (3, 2), (4, 2), (5, 3), (7, 4)] {
        let lagging = electorate(voters);
        let by = |count: u64| (0..count).map(|at| newer(12 - at)).collect::<Vec<_>>();
        assert!(judge(by(vouchers), &lagging).is_ok(), "{voters}");
        assert!(judge(by(vouchers - 1), &lagging).is_err(), "{voters}");
        let same = (0..vouchers).map(|at| signed(grant(12 - at))).collect();
        assert!(judge(same, &lagging).is_err(), "{voters}: no newer membership");
        let strangers = (0..vouchers).map(|at| newer(20 + at)).collect();
        assert_eq!(judge(strangers, &lagging), Err(CertificateError::TooFew(0)), "{voters}");
    }
}

proptest! {
    #[test]
    fn exactly_majorities_elect(voters in 1_u64..=9, granted in prop::collection::btree_set(1_u64..=12, 1..12)) {
        let counted = granted.iter().filter(|voter| **voter <= voters).count();
        let elects = counted > usize::try_from(voters).unwrap() / 2;
        prop_assert_eq!(judge(of(granted), &electorate(voters)).is_ok(), elects);
    }
}
