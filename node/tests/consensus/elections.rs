//! One member that wants to lead without having been elected, and elections among honest ones.

use super::*;
use serde::Serialize;
use stead_proto::codec;
use stead_proto::election::{ElectionCertificate, Electorate, Grant};
use stead_proto::sign::Signed;

/// Frames as they are on the wire, with contents that no honest node sends.
#[derive(Serialize)]
enum Forged {
    Append {
        ballot: Ballot,
        prev: Option<EntryId>,
        entries: Vec<(EntryId, Payload)>,
        commit: Option<EntryId>,
    },
    #[expect(dead_code, reason = "it keeps the others' numbers")]
    Vote {
        ballot: Ballot,
        last: Option<EntryId>,
    },
    Snapshot {
        ballot: Ballot,
        name: String,
        image: Image,
    },
    Elected {
        ballot: Ballot,
        certificate: ElectionCertificate,
    },
}

/// Term, node, committed.
type Ballot = (u64, u64, bool);
/// Term, node, index.
type EntryId = (u64, u64, u64);
/// Voters and nodes.
type Members = (Vec<BTreeSet<u64>>, BTreeSet<u64>);
type Image = (Option<EntryId>, Option<EntryId>, Members, Vec<u8>);

#[derive(Serialize)]
enum Payload {
    #[expect(dead_code, reason = "it keeps the others' numbers")]
    Blank,
    Command(Vec<u8>),
    Members(Members),
}

fn bytes(frame: &Forged) -> Vec<u8> {
    codec::encode(frame, 100_000).unwrap()
}

fn only(node: u64) -> Members {
    (vec![BTreeSet::from([node])], BTreeSet::from([node]))
}

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
        (0..20).for_each(|_| drop(certificate.verify(CLUSTER, &electorate).unwrap()));
        println!("a certificate of {nodes} voters is verified in {:?}", start.elapsed() / 20);
    }
}
