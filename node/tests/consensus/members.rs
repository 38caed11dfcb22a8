//! Lists of members: those of an honest leader, and those of an elected one that turned hostile.

use super::forged::{Ballot, EntryId, Forged, Payload, bytes, only};
use super::*;

/// A command after which the [`Ledger`] wants these members.
fn want(voters: &[u64], learners: &[u64]) -> String {
    format!("want {}", serde_json::json!([voters, learners]))
}

pub(super) fn wanted_by(command: &[u8]) -> Option<Wanted> {
    let (voters, learners) = serde_json::from_slice(command.strip_prefix(b"want ")?).unwrap();
    Some(Wanted { voters, learners })
}

/// The state changes its mind again and again, half of the time before the members have followed, while others write.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_honest_leader_does_is_lawful_whatever_the_state_wants_next() {
    let mut cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    for node in 4..=6 {
        cluster.start(node).await;
    }
    let leader = cluster.node(1);
    let noise = {
        let leader = leader.clone();
        tokio::spawn(async move {
            for i in 0..2_000 {
                leader.propose(format!("noise {i}").into(), Duration::from_secs(5)).await.unwrap();
            }
        })
    };
    let wants: [(&[u64], &[u64]); 9] = [
        (&[1, 2, 3], &[4, 5]),
        (&[1, 2, 3, 4], &[5, 6]),
        (&[1, 4, 5], &[2]),
        (&[1, 2], &[3, 4, 5, 6]),
        (&[1], &[]),
        (&[1, 2, 3, 4, 5], &[6]),
        (&[1, 6], &[2, 3]),
        (&[1, 2, 3, 6], &[]),
        (&[1, 2, 3], &[]),
    ];
    for (turn, (voters, learners)) in wants.into_iter().enumerate() {
        cluster.write(1, &want(voters, learners)).await;
        let (voters, learners) = (voters.iter().copied().collect(), learners.iter().copied().collect());
        let mut steps = 0;
        // An odd one is left after its first two steps, in the middle of something.
        until("members are as wanted", || {
            steps += 1;
            let done = leader.set_membership(&voters, &learners).unwrap() == Progress::Done;
            done || (turn % 2 == 1 && steps > 2)
        })
        .await;
    }
    noise.await.unwrap();
    assert_eq!(leader.status().voters, BTreeSet::from([1, 2, 3]));
    let refused = cluster.net.0.lock().unwrap().refused.clone();
    assert!(refused.is_empty(), "{refused:?}");
}

struct Hostile {
    ballot: Ballot,
    last: EntryId,
}

impl Hostile {
    fn append(&self, prev: EntryId, payloads: Vec<Payload>) -> Vec<u8> {
        let (term, node, _) = self.ballot;
        let entries = payloads.into_iter().zip(prev.2 + 1..).map(|(payload, i)| ((term, node, i), payload));
        let entries = entries.collect();
        bytes(&Forged::Append { ballot: self.ballot, prev: Some(prev), entries, commit: Some(self.last) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elected_leader_names_no_members_that_the_state_does_not_want() {
    for nodes in [3, 5, 7] {
        let cluster = Cluster::of(nodes, Compaction::default()).await;
        cluster.elect(1).await;
        let everybody: Vec<u64> = (1..=nodes).collect();
        cluster.write(1, &want(&everybody, &[])).await;
        cluster.agree().await;
        let status = cluster.node(1).status();
        let (term, index) = status.last_log.unwrap();
        let hostile = Hostile { ballot: (term, 1, true), last: (term, 1, index) };
        let without_last: BTreeSet<u64> = (1..nodes).collect();
        let all: BTreeSet<u64> = everybody.iter().copied().collect();
        let lists = [
            only(1),
            (vec![BTreeSet::from([1])], all.clone()),
            (vec![all.clone(), BTreeSet::from([1])], all.clone()),
            (vec![all.clone(), without_last.clone()], all.clone()),
            (vec![without_last.clone()], all.clone()),
            (vec![all.clone()], without_last),
            (vec![(1..=nodes + 1).collect()], (1..=nodes + 1).collect()),
        ];
        for list in lists {
            for honest in 2..=nodes {
                let node = cluster.node(honest);
                let hidden = vec![Payload::Command(b"noise".to_vec()), Payload::Members(list.clone())];
                for payloads in [vec![Payload::Members(list.clone())], hidden] {
                    let refused = node.handle(1, &hostile.append(hostile.last, payloads)).await;
                    let is_unlawful = matches!(
                        refused,
                        Err(HandleError::Gate(GateError::Unlawful { .. } | GateError::Members))
                    );
                    assert!(is_unlawful, "{nodes} nodes, {list:?}: {refused:?}");
                }
                // After entries that are not there it cannot be judged, and is not taken.
                let gap = (term, 1, index + 3);
                let _ = node.handle(1, &hostile.append(gap, vec![Payload::Members(list.clone())])).await;
            }
        }
        for honest in 2..=nodes {
            assert_eq!(cluster.node(honest).status().voters, all, "{nodes} nodes");
        }
        cluster.write(1, "after all that").await;
        cluster.agree().await;
    }
}

/// What is committed stays, also against a leader that was elected since.
#[tokio::test(flavor = "multi_thread")]
async fn an_elected_leader_writes_no_history_anew() {
    let mut cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(1).await;
    cluster.write(1, "one").await;
    cluster.write(1, "two").await;
    cluster.agree().await;
    let (old, committed) = cluster.node(1).status().last_log.unwrap();
    cluster.succeed(1, 2).await;
    cluster.write(2, "three").await;
    cluster.agree().await;
    let (term, index) = cluster.node(2).status().last_log.unwrap();
    assert!(term > old && index > committed);
    let hostile = Hostile { ballot: (term, 2, true), last: (term, 2, index) };
    let noise = |count: u64| (0..count).map(|_| Payload::Command(b"another past".to_vec())).collect();
    for prev in 1..committed {
        for (term, by) in [(old, 1), (old, 2), (old - 1, 3)] {
            let frame = hostile.append((term, by, prev), noise(committed - prev));
            let _ = cluster.node(3).handle(2, &frame).await;
        }
    }
    let all = |more: &[&str]| -> Vec<_> { more.iter().map(|command| command.as_bytes().to_vec()).collect() };
    assert_eq!(cluster.ledgers[&3].commands(), all(&["one", "two", "three"]));
    cluster.kill(3);
    cluster.start(3).await;
    cluster.write(2, "four").await;
    cluster.agree().await;
    assert_eq!(
        cluster.ledgers[&3].commands(),
        all(&["one", "two", "three", "four"]),
        "its disk says the same"
    );
}
