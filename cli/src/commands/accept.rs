//! `stead accept`: a node's SSH host key was changed by the operator, not by somebody else.

use super::look::no_such_node;
use super::members::confirm;
use super::orders::{finish, order};
use super::session::{Session, settled_state};
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use stead_proto::id::{Name, NodeId};
use stead_proto::order::Act;
use stead_proto::outside::HostKey;

pub(super) async fn run(
    session: &Session,
    node: &Name,
    given: Option<HostKey>,
    yes: bool,
) -> Result<Exit, Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let (id, known, key) = {
        let agreement = Agreement::of(&answers);
        let state = settled_state(&agreement)?;
        let member = state.member_named(node.as_str()).ok_or_else(|| no_such_node(state, node))?;
        let key = match given {
            Some(key) => key,
            None => the_one_seen(&agreement, node, member.id)?,
        };
        (member.id, state.host_keys.get(&member.id).copied(), key)
    };
    if known == Some(key) {
        return Err(Failure::Failed(format!(
            "{key} is the host key that the mesh knows {node} by already. Nothing was ordered."
        )));
    }
    let was = known.map_or_else(|| "none was known before".into(), |known| format!("it was {known}"));
    let question = format!(
        "from now on {node} has the SSH host key {key} ({was}). Compare it on the server's console first: \
         ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    );
    confirm(&question, yes).await?;
    let text = format!("{key} is the host key of {node}; what it was demoted for ends within ten minutes");
    let done = order(session, Act::AcceptHostKey { node: id, key }, &answers, text).await?;
    finish(session, &done)
}

/// The key that all see who see one.
fn the_one_seen(agreement: &Agreement<'_>, name: &Name, node: NodeId) -> Result<HostKey, Failure> {
    let statuses =
        agreement.answers.keys().filter(|other| **other != node).filter_map(|id| agreement.status_of(*id));
    let reach = statuses.flat_map(|status| &status.own.reach).filter(|(peer, _)| *peer == node);
    let mut seen: Vec<HostKey> = reach.filter_map(|(_, reach)| reach.host_key).collect();
    seen.sort_unstable();
    seen.dedup();
    match seen[..] {
        [key] => Ok(key),
        [] => Err(Failure::Failed(format!(
            "no other node sees a host key of {name}: is its SSH reachable from them, on the port that `[watch]` in \
             site.toml says? Otherwise name the key with --host-key"
        ))),
        [..] => {
            let all: Vec<String> = seen.iter().map(ToString::to_string).collect();
            Err(Failure::Failed(format!(
                "the others see different host keys of {name}: {}. Name the right one with --host-key",
                all.join(", ")
            )))
        }
    }
}
