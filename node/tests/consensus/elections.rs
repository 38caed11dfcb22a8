//! One member that wants to lead without having been elected, and elections among honest ones.

use super::forged::{Forged, Payload, bytes, only};
use super::*;
use stead_proto::election::{ElectionCertificate, Electorate, Grant};
use stead_proto::sign::Signed;

/// Appends and a snapshot of a leader that says it has `term`.
fn takeovers(term: u64, by: u64, next: u64) -> Vec<Vec<u8>> {
    let ballot = (term, by, true);
    let append =
        |entries| bytes(&Forged::Append { ballot, prev: None, entries, commit: Some((term, by, next)) });
    let entry = (term, by, 0);
    let image = (Some(entry), Some(entry), only(by), b"[]".to_vec());
    let name = format!("{:020}-{:032x}", 0, 7);
    vec![
        append(vec![]),
        append(vec![(entry, Payload::Command(b"mine".to_vec()))]),
        append(vec![(entry, Payload::Members(only(by)))]),
        bytes(&Forged::Snapshot { ballot, name, image }),
    ]
}

fn grant(term: u64, candidate: u64, voter: u64) -> Signed<Grant> {
    grant_by(voter, term, candidate, voter)
}

fn grant_by(signer: u64, term: u64, candidate: u64, voter: u64) -> Signed<Grant> {
    let (candidate, voter) = (NodeId(candidate), NodeId(voter));
    let grant = Grant { term, candidate, last: None, membership: Some(1_000), voter };
    key(signer).sign(CLUSTER, &grant).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_takes_no_leadership_however_it_lies() {
    for nodes in [3, 5, 7] {
        let cluster = Cluster::of(nodes, Compaction::default()).await;
        cluster.elect(1).await;
        cluster.write(1, "before").await;
        let term = cluster.node(1).status().term;
        let liar = nodes;
        for (round, forged_term) in [term, term + 1, term + 64, term + 65, u64::MAX].into_iter().enumerate() {
            for frame in takeovers(forged_term, liar, 3) {
                for honest in 1..nodes {
                    let refused = cluster.node(honest).handle(liar, &frame).await;
                    let is_unelected = matches!(refused, Err(HandleError::Gate(GateError::Unelected { .. })));
                    assert!(is_unelected, "{nodes} nodes, #{honest}, term {forged_term}: {refused:?}");
                }
            }
            let posing =
                bytes(&Forged::Append { ballot: (term, 1, true), prev: None, entries: vec![], commit: None });
            let refused = cluster.node(2).handle(liar, &posing).await;
            assert!(matches!(refused, Err(HandleError::Gate(GateError::Impostor { .. }))));
            cluster.write(1, &format!("meanwhile {round}")).await;
        }
        assert_eq!(cluster.node(1).status().term, term, "{nodes} nodes");
        cluster.agree().await;
        assert_eq!(cluster.ledgers[&2].commands().len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_no_majority_signed_proves_nothing() {
    for nodes in [3, 5, 7] {
        let cluster = Cluster::of(nodes, Compaction::default()).await;
        cluster.elect(1).await;
        let (term, liar) = (cluster.node(1).status().term, nodes);
        let next = term + 1;
        let mine = || grant(next, liar, liar);
        let false_ones = [
            ("none", vec![]),
            ("its own", vec![mine()]),
            ("its own, repeatedly", (0..nodes).map(|_| mine()).collect()),
            ("others', under its key", (1..=nodes).map(|voter| grant_by(liar, next, liar, voter)).collect()),
            ("of no members", (20..30).map(|voter| grant(next, liar, voter)).collect()),
            ("of another term", (1..=nodes).map(|voter| grant(term, liar, voter)).collect()),
            ("of another candidate", (1..=nodes).map(|voter| grant(next, 1, voter)).collect()),
            ("of two terms", (1..=nodes).map(|voter| grant(next - voter % 2, liar, voter)).collect()),
        ];
        for (what, grants) in false_ones {
            let (ballot, certificate) = ((next, liar, true), ElectionCertificate::of(grants));
            let frame = bytes(&Forged::Elected { ballot, certificate });
            for honest in 1..nodes {
                let refused = cluster.node(honest).handle(liar, &frame).await;
                assert!(matches!(refused, Err(HandleError::Certificate(_))), "{nodes}, {what}: {refused:?}");
                let append = takeovers(next, liar, 3).remove(0);
                assert!(cluster.node(honest).handle(liar, &append).await.is_err(), "{nodes} nodes, {what}");
            }
        }
        cluster.write(1, "meanwhile").await;
        assert_eq!(cluster.node(1).status().term, term);
    }
}

/// An old proof stays true, and deposes nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_before_shows_its_old_certificate_in_vain() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(3).await;
    let old = cluster.node(3).status().term;
    cluster.succeed(3, 1).await;
    cluster.write(1, "before").await;
    let term = cluster.node(1).status().term;
    let certificate = ElectionCertificate::of(vec![grant(old, 3, 2), grant(old, 3, 3)]);
    let frame = bytes(&Forged::Elected { ballot: (old, 3, true), certificate });
    for honest in [1, 2] {
        drop(cluster.node(honest).handle(3, &frame).await);
        for frame in takeovers(old, 3, 3) {
            drop(cluster.node(honest).handle(3, &frame).await);
        }
    }
    cluster.write(1, "after").await;
    assert_eq!(cluster.node(1).status().term, term);
    assert_eq!(cluster.ledgers[&1].commands(), [b"before".to_vec(), b"after".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_over_several_elections_and_who_was_restarted_follow_again() {
    let mut cluster = Cluster::of(5, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "first").await;
    cluster.agree().await;
    cluster.cut_off(5);
    for (leader, next) in [(1, 2), (2, 3), (3, 1), (1, 4)] {
        cluster.succeed(leader, next).await;
        cluster.write(next, "meanwhile").await;
    }
    cluster.heal();
    cluster.agree().await;
    for node in 1..=5 {
        cluster.kill(node);
    }
    for node in 1..=5 {
        cluster.start(node).await;
    }
    cluster.elect(2).await;
    cluster.write(2, "after all were restarted").await;
    cluster.agree().await;
    cluster.kill(5);
    cluster.start(5).await;
    cluster.write(2, "after one was").await;
    cluster.agree().await;
    assert_eq!(cluster.ledgers[&5].commands().len(), 7);
}

/// Has node 2 campaign, as its agent would when it misses the leader, until it leads.
async fn succeeded_by_two(cluster: &Cluster) {
    until("the next one leads", || {
        let (node, next) = (cluster.node(2), cluster.node(2).status());
        if next.role != Role::Leader {
            tokio::spawn(async move { node.campaign().await });
        }
        next.role == Role::Leader
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_demoted_and_obeys_follows_another_one_and_leads_again_when_it_may() {
    let cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "first").await;
    cluster.node(1).demote(BTreeSet::from([1]));
    succeeded_by_two(&cluster).await;
    cluster.write(2, "second").await;
    cluster.agree().await;
    assert_eq!(cluster.node(1).status().leader, Some(2));
    cluster.node(1).demote(BTreeSet::new());
    cluster.succeed(2, 1).await;
    cluster.write(1, "third").await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_demoted_and_goes_on_is_not_followed() {
    let cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "first").await;
    for follower in [2, 3] {
        cluster.node(follower).demote(BTreeSet::from([1]));
    }
    succeeded_by_two(&cluster).await;
    cluster.write(2, "second").await;
    cluster.agree().await;
    assert_eq!(cluster.node(1).status().leader, Some(2), "it follows, whatever it wants");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_missed_a_change_of_all_voters_follows_the_new_ones() {
    let mut cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    for node in [4, 5, 6] {
        cluster.start(node).await;
    }
    let reach = async |leader: u64, voters: &[u64], learners: &[u64]| {
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let learners: BTreeSet<u64> = learners.iter().copied().collect();
        let leader = cluster.node(leader);
        until("as wanted", || leader.set_membership(&voters, &learners).unwrap() == Progress::Done).await;
    };
    cluster.cut_off(3);
    reach(1, &[1, 2, 3], &[4, 5, 6]).await;
    reach(1, &[1, 4, 5, 6], &[2, 3]).await;
    cluster.succeed(1, 4).await;
    reach(4, &[4, 5, 6], &[1, 2, 3]).await;
    cluster.succeed(4, 5).await;
    cluster.heal();
    cluster.write(5, "with other voters").await;
    cluster.agree().await;
    until("it is a learner", || cluster.node(3).status().role == Role::Learner).await;
}

#[test]
fn what_proofs_cost() {
    let start = Instant::now();
    (0..100).for_each(|voter| drop(grant(7, 1, voter)));
    println!("a grant is signed in {:?}", start.elapsed() / 100);
    for nodes in [3_u64, 5, 7] {
        let memberships = vec![vec![(1..=nodes).map(NodeId).collect()]];
        let electorate = Electorate { keys: Everybody.keys(), memberships, membership: Some(2_000) };
        let majority = (1..=nodes / 2 + 1).map(|voter| grant(7, 1, voter)).collect();
        let certificate = ElectionCertificate::of(majority);
        let start = Instant::now();
        (0..20).for_each(|_| assert!(certificate.verify(CLUSTER, &electorate).is_ok()));
        println!("a certificate of {nodes} voters is verified in {:?}", start.elapsed() / 20);
    }
}
