//! What a node has to remember across a restart of its agent, but not across a boot.
//!
//! Kept in a tmpfs file per endpoint, so a reboot loses it; the boot id tells a stale file apart. Instants
//! are written as nanoseconds of `CLOCK_BOOTTIME`, which mean the same as long as the boot id is the same.
//!
//! **Invariant.** A record never allows more than the state that it was taken from.

use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};
use serde::{Deserialize, Serialize};

/// The kernel's `/proc/sys/kernel/random/boot_id`: new at every boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// Everything that may not be forgotten while the machine is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The boot in which it was written.
    pub boot_id: BootId,
    /// The highest epoch that this node agreed to, or that is burned here.
    pub highest: Epoch,
    /// `highest` itself is burned.
    pub spent: bool,
    /// The last promise, also when it has run out.
    pub promise: Option<Promise>,
    /// The newest configuration seen.
    pub config_index: u64,
    /// Since when (ns since boot).
    pub config_since_ns: u64,
    /// The end of the silence of a voter that forgot (ns since boot).
    pub silent_until_ns: u64,
    /// What this node holds itself.
    pub held: Option<Held>,
}

/// A promise to one node to agree to nobody else until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// To whom.
    pub to: NodeId,
    /// Under which epoch, the last one if there were several without a break.
    pub epoch: Epoch,
    /// Under which epoch it began.
    pub first: Epoch,
    pub(crate) end_ns: u64,
    /// From the receipt of an ask for `epoch`.
    pub(crate) length: Span,
    /// The same for the longest of the earlier epochs.
    pub(crate) length_before: Span,
}

impl Promise {
    /// When it ends, on this node's clock.
    #[must_use]
    pub const fn end(&self) -> Instant {
        Instant::from_ns(self.end_ns)
    }

    /// Whether it binds at `now`.
    #[must_use]
    pub fn runs(&self, now: Instant) -> bool {
        now < self.end()
    }

    pub(crate) fn binds_against(&self, asker: NodeId, now: Instant) -> bool {
        self.to != asker && self.runs(now)
    }
}

/// A lease that was held when the record was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Under which epoch.
    pub epoch: Epoch,
    /// The highest epoch that this node asked for meanwhile (a refresh under way).
    pub asked: Epoch,
    pub(crate) lease: Span,
    pub(crate) until_ns: u64,
}
