//! Whole clusters in one process, over a network that can be cut.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

#[path = "consensus/elections.rs"]
mod elections;
#[path = "consensus/forged.rs"]
mod forged;
#[path = "consensus/members.rs"]
mod members;
#[path = "consensus/snapshots.rs"]
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stead_node::consensus::{
    Compaction, Consensus, Courier, CourierError, Disk, Electors, GateError, HandleError, Progress,
    ProposeError, Replica, Role, Settings, Timing, Wanted,
};
use stead_node::storage::{Create, SimDisk, Space};
use stead_proto::codec;
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::sign::SecretKey;
use stead_proto::time::Span;

const CLUSTER: ClusterId = ClusterId([7; 32]);
const PATIENCE: Duration = Duration::from_secs(20);
const TIMING: Timing =
    Timing { heartbeat: Duration::from_millis(50), election_timeout: Duration::from_millis(300) };
/// The number of a request for an image's digest among frames.
const VOUCH: u8 = 4;
/// After so long a silent connection is dead: a snapshot's deadline is longer than any test.
const IDLE: Duration = Duration::from_secs(2);
const FRESH: Span = Span::from_ms(300);

/// A state machine that remembers all commands; its outcome is how many it has seen. It wants the members that the
/// last [`members::want`] names.
#[derive(Clone, Default)]
struct Ledger {
    commands: Arc<Mutex<Vec<Vec<u8>>>>,
    applied: Arc<AtomicU64>,
    restored: Arc<AtomicU64>,
}

impl Ledger {
    fn commands(&self) -> Vec<Vec<u8>> {
        self.commands.lock().unwrap().clone()
    }
}

impl Replica for Ledger {
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        self.applied.store(index, Ordering::Relaxed);
        let mut commands = self.commands.lock().unwrap();
        commands.push(command.to_vec());
        commands.len().to_le_bytes().to_vec()
    }

    fn wanted(&self, more: &[(u64, &[u8])]) -> Option<Wanted> {
        let applied = self.applied.load(Ordering::Relaxed);
        let more = more.iter().filter(|(index, _)| *index > applied).map(|(_, command)| command.to_vec());
        let all: Vec<_> = self.commands().into_iter().chain(more).collect();
        all.iter().rev().find_map(|command| members::wanted_by(command))
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.commands()).unwrap()
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        self.applied.store(index, Ordering::Relaxed);
        *self.commands.lock().unwrap() = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        self.restored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The network: who runs, which links are cut, and the last frame on each link.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    running: BTreeMap<u64, Arc<Consensus>>,
    cut: BTreeSet<(u64, u64)>,
    frames: BTreeMap<(u64, u64), Vec<u8>>,
    refused: Vec<GateError>,
    unvouched: u64,
    /// Who swears to what.
    perjury: BTreeMap<u64, [u8; 32]>,
}

struct Wire {
    from: u64,
    net: Net,
}

