//! The lab: a mesh's servers as network namespaces of this machine.
//!
//! A switch (a bridge), one namespace per node and one for a visitor, all anonymous: they exist as long as
//! this process holds them open and processes run in them. On top of it: directed cuts in the kernel, a
//! tap that proves which node answered for an address, a visitor that measures outages, node processes.
//! `stead demo` and the chaos tests use it. It needs root, or [`user_namespace::enter_if_needed`].
//!
//! **Invariant.** Nothing outlives the lab's process, however it ends: no interface, namespace, mount or
//! node. Nothing is pinned to a file, and every node dies with its parent.
//!
//! Absent on purpose: external programs (`ip`, `tc`, `nft`), delay and loss (this is a perfect switch that
//! can be cut), and any traffic with the machine's own network.

pub mod error;
pub mod fault;
mod filter;
mod frame;
pub mod malware;
pub mod namespace;
pub mod outage;
pub mod overlap;
pub mod process;
mod ready;
mod route;
pub mod sample_site;
pub mod stamped;
pub mod tap;
pub mod topology;
pub mod user_namespace;
pub mod visitor;

pub use error::LabError;
pub use topology::{Family, Lab, Place, Shape};

use rustix::time::{ClockId, Timespec, clock_gettime};
use stead_proto::time::Instant;

/// The clock of all measurements here: `CLOCK_BOOTTIME`, the clock of the agents and of the lease gate,
/// so that a tap's records, a visitor's and an agent's journal can be laid side by side.
#[must_use]
pub fn now() -> Instant {
    Instant::from_ns(nanoseconds(clock_gettime(ClockId::Boottime)))
}

/// The clock of the kernel's stamps.
fn now_real_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
