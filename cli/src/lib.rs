//! The command line of stead: arguments, files, rendering, and the operator's side of the admin plane.
//!
//! A library, so that the lab can make meshes ([`init`]) and the chaos tests can be the same binary ([`main`]).
//!
//! **Invariant.** What people read and what `--json` prints are two renderings of one value from [`json`];
//! nothing is computed while printing.

pub mod agent_file;
pub mod context;
pub mod demo;
pub mod document;
pub mod exit;
pub mod init;
pub mod site_file;

mod file;
mod uplink;
