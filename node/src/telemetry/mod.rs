//! The sensors of one node: what leaves its uplink, by every way that there is to send.
//!
//! The obvious counters are blind to forged packets, so the sensors form a ladder, and the differences between
//! its rungs name the trick:
//!
//! | sensor | sees | misses |
//! |---|---|---|
//! | `kernel_tcp`: the kernel's TCP | `connect` | everything made by hand |
//! | `egress`: BPF at tc | the socket behind each SYN, answers, destinations | `PACKET_QDISC_BYPASS`, AF_XDP |
//! | `netdev`: nft at netdev egress | every SYN but those of AF_XDP | who sent it |
//! | `uplink`: the interface's counters | every packet | what is in it |
//!
//! [`Sensors::read`] is meant for ten times a second: a dozen system calls, no process, no waiting but for the
//! kernel's own answers. [`sockets`] is for once a second, or for when something was found.
//!
//! **Invariant.** A sensor that cannot see says so, in a [`Missing`] and as `None` in the sample; it never
//! tells zero instead. Everything is read of the network namespace in which [`Sensors::open`] was called; the
//! thread that calls [`Sensors::read`] has to be in it, too, for a sensor that was lost to be opened again, and
//! so has the one that drops it, for the nft tables and clsact filters to be removed.
//!
//! Two agents on one uplink count side by side: each has its own programs at tcx, and they share the nft table, which the
//! one that stays makes again. Only the clsact filter has one place; who comes second says so and waits for it.
//!
//! Deliberately absent: any judgement about what was counted; that is `stead_proto`'s.

mod counted;
mod egress;
mod kernel_tcp;
mod netdev;
mod own;
mod rungs;
mod sketch;
pub mod sockets;
mod uplink;

pub use sketch::TopDestination;

use crate::{
    seat::Seat,
    sys::now,
    vip::rtnl::{Link, Rtnl, RtnlError},
};
use counted::difference;
use egress::EgressSensor;
use kernel_tcp::KernelCounters;
use netdev::NetdevCounters;
use std::fmt;
use stead_proto::{
    telemetry::{Egress, KernelTcp, Sample, Uplink},
    time::{Instant, Span},
};
use uplink::UplinkCounters;

/// How often a lost uplink is looked for, and a sensor's attachment is checked.
const PERIOD: Span = Span::from_ms(1_000);
/// How long a sensor that could not be opened on an uplink is left alone: each try costs a process or a load.
const RETRY: Span = Span::from_ms(60_000);
/// The counters of nft and of the kernel's TCP are compared, so they must be of one moment …
const PAIR_GAP_MAX: Span = Span::from_ms(1);
/// … which is tried so often.
const PAIR_TRIES: u32 = 3;

/// Letters of a reason, so that a [`Missing`] fits a report.
const WHY_CHARS_MAX: usize = 120;

/// Where the BPF program is attached, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A tcx link (Linux 6.6).
    Tcx,
    /// A clsact filter (Linux 5.8), which somebody else may flush.
    Clsact,
}

/// One of the sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensor {
    /// BPF at tc: `Sample::egress`.
    Egress,
    /// nft at netdev egress: `Sample::netdev_syn`.
    Netdev,
    /// The kernel's TCP counters: `Sample::kernel`.
    Kernel,
    /// The uplink's packet counters: `Sample::uplink`.
    Uplink,
}

impl Sensor {
    /// What cannot be seen without it, and what to do about that.
    const fn blind(self) -> &'static str {
        match self {
            Self::Egress => {
                "which sockets send SYNs, their answers and their destinations are not seen; this needs Linux 5.8 \
                 with BPF, an Ethernet uplink and CAP_BPF, CAP_NET_ADMIN"
            }
            Self::Netdev => "SYNs that go around tc are not seen; install nftables on Linux 5.16 or later",
            Self::Kernel => "SYNs of ordinary programs, and an inbound flood, are not seen",
            Self::Uplink => {
                "packets that go around every hook (AF_XDP) are not seen; check the node's uplink setting"
            }
        }
    }
}

impl Sensor {
    /// What it does not see where it works.
    const fn misses(self) -> &'static str {
        match self {
            Self::Egress => {
                "packets that go around tc (PACKET_QDISC_BYPASS, AF_XDP): the netdev sensor and the uplink see them"
            }
            Self::Netdev => "who sends; AF_XDP; SYNs behind VLAN tags that a packet socket wrote by hand",
            Self::Kernel => "whatever is made by hand",
            Self::Uplink => "what is in a packet",
        }
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress sensor (BPF)",
            Self::Netdev => "netdev sensor (nft)",
            Self::Kernel => "kernel TCP counters",
            Self::Uplink => "uplink counters",
        })
    }
}

