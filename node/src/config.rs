//! The agent's checked configuration. Files, lines and units are the command line's work.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use stead_proto::id::Name;

/// Everything that one agent is told from outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which member of the genesis this node is, or the name under which it was admitted.
    pub name: Name,
    /// Where the log, the snapshots and what was seen of others lie.
    pub data_dir: PathBuf,
    /// Where the socket and the lease records of this boot lie; has to be a tmpfs.
    pub run_dir: PathBuf,
    /// The node's secret key.
    pub key_file: PathBuf,
    /// How the mesh began.
    pub genesis_file: PathBuf,
    /// Who belonged to the mesh when this node was admitted; nothing for those of the genesis.
    pub roster_file: Option<PathBuf>,
    /// The one UDP port.
    pub listen: SocketAddr,
    /// The interface that carries the endpoints of the `vip` driver.
    pub uplink: String,
    /// Where peers may be found, besides the addresses in the roster: `host:port`, names are looked up
    /// again and again.
    pub peers: BTreeMap<Name, Vec<String>>,
    /// The rung of the lease gate to use; nothing means the best that works here.
    pub gate: Option<String>,
    /// How often a leader shows itself.
    pub heartbeat: Duration,
    /// How long followers wait for it.
    pub election_timeout: Duration,
    /// Whether to ask for real-time priority on the lease path.
    pub realtime: bool,
    /// Whether this is the node's first start; otherwise an empty data directory is refused.
    pub create: bool,
}
