//! What consensus writes to the disk and to its peers: own types, so that openraft may change its own.
//!
//! **Invariant.** Nothing of openraft is ever serialised. Each type here goes through the versioned codec
//! with the limit of its kind, and is turned into openraft's type after it was read, never before.

use super::types::{Command, TypeConfig};
use openraft::{CommittedLeaderId, EmptyNode, Entry, EntryPayload, LeaderId, LogId, Membership};
use openraft::{SnapshotMeta, StoredMembership, Vote};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use stead_proto::election::{ElectionCertificate, Grant};
use stead_proto::sign::Signed;

/// Bytes that bincode may copy in one piece.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// A vote: who leads, or wants to lead, which term. `committed` once a majority granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

/// The identity of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EntryId {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) index: u64,
}

/// Who votes (two sets while one replaces the other) and who is there at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) voters: Vec<BTreeSet<u64>>,
    pub(crate) nodes: BTreeSet<u64>,
}

/// What a log entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A command of the mesh.
    Command(Bytes),
    /// A change of membership.
    Members(Members),
}

/// A log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) id: EntryId,
    pub(crate) payload: Payload,
}

/// A snapshot with all that openraft wants to know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotImage {
    pub(crate) last: Option<EntryId>,
    pub(crate) members_at: Option<EntryId>,
    pub(crate) members: Members,
    pub(crate) state: Bytes,
}

/// A request of one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// A leader's entries, or its heartbeat.
    Append {
        /// The leader's vote.
        ballot: Ballot,
        /// The entry before these.
        prev: Option<EntryId>,
        /// Consecutive entries.
        entries: Vec<LogEntry>,
        /// What the leader knows to be committed.
        commit: Option<EntryId>,
    },
    /// A candidate's request.
    Vote {
        /// The candidate's vote.
        ballot: Ballot,
        /// The candidate's last entry.
        last: Option<EntryId>,
    },
    /// A leader's snapshot.
    Snapshot {
        /// The leader's vote.
        ballot: Ballot,
        /// Its name.
        name: String,
        /// Its content.
        image: SnapshotImage,
    },
    /// The proof of an election; anybody may show it.
    Elected {
        /// Whose.
        ballot: Ballot,
        /// The proof.
        certificate: ElectionCertificate,
    },
    /// Which image the receiver has of a checkpoint.
    Vouch {
        /// The index of its last entry.
        index: u64,
    },
}

/// The answer to a [`Frame`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To [`Frame::Append`].
    Append(AppendAnswer),
    /// To [`Frame::Vote`].
    Vote {
        /// The voter's vote now.
        ballot: Ballot,
        /// Whether it went to the candidate.
        granted: bool,
        /// The voter's last entry.
        last: Option<EntryId>,
        /// With a vote that was granted: the voter's word for it.
        grant: Option<Signed<Grant>>,
    },
    /// To [`Frame::Snapshot`].
    Snapshot {
        /// The receiver's vote.
        ballot: Ballot,
    },
    /// To [`Frame::Elected`]: it is believed.
    Elected,
    /// To [`Frame::Vouch`].
    Vouch {
        /// The SHA-256 of the image, if it has one.
        digest: Option<[u8; 32]>,
    },
}

/// What became of a leader's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    /// All are durable here.
    Success,
    /// Those up to here are.
    UpTo(Option<EntryId>),
    /// The entry before them is not here.
    Conflict,
    /// Another leader is, or may be, in office.
    Higher(Ballot),
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

impl From<&Vote<u64>> for Ballot {
    fn from(vote: &Vote<u64>) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<Ballot> for Vote<u64> {
    fn from(ballot: Ballot) -> Self {
        Self { leader_id: LeaderId::new(ballot.term, ballot.node), committed: ballot.committed }
    }
}

impl From<&LogId<u64>> for EntryId {
    fn from(id: &LogId<u64>) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<EntryId> for LogId<u64> {
    fn from(id: EntryId) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.node), id.index)
    }
}

impl EntryId {
    /// Term and index, as the mesh compares logs.
    pub(crate) const fn position(self) -> (u64, u64) {
        (self.term, self.index)
    }
}

impl From<&Membership<u64, EmptyNode>> for Members {
    fn from(membership: &Membership<u64, EmptyNode>) -> Self {
        let nodes = membership.nodes().map(|(node, _)| *node).collect();
        Self { voters: membership.get_joint_config().clone(), nodes }
    }
}

impl From<Members> for Membership<u64, EmptyNode> {
    fn from(members: Members) -> Self {
        let nodes: BTreeMap<u64, EmptyNode> = members.nodes.into_iter().map(|n| (n, EmptyNode {})).collect();
        Self::new(members.voters, nodes)
    }
}

impl From<Entry<TypeConfig>> for LogEntry {
    fn from(entry: Entry<TypeConfig>) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(Command(bytes)) => Payload::Command(Bytes(bytes)),
            EntryPayload::Membership(membership) => Payload::Members(Members::from(&membership)),
        };
        Self { id: EntryId::from(&entry.log_id), payload }
    }
}

impl From<LogEntry> for Entry<TypeConfig> {
    fn from(entry: LogEntry) -> Self {
        let payload = match entry.payload {
            Payload::Blank => EntryPayload::Blank,
            Payload::Command(Bytes(bytes)) => EntryPayload::Normal(Command(bytes)),
            Payload::Members(members) => EntryPayload::Membership(members.into()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

impl SnapshotImage {
    /// The image of a state at `last`.
    pub(crate) fn new(
        last: Option<LogId<u64>>,
        membership: &StoredMembership<u64, EmptyNode>,
        state: Vec<u8>,
    ) -> Self {
        Self {
            last: last.as_ref().map(EntryId::from),
            members_at: membership.log_id().as_ref().map(EntryId::from),
            members: Members::from(membership.membership()),
            state: Bytes(state),
        }
    }

    /// What openraft knows of it.
    pub(crate) fn meta(&self, name: String) -> SnapshotMeta<u64, EmptyNode> {
        let membership = self.members.clone().into();
        SnapshotMeta {
            last_log_id: self.last.map(LogId::from),
            last_membership: StoredMembership::new(self.members_at.map(LogId::from), membership),
            snapshot_id: name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::codec::{decode, encode};

    fn id(index: u64) -> EntryId {
        EntryId { term: 3, node: 2, index }
    }

    #[test]
    fn a_frame_keeps_its_bytes_from_version_to_version() {
        let frame = Frame::Append {
            ballot: Ballot { term: 3, node: 2, committed: true },
            prev: Some(id(8)),
            entries: vec![LogEntry { id: id(9), payload: Payload::Command(Bytes(vec![0xAA, 0xBB])) }],
            commit: None,
        };
        let bytes = encode(&frame, 1_000).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "01", "00", "03", "02", "01", "01", "03", "02", "08", "01", "03", "02", "09", "01", "02", "aabb",
            "00",
        );
        assert_eq!(hex, expected);
        assert_eq!(decode::<Frame>(&bytes, 1_000), Ok(frame));
    }

    #[test]
    fn entries_survive_the_way_through_openraft_and_back() {
        let members = Members {
            voters: vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            nodes: BTreeSet::from([1, 2, 3, 4]),
        };
        for payload in [Payload::Blank, Payload::Command(Bytes(vec![1])), Payload::Members(members)] {
            let entry = LogEntry { id: id(7), payload };
            assert_eq!(LogEntry::from(Entry::<TypeConfig>::from(entry.clone())), entry);
        }
    }
}
