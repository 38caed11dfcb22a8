//! Asks, before an address is served for the first time, whether another host has it already.
//!
//! A takeover does not wait for this: it is asked once when the address becomes known, and again while
//! somebody answers. Which answers are those of the mesh's own holder is judged by the core.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_proto::id::{Name, NodeId};
use stead_proto::mesh::Event;
use stead_proto::state::State;
use tokio::sync::{mpsc, watch};

use super::owner::vips;
use crate::vip::probe::{Probe, probe};
use crate::vip::rtnl::Link;

const ANSWER_WAIT: Duration = Duration::from_millis(300);
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Probes each address of the site that this node may serve.
pub(super) async fn run(
    me: NodeId,
    uplink: Link,
    mut states: watch::Receiver<Arc<State>>,
    events: mpsc::Sender<Event>,
) {
    let mut known: BTreeMap<Name, (IpAddr, bool)> = BTreeMap::new();
    loop {
        let state = states.borrow_and_update().clone();
        let serves = state.members.get(&me).is_some_and(|m| m.role.serves());
        let wanted = if serves { vips(&state) } else { BTreeMap::new() };
        known.retain(|name, (address, _)| wanted.get(name) == Some(address));
        for (name, address) in wanted {
            if known.get(&name).is_some_and(|(_, free)| *free) {
                continue;
            }
            let taken = ask(&uplink, address).await;
            known.insert(name.clone(), (address, taken.is_none()));
            if events.send(Event::Probed { endpoint: name, address, taken }).await.is_err() {
                return;
            }
        }
        let again = if known.values().all(|(_, free)| *free) { Duration::from_secs(60) } else { AGAIN_AFTER };
        if let Ok(Err(_)) = tokio::time::timeout(again, states.changed()).await {
            return;
        }
    }
}

/// Who has the address, if another host has.
async fn ask(uplink: &Link, address: IpAddr) -> Option<String> {
    match probe(uplink, address, ANSWER_WAIT).await {
        Ok(Probe::Free) => None,
        Ok(Probe::TakenBy(mac)) => {
            let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(mac.join(":"))
        }
        Err(error) => {
            tracing::warn!(%address, %error, "cannot ask whether another host has the address");
            None
        }
    }
}
