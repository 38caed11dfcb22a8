//! One order of commands for the whole mesh: openraft 0.9.25 on the [`crate::storage`], carrying bytes.
//!
//! ```text
//! propose ─▶ openraft ─▶ log_store ─▶ flusher ─▶ Store        handle ─▶ gate ─▶ openraft
//!               │  └──▶ machine ─▶ Replica                    openraft ─▶ courier ─▶ gate ─▶ openraft
//! ```
//!
//! **Invariant.** What [`Consensus::propose`] returned with `Ok` is on the disks of a majority. Nothing
//! reaches openraft that did not pass the gate. A full disk stops new writes and nothing else.
//!
//! Deliberately absent: deciding *when* to campaign (openraft's own timer is off: the agent calls
//! [`Consensus::campaign`] after its pre-vote), who may be a member, and what a command means.

mod checkpoints;
mod contact;
mod courier;
mod elections;
mod flusher;
mod gate;
mod inbound;
mod log_store;
mod machine;
mod members;
mod membership;
mod propose;
mod status;
mod types;
mod vouching;
mod watchman;
mod wire;

pub use courier::{Courier, CourierError};
pub use elections::Electors;
pub use flusher::Disk;
pub use gate::GateError;
pub use inbound::HandleError;
pub use membership::{MembershipError, Progress};
pub use propose::ProposeError;
pub use status::{Role, Status};
pub use types::{Replica, STATE_BYTES_MAX, Wanted};

use self::checkpoints::Checkpoints;
use self::contact::Contact;
use self::courier::{Admitted, Peers};
use self::elections::Elections;
use self::flusher::{Durability, Flusher};
use self::log_store::LogStore;
use self::machine::{Machine, SharedReplica};
use self::status::Source;
use self::types::TypeConfig;
use self::wire::Ballot;
use crate::storage::{Create, Op, SledStore, Store, StoreError, Tree};
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::{Config, Entry, LogId, Membership, Raft, SnapshotPolicy, Vote};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use stead_proto::id::ClusterId;
use stead_proto::sign::SecretKey;
use stead_proto::time::Span;
use tokio::sync::{RwLock, Semaphore, watch};

/// Bytes of one local fact.
pub const META_BYTES_MAX: usize = 4_000;
/// How long a snapshot may be on its way.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// Entries in one message (their bytes are limited, too).
const BATCH_ENTRIES_MAX: u64 = 256;
/// How long a shutdown waits for the disk.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// No node has this number.
const NOBODY: u64 = 0;

/// The clockwork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A leader's heartbeat, and the time that one append may take.
    pub heartbeat: Duration,
    /// How long followers refuse other candidates after they heard from a leader; at least three heartbeats.
    pub election_timeout: Duration,
}

/// When the log is folded into a snapshot, and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Entries since the last snapshot.
    pub entries: u64,
    /// Bytes of entries since the last snapshot.
    pub bytes: u64,
    /// Entries before the snapshot that stay in the log, for followers that lag a little.
    pub keep: u64,
    /// Bytes of log beyond which even these go.
    pub log_bytes_max: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { entries: 4_000, bytes: 4 * 1024 * 1024, keep: 1_000, log_bytes_max: 32 * 1024 * 1024 }
    }
}

/// Who this node is, and how it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of the store.
    pub dir: PathBuf,
    /// The mesh.
    pub cluster: ClusterId,
    /// This node; never 0.
    pub me: u64,
    /// Whether this is the node's first start.
    pub create: Create,
    /// The clockwork.
    pub timing: Timing,
    /// The size of the log.
    pub compaction: Compaction,
    /// This node's key, as its peers have it in their rosters: it signs the votes.
    pub key: Arc<SecretKey>,
    /// Who else may vote.
    pub electors: Arc<dyn Electors>,
}

