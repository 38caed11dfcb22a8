//! Floods, measured: real agents in the lab, real SYNs from the namespace of one of them, one flood at a time.
//!
//! Whatever is said of a flood is counted at its victim, another host of the lab, with the kernel's stamps. Visitors
//! ask the site meanwhile; the peers are asked what they know; a rival watches the same flood on a host of its own.
//!
//! **Invariant.** All packets stay in the lab's namespaces, and every flood is bounded in time and number.

pub mod figures;
pub mod flooder;
mod honest;
mod inbound;
mod incident;
mod misfortune;
mod rival;
mod scenario;
pub(crate) mod scene;
mod syn;
mod sys;
pub mod verdict;
pub(crate) mod victim;
mod watch;

pub use figures::{RivalRow, Row, Spread};
pub use honest::{HonestRun, play_honest};
pub use inbound::{InboundRun, Served, play_inbound};
pub use misfortune::{Misfortune, Struck};
pub use rival::{RivalRun, missing as rival_missing, play_rival};
pub use scenario::Scenario;
pub use scene::{Play, Scene};

/// The first word of the arguments with which a program of ours becomes a flooder.
pub const FLOODER: &str = "flooder";
/// The first word of the arguments with which a program of ours becomes an honest client.
pub const CLIENT: &str = "honest-client";

/// Becomes an agent, a sample site, a flooder or a client, if the arguments say so: every process in the lab is the
/// same program as the one that plays.
#[must_use]
pub fn part(arguments: &[std::ffi::OsString]) -> Option<std::process::ExitCode> {
    let word = arguments.get(1)?.to_str()?;
    match word {
        "agent" | "sample-site" => Some(stead::run(arguments.to_vec()).into()),
        FLOODER => Some(flooder::main(arguments)),
        CLIENT => Some(honest::main(arguments)),
        _ => None,
    }
}
