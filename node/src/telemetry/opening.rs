//! How the sensors are opened on an uplink, and opened again when it went, was renamed, or somebody meddled.
//!
//! **Invariant.** What is lost is said before it is put back: the reading that misses something tells so.

use super::{
    Hook, Sensor, Sensors, egress::EgressSensor, kernel_tcp::KernelCounters, netdev::NetdevCounters,
    uplink::UplinkCounters,
};
use crate::{
    seat::Seat,
    sys::now,
    vip::rtnl::{Link, Rtnl, RtnlError},
};
use stead_proto::time::{Instant, Span};

/// How often a lost uplink is looked for, and a sensor's attachment is checked.
const PERIOD: Span = Span::from_ms(1_000);
/// How long a sensor that could not be opened on an uplink is left alone: each try costs a process or a load.
pub(super) const RETRY: Span = Span::from_ms(60_000);

impl Sensors {
    /// Notices that the uplink went, was renamed or came back, and opens again what was lost.
    pub(super) fn follow_uplink(&mut self, now: Instant) {
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
            if self.meddled() {
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

    /// Whether somebody detached or changed a sensor since it was asked last; it is lost then.
    fn meddled(&mut self) -> bool {
        let egress = self.egress.as_mut().and_then(|egress| {
            if !egress.is_attached(&self.name) {
                Some("somebody detached its program")
            } else if !egress.holds_forged() {
                Some("somebody changed its limit on SYNs made by hand")
            } else {
                None
            }
        });
        if let Some(why) = egress {
            self.egress = None;
            self.lost(Sensor::Egress, why.to_owned());
        }
        let netdev = self.netdev.as_mut().is_some_and(|(counters, _)| !counters.is_attached());
        if netdev {
            self.netdev = None;
            self.lost(Sensor::Netdev, "somebody removed its rules".to_owned());
        }
        egress.is_some() || netdev
    }

    pub(super) fn open_kernel(&mut self) {
        match KernelCounters::open().and_then(|mut counters| counters.read().map(|totals| (counters, totals)))
        {
            Ok(open) => self.kernel = Some(open),
            Err(error) => self.lost(Sensor::Kernel, error.to_string()),
        }
    }

    /// Opens what belongs to the uplink and is not open.
    pub(super) fn open_uplink(&mut self, now: Instant) {
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

    pub(super) fn keep_egress(&mut self) {
        let (Some(instance), Some(ifindex), Some(egress)) = (&self.instance, self.ifindex, &mut self.egress)
        else {
            return;
        };
        if let Err(why) = egress.outlive(instance, ifindex) {
            tracing::warn!(why, "SYNs made by hand are cut off only while this agent lives");
            self.instance = None;
            if !egress.is_attached(&self.name) {
                self.egress = None;
                // Opened anew with the next reading.
                self.tried_last = now().before(RETRY);
            }
        }
    }

    pub(super) fn write_forged(&mut self) {
        if let (Some(egress), Some(limit)) = (&mut self.egress, &self.forged)
            && let Err(why) = egress.limit_forged(limit)
        {
            tracing::warn!(why, "SYNs made by hand are only counted: the kernel does not take their limit");
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
            match EgressSensor::open(link, rtnl, hook, self.forged.as_ref(), now) {
                Ok(egress) => {
                    self.egress = Some(egress);
                    self.egress_worked = true;
                    self.keep_egress();
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
}

/// The name of the right to the clsact filter of an uplink.
fn seat_of(ifindex: u32) -> String {
    format!("stead_sensor_{ifindex}")
}
