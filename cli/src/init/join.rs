//! The files of a node that joins a mesh: its key first, the rest once it is admitted.
//!
//! **Invariant.** Begun twice, it goes on with the same key, so that an interrupted admission is finished and
//! never repeated under another key. A key, or an `agent.toml` that somebody may have edited, is not overwritten.

use super::{InitError, NewNode, files};
use crate::file::replace;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use stead_node::identity::Identity;
use stead_proto::id::PublicKey;

const KEY: &str = "node.key";

/// What all of them need to know about the mesh.
pub(crate) struct Mesh<'a> {
    /// The others.
    pub(crate) peers: &'a [NewNode],
    /// How it began, encoded.
    pub(crate) genesis: &'a [u8],
    /// Who belongs to it now, encoded.
    pub(crate) roster: &'a [u8],
}

/// The public half of the key in a directory of an earlier run, if there is one.
pub(crate) fn key_in(directory: &Path) -> Result<Option<PublicKey>, InitError> {
    let path = directory.join(KEY);
    if path.exists() { Ok(Some(Identity::load(&path)?.public())) } else { Ok(None) }
}

/// Makes the directory, which has to be free, and a key in it unless the node has one elsewhere.
pub(crate) fn begin(directory: &Path, key: Option<PublicKey>) -> Result<PublicKey, InitError> {
    if !super::is_free(directory) && (key.is_none() || !is_ours(directory)) {
        return Err(InitError::Exists(directory.into()));
    }
    match files::create_private_directory(directory) {
        Err(InitError::Write { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    match key {
        Some(key) => Ok(key),
        None => Ok(Identity::create(&directory.join(KEY))?.public()),
    }
}

/// Writes what the node's agent needs beside its key.
pub(crate) fn finish(directory: &Path, node: &NewNode, mesh: &Mesh<'_>) -> Result<(), InitError> {
    let text = files::agent_toml(&node.clone().with("roster", "roster.bin"), mesh.peers);
    let config = directory.join("agent.toml");
    let write = |path: PathBuf, bytes: &[u8]| {
        replace(&path, bytes).map_err(|source| InitError::Write { path, source })
    };
    write(directory.join("genesis.bin"), mesh.genesis)?;
    write(directory.join("roster.bin"), mesh.roster)?;
    // What was there before speaks of this node, or `begin` would have refused.
    if config.exists() { Ok(()) } else { write(config, text.as_bytes()) }
}

/// Whether nothing is in a directory but what `finish` writes there.
fn is_ours(directory: &Path) -> bool {
    let names =
        fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    let names: Vec<std::ffi::OsString> = names.unwrap_or_default();
    names.iter().all(|name| ["agent.toml", "genesis.bin", "roster.bin"].iter().any(|ours| name == ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::roster::Role;

    fn node(name: &str) -> NewNode {
        NewNode::new(name.parse().unwrap(), Role::Voter, "10.0.0.4")
    }

    #[test]
    fn an_interrupted_admission_goes_on_with_the_same_key_and_keeps_what_was_edited() {
        let here = tempfile::tempdir().unwrap();
        let out = here.path().join("d");
        assert_eq!(key_in(&out).unwrap(), None);
        let key = begin(&out, None).unwrap();
        assert_eq!(key_in(&out).unwrap(), Some(key));
        assert!(matches!(begin(&out, None), Err(InitError::Exists(_))), "the caller looks for a key first");
        let mesh = |genesis| Mesh { peers: &[], genesis, roster: b"r" };
        finish(&out, &node("d").with("uplink", "lo"), &mesh(b"one")).unwrap();
        let config = crate::agent_file::load(&out.join("agent.toml"), false).unwrap();
        assert_eq!(config.roster_file, Some(out.join("roster.bin")));
        fs::write(out.join("agent.toml"), "edited").unwrap();
        finish(&out, &node("d"), &mesh(b"two")).unwrap();
        assert_eq!(fs::read(out.join("genesis.bin")).unwrap(), b"two");
        assert_eq!(fs::read(out.join("agent.toml")).unwrap(), b"edited");
        assert_eq!(key_in(&out).unwrap(), Some(key));
    }

    #[test]
    fn somebody_elses_directory_is_left_alone() {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("mine.txt"), "").unwrap();
        for key in [None, Some(PublicKey([1; 32]))] {
            assert!(matches!(begin(here.path(), key), Err(InitError::Exists(_))));
        }
    }
}
