//! New addresses for the nodes, as after a move to another provider.
//!
//! Each node has two addresses in turn, so a scenario may be played any number of times. Its old one is taken
//! away, and with it, on the holder, the endpoint's: the lab replaces every address of the interface.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use stead::agent_file::PORT;
use stead::demo::stage::Stage;
use stead_deploy::lab::Place;
use stead_proto::id::Name;

/// What tells the second address of a node from its first: 10.83.0.10 and 10.83.0.60.
const DISTANCE: u8 = 50;
/// How long the others may take to find one node again.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// Every node at once; then each agent is told where its peers are.
pub(super) fn all_at_once(stage: &mut Stage) -> anyhow::Result<()> {
    let nodes = stage.players.len();
    let new = (0..nodes).map(|i| next(stage, i)).collect::<anyhow::Result<Vec<_>>>()?;
    for (i, address) in new.iter().enumerate() {
        stage.lab.set_address(stage.player(i)?.place, *address)?;
    }
    let names: Vec<(Name, IpAddr)> =
        stage.players.iter().map(|player| player.name.clone()).zip(new).collect();
    for i in 0..nodes {
        write_peers(stage, i, &names)?;
        stage.agent(i)?.hang_up()?;
    }
    Ok(())
}

/// One node after the other, each only when the others have found the one before.
pub(super) fn in_turn(stage: &mut Stage) -> anyhow::Result<()> {
    for i in 0..stage.players.len() {
        let address = next(stage, i)?;
        let (place, id) = (stage.player(i)?.place, stage.player(i)?.id);
        stage.lab.set_address(place, address)?;
        let changed = std::time::Instant::now();
        stage.until("the others hear the node at its new address", FOUND_WITHIN, |stage| {
            let since = u64::try_from(changed.elapsed().as_millis()).ok()?;
            let others: Vec<usize> = (0..stage.players.len()).filter(|other| *other != i).collect();
            others.into_iter().try_for_each(|other| {
                let status = stage.status(other).ok()?;
                let heard = status.peers.iter().find(|peer| peer.node == id)?.heard_ms_ago?;
                (heard < since).then_some(())
            })
        })?;
    }
    Ok(())
}

/// The address that a node does not have now.
fn next(stage: &Stage, i: usize) -> anyhow::Result<IpAddr> {
    let place = stage.player(i)?.place;
    let Place::Node(node) = place else { return Err(anyhow!("{place} is no node")) };
    let other = Place::Node(node.checked_add(DISTANCE).context("too many nodes")?);
    let (first, second) = (stage.lab.address(stage.family, place), stage.lab.address(stage.family, other));
    Ok(if stage.lab.addresses(place)?.contains(&first) { second } else { first })
}

/// `[peers]` is the last section of the file that `stead init` writes.
fn write_peers(stage: &Stage, i: usize, all: &[(Name, IpAddr)]) -> anyhow::Result<()> {
    let own = &stage.player(i)?.name;
    let file = stage.directory.join(own.as_str()).join("agent.toml");
    let text = std::fs::read_to_string(&file)?;
    let (kept, _) = text.split_once("[peers]").context("agent.toml has no [peers]")?;
    let peer =
        |(name, address): &(Name, IpAddr)| format!("{name} = [\"{}\"]\n", SocketAddr::new(*address, PORT));
    let peers: String = all.iter().filter(|(name, _)| name != own).map(peer).collect();
    Ok(std::fs::write(&file, format!("{kept}[peers]\n{peers}"))?)
}
