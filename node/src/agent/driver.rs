//! Moves endpoints: addresses and announcements on the uplink, or the operator's own command.
//!
//! A thread of its own, because netlink calls wait for the kernel's lock, and commands for whatever they
//! do (within a deadline). The lease does not wait for any of it: its gate is closed before a [`Drive::Cease`] comes here.
//! An `exec` endpoint has no gate: its command is fenced by the epoch, see [`command`].
//!
//! **Invariant.** Orders for one endpoint are carried out in the order in which they came. An address is
//! claimed only while its lease runs, and what was claimed comes back when somebody deletes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use stead_proto::id::Name;
use stead_proto::mesh::{Event, Serving};
use stead_proto::site::Driver;
use stead_proto::time::{Instant, Span};
use tokio::sync::{mpsc, oneshot};

use super::command;
use super::orders::{self, Drive, DriverHandle, Orders};
use crate::clock;
use crate::vip::Vip;
use crate::vip::announce::Announcer;
use crate::vip::rtnl::Link;

/// How often claimed addresses are looked after.
const ROUND: Duration = Duration::from_millis(200);
/// The address outlives its lease by this much; the gate is what ends it in time.
const ADDRESS_MARGIN: Span = Span::from_ms(2_000);
/// When after a claim it is announced again. Switches forget, and first frames get lost.
/// A coarse gate opens a few milliseconds late and swallows the first ones.
const ANNOUNCE_AT_MS: [u64; 10] = [0, 5, 20, 50, 100, 500, 1_000, 2_000, 5_000, 10_000];
/// After this long an endpoint that could not be served is tried again, here or elsewhere.
const TROUBLE_FORGOTTEN_AFTER: Span = Span::from_ms(10_000);
/// After the last of these, once in this long.
const ANNOUNCE_EVERY: Span = Span::from_ms(30_000);

/// The driver itself.
struct Drivers {
    uplink: Option<u32>,
    announcer: Option<Announcer>,
    vip: Option<Vip>,
    margin: Span,
    served: BTreeMap<Name, Served>,
    /// Somebody may have taken an address away.
    looks: bool,
    /// What could not be served, and since when.
    troubles: BTreeMap<Name, Instant>,
    orders: Orders,
    events: mpsc::Sender<Event>,
}

struct Served {
    serving: Serving,
    since: Instant,
    announced: usize,
    announced_at: Instant,
}

