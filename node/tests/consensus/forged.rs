//! Messages between members as they are on the wire, with contents that no honest node sends.

use std::collections::BTreeSet;

use serde::Serialize;
use stead_proto::codec;
use stead_proto::election::ElectionCertificate;

/// Frames as they are on the wire, with contents that no honest node sends.
#[derive(Serialize)]
pub(super) enum Forged {
    Append {
        ballot: Ballot,
        prev: Option<EntryId>,
        entries: Vec<(EntryId, Payload)>,
        commit: Option<EntryId>,
    },
    #[allow(dead_code, reason = "it keeps the others' numbers")]
    Vote {
        ballot: Ballot,
        last: Option<EntryId>,
    },
    Snapshot {
        ballot: Ballot,
        name: String,
        image: Image,
    },
    Elected {
        ballot: Ballot,
        certificate: ElectionCertificate,
    },
    #[allow(dead_code, reason = "not every test asks")]
    Vouch {
        index: u64,
    },
}

/// Term, node, committed.
pub(super) type Ballot = (u64, u64, bool);
/// Term, node, index.
pub(super) type EntryId = (u64, u64, u64);
/// Voters and nodes.
pub(super) type Members = (Vec<BTreeSet<u64>>, BTreeSet<u64>);
pub(super) type Image = (Option<EntryId>, Option<EntryId>, Members, Vec<u8>);

#[derive(Clone, Serialize)]
pub(super) enum Payload {
    #[allow(dead_code, reason = "it keeps the others' numbers")]
    Blank,
    Command(Vec<u8>),
    Members(Members),
}

pub(super) fn bytes(frame: &Forged) -> Vec<u8> {
    codec::encode(frame, 100_000).expect("it is not so long")
}

pub(super) fn only(node: u64) -> Members {
    (vec![BTreeSet::from([node])], BTreeSet::from([node]))
}

/// Answers, of which only one is needed.
#[derive(Serialize)]
#[allow(dead_code, reason = "the others keep its number")]
pub(super) enum Answered {
    Append,
    Vote,
    Snapshot,
    Elected,
    Vouch { digest: Option<[u8; 32]> },
}
