//! The accepted keys: who may talk to this node at all.
//!
//! **Invariant.** A key is accepted if and only if it is in the table that was last put in place and was never
//! banned: a ban is for as long as this process lives, whatever tables follow. Readers never wait for a writer's computation: the lock is held while one pointer-sized table is exchanged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::limits::{NODES_MAX, OPERATORS_MAX};
use tokio::sync::watch;

/// Former keys that are remembered, to tell an evicted peer from a stranger.
const FORMER_MAX: usize = 2 * (NODES_MAX + OPERATORS_MAX);

/// Whom an accepted key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A node of the roster.
    Node(NodeId),
    /// An operator.
    Operator,
}

/// What the table says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May talk to us.
    Accepted(Who),
    /// Was accepted once and is not any more.
    Evicted,
    /// Never heard of.
    Unknown,
}

/// The shared table of accepted keys. Clones share one table.
#[derive(Clone, Debug)]
pub struct Directory(Arc<watch::Sender<Arc<Table>>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    accepted: BTreeMap<PublicKey, Who>,
    /// Oldest first.
    former: VecDeque<PublicKey>,
    /// Never accepted again.
    banned: BTreeSet<PublicKey>,
}

impl Directory {
    /// A directory that accepts exactly `accepted`.
    #[must_use]
    pub fn new(accepted: BTreeMap<PublicKey, Who>) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(Table { accepted, ..Table::default() }))))
    }

    /// Accepts exactly `accepted` from now on. Live connections of keys that are gone, or that belong to
    /// somebody else now, are closed by every transport that uses this directory.
    pub fn replace(&self, accepted: BTreeMap<PublicKey, Who>) {
        self.0.send_modify(|table| *table = Arc::new(table.successor(accepted)));
    }

    /// Never accepts `key` again. Its live connections are closed by every transport that uses this directory.
    pub fn ban(&self, key: PublicKey) {
        self.0.send_modify(|table| {
            let banned = table.banned.iter().copied().chain([key]).collect();
            let table_with_ban = Table { banned, ..Table::clone(table) };
            *table = Arc::new(table_with_ban.successor(table.accepted.clone()));
        });
    }

    /// What is known about `key`.
    #[must_use]
    pub fn standing(&self, key: &PublicKey) -> Standing {
        self.0.borrow().standing(key)
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.0.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Table>> {
        self.0.subscribe()
    }
}

impl Table {
    pub(super) fn standing(&self, key: &PublicKey) -> Standing {
        match self.accepted.get(key) {
            Some(who) => Standing::Accepted(*who),
            None if self.former.contains(key) => Standing::Evicted,
            None => Standing::Unknown,
        }
    }

    /// Every node but `me`.
    pub(super) fn peers(&self, me: NodeId) -> impl Iterator<Item = NodeId> {
        self.accepted.values().filter_map(move |who| match who {
            Who::Node(id) if *id != me => Some(*id),
            Who::Node(_) | Who::Operator => None,
        })
    }

    fn successor(&self, mut accepted: BTreeMap<PublicKey, Who>) -> Self {
        accepted.retain(|key, _| !self.banned.contains(key));
        let gone = self.accepted.keys().filter(|key| !accepted.contains_key(key));
        let mut former: VecDeque<_> =
            self.former.iter().filter(|key| !accepted.contains_key(key)).chain(gone).copied().collect();
        former.drain(..former.len().saturating_sub(FORMER_MAX));
        Self { accepted, former, banned: self.banned.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        PublicKey(bytes)
    }

    #[test]
    fn an_evicted_key_is_told_from_an_unknown_one_until_it_is_accepted_again() {
        let directory = Directory::new([(key(1), Who::Operator)].into());
        directory.replace(BTreeMap::new());
        assert_eq!(directory.standing(&key(1)), Standing::Evicted);
        assert_eq!(directory.standing(&key(2)), Standing::Unknown);
        directory.replace([(key(1), Who::Node(NodeId(4)))].into());
        assert_eq!(directory.standing(&key(1)), Standing::Accepted(Who::Node(NodeId(4))));
    }

    #[test]
    fn a_banned_key_is_refused_whatever_table_follows() {
        let directory = Directory::new([(key(1), Who::Node(NodeId(4)))].into());
        directory.ban(key(1));
        assert_eq!(directory.standing(&key(1)), Standing::Evicted);
        directory.replace([(key(1), Who::Node(NodeId(4))), (key(2), Who::Operator)].into());
        assert_eq!(directory.standing(&key(1)), Standing::Evicted);
        assert_eq!(directory.standing(&key(2)), Standing::Accepted(Who::Operator));
        directory.ban(key(3));
        directory.replace([(key(3), Who::Node(NodeId(5)))].into());
        assert_ne!(directory.standing(&key(3)), Standing::Accepted(Who::Node(NodeId(5))));
    }

    #[test]
    fn the_memory_of_former_keys_is_bounded_and_forgets_the_oldest() {
        let directory = Directory::new(BTreeMap::new());
        for n in 0..FORMER_MAX + 10 {
            directory.replace([(key(n), Who::Operator)].into());
        }
        assert_eq!(directory.0.borrow().former.len(), FORMER_MAX);
        assert_eq!(directory.standing(&key(0)), Standing::Unknown);
        assert_eq!(directory.standing(&key(FORMER_MAX)), Standing::Evicted);
    }
}
