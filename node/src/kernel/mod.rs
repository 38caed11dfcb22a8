//! What stead puts into the kernel so that it holds even while the agent does not run.
//!
//! - [`gate`]: the lease gate, which silences an address once its lease ran out.
//!
//! **Invariant.** Whatever is installed here outlives the agent and fails closed: it needs a living agent
//! to keep an address open, never to close it.

pub(crate) mod bpffs;
pub mod gate;
mod gate_bpf;
mod gate_nft;
