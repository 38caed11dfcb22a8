//! Where the peers are: the addresses of the roster, and the configured names, looked up again and again.
//!
//! **Invariant.** A name server that is slow or gone takes nothing away: what needs no look-up counts at once, and
//! what a name last led to counts until it leads elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stead_proto::id::Name;
use stead_proto::roster::Member;
use stead_proto::state::State;
use tokio::sync::watch;

use crate::transport::Transport;

/// How often names of peers are looked up again.
const LOOKUP_EVERY: Duration = Duration::from_secs(30);
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// The configured `HOST:PORT` of each peer.
type Hosts = BTreeMap<Name, Vec<String>>;

/// Keeps the transport's hints.
pub(super) async fn run(
    transport: Transport,
    mut configured: watch::Receiver<Hosts>,
    mut states: watch::Receiver<Arc<State>>,
) {
    let mut book = Book::default();
    loop {
        let state = states.borrow_and_update().clone();
        let hosts = configured.borrow_and_update().clone();
        book.tell(&transport, &state, &hosts);
        if book.look_up(&hosts).await {
            book.tell(&transport, &state, &hosts);
        }
        let changed = async {
            tokio::select! {
                changed = states.changed() => changed,
                changed = configured.changed() => changed,
            }
        };
        if let Ok(Err(_)) = tokio::time::timeout(LOOKUP_EVERY, changed).await {
            return;
        }
    }
}

/// What each name led to when it was looked up last.
#[derive(Debug, Default)]
struct Book {
    found: BTreeMap<String, Vec<SocketAddr>>,
}

impl Book {
    fn tell(&self, transport: &Transport, state: &State, hosts: &Hosts) {
        for member in state.members.values() {
            transport.set_hints(member.id, &self.addresses(member, hosts));
        }
    }

    /// What is configured comes first: it is newer than the roster, or nobody would have configured it.
    fn addresses(&self, member: &Member, hosts: &Hosts) -> Vec<SocketAddr> {
        let hosts = hosts.get(&member.name).into_iter().flatten();
        let configured = hosts.flat_map(|host| match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.found.get(host).cloned().unwrap_or_default(),
        });
        configured.chain(member.addresses.iter().copied()).collect()
    }

    /// Looks all names up at once; says whether any led elsewhere than before.
    async fn look_up(&mut self, hosts: &Hosts) -> bool {
        let names = || hosts.values().flatten().filter(|host| host.parse::<SocketAddr>().is_err());
        self.found.retain(|name, _| names().any(|host| host == name));
        let found = join_all(names().map(|host| async move { (host.clone(), look_up(host).await) })).await;
        let mut changed = false;
        for (host, addresses) in found {
            changed |= self.note(host, addresses);
        }
        changed
    }

    fn note(&mut self, host: String, addresses: Vec<SocketAddr>) -> bool {
        if addresses.is_empty() || self.found.get(&host) == Some(&addresses) {
            return false;
        }
        self.found.insert(host, addresses);
        true
    }
}

/// Nothing if it cannot be found out now.
async fn look_up(host: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(LOOKUP_DEADLINE, tokio::net::lookup_host(host)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            tracing::debug!(host, %error, "cannot look up a peer's name");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(host, "the name server does not answer");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::id::{NodeId, PublicKey};
    use stead_proto::roster::{Role, Standing};

    const ROSTER: &str = "192.0.2.1:7832";
    const PLAIN: &str = "192.0.2.2:7832";
    const LOOKED_UP: &str = "192.0.2.3:7832";

    fn member() -> Member {
        Member {
            id: NodeId(2),
            name: "b".parse().unwrap(),
            key: PublicKey([2; 32]),
            addresses: vec![ROSTER.parse().unwrap()],
            role: Role::Voter,
            standing: Standing::Active,
        }
    }

    fn hosts() -> Hosts {
        [("b".parse().unwrap(), vec!["b.example:7832".into(), PLAIN.into()])].into()
    }

    fn addresses(book: &Book) -> Vec<String> {
        book.addresses(&member(), &hosts()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_server_that_is_gone_takes_no_address_away() {
        let mut book = Book::default();
        assert_eq!(addresses(&book), [PLAIN, ROSTER], "these need none");
        assert!(book.note("b.example:7832".into(), vec![LOOKED_UP.parse().unwrap()]));
        assert_eq!(addresses(&book), [LOOKED_UP, PLAIN, ROSTER]);
        assert!(!book.note("b.example:7832".into(), Vec::new()));
        assert_eq!(addresses(&book), [LOOKED_UP, PLAIN, ROSTER]);
    }

    #[tokio::test]
    async fn names_that_are_not_configured_any_more_are_forgotten() {
        let mut book = Book::default();
        book.note("b.example:7832".into(), vec![LOOKED_UP.parse().unwrap()]);
        assert!(!book.look_up(&Hosts::new()).await);
        assert!(book.found.is_empty());
    }
}