impl Courier for Wire {
    async fn call(&self, to: u64, frame: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CourierError> {
        let target = {
            let mut wires = self.net.0.lock().unwrap();
            wires.frames.insert((self.from, to), frame.clone());
            let silent = wires.cut.contains(&(self.from, to)) || wires.cut.contains(&(to, self.from));
            // After the version of the frame comes its number.
            if let Some(digest) = wires.perjury.get(&to).filter(|_| frame.get(1) == Some(&VOUCH)) {
                let answer = forged::Answered::Vouch { digest: Some(*digest) };
                return Ok(codec::encode(&answer, 100).unwrap());
            }
            if silent { Err(CourierError::Timeout) } else { Ok(wires.running.get(&to).cloned()) }
        };
        match target {
            Ok(Some(target)) => {
                let answer = target.handle(self.from, &frame).await;
                match &answer {
                    Err(HandleError::Gate(error)) => self.net.0.lock().unwrap().refused.push(*error),
                    Err(HandleError::Unvouched { .. }) => self.net.0.lock().unwrap().unvouched += 1,
                    _ => {}
                }
                answer.map_err(|error| CourierError::Unreachable(error.to_string()))
            }
            Ok(None) => Err(CourierError::Unreachable("not running".into())),
            Err(error) => {
                tokio::time::sleep(deadline.min(IDLE)).await;
                Err(error)
            }
        }
    }
}

struct Cluster {
    net: Net,
    disks: BTreeMap<u64, SimDisk>,
    ledgers: BTreeMap<u64, Ledger>,
    compaction: Compaction,
}

async fn until(what: &str, mut predicate: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !predicate() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Cluster {
    async fn of(nodes: u64, compaction: Compaction) -> Self {
        let mut cluster =
            Self { net: Net::default(), disks: BTreeMap::new(), ledgers: BTreeMap::new(), compaction };
        let voters: BTreeSet<u64> = (1..=nodes).collect();
        for node in &voters {
            cluster.start(*node).await;
            cluster.node(*node).initialize(voters.clone()).await.unwrap();
        }
        cluster
    }

    async fn start(&mut self, node: u64) {
        let disk = self.disks.entry(node).or_default();
        let ledger = Ledger::default();
        self.ledgers.insert(node, ledger.clone());
        let settings = settings(PathBuf::new(), node, self.compaction);
        let wire = Wire { from: node, net: self.net.clone() };
        let consensus = Consensus::open_on(Arc::new(disk.open()), settings, ledger, wire).await.unwrap();
        self.net.0.lock().unwrap().running.insert(node, Arc::new(consensus));
    }

    /// Kills a node as a power cut would: un-synced writes are lost.
    fn kill(&self, node: u64) {
        self.disks[&node].crash(0);
        self.net.0.lock().unwrap().running.remove(&node);
    }

    fn node(&self, node: u64) -> Arc<Consensus> {
        self.net.0.lock().unwrap().running[&node].clone()
    }

    fn running(&self) -> Vec<u64> {
        self.net.0.lock().unwrap().running.keys().copied().collect()
    }

    fn cut_off(&self, node: u64) {
        let mut wires = self.net.0.lock().unwrap();
        let others: Vec<u64> = wires.running.keys().copied().filter(|other| *other != node).collect();
        wires.cut.extend(others.into_iter().map(|other| (node, other)));
    }

    fn heal(&self) {
        self.net.0.lock().unwrap().cut.clear();
    }

    fn unite(&self, node: u64) {
        self.net.0.lock().unwrap().cut.retain(|(from, _)| *from != node);
    }

    /// Lets `next` take over from a leader that is cut off meanwhile: who hears from a leader elects nobody.
    async fn succeed(&self, leader: u64, next: u64) {
        self.cut_off(leader);
        self.elect(next).await;
        self.unite(leader);
    }

    /// Lets `node` campaign until it leads.
    async fn elect(&self, node: u64) {
        let consensus = self.node(node);
        let deadline = Instant::now() + PATIENCE;
        while !consensus.is_fresh_leader(FRESH) {
            assert!(Instant::now() < deadline, "#{node} was not elected: {:?}", consensus.status());
            consensus.campaign().await.unwrap();
            let mut changes = consensus.changes();
            let leads = changes.wait_for(|status| status.role == Role::Leader);
            if tokio::time::timeout(Duration::from_millis(400), leads).await.is_ok() {
                let fresh = until("fresh contact", || consensus.is_fresh_leader(FRESH));
                let _ = tokio::time::timeout(Duration::from_millis(400), fresh).await;
            }
        }
    }

    async fn write(&self, node: u64, command: &str) -> u64 {
        let done = self.node(node).propose(command.into(), Duration::from_secs(5)).await;
        done.unwrap_or_else(|error| panic!("{command}: {error}")).0
    }

    async fn agree(&self) {
        let nodes = self.running();
        until("all states are equal", || {
            let states: BTreeSet<_> = nodes.iter().map(|node| self.ledgers[node].commands()).collect();
            states.len() == 1
        })
        .await;
    }
}

fn key(node: u64) -> SecretKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&node.to_le_bytes());
    SecretKey::from_seed(&seed.into())
}

/// A roster of nine, three of which vote.
#[derive(Debug)]
struct Everybody;

impl Electors for Everybody {
    fn keys(&self) -> BTreeMap<NodeId, PublicKey> {
        (1..=9).map(|node| (NodeId(node), key(node).public())).collect()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        [1, 2, 3].map(NodeId).into()
    }
}

fn settings(dir: PathBuf, me: u64, compaction: Compaction) -> Settings {
    let (key, electors) = (Arc::new(key(me)), Arc::new(Everybody));
    let (create, timing) = (Create::IfAbsent, TIMING);
    Settings { dir, cluster: CLUSTER, me, create, timing, compaction, key, electors }
}

