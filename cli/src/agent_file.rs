//! `agent.toml`: what one agent is told from outside the mesh.
//!
//! **Invariant.** Relative paths are relative to the file, never to the directory that the agent was
//! started in.

use crate::document::{Document, Problem, Table, Value};
use crate::uplink;
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use stead_node::config::Config;
use stead_proto::id::Name;
use stead_proto::limits::ADDRESSES_MAX;

/// The one UDP port.
pub const PORT: u16 = 7832;
/// Where the agent keeps its store, unless the file says otherwise.
pub const DATA_DIR: &str = "/var/lib/stead";
/// Where the agent's socket lies, unless the file says otherwise.
pub const RUN_DIR: &str = "/run/stead";
/// How often a leader shows itself, unless the file says otherwise, in milliseconds.
pub const HEARTBEAT_MS: u32 = 250;
/// How long followers wait for it, unless the file says otherwise, in milliseconds.
pub const ELECTION_TIMEOUT_MS: u32 = 1_000;
/// How many heartbeats have to fit into one election timeout, so that one lost packet elects nobody.
const HEARTBEATS_PER_TIMEOUT: u32 = 3;

/// Reads the file at `path`. `create` says whether this is the node's first start.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, create: bool) -> Result<Config, Vec<Problem>> {
    let text = crate::file::read_text(path)?;
    let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(&path.display().to_string(), base, &text, create)
}

/// Reads `text`; problems name `file`, relative paths are below `base`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &str, base: &Path, text: &str, create: bool) -> Result<Config, Vec<Problem>> {
    let document = Document::parse(file, text);
    let config = read(&document.root(), base, create);
    match (config, document.finish().0) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

fn read(root: &Table<'_>, base: &Path, create: bool) -> Option<Config> {
    let name = root.require("name", "\"a\"").and_then(|value| value.parse::<Name>("name", "\"a\""));
    let path = |key, default: &str| {
        let given = root.get(key).map(|value: Value<'_>| value.text());
        match given {
            Some(text) => text.map(|text| base.join(text)),
            None => Some(base.join(default)),
        }
    };
    let (data_dir, run_dir) = (path("data", DATA_DIR), path("run", RUN_DIR));
    let (key_file, genesis_file) = (path("key", "node.key"), path("genesis", "genesis.bin"));
    let roster_file = match root.get("roster") {
        Some(value) => value.text().map(|text| Some(base.join(text))),
        None => Some(None),
    };
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let listen = match root.get("listen") {
        Some(value) => value.parse("address with a port", "\"[::]:7832\""),
        None => Some(everywhere),
    };
    let uplink = uplink(root);
    let gate = root.get("gate").map(|value| value.text().map(String::from));
    let ms = |key, default| match root.get(key) {
        Some(value) => value.ms(10..=60_000, "100ms"),
        None => Some(default),
    };
    let (heartbeat, election) = (ms("heartbeat", HEARTBEAT_MS), ms("election_timeout", ELECTION_TIMEOUT_MS));
    if let (Some(heartbeat), Some(election)) = (heartbeat, election)
        && heartbeat.saturating_mul(HEARTBEATS_PER_TIMEOUT) > election
    {
        root.complain(
            "election_timeout",
            format!("{election} ms is too short; write at least {HEARTBEATS_PER_TIMEOUT} heartbeats of {heartbeat} ms"),
        );
    }
    let realtime = root.get("realtime").map_or(Some(true), |value| value.flag());
    let peers = root.get("peers").and_then(|value| value.table()).map(peers).unwrap_or_default();
    root.finish();
    Some(Config {
        name: name?,
        data_dir: data_dir?,
        run_dir: run_dir?,
        key_file: key_file?,
        genesis_file: genesis_file?,
        roster_file: roster_file?,
        listen: listen?,
        uplink: uplink?,
        peers,
        gate: gate.flatten(),
        heartbeat: Duration::from_millis(heartbeat?.into()),
        election_timeout: Duration::from_millis(election?.into()),
        realtime: realtime?,
        create,
    })
}

/// The interface that is named, or the one that this machine reaches the world through.
fn uplink(root: &Table<'_>) -> Option<String> {
    if let Some(value) = root.get("uplink") {
        let text = value.text()?;
        let fits = !text.is_empty() && text.len() <= uplink::NAME_BYTES_MAX && !text.contains(['/', ' ']);
        if !fits {
            value.complain(format!("{text:?} is no interface; write for example \"eth0\" (see `ip link`)"));
        }
        return fits.then(|| text.into());
    }
    let found = uplink::of_default_route();
    if found.is_none() {
        root.complain(
            "uplink",
            "is missing, and this machine has no default route; write for example \"eth0\"",
        );
    }
    found
}

fn peers(table: Table<'_>) -> BTreeMap<Name, Vec<String>> {
    let mut peers = BTreeMap::new();
    for (name, value) in table.entries() {
        let Some(addresses) = value.list("[\"10.0.0.2:7832\"]") else { continue };
        if addresses.len() > ADDRESSES_MAX {
            value.complain(format!("{} addresses; at most {ADDRESSES_MAX}", addresses.len()));
        }
        let addresses: Vec<String> = addresses.iter().filter_map(address).collect();
        match name.parse() {
            Ok(name) => drop(peers.insert(name, addresses)),
            Err(error) => value.complain(format!("{error}")),
        }
    }
    peers
}

/// `host:port`; names are looked up later, again and again.
pub(crate) fn address(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let fits = is_host_and_port(text);
    if !fits {
        value.complain(format!("{text:?} is no host with a port; write for example \"10.0.0.2:{PORT}\""));
    }
    fits.then(|| text.into())
}

/// Whether a text names a host and a port.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.chars().all(letters) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let told =
            |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        parse("agent.toml", Path::new("/etc/stead"), text, false).map_err(told)
    }

    #[test]
    fn all_errors_of_an_agent_are_reported_at_once_with_their_lines() {
        let text = "nmae = \"a\"\nlisten = \"7832\"\nuplink = \"\"\nheartbeat = 100\nelection_timeout = \"1 week\"\n\
                    realtime = \"yes\"\ndata = 5\n\n[peers]\nb = [\"10.0.0.2\", 7]\nC = [\"x:1\"]\nd = \"x:1\"\n";
        insta::assert_snapshot!(read(text).unwrap_err());
    }

    #[test]
    fn what_is_left_out_has_a_safe_default_and_paths_are_beside_the_file() {
        let config = read("name = \"a\"\nuplink = \"eth0\"\ndata = \"store\"\n").unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/stead/store"));
        assert_eq!(config.run_dir, Path::new(RUN_DIR));
        assert_eq!(config.key_file, Path::new("/etc/stead/node.key"));
        assert_eq!(config.listen.to_string(), "[::]:7832");
        assert_eq!((config.realtime, config.create, config.gate), (true, false, None));
    }

    #[test]
    fn an_election_timeout_that_one_lost_packet_ends_is_refused() {
        let error =
            read("name='a'\nuplink='eth0'\nheartbeat='200ms'\nelection_timeout='500ms'\n").unwrap_err();
        assert_eq!(
            error,
            "agent.toml:4: election_timeout: 500 ms is too short; write at least 3 heartbeats of 200 ms"
        );
    }
}