/// Starts the thread. Without an uplink, only endpoints of the `exec` driver can be moved. The last part of what
/// it gives back ends with the thread: an agent without its driver would hold endpoints that nobody serves.
pub(super) fn start(
    uplink: Option<&Link>,
    vip: Option<Vip>,
    coarse_gate: bool,
    events: mpsc::Sender<Event>,
) -> std::io::Result<(DriverHandle, JoinHandle<()>, impl Future<Output = ()> + use<>)> {
    let (handle, orders) = orders::channel();
    // Where the address' own lifetime is the gate, it must not outlive the lease.
    let margin = if coarse_gate { Span::ZERO } else { ADDRESS_MARGIN };
    let announcer = uplink.and_then(|link| {
        Announcer::open(link).inspect_err(|error| tracing::error!(%error, "cannot announce addresses")).ok()
    });
    let uplink = uplink.map(|link| link.ifindex);
    let drivers = Drivers {
        uplink,
        announcer,
        vip,
        margin,
        served: BTreeMap::new(),
        looks: false,
        troubles: BTreeMap::new(),
        orders,
        events,
    };
    let (alive, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("stead-driver".into()).spawn(move || {
        let _alive = alive;
        drivers.run();
    })?;
    Ok((handle, thread, async { drop(ended.await) }))
}

impl Drivers {
    fn run(mut self) {
        while let Some(orders) = self.orders.take(self.pause()) {
            orders.into_iter().for_each(|order| self.carry_out(order));
            self.look_after();
        }
        for (endpoint, served) in std::mem::take(&mut self.served) {
            self.cease(&endpoint, &served.serving);
        }
    }

    fn carry_out(&mut self, order: Drive) {
        match order {
            Drive::Serve { endpoint, serving } => self.serve(endpoint, *serving),
            Drive::Cease { endpoint, serving } => self.cease(&endpoint, &serving),
            Drive::Announce => self.announce_again(),
            Drive::Look => self.looks = true,
        }
    }

    fn pause(&self) -> Duration {
        let now = clock::now();
        let next = self.served.values().map(|s| s.next_announcement().since(now)).min();
        let next = next.map_or(ROUND, |span| Duration::from_nanos(span.as_ns()));
        next.clamp(Duration::from_millis(1), ROUND)
    }

    fn serve(&mut self, endpoint: Name, serving: Serving) {
        let now = clock::now();
        let done = match &serving.spec.driver {
            Driver::Vip => self.claim(&endpoint, serving.spec.address, now),
            Driver::Exec(command) => {
                command::run(command, "claim", &endpoint, &serving, || self.tend_addresses())
            }
        };
        self.tell_trouble(&endpoint, done.err());
        tracing::info!(%endpoint, epoch = %serving.epoch, address = %serving.spec.address, "serving");
        let served = Served { serving, since: now, announced: 0, announced_at: now };
        self.served.insert(endpoint, served);
    }

    fn cease(&mut self, endpoint: &Name, serving: &Serving) {
        self.served.remove(endpoint);
        let done = match &serving.spec.driver {
            Driver::Vip => match &mut self.vip {
                Some(vip) => vip.release(serving.spec.address).map_err(|error| error.to_string()),
                None => Ok(()),
            },
            Driver::Exec(command) => {
                command::run(command, "release", endpoint, serving, || self.tend_addresses())
            }
        };
        if let Err(error) = done {
            tracing::error!(%endpoint, %error, "cannot release the endpoint; its gate is closed");
        }
        tracing::info!(%endpoint, epoch = %serving.epoch, "ceased");
    }

    fn claim(&mut self, endpoint: &Name, address: IpAddr, now: Instant) -> Result<(), String> {
        let until = self.orders.lease_end(endpoint).after(self.margin);
        let (Some(vip), Some(uplink)) = (&mut self.vip, self.uplink) else {
            return Err("there is no uplink to put the address on: set `uplink` in agent.toml".into());
        };
        if until <= now {
            return Ok(());
        }
        vip.claim(address, uplink, now, until).map_err(|error| error.to_string())?;
        self.announce(address);
        Ok(())
    }

    /// One of many: that it is swallowed (by a gate that is not open yet, by a full queue) is no fault.
    fn announce(&self, address: IpAddr) {
        let Some(announcer) = &self.announcer else { return };
        if let Err(error) = announcer.announce(address) {
            tracing::debug!(%address, %error, "an announcement was not sent");
        }
    }

    /// Lifetimes, announcements, and addresses that somebody took away.
    fn look_after(&mut self) {
        self.forget_troubles(clock::now());
        self.tend_addresses();
    }

    fn tend_addresses(&mut self) {
        let now = clock::now();
        let names: Vec<Name> = self.served.keys().cloned().collect();
        let looks = std::mem::take(&mut self.looks);
        for name in names {
            let until = self.orders.lease_end(&name);
            let Some(served) = self.served.get_mut(&name) else { continue };
            if served.serving.spec.driver != Driver::Vip || until <= now {
                continue;
            }
            let address = served.serving.spec.address;
            let announce = served.announcement_due(now);
            let repaired =
                if looks { self.repair(address, now, until) } else { self.prolong(address, now, until) };
            if announce || repaired == Ok(true) {
                self.announce(address);
            }
            if let Err(trouble) = repaired {
                tracing::warn!(endpoint = %name, trouble, "cannot look after the address");
            }
        }
    }

    /// Extends the address' lifetime.
    fn prolong(&mut self, address: IpAddr, now: Instant, until: Instant) -> Result<bool, String> {
        let Some(vip) = &mut self.vip else { return Ok(false) };
        vip.extend(address, now, until.after(self.margin)).map_err(|error| error.to_string())?;
        Ok(false)
    }

    /// Puts the address back if it is gone; says whether it was.
    fn repair(&mut self, address: IpAddr, now: Instant, until: Instant) -> Result<bool, String> {
        let (Some(vip), Some(uplink)) = (&mut self.vip, self.uplink) else { return Ok(false) };
        let until = until.after(self.margin);
        let gone = match vip.presence(address).map_err(|error| error.to_string())? {
            crate::vip::Presence::Absent => true,
            crate::vip::Presence::Ours { .. } | crate::vip::Presence::Foreign { .. } => false,
        };
        if gone {
            tracing::warn!(%address, "somebody deleted the address: it is put back");
            vip.claim(address, uplink, now, until).map_err(|error| error.to_string())?;
        }
        Ok(gone)
    }

    fn announce_again(&mut self) {
        for served in self.served.values_mut() {
            (served.announced, served.since) = (0, clock::now());
        }
    }

    /// What went wrong once need not be so for ever.
    fn forget_troubles(&mut self, now: Instant) {
        let old =
            |(name, at): (&Name, &Instant)| (now.since(*at) >= TROUBLE_FORGOTTEN_AFTER).then(|| name.clone());
        let forgotten: Vec<Name> = self.troubles.iter().filter_map(old).collect();
        for endpoint in forgotten {
            match self.served.remove(&endpoint) {
                Some(served) if self.orders.lease_end(&endpoint) > now => {
                    self.serve(endpoint, served.serving)
                }
                Some(_) | None => self.tell_trouble(&endpoint, None),
            }
        }
    }

    fn tell_trouble(&mut self, endpoint: &Name, trouble: Option<String>) {
        match &trouble {
            Some(_) => drop(self.troubles.insert(endpoint.clone(), clock::now())),
            None if self.troubles.remove(endpoint).is_none() => return,
            None => {}
        }
        if let Some(trouble) = &trouble {
            tracing::error!(%endpoint, trouble, "cannot serve the endpoint");
        }
        let event = Event::Trouble { endpoint: endpoint.clone(), text: trouble };
        // Nobody waits for this thread, so it may wait; once the core has ended, nobody wants to know.
        let _ = self.events.blocking_send(event);
    }
}

impl Served {
    fn next_announcement(&self) -> Instant {
        match ANNOUNCE_AT_MS.get(self.announced) {
            Some(ms) => self.since.after(Span::from_ms(*ms)),
            None => self.announced_at.after(ANNOUNCE_EVERY),
        }
    }

    fn announcement_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_announcement();
        if due {
            self.announced += 1;
            self.announced_at = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_driver_is_noticed() {
        let (events, _inlet) = mpsc::channel(1);
        let (handle, thread, ended) = start(None, None, false, events).unwrap();
        let mut ended = tokio::spawn(ended);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut ended).await.is_err(), "it runs");
        drop(handle);
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends").unwrap();
        thread.join().unwrap();
    }
}