/// Why consensus did not start or could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Times that cannot work together.
    #[error("timing: {0}. Make the election timeout at least three heartbeats")]
    Timing(String),
    /// openraft ended, or never started.
    #[error("consensus has ended on this node: {0}. Restart the agent; the log says why it ended")]
    Stopped(String),
    /// The first voters do not include this node.
    #[error("this node is not among the first voters: it joins by being added to the members")]
    NotAVoter,
    /// A local fact is too long.
    #[error("{0} bytes are too long for a local fact: at most {META_BYTES_MAX}")]
    TooLong(usize),
    /// It did not happen in time.
    #[error("not within the deadline")]
    Timeout,
}

/// Consensus on one node.
pub struct Consensus {
    me: u64,
    timing: Timing,
    raft: Raft<TypeConfig>,
    store: Arc<dyn Store>,
    replica: SharedReplica,
    checkpoints: Checkpoints,
    voucher: vouching::Asker,
    flusher: Flusher,
    thread: Mutex<Option<JoinHandle<()>>>,
    source: Source,
    admitted: Arc<Admitted>,
    elections: Arc<Elections>,
    term_floor: AtomicU64,
    changes: watch::Receiver<Status>,
    watchman: tokio::task::JoinHandle<()>,
    changing_members: Arc<Semaphore>,
    /// Held by proposals together, and alone by a change of members until it has its place in the log.
    order: Arc<RwLock<()>>,
    appending: tokio::sync::Mutex<()>,
    /// From whom nothing is taken as a leader.
    demoted: std::sync::RwLock<BTreeSet<u64>>,
    proposals: Semaphore,
    requests: Semaphore,
}

impl Consensus {
    /// Opens the store on the disk and starts.
    ///
    /// # Errors
    /// [`ConsensusError`]; the store's say what the operator has to do.
    pub async fn open(
        settings: Settings,
        replica: impl Replica,
        courier: impl Courier,
    ) -> Result<Self, ConsensusError> {
        let Settings { dir, cluster, me, create, .. } = settings.clone();
        let open = tokio::task::spawn_blocking(move || SledStore::open(&dir, cluster, me, create));
        let store = open.await.map_err(|error| ConsensusError::Stopped(error.to_string()))??;
        Self::open_on(Arc::new(store), settings, replica, courier).await
    }

    /// Starts on any store; directory, mesh and permission to create in `settings` are not looked at.
    ///
    /// # Errors
    /// [`ConsensusError`], as [`Consensus::open`].
    pub async fn open_on(
        store: Arc<dyn Store>,
        settings: Settings,
        replica: impl Replica,
        courier: impl Courier,
    ) -> Result<Self, ConsensusError> {
        let Settings { me, timing, compaction, cluster, key, electors, .. } = settings;
        let config = Arc::new(config(cluster, timing, compaction)?);
        let replica = SharedReplica::new(replica);
        let (flusher, thread) = Flusher::start(store.clone())
            .map_err(|source| StoreError::io("start a thread for", "store".as_ref(), source))?;
        let log = LogStore::open(store.clone(), flusher.clone())?;
        let checkpoints = Checkpoints::open(store.as_ref(), flusher.clone(), compaction)?;
        let machine = Machine::open(store.clone(), replica.clone(), checkpoints.clone())?;
        check_no_gap(&log, &machine)?;
        let elections = Elections::open(me, cluster, key, electors, store.as_ref(), flusher.clone())?;
        let (contact, admitted, elections) =
            (Arc::new(Contact::default()), Arc::new(Admitted::default()), Arc::new(elections));
        let courier = Arc::new(courier);
        let peers = Peers {
            me,
            courier: courier.clone(),
            contact: contact.clone(),
            admitted: admitted.clone(),
            elections: elections.clone(),
        };
        let raft = Raft::new(me, config, peers, log.clone(), machine)
            .await
            .map_err(|fatal| ConsensusError::Stopped(fatal.to_string()))?;
        elections.watch(raft.metrics());
        let source = Source {
            me,
            metrics: raft.metrics(),
            data: raft.data_metrics(),
            disk: flusher.disk(),
            log,
            contact,
        };
        let (changes, watchman) = watchman::start(raft.clone(), source.clone(), flusher.clone(), compaction);
        Ok(Self {
            me,
            timing,
            raft,
            store,
            replica,
            checkpoints,
            voucher: vouching::asker(courier),
            flusher,
            thread: Mutex::new(Some(thread)),
            source,
            admitted,
            elections,
            term_floor: AtomicU64::new(0),
            changes,
            watchman,
            changing_members: Arc::new(Semaphore::new(1)),
            order: Arc::default(),
            appending: tokio::sync::Mutex::default(),
            proposals: Semaphore::new(propose::PROPOSALS_MAX),
            demoted: std::sync::RwLock::default(),
            requests: Semaphore::new(inbound::REQUESTS_MAX),
        })
    }

