//! `stead init`: the keys and the configuration of a new mesh.
//!
//! **Invariant.** All or nothing: everything is written to a directory beside the wanted one and renamed at
//! the end, so that a half-made mesh never lies around; what is there already is never overwritten.

mod files;
pub(crate) mod join;

use crate::agent_file::PORT;
use crate::context::{Contact, Context};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use stead_node::identity::{Identity, IdentityError};
use stead_proto::codec::CodecError;
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId, PublicKey};
use stead_proto::roster::{Member, Operator, OperatorRole, Role, Standing};
use stead_proto::site::Site;

/// A mesh that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its nodes; they get the ids 1, 2, … in this order.
    pub nodes: Vec<NewNode>,
    /// Its first operators; each gets a key of its own.
    pub operators: Vec<(Name, OperatorRole)>,
    /// Its first site.
    pub site: Site,
    /// Where everything is written. Must not exist, or be empty.
    pub out: PathBuf,
}

/// One node of it.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// What people call it.
    pub name: Name,
    /// What it is there for.
    pub role: Role,
    /// Where the others find it: `host:port`.
    pub addresses: Vec<String>,
    /// Lines for its `agent.toml`, as key and TOML value, such as `("uplink", "\"eth0\"")`; they replace
    /// the defaults.
    pub settings: Vec<(String, String)>,
}

/// A mesh that was made.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its identity.
    pub cluster: ClusterId,
    /// How it begins.
    pub genesis: Genesis,
    /// The directory of each node, in the order of the plan.
    pub nodes: Vec<(NodeId, PathBuf)>,
    /// The context file of each operator, in the order of the plan.
    pub contexts: Vec<PathBuf>,
}

/// Why a mesh was not made. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error(
        "{0} is there already, and keys are never overwritten: choose another directory, or move it away"
    )]
    Exists(PathBuf),
    /// No mesh can begin like this.
    #[error("{}", .0.join("\n"))]
    Unsound(Vec<String>),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// Too large.
    #[error("the site is too large for a genesis: {0}")]
    Size(#[from] CodecError),
    /// The disk said no.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NewNode {
    /// A node at `address`; the port is 7832 if it names none.
    #[must_use]
    pub fn new(name: Name, role: Role, address: &str) -> Self {
        Self { name, role, addresses: vec![with_port(address)], settings: Vec::new() }
    }

    /// With one more line in its `agent.toml`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.push((key.into(), value.into().to_string()));
        self
    }
}

/// An address with its port: `10.0.0.1` and `fd00::1` get 7832.
#[must_use]
pub fn with_port(address: &str) -> String {
    match address.parse::<std::net::IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, PORT).to_string(),
        Err(_) if crate::agent_file::is_host_and_port(address) => address.into(),
        Err(_) => format!("{address}:{PORT}"),
    }
}

/// Makes keys and files.
///
/// # Errors
/// [`InitError`]; nothing was written then.
pub fn write(plan: &Plan) -> Result<Written, InitError> {
    if !is_free(&plan.out) {
        return Err(InitError::Exists(plan.out.clone()));
    }
    let unsound = complaints(plan);
    if !unsound.is_empty() {
        return Err(InitError::Unsound(unsound));
    }
    let partial = Partial::create(&plan.out)?;
    let written = write_into(plan, &partial.path)?;
    partial.rename(&plan.out)?;
    Ok(written)
}

/// What is wrong with a plan beside what its genesis will say.
fn complaints(plan: &Plan) -> Vec<String> {
    let mut complaints = Vec::new();
    for node in &plan.nodes {
        for address in node.addresses.iter().filter(|a| !crate::agent_file::is_host_and_port(a)) {
            complaints.push(format!("{}: {address:?} is no address; write for example 10.0.0.1", node.name));
        }
        if node.name.as_str().starts_with(files::OPERATOR_DIR) {
            complaints.push(format!(
                "{}: no node's name begins with \"operator\", as operators' directories do",
                node.name
            ));
        }
    }
    complaints
}