/// A sensor that is not there: a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub sensor: Sensor,
    /// Why it does not work.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}; {}", self.sensor, self.why, self.sensor.blind())
    }
}

/// The open sensors of one uplink. Dropping them takes everything out of the kernel.
#[derive(Debug)]
pub struct Sensors {
    /// The uplink by the name that it had last.
    name: String,
    /// Its index; `None` while it is gone.
    ifindex: Option<u32>,
    best: Hook,
    rtnl: Option<Rtnl>,
    egress: Option<EgressSensor>,
    /// The right to the clsact filter's place, which is one for all agents; given back after the filter is gone.
    seat: Option<Seat>,
    /// Whether another agent has that.
    waiting: bool,
    netdev: Option<(NetdevCounters, netdev::Totals)>,
    kernel: Option<(KernelCounters, kernel_tcp::Totals)>,
    uplink: Option<(UplinkCounters, uplink::Totals)>,
    missing: Vec<Missing>,
    /// Whether the egress sensor has worked on this uplink, or would have but for another agent, so that it is worth
    /// another try.
    egress_worked: bool,
    read_last: Instant,
    tried_last: Instant,
    checked_last: Instant,
}

impl Sensors {
    /// Opens every sensor that works here, and says which do not and what therefore cannot be seen.
    ///
    /// An uplink that is not there yet is waited for: see [`Self::read`].
    #[must_use]
    pub fn open(uplink: &str) -> (Self, Vec<Missing>) {
        Self::open_at(uplink, Hook::Tcx)
    }

    /// As [`Self::open`], with `best` as the best hook to try for the BPF program.
    #[must_use]
    pub fn open_at(uplink: &str, best: Hook) -> (Self, Vec<Missing>) {
        let now = now();
        let mut sensors = Self {
            name: uplink.to_owned(),
            ifindex: None,
            best,
            rtnl: None,
            egress: None,
            seat: None,
            waiting: false,
            netdev: None,
            kernel: None,
            uplink: None,
            missing: Vec::new(),
            egress_worked: false,
            read_last: now,
            tried_last: now,
            checked_last: now,
        };
        sensors.open_kernel();
        sensors.open_uplink(now);
        let missing = sensors.missing.clone();
        (sensors, missing)
    }

