//! The oracle for "one holder": who answered for an address, in order, and did anybody else in between?
//!
//! Works on the frames that a [tap](super::tap) saw, every one of them, stamped by one kernel clock, before
//! the switch forwarded them. Two ways to know who was entitled:
//!
//! - [`Entitled::ByClaims`]: the agents' own claims with their epochs. A violation is a frame of a node whose
//!   latest claim has a lower epoch than one that was already seen on the wire, or that never claimed. Exact.
//! - [`Entitled::ByAnnouncement`]: the wire alone. A node takes over when it answers for the first time, or
//!   again when it announces (gratuitous ARP, unsolicited advertisement). Anything else from a node that is
//!   not the holder is a violation. Blind to two nodes that only ever announce in turn.
//!
//! **Invariant.** Lost records never turn into a pass: a [`Report`] over an incomplete capture is not clean.

use super::tap::{Capture, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use stead_proto::time::{Instant, Span};

/// The most violations kept per address; all are counted.
pub const VIOLATIONS_KEPT_MAX: usize = 100;

/// A node's word that it holds an address from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When it began, on the clock of [`super::now`]; not after its first frame.
    pub at: Instant,
    /// What is claimed.
    pub address: IpAddr,
    /// Who claims.
    pub node: u8,
    /// The fencing token: a later claim has a higher one.
    pub epoch: u128,
}

/// How the oracle knows who was entitled to answer.
#[derive(Clone, Copy, Debug)]
pub enum Entitled<'a> {
    /// By these claims.
    ByClaims(&'a [Claim]),
    /// By the order of frames and announcements alone.
    ByAnnouncement,
}

/// A time in which one node answered for an address and was entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub node: u8,
    /// Its first frame.
    pub first: Instant,
    /// Its last frame.
    pub last: Instant,
    /// How many frames.
    pub frames: u64,
}

/// A frame of a node that was not entitled to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The offending frame.
    pub frame: Record,
    /// The hold it fell into or after: its first frame is the proof that somebody else had taken over.
    pub during: Option<Hold>,
}

/// What happened to one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The holds in order; no two overlap.
    pub holds: Vec<Hold>,
    /// The first violations, at most [`VIOLATIONS_KEPT_MAX`].
    pub violations: Vec<Violation>,
    /// How many there were.
    pub violations_count: u64,
    /// The smallest time between the last frame of a hold and the first of the next.
    pub smallest_gap: Option<Span>,
}

/// The verdict over a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By address.
    pub addresses: BTreeMap<IpAddr, History>,
    /// Frames that the capture lost: above zero the evidence is incomplete.
    pub lost: u64,
}

impl Report {
    /// Whether at every instant at most one node answered, on complete evidence.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.addresses.values().all(|history| history.violations_count == 0)
    }
}

/// Judges a capture.
#[must_use]
pub fn overlap(capture: &Capture, entitled: Entitled<'_>) -> Report {
    let mut by_address: BTreeMap<IpAddr, Vec<Record>> = BTreeMap::new();
    for record in &capture.records {
        by_address.entry(record.address).or_default().push(*record);
    }
    let judge = |(address, mut records): (IpAddr, Vec<Record>)| {
        records.sort_by_key(|record| record.at);
        let history = match entitled {
            Entitled::ByClaims(claims) => by_claims(&records, address, claims),
            Entitled::ByAnnouncement => by_announcement(&records),
        };
        (address, history)
    };
    Report { addresses: by_address.into_iter().map(judge).collect(), lost: capture.lost }
}

fn by_claims(records: &[Record], address: IpAddr, claims: &[Claim]) -> History {
    let mut history = History::default();
    let mut highest = None;
    for record in records {
        let own = claims
            .iter()
            .filter(|claim| claim.address == address && claim.node == record.node && claim.at <= record.at);
        match own.map(|claim| claim.epoch).max() {
            Some(epoch) if Some(epoch) == highest => history.goes_on(record),
            Some(epoch) if Some(epoch) > highest => {
                highest = Some(epoch);
                history.begins(record);
            }
            Some(_) | None => history.violated(record),
        }
    }
    history
}

fn by_announcement(records: &[Record]) -> History {
    let mut history = History::default();
    let mut seen = BTreeSet::new();
    for record in records {
        let first_time = seen.insert(record.node);
        if history.holds.last().is_some_and(|hold| hold.node == record.node) {
            history.goes_on(record);
        } else if first_time || record.answer.announces() {
            history.begins(record);
        } else {
            history.violated(record);
        }
    }
    history
}

impl History {
    fn goes_on(&mut self, record: &Record) {
        match self.holds.last_mut() {
            Some(hold) if hold.node == record.node => {
                hold.last = record.at;
                hold.frames += 1;
            }
            // Two nodes under one epoch: neither is entitled against the other.
            Some(_) | None => self.violated(record),
        }
    }

    fn begins(&mut self, record: &Record) {
        if let Some(before) = self.holds.last().filter(|before| before.node != record.node) {
            let gap = record.at.since(before.last);
            self.smallest_gap = Some(self.smallest_gap.map_or(gap, |smallest| smallest.min(gap)));
        }
        self.holds.push(Hold { node: record.node, first: record.at, last: record.at, frames: 1 });
    }

