//! Where a peer may be found: what its operator or the roster says, and where it was seen.
//!
//! **Invariant.** Bounded, and nothing but a hint: a peer is known by its key, wherever it is found.

use std::net::{IpAddr, SocketAddr};
use stead_proto::limits::ADDRESSES_MAX;

/// Places where a peer was seen that are kept.
const SEEN_MAX: usize = 4;

/// The addresses of one peer.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    candidates: Vec<SocketAddr>,
    /// Where its connections began and ended, the latest first. More than one, for they do not all follow it when
    /// it moves: the last to end may be the one that was left behind.
    seen: Vec<SocketAddr>,
}

impl Whereabouts {
    /// Replaces what is said; what exceeds [`ADDRESSES_MAX`] is left out.
    pub(super) fn set_candidates(&mut self, addresses: &[SocketAddr]) {
        self.candidates = addresses.iter().copied().map(canonical).take(ADDRESSES_MAX).collect();
    }

    /// A connection with the peer began or ended there.
    pub(super) fn see(&mut self, address: SocketAddr) {
        let address = canonical(address);
        self.seen.retain(|other| *other != address);
        self.seen.insert(0, address);
        self.seen.truncate(SEEN_MAX);
    }

    /// The addresses to try: where it was seen, then what is said, another one of these first each turn.
    pub(super) fn in_order(&self, turn: usize) -> Vec<SocketAddr> {
        let mut rotated = self.candidates.clone();
        let places = turn.checked_rem(rotated.len()).unwrap_or(0);
        rotated.rotate_left(places);
        rotated.retain(|address| !self.seen.contains(address));
        self.seen.iter().copied().chain(rotated).collect()
    }

    /// Whether it might be there.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.candidates.iter().chain(&self.seen).any(|address| address.ip() == ip)
    }
}

/// IPv4 addresses as such, not as IPv6 writes them on a dual-stack socket.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 7832))
    }

    #[test]
    fn a_connection_that_was_left_behind_does_not_hide_where_the_peer_went() {
        let mut peer = Whereabouts::default();
        peer.set_candidates(&[at(1)]);
        peer.see(at(1));
        // The peer moves from 1 to 2: one of its connections follows it, the other one idles out.
        peer.see(at(2));
        peer.see(at(1));
        assert_eq!(peer.in_order(0), [at(1), at(2)]);
    }

    #[test]
    fn a_few_places_are_kept_and_what_is_said_comes_after_them_in_turns() {
        let mut peer = Whereabouts::default();
        peer.set_candidates(&[at(1), at(2), at(3)]);
        for last in 10..20 {
            peer.see(at(last));
        }
        peer.see(at(2));
        assert_eq!(peer.in_order(0), [at(2), at(19), at(18), at(17), at(1), at(3)]);
        assert_eq!(peer.in_order(2), [at(2), at(19), at(18), at(17), at(3), at(1)]);
        assert!(peer.contains(at(3).ip()) && !peer.contains(at(10).ip()));
    }
}