    /// What is missing now.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Where the BPF program is attached.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        self.egress.as_ref().map(EgressSensor::hook)
    }

    /// The destination of most SYNs in the second before the last [`Self::read`].
    #[must_use]
    pub fn top(&self) -> Option<TopDestination> {
        self.egress.as_ref().and_then(EgressSensor::top)
    }

    /// What was counted since the last reading, or since opening.
    ///
    /// When the uplink is gone its sensors are `None`, [`Self::missing`] says so, and from then on it is looked
    /// for once a second. A program that somebody detached, or an nft table that somebody removed, is put back with
    /// the reading after the one that misses it. Such a reading takes tens of milliseconds.
    pub fn read(&mut self) -> Sample {
        let now = now();
        self.follow_uplink(now);
        let (netdev_syn, kernel) = self.read_pair(now);
        let (egress, inbound_syn) = self.read_egress(now).unzip();
        let sample = Sample {
            elapsed: now.since(self.read_last),
            egress,
            netdev_syn,
            inbound_syn,
            kernel,
            uplink: self.read_uplink(),
        };
        self.read_last = now;
        sample
    }

    /// Notices that the uplink went, was renamed or came back, and opens again what was lost.
    fn follow_uplink(&mut self, now: Instant) {
        if let (Some(rtnl), Some(ifindex)) = (&mut self.rtnl, self.ifindex) {
            match rtnl.link(ifindex) {
                Ok(link) if link.name == self.name => {}
                Ok(link) => {
                    // nft hooks interfaces by their names.
                    self.name = link.name;
                    self.netdev = None;
                    self.tried_last = now.before(RETRY);
                }
                Err(RtnlError::NoInterface) => {
                    self.ifindex = None;
                    self.egress = None;
                    self.seat = None;
                    self.waiting = false;
                    self.netdev = None;
                    self.uplink = None;
                    for sensor in [Sensor::Egress, Sensor::Netdev, Sensor::Uplink] {
                        self.lost(sensor, format!("the interface {} is gone", self.name));
                    }
                }
                // Nothing is known, so nothing is changed.
                Err(RtnlError::NotPermitted | RtnlError::NoIpv6 | RtnlError::Kernel { .. }) => {}
            }
        }
        if self.ifindex.is_some() && now.since(self.checked_last) >= PERIOD {
            self.checked_last = now;
            if self.waiting {
                self.seat = self.ifindex.and_then(|ifindex| Seat::take_over(&seat_of(ifindex)));
                self.waiting = self.seat.is_none();
                if !self.waiting {
                    self.egress_worked = true;
                    self.tried_last = now.before(RETRY);
                }
            }
            if self.detached() {
                // It is put back with the next reading: this one has to say that something was missed.
                self.tried_last = now.before(RETRY);
                return;
            }
        }
        let due = match self.ifindex {
            None => now.since(self.tried_last) >= PERIOD,
            Some(_) => {
                let lost = self.netdev.is_none() || (self.egress.is_none() && self.egress_worked);
                lost && now.since(self.tried_last) >= RETRY
            }
        };
        if due {
            self.open_uplink(now);
        }
    }

    /// Whether somebody detached a sensor since it was asked last; it is lost then.
    fn detached(&mut self) -> bool {
        let egress = self.egress.as_mut().is_some_and(|egress| !egress.is_attached(&self.name));
        if egress {
            self.egress = None;
            self.lost(Sensor::Egress, "somebody detached its program".to_owned());
        }
        let netdev = self.netdev.as_mut().is_some_and(|(counters, _)| !counters.is_attached());
        if netdev {
            self.netdev = None;
            self.lost(Sensor::Netdev, "somebody removed its rules".to_owned());
        }
        egress || netdev
    }

    fn open_kernel(&mut self) {
        match KernelCounters::open().and_then(|mut counters| counters.read().map(|totals| (counters, totals)))
        {
            Ok(open) => self.kernel = Some(open),
            Err(error) => self.lost(Sensor::Kernel, error.to_string()),
        }
    }

    /// Opens what belongs to the uplink and is not open.
    fn open_uplink(&mut self, now: Instant) {
        self.tried_last = now;
        let link = match self.find_uplink() {
            Ok(link) => link,
            Err(why) => {
                for sensor in [Sensor::Egress, Sensor::Netdev, Sensor::Uplink] {
                    self.lost(sensor, why.clone());
                }
                return;
            }
        };
        let new = self.ifindex.replace(link.ifindex) != Some(link.ifindex);
        if new {
            self.egress_worked = false;
        }
        if self.egress.is_none() && (new || self.egress_worked) {
            self.open_egress(&link, now);
        }
        if self.netdev.is_none() {
            let opened = NetdevCounters::open(&link.name, link.ifindex);
            let opened = opened.and_then(|mut counters| {
                counters.read().map(|totals| (counters, totals)).map_err(|error| error.to_string())
            });
            match opened {
                Ok(open) => {
                    self.netdev = Some(open);
                    self.found(Sensor::Netdev);
                }
                Err(why) => self.lost(Sensor::Netdev, why),
            }
        }
        if self.uplink.is_none() {
            let opened = UplinkCounters::open().and_then(|mut counters| {
                let totals = counters.read(&link.name)?;
                Ok((counters, totals.ok_or(std::io::ErrorKind::NotFound)?))
            });
            match opened {
                Ok(open) => {
                    self.uplink = Some(open);
                    self.found(Sensor::Uplink);
                }
                Err(error) => self.lost(Sensor::Uplink, error.to_string()),
            }
        }
    }

    fn find_uplink(&mut self) -> Result<Link, String> {
        if self.rtnl.is_none() {
            self.rtnl = Some(Rtnl::open().map_err(|error| error.to_string())?);
        }
        let rtnl = self.rtnl.as_mut().ok_or("no netlink")?;
        let links = rtnl.links().map_err(|error| error.to_string())?;
        let found = links.into_iter().find(|link| link.name == self.name);
        found.ok_or_else(|| format!("there is no interface {}", self.name))
    }

    fn open_egress(&mut self, link: &Link, now: Instant) {
        let Some(rtnl) = self.rtnl.as_mut() else { return };
        let hooks = [Hook::Tcx, Hook::Clsact].into_iter().filter(|hook| *hook >= self.best);
        let mut why = String::new();
        for hook in hooks {
            if hook == Hook::Clsact && self.seat.is_none() {
                match Seat::take(&seat_of(link.ifindex)) {
                    Ok(seat) => self.seat = Some(seat),
                    Err(taken) => {
                        self.waiting = true;
                        why = format!("{taken} has the place of its filter until that ends");
                        break;
                    }
                }
            }
            match EgressSensor::open(link, rtnl, hook, now) {
                Ok(egress) => {
                    self.egress = Some(egress);
                    self.egress_worked = true;
                    self.found(Sensor::Egress);
                    return;
                }
                // The first failure mostly is the reason of the second, too.
                Err(error) if why.is_empty() => why = error,
                Err(error) => tracing::debug!(error, ?hook, "the egress sensor was not attached"),
            }
        }
        self.seat = None;
        self.lost(Sensor::Egress, why);
    }

    /// The counters of nft and of the kernel's TCP, read as close together as this machine allows.
    fn read_pair(&mut self, now: Instant) -> (Option<u64>, Option<KernelTcp>) {
        let mut netdev = None;
        let mut kernel = None;
        let mut failed = None;
        for _ in 0..PAIR_TRIES {
            let begun = crate::sys::now();
            netdev = self.netdev.as_mut().map(|(counters, _)| counters.read());
            kernel = self.kernel.as_mut().map(|(counters, _)| counters.read());
            if crate::sys::now().since(begun) <= PAIR_GAP_MAX {
                break;
            }
        }
        let netdev = match netdev {
            Some(Ok(totals)) => Some(totals),
            Some(Err(error)) => {
                failed = Some(error);
                None
            }
            None => None,
        };
        let netdev = netdev.zip(self.netdev.as_mut()).map(|(totals, (_, last))| {
            let difference = difference(&totals, last);
            *last = totals;
            difference
        });
        if let Some(error) = failed {
            // The next try, which makes the table anew, may come at once.
            self.netdev = None;
            self.tried_last = now.before(RETRY);
            self.lost(Sensor::Netdev, format!("its table was removed or cannot be read ({error})"));
        }
        let forwarded = netdev.map_or(0, |[_, forwarded]| forwarded);
        let kernel = match (kernel, self.kernel.as_mut()) {
            (Some(Ok(totals)), Some((_, last))) => {
                let told = kernel_tcp::since(&totals, last, forwarded);
                *last = totals;
                self.found(Sensor::Kernel);
                Some(told)
            }
            (Some(Err(error)), _) => {
                self.lost(Sensor::Kernel, error.to_string());
                None
            }
            _ => None,
        };
        (netdev.map(|[syn, _]| syn), kernel)
    }

    fn read_egress(&mut self, now: Instant) -> Option<(Egress, u64)> {
        let (egress, rtnl) = (self.egress.as_mut()?, self.rtnl.as_mut()?);
        match egress.read(rtnl, now) {
            Ok(told) => {
                self.found(Sensor::Egress);
                Some(told)
            }
            Err(why) => {
                self.lost(Sensor::Egress, why);
                None
            }
        }
    }

    fn read_uplink(&mut self) -> Option<Uplink> {
        let (counters, last) = self.uplink.as_mut()?;
        match counters.read(&self.name) {
            Ok(Some(totals)) => {
                let [received, sent] = difference(&totals, last);
                *last = totals;
                self.found(Sensor::Uplink);
                Some(Uplink { sent, received })
            }
            // Gone in this moment: the next reading says so.
            Ok(None) => None,
            Err(error) => {
                self.lost(Sensor::Uplink, error.to_string());
                None
            }
        }
    }

    fn lost(&mut self, sensor: Sensor, why: String) {
        let missing = Missing { sensor, why: why.chars().take(WHY_CHARS_MAX).collect() };
        match self.missing.iter_mut().find(|known| known.sensor == sensor) {
            Some(known) if *known == missing => {}
            Some(known) => *known = missing,
            None => {
                tracing::warn!(%missing, "a sensor is blind");
                self.missing.push(missing);
            }
        }
    }

    fn found(&mut self, sensor: Sensor) {
        let before = self.missing.len();
        self.missing.retain(|known| known.sensor != sensor);
        if self.missing.len() < before {
            tracing::info!(%sensor, "a sensor sees again");
        }
    }
}

/// The name of the right to the clsact filter of an uplink.
fn seat_of(ifindex: u32) -> String {
    format!("stead_sensor_{ifindex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_may_be_owned_by_a_thread_of_their_own() {
        const fn sendable<T: Send>() {}
        const { sendable::<Sensors>() }
    }

    #[test]
    fn what_is_missing_fits_the_report_with_its_reason() {
        for sensor in [Sensor::Egress, Sensor::Netdev, Sensor::Kernel, Sensor::Uplink] {
            let text = Missing { sensor, why: "x".repeat(WHY_CHARS_MAX) }.to_string();
            assert!(text.len() <= stead_proto::limits::TEXT_BYTES_MAX, "{} bytes: {text}", text.len());
            assert!(text.contains("not seen"), "{text}");
        }
    }
}
