//! What became of a node's connections.

use crate::json::{Refusals, Transport};
use std::collections::BTreeMap;
use stead_proto::admin::{HandshakeRefusal, TransportSeen};

/// A refused node dials again every second; after this long its peers have let it in.
const LATELY_MS: u64 = 30_000;

/// Why peers refuse a node at present, and what to do. Strangers whom it refuses itself are nobody's concern.
pub(super) fn refused(seen: &TransportSeen) -> Option<String> {
    let (why, _) = seen.last_refused_by_peer.filter(|(_, ms_ago)| *ms_ago < LATELY_MS)?;
    why.remedy().map(|remedy| format!("a peer refuses this node: {remedy}"))
}

pub(super) fn transport(seen: &TransportSeen) -> Transport {
    Transport {
        refused: refusals(&seen.refused),
        refused_by_peers: refusals(&seen.refused_by_peers),
        evicted: seen.evicted,
        duplicates: seen.duplicates,
        stale: seen.stale,
        datagrams_dropped: seen.datagrams_dropped,
        oversize: seen.oversize,
        reports_dropped: seen.reports_dropped,
        busy: seen.busy,
        calls_timed_out: seen.calls_timed_out,
    }
}

fn refusals(seen: &BTreeMap<HandshakeRefusal, u64>) -> Refusals {
    let mut refusals = Refusals::default();
    for (why, count) in seen {
        let place = match why {
            HandshakeRefusal::UnknownKey => &mut refusals.unknown_key,
            HandshakeRefusal::EvictedKey => &mut refusals.evicted_key,
            HandshakeRefusal::WrongNode => &mut refusals.wrong_node,
            HandshakeRefusal::WrongMesh => &mut refusals.wrong_mesh,
            HandshakeRefusal::WrongPlane => &mut refusals.wrong_plane,
            HandshakeRefusal::Malformed => &mut refusals.malformed,
            HandshakeRefusal::Crowded => &mut refusals.crowded,
        };
        *place = *count;
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_refused_only_while_its_peers_do_it_and_never_for_the_strangers_that_it_refuses() {
        let mut seen =
            TransportSeen { refused: [(HandshakeRefusal::UnknownKey, 9)].into(), ..Default::default() };
        assert_eq!(refused(&seen), None);
        seen.last_refused_by_peer = Some((HandshakeRefusal::WrongMesh, LATELY_MS - 1));
        assert!(refused(&seen).is_some_and(|text| text.contains("compare genesis.bin")));
        seen.last_refused_by_peer = Some((HandshakeRefusal::WrongMesh, LATELY_MS));
        assert_eq!(refused(&seen), None);
    }
}
