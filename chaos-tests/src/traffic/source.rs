//! Turns a profile into samples: connections, their answers one round trip later, and the kernel's repeated SYNs.
//!
//! **Invariant.** Every connection is counted once when it opens, and settled exactly once per SYN: by an answer, or
//! by being a repetition. Only a dead host leaves one outstanding.

use super::chance;
use super::profile::{Load, Profile};
use crate::lease_search::rng::Rng;
use stead_proto::telemetry::{BySource, Egress, KernelTcp, Sample, TICK, Uplink};

const TICK_US: u64 = 100_000;
const TICKS_PER_S: u64 = 10;
/// When Linux repeats a SYN that nobody answers, in ticks (`tcp_syn_retries` = 6).
const REPEATS: [u64; 6] = [10, 30, 70, 150, 310, 630];
/// A power of two above the last repetition and the longest answer.
const AHEAD: usize = 1_024;
/// SYNs or answers that get lost: each costs one repetition and a second.
const LOST_PPM: u64 = 5_000;
/// Hosts that answer with a RST.
const REFUSED_PPM: u64 = 10_000;
/// What the web site itself sends, in packets a tick.
const SERVED_PER_TICK_MAX: u64 = 400;

/// An honest server at work.
#[derive(Clone, Debug)]
pub struct Source {
    profile: Profile,
    rng: Rng,
    tick: u64,
    second_offset: u64,
    until_next_ppm: u64,
    due: Vec<Due>,
    netdev_late: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Due {
    syn_ack: u64,
    rst: u64,
    again: u64,
}

impl Source {
    /// A server of this kind, at a random moment of its day.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let second_offset = rng.below(86_400);
        let until_next_ppm = chance::gap_ppm(&mut rng);
        let due = vec![Due::default(); AHEAD];
        Self { profile, rng, tick: 0, second_offset, until_next_ppm, due, netdev_late: 0 }
    }

    /// What the sensors count in the next tick.
    pub fn next_sample(&mut self) -> Sample {
        let load = self.profile.at(self.tick / TICKS_PER_S + self.second_offset);
        let opened = self.open(load);
        let Due { syn_ack, rst, again } = self.take_due();
        let tcp = opened + again;
        // The two counters are not read at the same instant: up to a fiftieth is seen a tick later.
        let late = self.rng.below(tcp / 50 + 1);
        let netdev_syn = tcp + self.netdev_late - late;
        self.netdev_late = late;
        let segments = tcp + 6 * syn_ack + self.rng.below(SERVED_PER_TICK_MAX);
        let sent = segments + self.rng.below(3);
        self.tick += 1;
        Sample {
            elapsed: TICK,
            egress: Some(Egress {
                syn: BySource { tcp, ..BySource::default() },
                syn_ack_matched: syn_ack,
                rst_matched: rst,
                syn_again: again,
                segments,
                ..Egress::default()
            }),
            netdev_syn: Some(netdev_syn),
            inbound_syn: None,
            kernel: Some(KernelTcp { active_opens: opened, syn_retransmits: again, ..KernelTcp::default() }),
            uplink: Some(Uplink { sent, received: sent }),
        }
    }

    /// Opens what this tick opens (a Poisson process); how many.
    fn open(&mut self, load: Load) -> u64 {
        // A rate of one per 1000 s makes 100 millionths of a connection a tick.
        let mut budget_ppm = load.per_1000_s * 100;
        let mut opened = 0;
        while self.until_next_ppm <= budget_ppm {
            budget_ppm -= self.until_next_ppm;
            self.until_next_ppm = chance::gap_ppm(&mut self.rng);
            self.connect(load.dead_ppm);
            opened += 1;
        }
        self.until_next_ppm -= budget_ppm;
        opened
    }

    fn connect(&mut self, dead_ppm: u64) {
        let fate = self.rng.below(1_000_000);
        if fate < dead_ppm {
            for ticks in REPEATS {
                self.later(ticks, |due| due.again += 1);
            }
            return;
        }
        let lost_ticks = if self.rng.chance(LOST_PPM) { TICKS_PER_S } else { 0 };
        if lost_ticks > 0 {
            self.later(lost_ticks, |due| due.again += 1);
        }
        let answer_us = self.rng.below(TICK_US) + chance::rtt_us(&mut self.rng);
        let refused = fate - dead_ppm < REFUSED_PPM;
        self.later(
            lost_ticks + answer_us / TICK_US,
            |due| {
                if refused { due.rst += 1 } else { due.syn_ack += 1 }
            },
        );
    }

    fn later(&mut self, ticks: u64, note: impl FnOnce(&mut Due)) {
        if let Some(due) = self.due.get_mut(place(self.tick + ticks)) {
            note(due);
        }
    }

    fn take_due(&mut self) -> Due {
        self.due.get_mut(place(self.tick)).map(core::mem::take).unwrap_or_default()
    }
}

fn place(tick: u64) -> usize {
    usize::try_from(tick).unwrap_or(0) % AHEAD
}

#[cfg(test)]
mod tests {
    use super::super::profile::PROFILES;
    use super::*;

    /// Opened, answered, repeated over `ticks`.
    fn count(profile: Profile, ticks: u64) -> [u64; 3] {
        let mut source = Source::new(profile, 1);
        let mut sum = [0; 3];
        for _ in 0..ticks {
            let sample = source.next_sample();
            let (egress, kernel) = (sample.egress.unwrap(), sample.kernel.unwrap());
            sum[0] += kernel.active_opens;
            sum[1] += egress.syn_ack_matched + egress.rst_matched;
            sum[2] += egress.syn_again;
        }
        sum
    }

    #[test]
    fn the_crawler_opens_a_hundred_a_second_and_eight_of_them_stay_unanswered() {
        let [opened, answered, repeated] = count(PROFILES[5], 36_000);
        assert!((355_000..=365_000).contains(&opened), "{opened}");
        let unanswered = opened - answered;
        assert!((28_000..=30_000).contains(&unanswered), "{unanswered} of {opened}");
        assert!((5 * unanswered..=7 * unanswered).contains(&repeated), "{repeated}");
    }

    #[test]
    fn the_same_seed_gives_the_same_traffic() {
        let (mut first, mut second) = (Source::new(PROFILES[3], 9), Source::new(PROFILES[3], 9));
        for _ in 0..50_000 {
            assert_eq!(first.next_sample(), second.next_sample());
        }
    }
}
