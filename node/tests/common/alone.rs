//! A mesh of one, as far as elections go.

use std::collections::{BTreeMap, BTreeSet};

use stead_node::consensus::Electors;
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::sign::SecretKey;

/// The only one that votes.
#[derive(Debug)]
pub(crate) struct Alone;

impl Electors for Alone {
    fn keys(&self) -> BTreeMap<NodeId, PublicKey> {
        [(NodeId(1), secret().public())].into()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        [NodeId(1)].into()
    }
}

/// Its key.
pub(crate) fn secret() -> SecretKey {
    SecretKey::from_seed(&[1; 32].into())
}
