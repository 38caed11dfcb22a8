//! What may never happen, judged in true time, which no node can see.
//!
//! **Invariant (DESIGN §4.1).** The intervals in which the gates of different nodes are open do not overlap, a
//! gate counting as open until its kernel has surely shut it (expiry plus slack, on the node's clock).
//! **Invariant (P8).** Epochs rise from tenure to tenure.

use std::fmt;
use stead_proto::plan::Epoch;

/// A rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two nodes answer at once.
    TwoHolders {
        /// Who opened or extended.
        node: usize,
        /// Whose gate was still open.
        other: usize,
        /// For how long it would have been, in ns.
        overlap_ns: u64,
    },
    /// A fencing token came after a higher one.
    EpochWentBack {
        /// Who used it.
        node: usize,
        /// The token.
        epoch: Epoch,
        /// The higher one.
        after: Epoch,
    },
    /// All faults were over, and nobody held for too long.
    NobodyHolds {
        /// How long was waited, in ms.
        waited_ms: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoHolders { node, other, overlap_ns } => {
                write!(f, "two holders: #{node} opened while #{other} was open for {overlap_ns} ns more")
            }
            Self::EpochWentBack { node, epoch, after } => {
                write!(f, "#{node} used epoch {epoch} after epoch {after}")
            }
            Self::NobodyHolds { waited_ms } => {
                write!(f, "nobody holds {waited_ms} ms after all faults were over")
            }
        }
    }
}

/// What was seen in one or many schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Gates opened.
    pub opens: u64,
    /// Openings by another node than the last one.
    pub changes: u64,
    /// Opened under two-voter mode.
    pub alone: u64,
    /// Gates shut before the lease ran out: by a move, a hand-over or a reboot.
    pub releases: u64,
    /// Gates that stayed open under a higher epoch.
    pub refreshes: u64,
    /// The smallest time between one node's gate surely shut by expiry and another's open, in ns.
    pub gap_ns_min: Option<u64>,
    /// Events.
    pub events: u64,
    /// Configurations accepted.
    pub configs: u64,
    /// The longest wait for a holder after all faults were over, in ns.
    pub wait_ns_max: u64,
}

impl Seen {
    /// Nothing yet.
    pub const NOTHING: Self = Self {
        opens: 0,
        changes: 0,
        alone: 0,
        releases: 0,
        refreshes: 0,
        gap_ns_min: None,
        events: 0,
        configs: 0,
        wait_ns_max: 0,
    };

    /// Adds what another schedule saw.
    pub fn add(&mut self, other: &Self) {
        self.opens += other.opens;
        self.changes += other.changes;
        self.alone += other.alone;
        self.releases += other.releases;
        self.refreshes += other.refreshes;
        self.events += other.events;
        self.configs += other.configs;
        self.gap_ns_min = self.gap_ns_min.into_iter().chain(other.gap_ns_min).min();
        self.wait_ns_max = self.wait_ns_max.max(other.wait_ns_max);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// Open until this true instant.
    end: u64,
    /// Shut by its agent rather than by its kernel.
    closed: bool,
}

/// Which violations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heed {
    /// All of them.
    Everything,
    /// Two holders at once.
    TwoHolders,
}

/// Watches all gates.
#[derive(Clone, Debug)]
pub struct Oracle {
    gates: Vec<Gate>,
    last: Option<(usize, Epoch)>,
    heed: Heed,
    /// Figures.
    pub seen: Seen,
}

impl Oracle {
    /// For `nodes` nodes.
    #[must_use]
    pub fn new(nodes: usize, heed: Heed) -> Self {
        Self { gates: vec![Gate::default(); nodes], last: None, heed, seen: Seen::NOTHING }
    }

    /// Whether the gate of `node` is open at `now`.
    #[must_use]
    pub fn is_open(&self, node: usize, now: u64) -> bool {
        self.gates.get(node).is_some_and(|gate| gate.end > now)
    }

    /// `node` opens its gate at `now`, or keeps it open, until `end`.
    ///
    /// # Errors
    /// The [`Violation`], if this is one.
    pub fn open(&mut self, node: usize, epoch: Epoch, now: u64, end: u64) -> Result<(), Violation> {
        for (other, gate) in self.gates.iter().enumerate().filter(|(other, _)| *other != node) {
            if gate.end > now {
                return Err(Violation::TwoHolders { node, other, overlap_ns: gate.end.min(end) - now });
            }
        }
        if let Some((last, after)) = self.last {
            let back = epoch < after || (epoch == after && last != node);
            if back && self.heed == Heed::Everything {
                return Err(Violation::EpochWentBack { node, epoch, after });
            }
            if last == node && epoch > after && self.is_open(node, now) {
                self.seen.refreshes += 1;
            }
            if last != node {
                self.seen.changes += 1;
                let gap = self.gates.get(last).filter(|gate| !gate.closed).map(|gate| now - gate.end);
                self.seen.gap_ns_min = self.seen.gap_ns_min.into_iter().chain(gap).min();
            }
        }
        self.last = Some((node, epoch));
        if let Some(gate) = self.gates.get_mut(node) {
            *gate = Gate { end: if gate.end > now { gate.end.max(end) } else { end }, closed: false };
        }
        Ok(())
    }

    /// `node` shut its gate at `now`, or its host went down.
    pub fn close(&mut self, node: usize, now: u64) {
        if let Some(gate) = self.gates.get_mut(node) {
            self.seen.releases += u64::from(gate.end > now);
            *gate = Gate { end: gate.end.min(now), closed: true };
        }
    }
}
