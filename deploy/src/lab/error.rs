//! What can go wrong in the lab, and what to do about it.

use super::topology::Place;
use std::{io, path::PathBuf};

/// Why the lab could not do something. None of these is a verdict on the product under test.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call failed.
    #[error("cannot {step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses or filters.
    #[error("the kernel refused to {step}: {source}")]
    Netlink {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// The kernel sent no answer to a change of links, addresses or filters.
    #[error("the kernel did not answer within a second when asked to {step}")]
    NetlinkSilent {
        /// What was tried.
        step: &'static str,
    },
    /// The switch or a cable did not come up.
    #[error("the lab's links do not carry traffic after {waited_ms} ms: is this machine overloaded?")]
    NotReady {
        /// How long was waited.
        waited_ms: u128,
    },
    /// Neither root nor allowed to become root of a user namespace.
    #[error(
        "the lab needs root or user namespaces, and this kernel refuses them ({source}): run it with sudo, \
         or allow them with one of `sysctl kernel.unprivileged_userns_clone=1`, `sysctl \
         user.max_user_namespaces=10000`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; a \
         container also needs a seccomp profile that lets unshare pass"
    )]
    UserNamespaceForbidden {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Called too late: other threads already run.
    #[error("a user namespace can only be entered before other threads are started: enter it first in main")]
    ThreadsRunning,
    /// More nodes than the subnet has room for.
    #[error("{asked} nodes do not fit into a lab: ask for 1 to {max}")]
    TooManyNodes {
        /// How many were asked for.
        asked: u8,
        /// The most there can be.
        max: u8,
    },
    /// No such node.
    #[error("{0} is not in this lab")]
    NoSuchPlace(Place),
    /// More watched addresses than one socket filter holds.
    #[error("a tap watches 1 to {max} addresses, not {asked}")]
    WatchedAddresses {
        /// How many were asked for.
        asked: usize,
        /// The most there can be.
        max: usize,
    },
    /// A process could not be started.
    #[error("cannot start {program} (its log is {}): {source}", .log.display())]
    Start {
        /// The program.
        program: String,
        /// Where its output would be.
        log: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process did not end in time.
    #[error("{program} still runs after {waited_ms} ms")]
    StillRuns {
        /// The program.
        program: String,
        /// How long was waited.
        waited_ms: u128,
    },
    /// A thread of the lab panicked.
    #[error("a thread of the lab panicked: {0}")]
    Panicked(&'static str),
}

impl LabError {
    /// For `map_err`: what was tried when a system call failed.
    pub(crate) fn system<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> Self {
        move |source: E| Self::System { step, source: source.into() }
    }
}
