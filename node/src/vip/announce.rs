//! Telling the neighbours where an address is now: gratuitous ARP and unsolicited neighbour advertisements.
//!
//! At once on a claim, in a burst after it (a frame may be lost, a switch may still be learning), then every
//! few seconds for minutes, and again from the start when connectivity returns: a neighbour that was cut
//! off during the move has missed all of it.
//!
//! **Invariant.** An announcement leaves only while the lease gate is open: it is a frame of the address
//! like any other, so a stopped or late announcer cannot announce what it no longer holds.

use super::{
    frame::{Operation, gratuitous_arp, unsolicited_advertisement},
    packet::PacketSocket,
    rtnl::Link,
};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};
use stead_proto::{
    limits::ENDPOINTS_MAX,
    time::{Instant, Span},
};
use tokio::sync::mpsc;

pub use super::packet::PacketError;

/// Times after the claim at which the burst goes out.
const BURST_MS: [u64; 8] = [0, 20, 60, 150, 400, 1_000, 2_000, 4_000];
/// After the burst, how often and until when.
const REPEAT: Span = Span::from_ms(10_000);
const REPEATS: u64 = 30;

/// Orders that may wait for the announcing task.
const ORDERS_MAX: usize = 64;
/// Addresses announced at a time: one per endpoint and family.
const ADDRESSES_MAX: usize = 2 * ENDPOINTS_MAX;

/// Sends announcements on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: PacketSocket,
}

impl Announcer {
    /// Opens a packet socket on `link`.
    ///
    /// # Errors
    /// [`PacketError`], which says what it costs and what to do.
    pub fn open(link: &Link) -> Result<Self, PacketError> {
        // Ethertype 0: it only speaks.
        Ok(Self { socket: PacketSocket::open(link, 0)? })
    }

    /// Announces `address` once, in every form that neighbours listen to.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn announce(&self, address: IpAddr) -> Result<(), PacketError> {
        let mac = self.socket.mac;
        match address {
            IpAddr::V4(address) => {
                self.socket.send(&gratuitous_arp(Operation::Request, mac, address))?;
                self.socket.send(&gratuitous_arp(Operation::Reply, mac, address))
            }
            IpAddr::V6(address) => self.socket.send(&unsolicited_advertisement(mac, address)),
        }
    }
}

/// When the `n`-th announcement is due, counted from the claim; `None` when it has all been said.
#[must_use]
pub fn due(n: u64) -> Option<Span> {
    let burst = u64::try_from(BURST_MS.len()).unwrap_or(0);
    match usize::try_from(n).ok().and_then(|n| BURST_MS.get(n)) {
        Some(ms) => Some(Span::from_ms(*ms)),
        None if n < burst + REPEATS => Some(REPEAT.times(n - burst + 1)),
        None => None,
    }
}

/// What the announcing task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Announce this address from the start of the schedule.
    Start(IpAddr),
    /// Say nothing more about it.
    Stop(IpAddr),
    /// Connectivity is back: start over for every address.
    Again,
}

/// A handle on the announcing task; the task ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Announcements(mpsc::Sender<Order>);

impl Announcements {
    /// Starts the task.
    #[must_use]
    pub fn spawn(announcer: Announcer) -> Self {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(run(announcer, receiver));
        Self(orders)
    }

    /// Gives an order without waiting; says whether there was room for it.
    #[must_use]
    pub fn order(&self, order: Order) -> bool {
        self.0.try_send(order).is_ok()
    }
}

/// What still has to be said, and when.
#[derive(Debug, Default)]
struct Schedule(BTreeMap<IpAddr, (Instant, u64)>);

impl Schedule {
    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Start(address) if self.0.len() < ADDRESSES_MAX || self.0.contains_key(&address) => {
                self.0.insert(address, (now, 0));
            }
            Order::Start(address) => tracing::warn!(%address, "too many addresses to announce"),
            Order::Stop(address) => drop(self.0.remove(&address)),
            Order::Again => self.0.values_mut().for_each(|entry| *entry = (now, 0)),
        }
    }

    /// The addresses that are due, each counted as said. One that is through stays, for [`Order::Again`].
    fn take_due(&mut self, now: Instant) -> Vec<IpAddr> {
        let is_due = |(start, n): (Instant, u64)| due(n).is_some_and(|after| start.after(after) <= now);
        let mut said = Vec::new();
        for (address, entry) in &mut self.0 {
            if is_due(*entry) {
                said.push(*address);
            }
            // After a stall, what was missed is said once, not in a volley.
            while is_due(*entry) {
                entry.1 += 1;
            }
        }
        said
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|(start, n)| Some(start.after(due(*n)?))).min()
    }
}

async fn run(announcer: Announcer, mut orders: mpsc::Receiver<Order>) {
    let mut schedule = Schedule::default();
    loop {
        let now = crate::sys::now();
        for address in schedule.take_due(now) {
            if let Err(error) = announcer.announce(address) {
                tracing::warn!(%address, %error, "not announced");
            }
        }
        let wait = schedule.next().map_or(Duration::MAX, |at| Duration::from_nanos(at.since(now).as_ns()));
        match tokio::time::timeout(wait, orders.recv()).await {
            Ok(Some(order)) => schedule.obey(order, crate::sys::now()),
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    fn at(ms: u64) -> Instant {
        Instant::from_ns(1).after(Span::from_ms(ms))
    }

    #[test]
    fn the_schedule_starts_at_once_and_goes_on_for_minutes() {
        let times: Vec<u64> = (0..).map_while(due).map(Span::as_ms).collect();
        assert_eq!(times[..9], [0, 20, 60, 150, 400, 1_000, 2_000, 4_000, 10_000]);
        assert_eq!(times.last(), Some(&300_000));
        assert!(times.is_sorted());
    }

    #[test]
    fn what_a_stall_missed_is_said_once() {
        let mut schedule = Schedule::default();
        schedule.obey(Order::Start(VIP), at(0));
        assert_eq!(schedule.take_due(at(0)), [VIP]);
        assert_eq!(schedule.take_due(at(1_500)), [VIP]);
        assert!(schedule.take_due(at(1_501)).is_empty());
        assert_eq!(schedule.next(), Some(at(2_000)));
    }

    #[test]
    fn returning_connectivity_starts_over_even_when_all_was_said() {
        let mut schedule = Schedule::default();
        schedule.obey(Order::Start(VIP), at(0));
        schedule.take_due(at(600_000));
        assert_eq!(schedule.next(), None);
        schedule.obey(Order::Again, at(700_000));
        assert_eq!(schedule.take_due(at(700_000)), [VIP]);
    }

    #[test]
    fn a_stopped_address_is_silent() {
        let mut schedule = Schedule::default();
        schedule.obey(Order::Start(VIP), at(0));
        schedule.obey(Order::Stop(VIP), at(0));
        schedule.obey(Order::Again, at(0));
        assert!(schedule.take_due(at(1)).is_empty());
    }
}
