//! Who was cut off, in this host's firewall: nothing comes from or goes to the addresses that the roster gives him.
//!
//! Behind the transport, which refuses his key, and quicker to say no: a host that floods its peers meets a rule, not
//! a handshake. Whoever moved to another address still has no accepted key.
//!
//! **Invariant.** No address is dropped that somebody else has as well: another node, an endpoint, this machine. The
//! rules stay when the agent ends; the next one replaces or removes them. What a stranger takes away comes back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_proto::id::NodeId;
use stead_proto::mesh::Event;
use stead_proto::report::Unwell;
use stead_proto::state::State;
use tokio::sync::{mpsc, watch};

use super::owner::tell_unwell;
use crate::nft;
use crate::transport::{Directory, Plane, Standing, Transport};

/// How often it is looked whether they are out indeed.
const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// What the audit asks.
pub(super) struct Doors {
    pub(super) transport: Transport,
    pub(super) directory: Directory,
    pub(super) events: mpsc::Sender<Event>,
}

/// Keeps the rules as the core and the state want them, until the core is gone, and looks again and again whether
/// whoever was cut off is out: a revocation that is only written down is none.
pub(super) async fn run(
    mut outcasts: watch::Receiver<BTreeSet<NodeId>>,
    mut states: watch::Receiver<Arc<State>>,
    instance: String,
    doors: Doors,
) {
    let table = table(&instance);
    let (mut dropped, mut audits) = (None, false);
    let mut audit = tokio::time::interval(AUDIT_EVERY);
    loop {
        let (state, out) = (states.borrow_and_update().clone(), outcasts.borrow_and_update().clone());
        let wanted = addresses(&state, &out);
        let gone = std::mem::take(&mut audits) && !stands(&table, &wanted).await;
        if gone || dropped.as_ref() != Some(&wanted) {
            let (name, set) = (table.clone(), wanted.clone());
            let done = tokio::task::spawn_blocking(move || put(&name, &set)).await;
            match done {
                Ok(Ok(())) => {}
                // What does not work is said once, not every ten seconds.
                Ok(Err(_)) if dropped.as_ref() == Some(&wanted) => {}
                Ok(Err(why)) => tracing::warn!(
                    ?wanted,
                    why,
                    "the firewall does not drop who was cut off; his key is refused all the same"
                ),
                Err(_) => tracing::error!("setting the firewall ended in a panic"),
            }
            dropped = Some(wanted);
        }
        // The roster counts, too: a server that was admitted anew has its old address under a new key.
        let changed = tokio::select! {
            changed = outcasts.changed() => changed,
            changed = states.changed() => changed,
            _ = audit.tick(), if !out.is_empty() => {
                audits = true;
                doors.audit(&state, &out).await;
                Ok(())
            }
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Doors {
    /// Whether the keys of those who are out are refused, and nothing is connected with them any more.
    async fn audit(&self, state: &State, out: &BTreeSet<NodeId>) {
        let members = out.iter().filter_map(|node| state.members.get(node));
        let open: Vec<&str> = members
            .filter(|member| {
                let accepted = matches!(self.directory.standing(&member.key), Standing::Accepted(_));
                let planes = [Plane::Raft, Plane::Report];
                accepted || planes.iter().any(|plane| self.transport.connections(member.id, *plane) > 0)
            })
            .map(|member| member.name.as_str())
            .collect();
        if !open.is_empty() {
            tracing::error!(?open, "cut off, and let in all the same: restart this agent, and report this");
        }
        tell_unwell(&self.events, Unwell::OutcastLetIn, !open.is_empty()).await;
    }
}

/// Whether the kernel has the rules still; where nft is missing there is nothing to look at.
async fn stands(table: &str, wanted: &BTreeSet<IpAddr>) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let (table, wanted) = (table.to_owned(), wanted.clone());
    let listed = tokio::task::spawn_blocking(move || {
        let listed = nft::list(&["list", "table", "inet", &table])?;
        Ok::<bool, String>(wanted.iter().all(|address| listed.contains(&address.to_string())))
    });
    listed.await.is_ok_and(|listed| listed.unwrap_or_default())
}

/// The addresses that only outcasts have.
fn addresses(state: &State, outcasts: &BTreeSet<NodeId>) -> BTreeSet<IpAddr> {
    let of = |out: bool| {
        let members = state.members.values().filter(move |member| outcasts.contains(&member.id) == out);
        members.flat_map(|member| member.addresses.iter().map(|address| address.ip().to_canonical()))
    };
    let endpoints = state.site.endpoints.values().map(|spec| spec.address);
    let shared: BTreeSet<IpAddr> = of(false).chain(endpoints).collect();
    of(true).filter(|ip| !shared.contains(ip) && !ip.is_loopback() && !ip.is_unspecified()).collect()
}

/// The same for each start of this agent, and for no other agent of this host.
fn table(instance: &str) -> String {
    let name: String = instance.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("stead_outcasts_{}", name.to_lowercase())
}

fn put(table: &str, wanted: &BTreeSet<IpAddr>) -> Result<(), String> {
    if !wanted.is_empty() {
        return nft::run(&ruleset(table, wanted));
    }
    match nft::list(&["list", "table", "inet", table]) {
        Ok(_) => nft::run(&format!("delete table inet {table}\n")),
        // There is none, or nft is missing: nothing to do in either case.
        Err(_) => Ok(()),
    }
}

/// One transaction that replaces whatever there was.
fn ruleset(table: &str, wanted: &BTreeSet<IpAddr>) -> String {
    let list = |v4: bool| {
        let all = wanted.iter().filter(|ip| ip.is_ipv4() == v4).map(ToString::to_string);
        all.collect::<Vec<_>>().join(", ")
    };
    let (v4, v6) = (list(true), list(false));
    let rules = |verb: &str| {
        let rule = |family: &str, set: &str| match set {
            "" => String::new(),
            set => format!("    {family} {verb} {{ {set} }} counter drop\n"),
        };
        format!("{}{}", rule("ip", &v4), rule("ip6", &v6))
    };
    format!(
        "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain from {{\n    type filter hook \
         prerouting priority raw; policy accept;\n{}  }}\n  chain to {{\n    type filter hook output priority raw; policy \
         accept;\n{}  }}\n}}\n",
        rules("saddr"),
        rules("daddr")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use stead_proto::genesis::Genesis;
    use stead_proto::id::{ClusterId, PublicKey};
    use stead_proto::roster::{Member, Role, Standing};
    use stead_proto::site::Site;

    fn member(id: u8, addresses: &[&str]) -> Member {
        Member {
            id: NodeId(id.into()),
            name: format!("n{id}").parse().unwrap(),
            key: PublicKey([id; 32]),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            role: Role::Voter,
            standing: Standing::Active,
        }
    }

    #[test]
    fn an_address_that_somebody_else_has_as_well_is_not_dropped() {
        let members = vec![
            member(1, &["192.0.2.1:7832", "[2001:db8::1]:7832"]),
            member(2, &["192.0.2.1:7833", "198.51.100.2:7832"]),
            member(3, &["127.0.0.1:7832", "[::ffff:198.51.100.3]:7832"]),
        ];
        let (operators, site) = (BTreeMap::new(), Site::default());
        let genesis = Genesis { nonce: [0; 16], members, operators, site };
        let state = State::begin(ClusterId([0; 32]), &genesis);
        let dropped = |outcasts: &[u64]| {
            let outcasts = outcasts.iter().copied().map(NodeId).collect();
            addresses(&state, &outcasts).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(dropped(&[]), Vec::<String>::new());
        assert_eq!(dropped(&[1]), ["2001:db8::1"], "the other one is node 2's, too");
        assert_eq!(dropped(&[1, 2]), ["192.0.2.1", "198.51.100.2", "2001:db8::1"]);
        assert_eq!(dropped(&[3]), ["198.51.100.3"], "never this machine");
        assert_eq!(dropped(&[9]), Vec::<String>::new(), "who was removed from the roster");
    }

    #[test]
    fn the_rules_name_each_address_in_both_directions() {
        let wanted = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into();
        let rules = ruleset(&table("Cluster(ab01)-n1"), &wanted);
        for rule in ["ip saddr { 192.0.2.1 }", "ip daddr { 192.0.2.1 }", "ip6 daddr { 2001:db8::1 }"] {
            assert!(rules.contains(rule), "{rules}");
        }
        assert!(rules.starts_with("table inet stead_outcasts_clusterab01n1\ndelete table"), "{rules}");
    }
}
