//! The agent: one node of the mesh, from start to end.
//!
//! ```text
//!  QUIC ─ datagrams ─▶┐                                   ┌─▶ gate (BPF), lease records   same thread
//!  QUIC ─ reports ───▶│ owner: Mesh::handle(now, event) ──┼─▶ datagrams, reports
//!  state, raft, ─────▶│        real-time thread           ├─▶ driver: addresses, announcements (thread)
//!  checks, operators  ┘   ▲                               └─▶ worker: consensus, holding page (runtime)
//!  sensors ─▶ lookout ──────┘ ─▶ limit, licence, shield (nft)                                thread
//! ```
//!
//! **Invariant.** The owner's thread shares no task, lock or queue with a disk, a name server or a check.

mod admin;
mod command;
mod containment;
mod driver;
mod error;
mod gating;
mod hints;
mod inbox;
mod inlets;
mod keeper;
mod licence;
mod links;
mod lookout;
mod orders;
mod outbox;
mod outcasts;
mod owner;
mod pages;
mod peer;
mod probing;
mod realtime;
mod records_file;
mod replica;
mod shielding;
mod socket;
mod start;
mod vigil;
mod watch;
mod worker;

pub use error::AgentError;
pub use owner::VERSION;
pub use socket::SOCKET_NAME;

use crate::config::Config;

/// Runs the agent until SIGTERM or SIGINT, then gives back what it holds. At SIGHUP it asks `reload` for its
/// configuration again and takes over where the peers may be found; the rest is for the next start.
///
/// # Errors
/// [`AgentError`], each variant of which says what to do.
pub fn run(config: &Config, reload: impl Fn() -> Option<Config> + Send + 'static) -> Result<(), AgentError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("stead-worker")
        .enable_all()
        .build()
        .map_err(AgentError::Threads)?;
    let ended = runtime.block_on(start::run(config, reload));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended
}
