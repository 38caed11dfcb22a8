//! The files of a new mesh.

use super::{InitError, NewNode};
use crate::agent_file::{DATA_DIR, RUN_DIR};
use crate::context::Context;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use stead_node::identity::Identity;
use stead_proto::id::{Name, PublicKey};

/// The directory of the first operator; those of others have their name behind it.
pub(super) const OPERATOR_DIR: &str = "operator";

pub(super) fn create_private_directory(path: &Path) -> Result<(), InitError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| InitError::Write { path: path.into(), source })
}

/// The directory of a node, with its new key in it.
pub(super) fn node_key(directory: &Path, node: &NewNode) -> Result<PublicKey, InitError> {
    let directory = directory.join(node.name.as_str());
    match create_private_directory(&directory) {
        Err(InitError::Write { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Err(
            InitError::Unsound(vec![format!("two nodes are called {}; give each its own name", node.name)]),
        ),
        Err(error) => Err(error),
        Ok(()) => Ok(Identity::create(&directory.join("node.key"))?.public()),
    }
}

/// The rest of a node's directory.
pub(super) fn node_config(
    directory: &Path,
    node: &NewNode,
    all: &[NewNode],
    genesis: &[u8],
) -> Result<(), InitError> {
    let directory = directory.join(node.name.as_str());
    new_file(&directory.join("genesis.bin"), genesis)?;
    new_file(&directory.join("agent.toml"), agent_toml(node, all).as_bytes())?;
    sync(&directory)
}

/// The directory of an operator, with his new key in it.
pub(super) fn operator_key(directory: &Path, place: usize, name: &Name) -> Result<PublicKey, InitError> {
    let directory = directory.join(operator_directory(place, name));
    create_private_directory(&directory)?;
    Ok(Identity::create(&directory.join("operator.key"))?.public())
}

/// An operator's context file; its path below the mesh's directory.
pub(super) fn operator_context(
    directory: &Path,
    place: usize,
    name: &Name,
    context: &Context,
) -> Result<PathBuf, InitError> {
    let below = operator_directory(place, name);
    new_file(&directory.join(&below).join("mesh.toml"), context.write("operator.key").as_bytes())?;
    sync(&directory.join(&below))?;
    Ok(Path::new(&below).join("mesh.toml"))
}

pub(super) fn sync(directory: &Path) -> Result<(), InitError> {
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|source| InitError::Write { path: directory.into(), source })
}

fn operator_directory(place: usize, name: &Name) -> String {
    if place == 0 { OPERATOR_DIR.into() } else { format!("{OPERATOR_DIR}-{name}") }
}

fn new_file(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let failed = |source| InitError::Write { path: path.into(), source };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

pub(super) fn agent_toml(node: &NewNode, all: &[NewNode]) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut settings: BTreeMap<&str, String> = BTreeMap::from([
        ("name", quoted(node.name.as_str())),
        ("data", quoted(DATA_DIR)),
        ("run", quoted(RUN_DIR)),
        ("key", quoted("node.key")),
        ("genesis", quoted("genesis.bin")),
    ]);
    settings.extend(node.settings.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let mut lines =
        vec![format!("# The agent of node {}. Relative paths are relative to this file.", node.name)];
    lines.extend(settings.iter().map(|(key, value)| format!("{key} = {value}")));
    lines.push(String::new());
    lines.push("# Where the others may be found, besides what the roster says.".into());
    lines.push("[peers]".into());
    for peer in all.iter().filter(|peer| peer.name != node.name) {
        let addresses: Vec<String> = peer.addresses.iter().map(|address| quoted(address)).collect();
        lines.push(format!("{} = [{}]", quoted(peer.name.as_str()), addresses.join(", ")));
    }
    lines.join("\n") + "\n"
}
