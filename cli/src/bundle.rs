//! The bundle of an isolation: everything that speaks against a node, in one file that anybody can verify without a mesh.
//!
//! JSON, so that it can be read by eye; bytes are hexadecimal digits. Signed statements stand as they were signed.
//!
//! **Invariant.** A bundle proves nothing by what it says, only by what [`verify`] finds in it.

mod reader;
pub mod verify;

use serde::{Deserialize, Serialize};
use stead_proto::id::NodeId;
use stead_proto::report::Report;
use stead_proto::sign::{Signed, Statement};
use stead_proto::state::{Authority, State};

/// The version of the shape.
pub const VERSION: u32 = 1;
/// The largest bundle that is read.
pub const BYTES_MAX: usize = 4 << 20;

/// Everything about one isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`VERSION`].
    pub stead_evidence: u32,
    /// The genesis of the mesh, whose hash is its identity.
    pub genesis: String,
    /// The number of the node that was cut off.
    pub subject: u64,
    /// The roster, as far as it concerns judging.
    pub members: Vec<Named>,
    /// What its peers signed.
    pub testimonies: Vec<Sealed>,
    /// Its own reports that speak against it, as the witnesses kept them.
    pub reports: Vec<Sealed>,
}

/// One node of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Whether the operators gave it a vote, and so a say.
    pub judges: bool,
}

/// One signed statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Whose key.
    pub key: String,
    /// What was signed.
    pub statement: String,
    /// The signature (Ed25519, RFC 8032).
    pub signature: String,
}

impl Bundle {
    /// What a state and its nodes' evidence say of one isolation; nothing if the node's peers did not do it.
    #[must_use]
    pub fn of(state: &State, genesis: &[u8], node: NodeId, evidence: &[Signed<Report>]) -> Option<Self> {
        let Authority::Peers(certificate) = &state.isolations.get(&node)?.by else { return None };
        let subject = state.members.get(&node)?;
        let named = |member: &stead_proto::roster::Member| Named {
            id: member.id.0,
            name: member.name.to_string(),
            key: member.key.to_string(),
            judges: member.role.votes(),
        };
        let mut reports: Vec<Sealed> =
            evidence.iter().filter(|report| report.claimed_signer() == subject.key).map(Sealed::of).collect();
        reports.sort_by(|a, b| a.statement.cmp(&b.statement));
        reports.dedup();
        Some(Self {
            stead_evidence: VERSION,
            genesis: hex(genesis),
            subject: node.0,
            members: state.members.values().map(named).collect(),
            testimonies: certificate.testimonies().iter().map(Sealed::of).collect(),
            reports,
        })
    }
}

impl Sealed {
    fn of<T: Statement>(signed: &Signed<T>) -> Self {
        Self {
            key: signed.claimed_signer().to_string(),
            statement: hex(signed.bytes()),
            signature: hex(signed.signature()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits, in the one form in which they are written.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}
