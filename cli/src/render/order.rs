//! What was done, what would be, and what to do next.

use crate::json::{Admitted, Checked, Done, Made};
use crate::words::span;
use std::fmt::Write;

/// An order that was committed.
pub(crate) fn done(done: &Done) -> String {
    let mut text = done.text.clone();
    match done.index {
        Some(index) => drop(write!(text, " (committed as entry {index} in {} ms)", done.took_ms)),
        None => text.push_str(" (the answer was lost, but the mesh has committed it)"),
    }
    text.push('\n');
    if let Some(version) = done.site_version {
        let _ = writeln!(
            text,
            "The newest version of the site is {version}; `stead site rollback` takes up an earlier one."
        );
    }
    if done.carried_out == Some(false) {
        text.push_str("It is committed, but not carried out yet: `stead status` and `stead why ENDPOINT` say what is missing.\n");
    }
    text
}

/// `apply --check`.
pub(crate) fn checked(checked: &Checked) -> String {
    match (checked.changes, checked.newest) {
        (Some(false), Some(version)) => {
            format!("The file is sound, and says the same as version {version}.\n")
        }
        (Some(true), Some(version)) => {
            format!(
                "{}\nThe file is sound; applying it would replace version {version}. Nothing was changed.\n",
                checked.diff
            )
        }
        (_, _) => "The file is sound. No node answered, so there is nothing to compare it with.\n".into(),
    }
}

/// `stead init`.
pub(crate) fn made(made: &Made) -> String {
    let mut text = format!("New mesh {} with {} nodes.\n\nNext:\n", short(&made.cluster), made.nodes.len());
    text.push_str("1. Copy each node's directory to its server, for root only:\n");
    for node in &made.nodes {
        let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host);
        let _ = writeln!(text, "     scp -rp {}/. root@{host}:/etc/stead/", node.directory);
    }
    text.push_str(
        "2. Start the agent on each; the very first time with --create:\n     stead agent --config /etc/stead/agent.toml --create\n\
         3. Look at the mesh:\n",
    );
    let _ = writeln!(text, "     stead --context {} status", made.context);
    if made.nodes.len() < 3 {
        text.push_str(
            "\nWith fewer than three voters, losing one can take the site down: a tiny third server as a \
             --witness is enough.\n",
        );
    }
    let directory = std::path::Path::new(&made.context).parent().unwrap_or(std::path::Path::new("."));
    let _ = writeln!(
        text,
        "\nKeep {} safe and with a copy elsewhere: its operator.key commands this mesh. Delete the nodes' \
         directories here once they are copied.",
        directory.display()
    );
    text
}

/// `stead admit`.
pub(crate) fn admitted(node: &Admitted) -> String {
    let Admitted { name, id, role, address, .. } = node;
    let mut text = match node.index {
        Some(index) => {
            format!("{name} belongs to the mesh now, as #{id}, a {role} (committed as entry {index}).\n")
        }
        None => {
            format!("{name} belongs to the mesh already, as #{id}, a {role}; nothing was changed there.\n")
        }
    };
    text.push_str("\nNext:\n");
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    match &node.directory {
        Some(directory) => {
            let _ = writeln!(
                text,
                "1. Copy its directory to its server, for root only:\n     scp -rp {directory}/. root@{host}:/etc/stead/"
            );
            if !node.has_secret {
                text.push_str("   Its secret key is not in there: put it beside, as node.key.\n");
            }
        }
        None => {
            let _ = writeln!(
                text,
                "1. Write its files, and copy them to where its key is:\n     stead admit {name}={address} --key {} --out DIR",
                node.key
            );
        }
    }
    text.push_str(
        "2. If an earlier node left a store on that server, move it away (/var/lib/stead).\n\
         3. Start its agent there; the very first time with --create:\n     stead agent --config /etc/stead/agent.toml --create\n\
         4. Watch it come:\n     stead nodes\n",
    );
    match (node.probation_until_unix_ms, node.promote_after_ms) {
        (Some(_), _) => {
            let _ = writeln!(
                text,
                "\nIt is on probation: it follows, holds nothing and has no vote until that is over by the others' clocks, or \
                 `stead undrain {name}` ends it."
            );
        }
        (None, Some(ms)) => {
            let _ = writeln!(
                text,
                "\nIt follows first, and votes once it has been up and caught up for {}, as the charter has it.",
                span(ms)
            );
        }
        (None, None) => {
            let _ = writeln!(text, "\nIt follows and has no vote; `stead role {name} voter` gives it one.");
        }
    }
    if let Some(directory) = node.directory.as_ref().filter(|_| node.has_secret) {
        let _ = writeln!(text, "Delete {directory} here once it is copied: who has its node.key is {name}.");
    }
    text
}

fn short(cluster: &str) -> &str {
    cluster.get(..8).unwrap_or(cluster)
}
