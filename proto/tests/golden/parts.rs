//! The values that samples are made of, and samples of the small types: ids, times, plans, voters, the roster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};
use stead_proto::codec;
use stead_proto::config::{Change, Config, Confirmation};
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId, PublicKey};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use stead_proto::plan::{Epoch, Plan, Seat};
use stead_proto::roster::{Member, Operator, OperatorRole, Role, Standing};
use stead_proto::sign::SecretKey;
use stead_proto::time::Span;
use zeroize::Zeroizing;

use crate::sample::{Samples, every};
use crate::sites;

pub(crate) const CLUSTER: ClusterId = ClusterId([0xc1; 32]);
/// 13 November 2026, in milliseconds since 1970.
pub(crate) const UNIX_MS: u64 = 1_794_528_000_000;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub(crate) fn public(seed: u8) -> PublicKey {
    key(seed).public()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn epoch(plan: u64, rank: u32) -> Epoch {
    Epoch { plan, rank }
}

/// A value whose fields are private, made from a public one that has the same bytes.
pub(crate) fn made_of<T: DeserializeOwned>(parts: &impl Serialize) -> T {
    codec::decode(&codec::encode(parts, SNAPSHOT_BYTES_MAX).unwrap(), SNAPSHOT_BYTES_MAX).unwrap()
}

pub(crate) fn member() -> Member {
    Member {
        id: NodeId(300),
        name: name("berlin-1"),
        key: public(1),
        role: Role::Voter,
        addresses: vec!["192.0.2.1:7832".parse().unwrap(), "[2001:db8::1]:7832".parse().unwrap()],
        standing: Standing::Active,
    }
}

/// One that comes back after it was cut off.
pub(crate) fn proving() -> Member {
    let standing = Standing::Probation { until_unix_ms: UNIX_MS, then: Role::Voter };
    Member { role: Role::Learner, standing, ..member() }
}

pub(crate) fn operator() -> Operator {
    Operator { name: name("ann"), role: OperatorRole::Admin, serial: 1_794_528_000_000_000 }
}

pub(crate) fn genesis() -> Genesis {
    let more = |id: u64, seed: u8, role: Role, standing: Standing| {
        let name = name(&format!("berlin-{id}"));
        Member { id: NodeId(id), name, key: public(seed), role, addresses: Vec::new(), standing }
    };
    Genesis {
        nonce: [0x0e; 16],
        members: vec![
            member(),
            more(2, 2, Role::Learner, Standing::Drained),
            more(3, 3, Role::Witness, Standing::Active),
        ],
        operators: BTreeMap::from([(public(99), operator())]),
        site: sites::site(),
    }
}

pub(crate) fn seats() -> Vec<Seat> {
    vec![Seat { node: NodeId(1), slack_ms: 0 }, Seat { node: NodeId(300), slack_ms: 2_400 }]
}

pub(crate) fn plan() -> Plan {
    Plan { index: 70_000, lease_ms: 350, seats: seats() }
}

pub(crate) fn config() -> Config {
    Config {
        index: 400,
        voters: BTreeSet::from([NodeId(1), NodeId(300)]),
        pair: Some(NodeId(1)),
        before: BTreeSet::from([NodeId(1), NodeId(3), NodeId(300)]),
        before_index: 250,
        leaving: Some(NodeId(3)),
    }
}

pub(crate) fn changes() -> [(&'static str, Change); 4] {
    every!(Change:
        Add(NodeId(4));
        Remove(NodeId(300));
        EnterPair(NodeId(1));
        LeavePair;
    )
}

pub(crate) fn roles() -> [(&'static str, Role); 3] {
    every!(Role: Voter; Learner; Witness;)
}

/// They have no frame of their own: the limit is that of the smallest one in which they travel.
pub(crate) fn add(samples: &mut Samples) {
    let datagram = LEASE_FRAME_BYTES_MAX;
    for (edge, number) in
        [("1-byte", 250), ("3-byte", 251), ("5-byte", 1 << 16), ("9-byte", 1 << 32), ("largest", u64::MAX)]
    {
        samples.add(&format!("id::NodeId::{edge}"), NodeId(number), datagram);
    }
    samples.add("id::ClusterId", CLUSTER, datagram);
    samples.add("id::PublicKey", public(1), datagram);
    samples.add("id::Name", name("web-1.example_x"), datagram);
    samples.add("time::Span", Span::from_ms(350), datagram);
    samples.add("plan::Epoch", epoch(70_000, 251), datagram);

    let command = COMMAND_FRAME_BYTES_MAX;
    samples.add("plan::Seat", seats()[1], command);
    samples.add("plan::Plan", plan(), command);
    samples.add("config::Config", config(), command);
    samples.add_all("config::Change", changes(), command);
    let confirmation = Confirmation { node: NodeId(3), config_index: 400, age_ms: 70_000, pair_left: true };
    samples.add("config::Confirmation", confirmation, command);

    samples.add("roster::Member", member(), command);
    samples.add_all("roster::Role", roles(), command);
    samples.add_all(
        "roster::Standing",
        every!(Standing: Active; Drained; Probation { until_unix_ms: UNIX_MS, then: Role::Voter };),
        command,
    );
    samples.add("roster::Operator", operator(), command);
    samples.add_all("roster::OperatorRole", every!(OperatorRole: Viewer; Caretaker; Admin;), command);
    samples.add("genesis::Genesis", genesis(), command);
}
