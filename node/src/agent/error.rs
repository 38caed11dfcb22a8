//! Why an agent does not start, or ends.

use std::fmt;
use std::io;
use std::path::PathBuf;

use stead_proto::genesis::GenesisError;
use stead_proto::id::Name;
use stead_proto::memory::Memory;
use stead_proto::seed::SeedError;

use super::records_file::RecordsError;
use crate::config::Config;
use crate::consensus::ConsensusError;
use crate::identity::IdentityError;
use crate::storage::StoreError;
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
    /// Something that this node wrote down about itself or the others.
    #[error(
        "the store holds {key:?} in a form that this stead cannot read ({source}): start the version that wrote it"
    )]
    Fact {
        /// What.
        key: String,
        /// What is wrong with it.
        source: stead_proto::codec::CodecError,
    },
    /// Not one of us.
    #[error(
        "neither genesis nor roster knows a node {name} with this key: check `name` in agent.toml, and that key, genesis and roster belong together; a node that was admitted later needs `roster = \"roster.bin\"`, the file that `stead admit {name}=ADDRESS --out DIR` wrote"
    )]
    Stranger {
        /// The configured name.
        name: Name,
    },
    /// The roster that came with the admission is broken.
    #[error("{path}: not the roster of this mesh: {source}. Copy it again from where `stead admit` wrote it")]
    Seed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: SeedError,
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
    /// The store cannot be this node's any more.
    #[error("{source}. {way_back}")]
    Store {
        /// What is wrong with it.
        source: StoreError,
        /// What to do.
        way_back: WayBack,
    },
    /// A restored image.
    #[error(
        "this node's store is older than what its peers saw of it (they saw start {}, term {}, log {:?}): it was restored from an image, or its disk lost data. It must not vote again. {way_back}", seen.incarnation, seen.term, seen.durable
    )]
    Lost {
        /// What to do.
        way_back: WayBack,
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

/// How a server whose store is lost comes back: as a new node, under its old name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    name: Name,
    data_dir: PathBuf,
}

impl WayBack {
    pub(super) fn of(config: &Config) -> Self {
        Self { name: config.name.clone(), data_dir: config.data_dir.clone() }
    }
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, data) = (&self.name, self.data_dir.display());
        write!(
            f,
            "To let this machine join again as a new node: on your own machine `stead remove {name}`, then `stead admit \
             {name}=ADDRESS --out DIR`; here move {data} away, put the files of DIR in the place of this agent.toml and \
             its key, and start the agent once with --create"
        )
    }
}

impl AgentError {
    /// Why consensus could not be opened, with the way back where there is no other.
    pub(super) fn opening(config: &Config, error: ConsensusError) -> Self {
        if let ConsensusError::Store(source) = error {
            if source.is_end_of_identity() {
                return Self::Store { source, way_back: WayBack::of(config) };
            }
            return ConsensusError::Store(source).into();
        }
        error.into()
    }
}
