//! One simulated host: its clock, its kernel gate's slack, its tmpfs record, its agent.

use super::rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use stead_proto::config::Confirmation;
use stead_proto::id::NodeId;
use stead_proto::lease::{BootId, Lease, Message, Output, Readiness, Record};
use stead_proto::time::Instant;

const MILLION: u64 = 1_000_000;

/// A clock of constant rate since boot.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Local ns per true ms: 990 000 to 1 010 000.
    pub rate: u64,
    /// The true instant at which it showed `base`.
    pub since: u64,
    /// What it showed then.
    pub base: u64,
}

impl Clock {
    /// What it shows at the true instant `at`.
    #[must_use]
    pub fn local(&self, at: u64) -> Instant {
        Instant::from_ns(self.base + scale(at.saturating_sub(self.since), self.rate, MILLION))
    }

    /// The true instant, rounded up, at which it shows `local`.
    #[must_use]
    pub fn truly(&self, local: Instant) -> u64 {
        self.since + scale(local.as_ns().saturating_sub(self.base), MILLION, self.rate) + 1
    }
}

fn scale(span: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(span) * u128::from(by) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

/// What an agent is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Running.
    Up,
    /// Stopped: these outputs of its last call are not carried out yet.
    Paused(VecDeque<Output>),
    /// Not there.
    Down,
}

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its node.
    pub id: NodeId,
    /// Its clock.
    pub clock: Clock,
    /// How late its gate closes, in ms.
    pub slack_ms: u32,
    /// The present boot.
    pub boot: u8,
    /// Its tmpfs.
    pub record: Option<Record>,
    /// Its lease; what it says counts only while the agent is up.
    pub lease: Lease,
    /// Its agent.
    pub agent: Agent,
    /// Raised at each start and stop, so that events for an earlier agent are void.
    pub life: u64,
    /// Raised at each new deadline.
    pub timer: u64,
    /// How many log entries its agent has applied.
    pub applied: usize,
    /// The most it ever had.
    pub applied_max: usize,
    /// What it wants.
    pub readiness: Readiness,
    /// Its copy of everybody's reports.
    pub reports: BTreeMap<NodeId, Confirmation>,
    /// When it last heard another node, on its own clock.
    pub heard: Instant,
    /// Datagrams that wait for a stopped agent.
    pub backlog: VecDeque<(NodeId, Message)>,
}

/// A boot id.
#[must_use]
pub const fn boot_id(boot: u8) -> BootId {
    BootId([boot; 16])
}

/// A rate within the bounds, often at one of them.
pub fn draw_rate(rng: &mut Rng, extreme: bool) -> u64 {
    if extreme { rng.pick(&[990_000, 1_010_000]) } else { rng.between(990_000, 1_010_000) }
}