    fn violated(&mut self, record: &Record) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_KEPT_MAX {
            self.violations.push(Violation { frame: *record, during: self.holds.last().copied() });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lost > 0 {
            writeln!(f, "{} frames were lost by the tap: nothing is proven", self.lost)?;
        }
        for (address, history) in &self.addresses {
            let gap = history.smallest_gap.map_or_else(|| "none".into(), |gap| gap.to_string());
            let (holds, violations) = (history.holds.len(), history.violations_count);
            writeln!(f, "{address}: {holds} holds, {violations} violations, smallest gap {gap}")?;
            for Violation { frame, during } in &history.violations {
                write!(f, "  node {} sent {} at {} ns", frame.node, frame.answer, frame.at.as_ns())?;
                match during {
                    Some(hold) => {
                        let late = frame.at.since(hold.first);
                        writeln!(f, ", {late} after node {} had taken over", hold.node)?;
                    }
                    None => writeln!(f, " and held nothing")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::Answer;
    use std::net::Ipv4Addr;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 100);

    fn ip(ms: u64, node: u8) -> Record {
        let answer = Answer::Ip { destination: VIP.into(), protocol: 17, ports: None, tcp_flags: None };
        Record { at: Instant::ZERO.after(Span::from_ms(ms)), node, address: VIP.into(), answer }
    }

    fn announce(ms: u64, node: u8) -> Record {
        let answer = Answer::Arp { target_ip: VIP, reply: false, gratuitous: true };
        Record { answer, ..ip(ms, node) }
    }

    fn claim(ms: u64, node: u8, epoch: u128) -> Claim {
        Claim { at: Instant::ZERO.after(Span::from_ms(ms)), address: VIP.into(), node, epoch }
    }

    fn judged(records: Vec<Record>, entitled: Entitled<'_>) -> (Report, History) {
        let report = overlap(&Capture { records, lost: 0 }, entitled);
        let history = report.addresses.get(&VIP.into()).cloned().unwrap();
        (report, history)
    }

    #[test]
    fn a_move_and_the_way_back_are_three_holds_without_a_violation() {
        let records = vec![announce(0, 0), ip(10, 0), announce(35, 1), ip(40, 1), announce(90, 0), ip(95, 0)];
        let claims = [claim(0, 0, 1), claim(30, 1, 2), claim(85, 0, 3)];
        for entitled in [Entitled::ByAnnouncement, Entitled::ByClaims(&claims)] {
            let (report, history) = judged(records.clone(), entitled);
            assert!(report.is_clean(), "{report}");
            assert_eq!(history.holds.iter().map(|hold| hold.node).collect::<Vec<_>>(), [0, 1, 0]);
            assert_eq!(history.smallest_gap, Some(Span::from_ms(25)));
        }
    }

    #[test]
    fn one_late_frame_of_the_old_holder_is_named_with_the_hold_it_fell_into() {
        let records = vec![announce(0, 0), ip(10, 0), announce(35, 1), ip(36, 0), ip(40, 1)];
        let claims = [claim(0, 0, 1), claim(30, 1, 2)];
        for entitled in [Entitled::ByAnnouncement, Entitled::ByClaims(&claims)] {
            let (report, history) = judged(records.clone(), entitled);
            assert!(!report.is_clean());
            let [Violation { frame, during: Some(during) }] = history.violations[..] else {
                panic!("{report}")
            };
            assert_eq!((frame, during.node), (ip(36, 0), 1));
            assert!(report.to_string().contains("node 0 sent IP"), "{report}");
        }
    }

    #[test]
    fn a_late_frame_counts_even_if_the_new_holder_stays_silent_afterwards() {
        let (report, _) = judged(vec![ip(10, 0), announce(35, 1), ip(36, 0)], Entitled::ByAnnouncement);
        assert!(!report.is_clean());
    }

    #[test]
    fn two_nodes_that_only_announce_in_turn_are_caught_by_their_epochs() {
        let records = vec![announce(0, 0), announce(10, 1), announce(20, 0), announce(30, 1)];
        assert!(judged(records.clone(), Entitled::ByAnnouncement).0.is_clean(), "known to be blind here");
        let (_, history) = judged(records, Entitled::ByClaims(&[claim(0, 0, 1), claim(5, 1, 2)]));
        assert_eq!(history.violations_count, 1);
        assert_eq!(history.violations[0].frame, announce(20, 0));
    }

    #[test]
    fn answering_without_a_claim_before_it_or_sharing_an_epoch_is_a_violation() {
        for claims in [vec![], vec![claim(11, 0, 1)], vec![claim(0, 1, 1)]] {
            let (report, _) = judged(vec![ip(10, 0)], Entitled::ByClaims(&claims));
            assert!(!report.is_clean(), "{claims:?}");
        }
        let shared = [claim(0, 0, 1), claim(0, 1, 1)];
        let (_, history) = judged(vec![ip(10, 0), ip(11, 1), ip(12, 0)], Entitled::ByClaims(&shared));
        assert_eq!(history.violations_count, 1);
    }

    #[test]
    fn records_of_several_ports_are_put_in_order_first() {
        let (report, _) =
            judged(vec![ip(10, 0), ip(20, 0), announce(5, 1), ip(6, 1)], Entitled::ByAnnouncement);
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn a_capture_with_losses_proves_nothing() {
        let report = overlap(&Capture { records: vec![ip(10, 0)], lost: 1 }, Entitled::ByAnnouncement);
        assert!(!report.is_clean());
    }

    #[test]
    fn addresses_are_judged_apart_and_violations_are_kept_up_to_a_limit() {
        let other = Record { address: Ipv4Addr::new(10, 83, 0, 101).into(), ..ip(11, 1) };
        let (report, _) = judged(vec![ip(10, 0), other, ip(12, 0)], Entitled::ByAnnouncement);
        assert!(report.is_clean(), "{report}");
        let late = (0..1_000).map(|ms| ip(40 + ms, 0));
        let records = [ip(10, 0), announce(35, 1)].into_iter().chain(late).collect();
        let (_, history) = judged(records, Entitled::ByAnnouncement);
        assert_eq!((history.violations.len(), history.violations_count), (VIOLATIONS_KEPT_MAX, 1_000));
    }
}
