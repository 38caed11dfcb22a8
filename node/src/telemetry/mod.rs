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
mod cut;
mod egress;
mod kernel_tcp;
mod netdev;
mod opening;
mod outliving;
mod own;
mod reading;
mod rungs;
mod sensor;
mod sketch;
pub mod sockets;
mod uplink;

pub use cut::ForgedLimit;
pub use sensor::{Hook, Missing, Sensor};
pub use sketch::TopDestination;

use crate::{seat::Seat, sys::now, vip::rtnl::Rtnl};
use counted::difference;
use egress::{EgressSensor, chain};
use kernel_tcp::KernelCounters;
use netdev::NetdevCounters;
use stead_proto::{telemetry::Sample, time::Instant};
use uplink::UplinkCounters;

/// Takes out of the kernel what agents of `instance` left there: for who uninstalls the agent.
pub(crate) fn uninstall(instance: &str) -> Result<(), String> {
    outliving::remove(instance)
}

/// The open sensors of one uplink. Dropping them takes everything out of the kernel.
#[derive(Debug)]
pub struct Sensors {
    /// The uplink by the name that it had last.
    name: String,
    /// Its index; `None` while it is gone.
    ifindex: Option<u32>,
    best: Hook,
    forged: Option<ForgedLimit>,
    /// Under which name the egress program outlives this process.
    instance: Option<String>,
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
        Self::open_limiting(uplink, best, None)
    }

    /// As [`Self::open_at`], with SYNs made by hand held to `forged` from the first packet on.
    #[must_use]
    pub fn open_limiting(uplink: &str, best: Hook, forged: Option<ForgedLimit>) -> (Self, Vec<Missing>) {
        let now = now();
        let mut sensors = Self {
            name: uplink.to_owned(),
            ifindex: None,
            best,
            forged,
            instance: None,
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

    /// Holds SYNs made by hand to `limit` from now on, where there is BPF; without a call nothing is cut off.
    ///
    /// It ends when the sensors are dropped, or with the process; see [`Self::outlive`].
    pub fn limit_forged(&mut self, limit: ForgedLimit) {
        self.forged = Some(limit);
        self.write_forged();
    }

    /// Leaves the program that counts and cuts at egress in the kernel if this process is killed, until sensors of the
    /// same `instance` on the same uplink take over.
    ///
    /// Needs a BPF file system that outlives the process, else it is said and the program ends with it.
    pub fn outlive(&mut self, instance: &str) {
        self.instance = Some(instance.to_owned());
        self.keep_egress();
    }

    /// As dropping, but what was told to [outlive](Self::outlive) the process stays: for an agent that ends, and whose
    /// limits shall not.
    pub fn leave(mut self) {
        if let Some(egress) = self.egress.take() {
            egress.leave();
        }
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

    fn lost(&mut self, sensor: Sensor, why: String) {
        let missing = Missing { sensor, why: why.chars().take(sensor::WHY_CHARS_MAX).collect() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_may_be_owned_by_a_thread_of_their_own() {
        const fn sendable<T: Send>() {}
        const { sendable::<Sensors>() }
    }
}
