//! Snapshots that an elected leader made up.

use super::forged::{EntryId, Forged, Members, bytes};
use super::*;
use sha2::{Digest, Sha256};

/// A snapshot of a state that never was, and the digest of its image.
fn forged(term: u64, by: u64, index: u64, voters: &BTreeSet<u64>) -> (Vec<u8>, [u8; 32]) {
    let last: EntryId = (term, by, index);
    let members: Members = (vec![voters.clone()], voters.clone());
    let state = serde_json::to_vec(&vec![b"the attacker is your operator".to_vec()]).unwrap();
    let image = (Some(last), Some((0, 0, 0)), members, state);
    let digest = Sha256::digest(codec::encode(&image, 100_000).unwrap()).into();
    let name = format!("{index:020}-{:032x}", 7);
    (bytes(&Forged::Snapshot { ballot: (term, by, true), name, image }), digest)
}

/// A mesh led by #1 whose last node lags by more than the log, and now hears everybody but #1.
async fn with_one_behind(nodes: u64) -> Cluster {
    let cluster = Cluster::of(nodes, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "first").await;
    cluster.agree().await;
    cluster.cut_off(nodes);
    for i in 0..400 {
        cluster.write(1, &format!("write {i}")).await;
    }
    // At once: there is no moment in which its leader reaches it.
    cluster.net.0.lock().unwrap().cut = BTreeSet::from([(1, nodes)]);
    cluster
}

/// Sends the last node made-up snapshots of every entry that may be a checkpoint; how many were taken.
async fn taken_of_forged(cluster: &Cluster, nodes: u64, liars: &[u64]) -> usize {
    let (term, last) = cluster.node(1).status().last_log.unwrap();
    let voters = (1..=nodes).collect();
    let mut taken = 0;
    for index in last - 24..=last {
        let (frame, digest) = forged(term, 1, index, &voters);
        cluster.net.0.lock().unwrap().perjury = liars.iter().map(|liar| (*liar, digest)).collect();
        match cluster.node(nodes).handle(1, &frame).await {
            Ok(_) => taken += 1,
            Err(HandleError::Unvouched { .. }) => {}
            Err(error) => panic!("{nodes} nodes, entry {index}: {error}"),
        }
    }
    cluster.net.0.lock().unwrap().perjury.clear();
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elected_leader_and_as_many_liars_as_can_be_borne_make_up_no_state() {
    for (nodes, liars) in [(3, &[][..]), (5, &[2]), (7, &[2, 3])] {
        let cluster = with_one_behind(nodes).await;
        assert_eq!(taken_of_forged(&cluster, nodes, liars).await, 0, "{nodes} nodes");
        cluster.heal();
        cluster.write(1, "after all that").await;
        cluster.agree().await;
        assert_eq!(
            cluster.ledgers[&nodes].commands().len(),
            402,
            "{nodes} nodes: it caught up with the truth"
        );
    }
}

/// That the others are asked is what holds the lies back: with one liar too many they are believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_majority_of_liars_is_believed() {
    let cluster = with_one_behind(5).await;
    assert!(taken_of_forged(&cluster, 5, &[2, 3]).await > 0);
}

/// The price: of three nodes with one dead, one that lags too far waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_lags_too_far_waits_until_somebody_can_vouch() {
    let mut cluster = with_one_behind(3).await;
    cluster.kill(2);
    cluster.heal();
    let unvouched = || cluster.net.0.lock().unwrap().unvouched;
    until("it refused the snapshot thrice", || unvouched() >= 3).await;
    // Up to where the log still went it may have come.
    assert_eq!(cluster.ledgers[&3].restored.load(Ordering::Relaxed), 0, "nobody vouched");
    assert!(cluster.ledgers[&3].commands().len() < 401);
    cluster.start(2).await;
    cluster.agree().await;
    assert!(cluster.ledgers[&3].restored.load(Ordering::Relaxed) > 0);
}