fn write_into(plan: &Plan, directory: &Path) -> Result<Written, InitError> {
    let mut members = Vec::new();
    for (id, node) in (1_u64..).zip(&plan.nodes) {
        let key = files::node_key(directory, node)?;
        members.push(member(NodeId(id), node, key));
    }
    let mut operators = Vec::new();
    for (place, (name, role)) in plan.operators.iter().enumerate() {
        operators.push((files::operator_key(directory, place, name)?, name, *role));
    }
    let operator = |(key, name, role): &(PublicKey, &Name, OperatorRole)| {
        (*key, Operator { name: (*name).clone(), role: *role, serial: 0 })
    };
    let mut nonce = [0; 16];
    nonce.copy_from_slice(Identity::generate()?.public().0.get(..16).unwrap_or_default());
    let genesis = Genesis {
        nonce,
        members,
        operators: operators.iter().map(operator).collect(),
        site: plan.site.clone(),
    };
    let unsound = genesis.check();
    if !unsound.is_empty() {
        return Err(InitError::Unsound(unsound));
    }
    let (cluster, bytes) = (genesis.cluster()?, genesis.encode()?);
    for node in &plan.nodes {
        files::node_config(directory, node, &plan.nodes, &bytes)?;
    }
    let contact = |(node, member): (&NewNode, &Member)| Contact {
        name: node.name.clone(),
        id: member.id,
        key: member.key,
        addresses: node.addresses.clone(),
    };
    let nodes: Vec<Contact> = plan.nodes.iter().zip(&genesis.members).map(contact).collect();
    let context = Context { cluster, operator_key: PathBuf::new(), nodes };
    let mut contexts = Vec::new();
    for (place, (name, _)) in plan.operators.iter().enumerate() {
        let below = files::operator_context(directory, place, name, &context)?;
        contexts.push(plan.out.join(below));
    }
    files::sync(directory)?;
    let nodes = genesis.members.iter().map(|m| (m.id, plan.out.join(m.name.as_str()))).collect();
    Ok(Written { cluster, genesis, nodes, contexts })
}

fn member(id: NodeId, node: &NewNode, key: PublicKey) -> Member {
    // Names are looked up by those who dial; the roster carries what is an address by itself.
    let addresses = node.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    Member { id, name: node.name.clone(), key, role: node.role, addresses, standing: Standing::Active }
}

fn is_free(out: &Path) -> bool {
    match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// A directory that vanishes unless it is renamed.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(out: &Path) -> Result<Self, InitError> {
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let path = parent.join(format!(".{name}.{}.partial", std::process::id()));
        files::create_private_directory(&path)?;
        Ok(Self { path })
    }

    fn rename(self, out: &Path) -> Result<(), InitError> {
        let failed = |source| InitError::Write { path: out.into(), source };
        fs::rename(&self.path, out).map_err(failed)?;
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::sync(parent)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the renaming there is nothing left to remove.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_file::SiteFile;

    fn plan(out: PathBuf) -> Plan {
        let node = |name: &str, role, address| NewNode::new(name.parse().unwrap(), role, address);
        let site = SiteFile::parse("site.toml", include_str!("site_file/example.toml")).unwrap().site;
        Plan {
            nodes: vec![
                node("a", Role::Voter, "10.0.0.1").with("uplink", "eth0"),
                node("b", Role::Voter, "b.example.org").with("uplink", "ens3").with("gate", "nft"),
                node("w", Role::Witness, "[fd00::3]:999").with("uplink", "lo"),
            ],
            operators: vec![("ann".parse().unwrap(), OperatorRole::Admin)],
            site,
            out,
        }
    }

    #[test]
    fn everything_that_init_writes_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(&plan(directory.path().join("out"))).unwrap();
        for ((id, node), name) in written.nodes.iter().zip(["a", "b", "w"]) {
            let config = crate::agent_file::load(&node.join("agent.toml"), false).unwrap();
            assert_eq!(config.name.as_str(), name);
            let member = written.genesis.members.iter().find(|m| m.id == *id).unwrap();
            assert_eq!(Identity::load(&config.key_file).unwrap().public(), member.key);
            let genesis = Genesis::decode(&fs::read(&config.genesis_file).unwrap()).unwrap();
            assert_eq!(genesis.cluster().unwrap(), written.cluster);
            assert_eq!(config.peers.len(), 2, "the others");
        }
        let context = Context::load(&written.contexts[0]).unwrap();
        assert_eq!(context.cluster, written.cluster);
        let addresses: Vec<&str> = context.nodes.iter().map(|n| n.addresses[0].as_str()).collect();
        assert_eq!(addresses, ["10.0.0.1:7832", "b.example.org:7832", "[fd00::3]:999"]);
        let operator = Identity::load(&context.operator_key).unwrap().public();
        assert_eq!(written.genesis.operators[&operator].role, OperatorRole::Admin);
        let b = crate::agent_file::load(&written.nodes[1].1.join("agent.toml"), true).unwrap();
        assert_eq!((b.uplink.as_str(), b.gate.as_deref(), b.create), ("ens3", Some("nft"), true));
    }

    #[test]
    fn nothing_is_ever_overwritten_and_nothing_half_made_stays() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        write(&plan(out.clone())).unwrap();
        assert!(matches!(write(&plan(out)), Err(InitError::Exists(_))));
        let mut unsound = plan(directory.path().join("other"));
        unsound.operators.clear();
        unsound.nodes[1].name = "a".parse().unwrap();
        assert!(write(&unsound).is_err());
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["out"]);
    }

    #[test]
    fn two_meshes_from_one_plan_differ() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["1", "2"].map(|name| write(&plan(directory.path().join(name))).unwrap().cluster);
        assert_ne!(one, two);
    }
}
