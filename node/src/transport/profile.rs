//! How fast connections notice, retry and give up, and how much they may hold.

use super::TransportError;
use quinn::{IdleTimeout, Side, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// Streams that a peer may have open at once, of each direction. More than are worked on at once, because new
/// credit is announced (in a packet that wants an acknowledgement) only when an eighth of it is used up.
const STREAMS_OPEN_MAX: u8 = 32;
/// Calls of one peer that are worked on at once, on any plane.
pub(super) const CALLS_AT_ONCE_MAX: u8 = 8;
/// Reports of one peer that are worked on at once: the newest is worth more than all before it.
pub(super) const REPORTS_AT_ONCE_MAX: u8 = 2;
/// Requests of one operator that are worked on at once, over all of his connections.
pub(super) const OPERATOR_CALLS_AT_ONCE_MAX: u8 = 2;
/// Connections that one operator may hold.
pub(super) const OPERATOR_CONNECTIONS_MAX: usize = 4;
/// How long a peer may take to finish sending a frame that it began.
pub(super) const READ_MAX: Duration = Duration::from_secs(10);
/// How long a frame may wait for room in the inbox before its sender is told that we are busy.
pub(super) const INBOX_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the agent may think about an answer.
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// A few lease messages. When more wait than this, the oldest are stale.
const DATAGRAM_BUFFER_BYTES: usize = 16 * 1024;
/// Before a first measurement. RFC 9002 says 333 ms: then one lost first packet costs a second.
const FIRST_RTT: Duration = Duration::from_millis(30);

/// The times that decide how soon a dead peer is noticed and a living one is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// A connection that heard nothing for this long is dead.
    pub idle_timeout: Duration,
    /// After this long without a word, something is sent. At most half of `idle_timeout`; longer than a Raft
    /// heartbeat takes to come again, or each heartbeat costs a keep-alive besides.
    pub keep_alive: Duration,
    /// How long an attempt to connect may take, over all addresses of the peer.
    pub dial_max: Duration,
    /// The head start that each address gets before the next one is tried beside it.
    pub dial_stagger: Duration,
    /// The first pause between attempts; it doubles from one to the next.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// Spreads the pauses, so that peers do not dial in step. Any number that differs from node to node.
    pub jitter_seed: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_millis(1_000),
            keep_alive: Duration::from_millis(450),
            dial_max: Duration::from_millis(1_000),
            dial_stagger: Duration::from_millis(100),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_millis(1_000),
            jitter_seed: 0,
        }
    }
}

impl Profile {
    /// How long a connection that lost against a twin is still read from: calls on it may finish, and by
    /// then its twin has either been heard of or idled out, so that the wrong one is never closed.
    pub(super) fn linger(&self) -> Duration {
        self.idle_timeout.saturating_mul(3) / 2
    }

    /// The pause before attempt number `attempt` (from 1), between half and all of its nominal length.
    pub(super) fn backoff(&self, attempt: u32, who: u64) -> Duration {
        let doubled = self.backoff_min.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let nominal = doubled.min(self.backoff_max);
        let draw = mix(self.jitter_seed ^ who.rotate_left(32) ^ u64::from(attempt)) % 1_000;
        let per_mille = u32::try_from(500 + draw / 2).expect("below 1000");
        nominal.saturating_mul(per_mille) / 1_000
    }

    /// The accepting side waits a little longer before it breaks the silence: with equal times both would
    /// speak at the same moment, for ever, at twice the cost (measured: 2.0 kB/s against 1.0 kB/s).
    pub(super) fn quinn(&self, side: Side) -> Result<Arc<TransportConfig>, TransportError> {
        if self.keep_alive.is_zero() || self.keep_alive > self.idle_timeout / 2 {
            return Err(TransportError::Profile(
                "keep_alive must be above zero and at most half of idle_timeout",
            ));
        }
        let idle = IdleTimeout::try_from(self.idle_timeout)
            .map_err(|_| TransportError::Profile("idle_timeout is too long"))?;
        let keep_alive = match side {
            Side::Client => self.keep_alive,
            Side::Server => self.keep_alive.saturating_mul(11) / 10,
        };
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(keep_alive))
            .initial_rtt(FIRST_RTT)
            .max_concurrent_bidi_streams(VarInt::from(STREAMS_OPEN_MAX))
            .max_concurrent_uni_streams(VarInt::from(STREAMS_OPEN_MAX))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
            .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
            // Nothing here is bulk, and drivers that only pretend to segment lose the first packets.
            .enable_segmentation_offload(false)
            .allow_spin(false);
        Ok(Arc::new(config))
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ_from_node_to_node() {
        let profile = Profile::default();
        for attempt in 1..40 {
            let nominal = Duration::from_millis(50 * (1 << (attempt - 1).min(6))).min(profile.backoff_max);
            let pause = profile.backoff(attempt, 7);
            assert!(pause >= nominal / 2 && pause <= nominal, "attempt {attempt}: {pause:?}");
        }
        let other = Profile { jitter_seed: 1, ..profile };
        assert_ne!(profile.backoff(9, 7), other.backoff(9, 7));
    }

    #[test]
    fn a_keep_alive_that_comes_too_late_is_refused() {
        let profile = Profile { keep_alive: Duration::from_millis(600), ..Profile::default() };
        assert!(matches!(profile.quinn(Side::Client), Err(TransportError::Profile(_))));
    }
}