const SMALL: Compaction = Compaction { entries: 50, bytes: 1 << 20, keep: 10, log_bytes_max: 1 << 30 };

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_every_leader() {
    for nodes in [3, 5] {
        let mut cluster = Cluster::of(nodes, Compaction::default()).await;
        let mut acknowledged = Vec::new();
        let mut leader = 1;
        cluster.elect(leader).await;
        for round in 0..6 {
            for i in 0..10 {
                let command = format!("round {round}, write {i}");
                cluster.write(leader, &command).await;
                acknowledged.push(command.into_bytes());
            }
            cluster.kill(leader);
            let longest_log = |node: &u64| cluster.node(*node).status().durable_log;
            let successor = cluster.running().into_iter().max_by_key(longest_log).unwrap();
            cluster.elect(successor).await;
            acknowledged.push(b"under the successor".to_vec());
            cluster.write(successor, "under the successor").await;
            assert_eq!(cluster.ledgers[&successor].commands(), acknowledged, "{nodes} nodes, round {round}");
            cluster.start(leader).await;
            cluster.agree().await;
            leader = successor;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_knows_that_it_knows_nothing() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(1).await;
    cluster.write(1, "before").await;
    cluster.cut_off(1);
    let old = cluster.node(1);
    let lost = old.propose(b"lost".to_vec(), Duration::from_millis(500)).await;
    assert_eq!(lost, Err(ProposeError::Timeout));
    until("the contact is stale", || !old.is_fresh_leader(FRESH)).await;
    assert_eq!(old.status().role, Role::Leader, "openraft alone would still believe it");
    assert!(old.status().quorum_acked_ms_ago.unwrap() > 300);
    cluster.elect(2).await;
    cluster.write(2, "after").await;
    cluster.heal();
    until("the old leader steps down", || old.status().role == Role::Follower).await;
    assert_eq!(old.status().leader, Some(2));
    cluster.agree().await;
    assert_eq!(cluster.ledgers[&1].commands(), [b"before".to_vec(), b"after".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lags_far_behind_catches_up_by_snapshot() {
    let cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "first").await;
    cluster.agree().await;
    cluster.cut_off(3);
    for i in 0..400 {
        cluster.write(1, &format!("write {i}")).await;
    }
    assert!(!cluster.node(1).caught_up(3));
    assert!(cluster.node(1).caught_up(2));
    cluster.heal();
    cluster.agree().await;
    assert_eq!(cluster.ledgers[&3].commands().len(), 401);
    assert!(cluster.ledgers[&3].restored.load(Ordering::Relaxed) > 0, "it came by entries");
    until("it counts as caught up", || cluster.node(1).caught_up(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_one_step_at_a_time() {
    let mut cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    for i in 0..100 {
        cluster.write(1, &format!("write {i}")).await;
    }
    cluster.start(4).await;
    cluster.start(5).await;
    let leader = cluster.node(1);
    let reach = async |voters: &[u64], learners: &[u64]| {
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let learners: BTreeSet<u64> = learners.iter().copied().collect();
        let done = || leader.set_membership(&voters, &learners).unwrap() == Progress::Done;
        until("members are as wanted", done).await;
        assert_eq!((leader.status().voters, leader.status().learners), (voters, learners));
    };
    reach(&[1, 2, 3], &[4]).await;
    cluster.write(1, "with a learner").await;
    until("the learner follows", || cluster.node(4).status().role == Role::Learner).await;
    reach(&[1, 2, 3, 4], &[5]).await;
    reach(&[1, 4], &[5]).await;
    cluster.kill(2);
    cluster.kill(3);
    cluster.write(1, "without the removed").await;
    cluster.agree().await;
    assert_eq!(cluster.ledgers[&5].commands().len(), 102);
    assert!(cluster.node(4).set_membership(&BTreeSet::from([4]), &BTreeSet::new()).is_err());
    assert!(leader.set_membership(&BTreeSet::new(), &BTreeSet::new()).is_err());
}

/// openraft by itself lets it lead on for as long as it is a learner.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_loses_its_vote_steps_down_and_its_successor_takes_it_in_again() {
    let cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "with its vote").await;
    let (voters, learners) = (BTreeSet::from([2, 3]), BTreeSet::from([1]));
    let leader = cluster.node(1);
    until("it leads no more", || leader.set_membership(&voters, &learners).is_err()).await;
    cluster.elect(2).await;
    let next = cluster.node(2);
    until("it follows", || next.set_membership(&voters, &learners) == Ok(Progress::Done)).await;
    assert_eq!((next.status().voters, next.status().learners), (voters, learners));
    cluster.write(2, "without its vote").await;
    cluster.agree().await;
    assert_eq!(leader.status().role, Role::Learner);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_caught_up_gets_no_vote() {
    let cluster = Cluster::of(1, SMALL).await;
    cluster.elect(1).await;
    for i in 0..60 {
        cluster.write(1, &format!("write {i}")).await;
    }
    let leader = cluster.node(1);
    let voters = BTreeSet::from([1, 2]);
    let waits = Progress::CatchingUp { behind: BTreeSet::from([2]) };
    until("it waits for #2", || leader.set_membership(&voters, &BTreeSet::new()).unwrap() == waits).await;
    cluster.write(1, "still a majority of one").await;
    assert_eq!(leader.status().voters, BTreeSet::from([1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_keeps_everything_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for start in 0..3_u64 {
        let mut cluster = Cluster::of(0, SMALL).await;
        let voters = BTreeSet::from([1, 2, 3]);
        for node in &voters {
            let mut settings = settings(dir.path().join(node.to_string()), *node, SMALL);
            settings.create = if start == 0 { Create::IfAbsent } else { Create::Never };
            let ledger = Ledger::default();
            cluster.ledgers.insert(*node, ledger.clone());
            let wire = Wire { from: *node, net: cluster.net.clone() };
            let consensus = Arc::new(Consensus::open(settings, ledger, wire).await.unwrap());
            let incarnation = consensus.meta_get("incarnation").unwrap().map_or(0, |bytes| bytes[0]);
            assert_eq!(u64::from(incarnation), start);
            consensus.meta_put("incarnation", &[incarnation + 1]).await.unwrap();
            consensus.initialize(voters.clone()).await.unwrap();
            cluster.net.0.lock().unwrap().running.insert(*node, consensus);
        }
        let leader = 1 + start % 3;
        cluster.elect(leader).await;
        for i in 0..70 {
            let command = format!("start {start}, write {i}");
            cluster.write(leader, &command).await;
            expected.push(command.into_bytes());
        }
        cluster.agree().await;
        assert_eq!(cluster.ledgers[&leader].commands(), expected);
        let running = std::mem::take(&mut cluster.net.0.lock().unwrap().running);
        for consensus in running.into_values() {
            consensus.shutdown().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_heals() {
    let cluster = Cluster::of(3, SMALL).await;
    cluster.elect(1).await;
    cluster.write(1, "before").await;
    let leader = cluster.node(1);
    cluster.disks[&1].set_full(Space::Full);
    let refused = leader.propose(b"no room".to_vec(), Duration::from_secs(1)).await;
    assert_eq!(refused, Err(ProposeError::DiskFull));
    until("the status says so", || leader.status().disk == Disk::Full).await;
    cluster.disks[&1].set_full(Space::Ok);
    until("there is room", || leader.status().disk == Disk::Ok).await;
    cluster.elect(1).await;
    cluster.write(1, "after").await;
    cluster.agree().await;

    cluster.disks[&3].set_full(Space::Full);
    for i in 0..20 {
        cluster.write(1, &format!("with two disks, {i}")).await;
    }
    until("the follower says so", || cluster.node(3).status().disk == Disk::Full).await;
    assert_eq!(cluster.ledgers[&3].commands().len(), 2);
    cluster.disks[&3].set_full(Space::Ok);
    cluster.agree().await;
    assert_eq!(cluster.ledgers[&3].commands().len(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_counts_only_from_the_one_that_it_names() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(1).await;
    let frame = cluster.net.0.lock().unwrap().frames[&(1, 2)].clone();
    let victim = cluster.node(2);
    assert!(victim.handle(1, &frame).await.is_ok());
    let forged = victim.handle(3, &frame).await;
    assert!(matches!(forged, Err(HandleError::Gate(GateError::Impostor { claimed: 1, from: 3 }))));
    assert!(matches!(victim.handle(3, &frame[1..]).await, Err(HandleError::Unreadable(_))));
    assert!(matches!(victim.handle(3, b"").await, Err(HandleError::Unreadable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_deposes_no_fresh_leader_and_comes_back_once_it_is_admitted() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(1).await;
    cluster.write(1, "before").await;
    let (leader, candidate) = (cluster.node(1), cluster.node(3));
    let term = leader.status().term;
    candidate.campaign().await.unwrap();
    until("it campaigned", || candidate.status().vote_term > term).await;
    cluster.write(1, "meanwhile").await;
    assert!(leader.is_fresh_leader(FRESH));
    assert_eq!(leader.status().term, term);
    assert_eq!(candidate.status().leader, None);
    leader.admit(candidate.status().vote_term, 3);
    until("the leader steps down", || leader.status().role != Role::Leader).await;
    cluster.elect(1).await;
    cluster.write(1, "after").await;
    cluster.agree().await;
}

/// Two candidates of one term: the loser with the higher number has the higher vote, and follows nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_loser_of_the_leaders_own_term_comes_back_once_it_is_admitted() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.cut_off(3);
    cluster.elect(1).await;
    cluster.write(1, "before").await;
    let (leader, loser) = (cluster.node(1), cluster.node(3));
    let term = leader.status().term;
    while loser.status().vote_term < term {
        let voted = loser.status().vote_term;
        loser.campaign().await.unwrap();
        until("it votes for itself", || loser.status().vote_term > voted).await;
    }
    assert_eq!((loser.status().vote_term, loser.status().vote_for), (term, 3));
    cluster.heal();
    cluster.write(1, "meanwhile").await;
    until("the loser was asked", || loser.status().leader.is_none() && leader.is_fresh_leader(FRESH)).await;
    assert!(!cluster.ledgers[&3].commands().contains(&b"meanwhile".to_vec()), "a loser follows nobody");

    leader.admit(loser.status().vote_term, loser.status().vote_for);
    until("the leader steps down", || leader.status().role != Role::Leader).await;
    cluster.elect(1).await;
    cluster.write(1, "after").await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_leader_takes_proposals_and_only_such_as_fit() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    let nobody = cluster.node(2).propose(b"x".to_vec(), Duration::from_secs(1)).await;
    assert_eq!(nobody, Err(ProposeError::NotLeader { leader: None }));
    cluster.elect(1).await;
    until("#2 knows", || cluster.node(2).status().leader == Some(1)).await;
    let other = cluster.node(2).propose(b"x".to_vec(), Duration::from_secs(1)).await;
    assert_eq!(other, Err(ProposeError::NotLeader { leader: Some(1) }));
    let long = vec![1; COMMAND_FRAME_BYTES_MAX + 1];
    let bytes = long.len();
    let refused = cluster.node(1).propose(long, Duration::from_secs(1)).await;
    assert_eq!(refused, Err(ProposeError::TooLong { bytes }));
    let longest = vec![1; COMMAND_FRAME_BYTES_MAX];
    let mut last = 0;
    for _ in 0..12 {
        last = cluster.node(1).propose(longest.clone(), Duration::from_secs(5)).await.unwrap().0;
    }
    for node in [1, 2, 3] {
        cluster.node(node).await_applied(last, PATIENCE).await.unwrap();
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_collects_a_bounded_backlog() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    cluster.elect(1).await;
    cluster.cut_off(1);
    let old = cluster.node(1);
    let mut refused = false;
    for _ in 0..2_000 {
        match old.propose(b"x".to_vec(), Duration::from_millis(1)).await {
            Err(ProposeError::Timeout) => {}
            Err(ProposeError::Busy) => {
                refused = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused);
    assert!(old.status().last_log.unwrap().1 < 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forming_the_mesh_twice_changes_nothing_and_elects_nobody() {
    let cluster = Cluster::of(3, Compaction::default()).await;
    assert!((1..=3).all(|node| cluster.node(node).status().term == 0));
    cluster.elect(2).await;
    cluster.write(2, "once").await;
    let term = cluster.node(2).status().term;
    for node in 1..=3 {
        cluster.node(node).initialize(BTreeSet::from([1, 2, 3])).await.unwrap();
    }
    assert!(cluster.node(1).initialize(BTreeSet::from([2, 3])).await.is_err());
    assert_eq!(cluster.node(2).status().term, term);
    cluster.agree().await;
}
