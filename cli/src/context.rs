//! `mesh.toml`: which mesh an operator speaks to, and with which key.
//!
//! Looked for in this order: `--context FILE`, `$STEAD_CONTEXT`, `./mesh.toml`, `~/.config/stead/mesh.toml`,
//! `/etc/stead/mesh.toml`. Root on a server needs none: the agent's local socket is there.
//!
//! **Invariant.** A file that was named explicitly is used or complained about, never passed over.

use crate::agent_file::address;
use crate::document::{Document, Problem, Table, Value};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use stead_proto::id::{ClusterId, Name, NodeId, PublicKey};
use stead_proto::limits::{ADDRESSES_MAX, NODES_MAX};
use stead_proto::roster::Member;
use stead_proto::state::State;

/// The agent's local socket.
pub const SOCKET: &str = "/run/stead/agent.sock";

/// One mesh, as an operator reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Which mesh.
    pub cluster: ClusterId,
    /// The file of the operator's secret key.
    pub operator_key: PathBuf,
    /// Its nodes, as they were when the file was written; later ones are learnt from these.
    pub nodes: Vec<Contact>,
}

/// How to reach one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// What people call it.
    pub name: Name,
    /// Its number.
    pub id: NodeId,
    /// Its identity.
    pub key: PublicKey,
    /// Where it may be: `host:port`.
    pub addresses: Vec<String>,
}

/// The ways in which a mesh is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// By a context file.
    Context(PathBuf),
    /// By the local socket of an agent.
    Socket(PathBuf),
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `--context` or `$STEAD_CONTEXT`.
    pub named: Option<PathBuf>,
    /// The directory that the command was started in.
    pub here: PathBuf,
    /// `$XDG_CONFIG_HOME`, or `.config` below `$HOME`.
    pub config_home: Option<PathBuf>,
    /// `/etc/stead`.
    pub system: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
}

impl Places {
    /// The usual ones, given what `--context` says and how the environment reads.
    #[must_use]
    pub fn usual(named: Option<PathBuf>, environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| environment(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            named,
            here: PathBuf::from("."),
            config_home: path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config"))),
            system: PathBuf::from("/etc/stead"),
            socket: PathBuf::from(SOCKET),
        }
    }

    /// The first that is there.
    ///
    /// # Errors
    /// All places that were looked at, in words.
    pub fn find(&self) -> Result<Found, String> {
        if let Some(named) = &self.named {
            return Ok(Found::Context(named.clone()));
        }
        let mut looked = vec![self.here.join("mesh.toml")];
        looked.extend(self.config_home.iter().map(|home| home.join("stead").join("mesh.toml")));
        looked.push(self.system.join("mesh.toml"));
        if let Some(found) = looked.iter().find(|path| path.is_file()) {
            return Ok(Found::Context(found.clone()));
        }
        if self.socket.exists() {
            return Ok(Found::Socket(self.socket.clone()));
        }
        let looked: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
        Err(format!(
            "no mesh to speak to: none of {} is there, and no agent runs here ({}).\n\
             Name the operator's file with --context FILE or $STEAD_CONTEXT; `stead init` writes one to \
             OUT_DIR/operator/mesh.toml.",
            looked.join(", "),
            self.socket.display()
        ))
    }
}

impl Context {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&path.display().to_string(), base, &crate::file::read_text(path)?)
    }

    /// Reads `text`; problems name `file`, a relative key file is below `base`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, base: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let document = Document::parse(file, text);
        let context = read(&document.root(), base);
        match (context, document.finish().0) {
            (Some(context), problems) if problems.is_empty() => Ok(context),
            (_, problems) => Err(problems),
        }
    }

    /// The same mesh with the nodes that `state` knows. What was written about a node that is still there stays;
    /// `newcomer` is one of them, and where its operator said it would be.
    #[must_use]
    pub fn following(&self, state: &State, newcomer: Option<(NodeId, &str)>) -> Self {
        let contact = |member: &Member| {
            let known = self.nodes.iter().find(|contact| contact.id == member.id).cloned();
            known.unwrap_or_else(|| {
                let mut contact = crate::ask::contact_of(member);
                if let Some((_, address)) = newcomer.filter(|(id, _)| *id == member.id) {
                    contact.addresses = vec![address.into()];
                }
                contact
            })
        };
        Self { nodes: state.members.values().map(contact).collect(), ..self.clone() }
    }

    /// Replaces the file at `path` by this, in one step.
    ///
    /// # Errors
    /// What the system says; the file is as it was then.
    pub fn replace(&self, path: &Path) -> io::Result<()> {
        let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let key = self.operator_key.strip_prefix(beside).unwrap_or(&self.operator_key);
        crate::file::replace(path, self.write(&key.to_string_lossy()).as_bytes())
    }

    /// The text of a file that says this.
    #[must_use]
    pub fn write(&self, operator_key: &str) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!(
            "# How the operator's `stead` reaches the mesh. Not secret; the key beside it is.\n\
             cluster = \"{}\"\noperator_key = {}\n",
            self.cluster,
            quoted(operator_key)
        );
        for Contact { name, id, key, addresses } in &self.nodes {
            let addresses: Vec<String> = addresses.iter().map(|a| quoted(a)).collect();
            let addresses = addresses.join(", ");
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n[[node]]\nname = \"{name}\"\nid = {}\nkey = \"{key}\"\naddresses = [{addresses}]\n",
                id.0
            );
        }
        text
    }
}