    /// Forms the mesh: every first voter calls this with the same set, and then one of them campaigns. Does
    /// nothing if that happened before.
    ///
    /// The first entry is appended as a leader of term 0 would; openraft's own `initialize` starts an
    /// election on every node at once, and a loser with a higher vote would be stranded behind the gate.
    ///
    /// # Errors
    /// [`ConsensusError::NotAVoter`], or that consensus has ended.
    pub async fn initialize(&self, voters: BTreeSet<u64>) -> Result<(), ConsensusError> {
        if !voters.contains(&self.me) {
            return Err(ConsensusError::NotAVoter);
        }
        let ended = |error: String| ConsensusError::Stopped(error);
        if self.raft.is_initialized().await.map_err(|fatal| ended(fatal.to_string()))? {
            return Ok(());
        }
        let members = Membership::new(vec![voters], ());
        let founding = AppendEntriesRequest {
            vote: Vote::new_committed(0, NOBODY),
            prev_log_id: None,
            entries: vec![Entry::new_membership(LogId::default(), members)],
            leader_commit: None,
        };
        // A higher vote means that the mesh was formed meanwhile: its leader sends the same entry.
        self.raft.append_entries(founding).await.map(|_| ()).map_err(|error| ended(error.to_string()))
    }

    /// Starts one election with this node as the candidate; each raises the term. A leader or a learner
    /// does nothing.
    ///
    /// # Errors
    /// That consensus has ended.
    pub async fn campaign(&self) -> Result<(), ConsensusError> {
        let elect = self.raft.trigger().elect().await;
        elect.map_err(|fatal| ConsensusError::Stopped(fatal.to_string()))
    }

    /// The agent's word that `leader` may have a vote in `term`: from now on answers that name it are
    /// believed, without a certificate. Terms that honest elections cannot have come to change nothing.
    ///
    /// A node that campaigned in vain holds a vote above the leader's and refuses its entries, while the
    /// leader disbelieves those refusals. To take it back, the leader's agent admits that node's vote; the
    /// leader then steps down at the next refusal, and an election above both terms follows.
    pub fn admit(&self, term: u64, leader: u64) {
        if gate::is_near(self.source.ballot(), term) {
            self.admitted.raise(Ballot { term, node: leader, committed: true });
        }
    }

    /// The operator's word that the mesh had come to this `term` when this node was admitted: the gate counts
    /// jumps from there, for a node that never voted knows no term.
    pub fn believe_terms_after(&self, term: u64) {
        self.term_floor.fetch_max(term, Ordering::Relaxed);
    }

    /// Takes nothing from these nodes as leaders until told otherwise, so that others are elected. If this node is among
    /// them and leads, it falls silent; entries that are proposed here would go out all the same.
    pub fn demote(&self, nodes: BTreeSet<u64>) {
        self.raft.runtime_config().heartbeat(!nodes.contains(&self.me));
        *self.demoted.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Everything at a glance; cheap.
    #[must_use]
    pub fn status(&self) -> Status {
        self.source.status()
    }

    /// Is woken when the status changes in anything but [`Status::quorum_acked_ms_ago`], which is `None`
    /// here.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.changes.clone()
    }

    /// Whether this node leads, proven by messages that were sent no longer than `age_max` ago and that a
    /// majority has accepted since. Nobody else can have been elected before those were sent.
    #[must_use]
    pub fn is_fresh_leader(&self, age_max: Span) -> bool {
        self.source.contact_age().is_some_and(|age| age <= age_max)
    }

    /// On a fresh leader: whether `node` has (almost) all that is committed.
    #[must_use]
    pub fn caught_up(&self, node: u64) -> bool {
        membership::caught_up(&self.source.metrics.borrow(), node)
    }

