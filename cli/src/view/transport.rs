//! What became of a node's connections.

use crate::json::{Refusals, Transport};
use std::collections::BTreeMap;
use stead_proto::admin::{HandshakeRefusal, TransportSeen};
use stead_proto::id::NodeId;

/// A refused node dials again every second; after this long its peers have let it in.
const LATELY_MS: u64 = 30_000;

/// Why peers refuse a node at present, and what to do. Strangers whom it refuses itself are nobody's concern.
pub(super) fn refused(seen: &TransportSeen, name_of: impl Fn(NodeId) -> String) -> Option<String> {
    let last = seen.last_refused_by_peer.filter(|last| last.ms_ago < LATELY_MS)?;
    let peer = last.peer.map_or_else(|| "a peer".into(), name_of);
    last.why.remedy().map(|remedy| format!("{peer} refuses this node: {remedy}"))
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
    use stead_proto::admin::PeerRefusal;

    #[test]
    fn a_node_is_refused_only_while_its_peers_do_it_and_never_for_the_strangers_that_it_refuses() {
        let refused = |seen: &TransportSeen| refused(seen, |peer| peer.to_string());
        let strangers = [(HandshakeRefusal::UnknownKey, 9)].into();
        let mut seen = TransportSeen { refused: strangers, ..TransportSeen::default() };
        assert_eq!(refused(&seen), None);
        let last = PeerRefusal { peer: None, why: HandshakeRefusal::WrongMesh, ms_ago: LATELY_MS - 1 };
        seen.last_refused_by_peer = Some(last);
        assert!(refused(&seen).is_some_and(|text| text.contains("compare genesis.bin")));
        for passed in [
            PeerRefusal { ms_ago: LATELY_MS, ..last },
            PeerRefusal { why: HandshakeRefusal::Crowded, ..last },
        ] {
            seen.last_refused_by_peer = Some(passed);
            assert_eq!(refused(&seen), None);
        }
    }
}