fn read(root: &Table<'_>, base: &Path) -> Option<Context> {
    let hex = "\"2f1c…\" (64 hexadecimal digits)";
    let cluster = root.require("cluster", hex).and_then(|value| value.parse::<ClusterId>("mesh id", hex));
    let key = root.require("operator_key", "\"operator.key\"").and_then(|value| value.text());
    let listed = root.require("node", "[[node]] with name, id, key and addresses");
    let listed = listed.and_then(|value| value.list("[[node]]")).unwrap_or_default();
    let nodes: Vec<Option<Contact>> = listed.iter().map(contact).collect();
    let names: BTreeSet<&Name> = nodes.iter().flatten().map(|node| &node.name).collect();
    let ids: BTreeSet<NodeId> = nodes.iter().flatten().map(|node| node.id).collect();
    let complete = nodes.iter().flatten().count();
    if names.len() != complete || ids.len() != complete {
        root.complain("node", "two nodes share a name or an id; give each its own, as the roster has it");
    }
    if listed.len() > NODES_MAX {
        root.complain("node", format!("{} nodes; at most {NODES_MAX}", listed.len()));
    }
    root.finish();
    let nodes = nodes.into_iter().collect::<Option<Vec<Contact>>>()?;
    Some(Context { cluster: cluster?, operator_key: base.join(key?), nodes })
}

fn contact(value: &Value<'_>) -> Option<Contact> {
    let table = value.table()?;
    let hex = "\"2f1c…\" (64 hexadecimal digits)";
    let name = table.require("name", "\"a\"").and_then(|value| value.parse("name", "\"a\""));
    let id = table.require("id", "1").and_then(|value| value.number(0..=i64::MAX));
    let key = table.require("key", hex).and_then(|value| value.parse("public key", hex));
    let addresses = table.require("addresses", "[\"10.0.0.1:7832\"]");
    let addresses = addresses.and_then(|value| {
        let items = value.list("[\"10.0.0.1:7832\"]")?;
        if items.len() > ADDRESSES_MAX {
            value.complain(format!("{} addresses; at most {ADDRESSES_MAX}", items.len()));
        }
        items.iter().map(address).collect::<Option<Vec<String>>>()
    });
    table.finish();
    let id = NodeId(u64::try_from(id?).ok()?);
    Some(Contact { name: name?, id, key: key?, addresses: addresses? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn context() -> Context {
        let contact = |name: &str, id| Contact {
            name: name.parse().unwrap(),
            id: NodeId(id),
            key: PublicKey([u8::try_from(id).unwrap(); 32]),
            addresses: vec![format!("10.0.0.{id}:7832"), format!("{name}.example.org:7832")],
        };
        Context {
            cluster: ClusterId([7; 32]),
            operator_key: PathBuf::from("/x/operator.key"),
            nodes: vec![contact("a", 1), contact("b", 2)],
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = context().write("operator.key");
        assert_eq!(Context::parse("mesh.toml", Path::new("/x"), &text), Ok(context()));
    }

    #[test]
    fn a_context_follows_the_roster_and_keeps_what_its_operator_wrote() {
        let answers = crate::sample::healthy();
        let mut state = crate::agreement::Agreement::of(&answers).state().unwrap().clone();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh.toml");
        let mut known = context();
        known.operator_key = directory.path().join("operator.key");
        state.members.remove(&NodeId(1));
        let now = known.following(&state, Some((NodeId(3), "w.example.org:7832")));
        now.replace(&path).unwrap();
        let read = Context::load(&path).unwrap();
        let said: Vec<(&str, &str)> =
            read.nodes.iter().map(|node| (node.name.as_str(), node.addresses[0].as_str())).collect();
        assert_eq!(said, [("b", "10.0.0.2:7832"), ("w", "w.example.org:7832")]);
        assert_eq!(read.nodes[0].addresses.len(), 2, "the name of the host that he wrote");
        assert_eq!((read.operator_key, read.cluster), (known.operator_key, known.cluster));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half-written stays");
    }

    #[test]
    fn all_errors_of_a_context_are_reported_at_once_with_their_lines() {
        let text = "cluster = \"12\"\nkeyfile = \"x\"\n\n[[node]]\nname = \"A\"\nid = -1\nkey = 5\n\n[[node]]\nname = \"b\"\n\
                    adresses = []\n";
        let problems = Context::parse("mesh.toml", Path::new("."), text).unwrap_err();
        insta::assert_snapshot!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn the_places_are_searched_in_their_order_and_a_named_file_is_never_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let below = |name: &str| directory.path().join(name);
        for name in ["here", "home/stead", "etc"] {
            fs::create_dir_all(below(name)).unwrap();
            fs::write(below(name).join("mesh.toml"), "").unwrap();
        }
        fs::write(below("sock"), "").unwrap();
        let mut places = Places {
            named: Some(below("nowhere.toml")),
            here: below("here"),
            config_home: Some(below("home")),
            system: below("etc"),
            socket: below("sock"),
        };
        assert_eq!(places.find(), Ok(Found::Context(below("nowhere.toml"))));
        places.named = None;
        for place in ["here", "home/stead", "etc"] {
            let file = below(place).join("mesh.toml");
            assert_eq!(places.find(), Ok(Found::Context(file.clone())));
            fs::remove_file(file).unwrap();
        }
        assert_eq!(places.find(), Ok(Found::Socket(below("sock"))));
        fs::remove_file(below("sock")).unwrap();
        assert!(places.find().unwrap_err().contains("--context"));
    }
}