    /// Waits until entry `index` is applied on this node.
    ///
    /// # Errors
    /// [`ConsensusError::Timeout`], or that consensus has ended.
    pub async fn await_applied(&self, index: u64, deadline: Duration) -> Result<(), ConsensusError> {
        let mut metrics = self.source.metrics.clone();
        let applied = metrics.wait_for(|now| {
            now.running_state.is_err() || now.last_applied.is_some_and(|id| id.index >= index)
        });
        let now = tokio::time::timeout(deadline, applied).await.map_err(|_| ConsensusError::Timeout)?;
        let now = now.map_err(|error| ConsensusError::Stopped(error.to_string()))?;
        now.running_state.clone().map_err(|fatal| ConsensusError::Stopped(fatal.to_string()))
    }

    /// A local fact of the agent. It is not replicated.
    ///
    /// # Errors
    /// That it is damaged.
    pub fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, ConsensusError> {
        Ok(self.store.get(Tree::Meta, key.as_bytes())?)
    }

    /// Remembers a local fact: durable once this returns. On a full disk it waits for room, so give it a
    /// deadline.
    ///
    /// # Errors
    /// That it is too long, or that the disk failed.
    pub async fn meta_put(&self, key: &str, bytes: &[u8]) -> Result<(), ConsensusError> {
        if bytes.len() > META_BYTES_MAX || key.len() > crate::storage::KEY_BYTES_MAX {
            return Err(ConsensusError::TooLong(bytes.len().max(key.len())));
        }
        let op = Op::Put(Tree::Meta, key.as_bytes().to_vec(), bytes.to_vec());
        let written = self.flusher.write(vec![op], Durability::Now).await;
        written.map_err(|source| StoreError::io("write to", "store".as_ref(), source).into())
    }

    /// Ends consensus on this node and closes the store. The store may be opened again once this value is
    /// dropped.
    ///
    /// # Errors
    /// [`ConsensusError::Timeout`] if the disk did not answer; then only the end of the process helps.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        let end = async {
            let _ = self.raft.shutdown().await;
            self.flusher.stop().await;
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        };
        within(SHUTDOWN_DEADLINE, end).await
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        self.watchman.abort();
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, ConsensusError> {
    tokio::time::timeout(deadline, work).await.map_err(|_| ConsensusError::Timeout)
}

fn config(cluster: ClusterId, timing: Timing, compaction: Compaction) -> Result<Config, ConsensusError> {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (heartbeat, election) = (ms(timing.heartbeat), ms(timing.election_timeout));
    if heartbeat == 0 || election / 3 < heartbeat {
        return Err(ConsensusError::Timing(format!(
            "heartbeat {heartbeat} ms, election timeout {election} ms"
        )));
    }
    let config = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: heartbeat,
        // The time for one round of votes; openraft's election timer itself is off.
        election_timeout_min: election - 1,
        // How long followers stand by a leader.
        election_timeout_max: election,
        install_snapshot_timeout: ms(SNAPSHOT_DEADLINE),
        max_payload_entries: BATCH_ENTRIES_MAX,
        replication_lag_threshold: compaction.entries.saturating_mul(2).saturating_add(compaction.keep),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.entries.max(1)),
        max_in_snapshot_log_to_keep: compaction.keep,
        purge_batch_size: 256,
        enable_elect: false,
        ..Config::default()
    };
    config.validate().map_err(|error| ConsensusError::Timing(error.to_string()))
}

/// What was purged must be part of the snapshot, or some of the state is gone.
fn check_no_gap(log: &LogStore, machine: &Machine) -> Result<(), StoreError> {
    let purged = log.purged().map(|id| id.index);
    if purged <= machine.last_index() {
        return Ok(());
    }
    let why = format!(
        "the log begins after entry {}, but the snapshot ends at {}",
        purged.unwrap_or_default(),
        machine.last_index().map_or_else(|| "nothing".into(), |index| index.to_string())
    );
    Err(StoreError::Lost { file: "snapshots".into(), why })
}
