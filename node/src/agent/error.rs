//! Why an agent does not start, or ends.

use std::io;
use std::path::PathBuf;

use stead_proto::genesis::GenesisError;
use stead_proto::id::Name;
use stead_proto::memory::Memory;

use super::records_file::RecordsError;
use crate::consensus::ConsensusError;
use crate::identity::IdentityError;
use crate::transport::TransportError;

/// Why an agent does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
    /// A file that has to be there.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The genesis is broken.
    #[error("{path}: not the genesis of a mesh: {source}. Copy it again from where `stead init` wrote it")]
    Genesis {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: GenesisError,
    },
    /// Not one of us.
    #[error(
        "the genesis knows no node {name} with this key: check `name` in agent.toml, and that key and genesis belong together"
    )]
    Stranger {
        /// The configured name.
        name: Name,
    },
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store or consensus.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The lease records.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A restored image.
    #[error(
        "this node's store is older than what its peers saw of it (they saw start {}, term {}, log {:?}): it was restored from an image, or its disk lost data. It must not vote again. Remove it from the roster (`stead remove`), move {dir} away, and let this machine join as a new node", seen.incarnation, seen.term, seen.durable
    )]
    Lost {
        /// The data directory.
        dir: PathBuf,
        /// What the peers saw.
        seen: Memory,
    },
    /// Not a failure: the gate has to be opened on another interface, which a new start does.
    #[error(
        "the uplink {uplink} has appeared: start the agent again (a service manager does so by itself); what it promised and served is remembered"
    )]
    UplinkAppeared {
        /// The configured name.
        uplink: String,
    },
    /// Something inside ended that must not.
    #[error("{0} ended unexpectedly: see the log; the agent has to be started again")]
    Ended(&'static str),
}
