//! Orders to the endpoint driver, which may be slow: nothing waits for it, and no endpoint's last order gets lost.
//!
//! **Invariant.** Orders for one endpoint arrive in the order in which they were given; where there is no room for
//! all of them, the last one does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use stead_proto::id::Name;
use stead_proto::mesh::Serving;
use stead_proto::time::Instant;

/// Orders that may wait: a few for each endpoint.
const ORDERS_MAX: usize = 64;
/// Addresses that one endpoint can have had while the driver was busy; each change is an operator's order.
const ENDPOINT_ORDERS_MAX: usize = 64;

/// An order to the driver.
#[derive(Debug)]
pub(super) enum Drive {
    /// Claim and announce.
    Serve {
        /// Which endpoint.
        endpoint: Name,
        /// How.
        serving: Box<Serving>,
    },
    /// Give up what was claimed.
    Cease {
        /// Which endpoint.
        endpoint: Name,
        /// What was served.
        serving: Box<Serving>,
    },
    /// Connectivity came back, so the neighbours may have forgotten: announce everything.
    Announce,
    /// Somebody changed addresses: look whether ours are still there.
    Look,
}

impl Drive {
    const fn endpoint(&self) -> Option<&Name> {
        match self {
            Self::Serve { endpoint, .. } | Self::Cease { endpoint, .. } => Some(endpoint),
            Self::Announce | Self::Look => None,
        }
    }

    /// Whether an older order for the same endpoint need not be carried out any more: all but giving up another
    /// address, or the same one moved in another way.
    fn makes_void(&self, older: &Self) -> bool {
        let (Self::Serve { serving, .. } | Self::Cease { serving, .. }) = self else { return false };
        match older {
            Self::Cease { serving: old, .. } => {
                old.spec.address == serving.spec.address && old.spec.driver == serving.spec.driver
            }
            Self::Serve { .. } | Self::Announce | Self::Look => true,
        }
    }
}

/// What found the queue full, by endpoint: the last order, and before it only what it does not make void.
type Overflow = Arc<Mutex<BTreeMap<Name, Vec<Drive>>>>;
type Leases = Arc<Mutex<BTreeMap<Name, Arc<AtomicU64>>>>;

/// The driver's thread, as the owner sees it.
#[derive(Clone, Debug)]
pub(super) struct DriverHandle {
    queue: SyncSender<Drive>,
    overflow: Overflow,
    leases: Leases,
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) queue: Receiver<Drive>,
    overflow: Overflow,
    leases: Leases,
}

/// Both ends.
pub(super) fn channel() -> (DriverHandle, Orders) {
    channel_of(ORDERS_MAX)
}

fn channel_of(room: usize) -> (DriverHandle, Orders) {
    let (sender, queue) = sync_channel(room);
    let (leases, overflow) = (Leases::default(), Overflow::default());
    let handle = DriverHandle { queue: sender, overflow: overflow.clone(), leases: leases.clone() };
    (handle, Orders { queue, overflow, leases })
}

impl Orders {
    /// All that has not been taken yet, in order, also what came while the queue was full.
    pub(super) fn rest(&self) -> Vec<Drive> {
        // Under the lock, for nothing newer may get into the queue meanwhile.
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue.try_iter().chain(std::mem::take(&mut *overflow).into_values().flatten()).collect()
    }

    /// When an endpoint's lease ends, as far as the owner has said.
    pub(super) fn lease_end(&self, endpoint: &Name) -> Instant {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::from_ns(leases.get(endpoint).map_or(0, |lease| lease.load(Ordering::Relaxed)))
    }
}

impl DriverHandle {
    /// Gives an order; never waits.
    pub(super) fn tell(&self, order: Drive) {
        if let Drive::Serve { endpoint, serving } = &order {
            self.extend(endpoint, serving.until);
        }
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |endpoint| overflow.contains_key(endpoint);
        let full = match order.endpoint().is_some_and(behind) {
            true => Some(order),
            false => match self.queue.try_send(order) {
                Err(TrySendError::Full(order)) => Some(order),
                Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            },
        };
        let Some((endpoint, order)) = full.and_then(|order| Some((order.endpoint()?.clone(), order))) else {
            return;
        };
        tracing::warn!(%endpoint, "the endpoint driver does not keep up");
        let waiting = overflow.entry(endpoint).or_default();
        waiting.retain(|older| !order.makes_void(older));
        if waiting.len() < ENDPOINT_ORDERS_MAX {
            waiting.push(order);
        }
    }

    /// Moves the end of an endpoint's lease.
    pub(super) fn extend(&self, endpoint: &Name, until: Instant) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = leases.entry(endpoint.clone()).or_default();
        lease.store(until.as_ns(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::plan::Epoch;
    use stead_proto::site::Driver;
    use stead_proto::site::{EndpointSpec, HoldingText};

    fn serve(name: &str, rank: u32) -> Drive {
        Drive::Serve { endpoint: name.parse().unwrap(), serving: serving([127, 0, 0, 1], rank) }
    }

    fn serving(address: [u8; 4], rank: u32) -> Box<Serving> {
        let spec = EndpointSpec {
            address: std::net::IpAddr::from(address),
            ports: Vec::new(),
            services: std::collections::BTreeSet::new(),
            driver: Driver::Vip,
            lease_ms: 350,
            prefer: Vec::new(),
            holding: HoldingText::default(),
        };
        let (epoch, until) = (Epoch { plan: 1, rank }, Instant::ZERO);
        Box::new(Serving { epoch, until, spec, holding_page: false })
    }

    #[test]
    fn a_full_queue_keeps_the_last_order_for_each_endpoint() {
        let (handle, orders) = channel_of(1);
        for rank in 0..100 {
            handle.tell(serve("www", rank));
            handle.tell(serve("mail", rank));
            handle.tell(Drive::Look);
        }
        assert!(
            matches!(orders.queue.try_recv(), Ok(Drive::Serve { serving, .. }) if serving.epoch.rank == 0)
        );
        handle.tell(serve("www", 100));
        let ranks: Vec<u32> = orders
            .rest()
            .into_iter()
            .map(|order| match order {
                Drive::Serve { serving, .. } => serving.epoch.rank,
                Drive::Cease { .. } | Drive::Announce | Drive::Look => u32::MAX,
            })
            .collect();
        assert_eq!(ranks, [99, 100], "mail, then www, which must not overtake its earlier order");
    }

    #[test]
    fn an_address_that_an_endpoint_left_is_given_up_however_full_the_queue_was() {
        let (handle, orders) = channel_of(1);
        let www = || "www".parse().unwrap();
        handle.tell(Drive::Look);
        handle.tell(Drive::Serve { endpoint: www(), serving: serving([127, 0, 0, 1], 1) });
        handle.tell(Drive::Cease { endpoint: www(), serving: serving([127, 0, 0, 1], 1) });
        handle.tell(Drive::Serve { endpoint: www(), serving: serving([127, 0, 0, 2], 2) });
        assert!(matches!(orders.rest()[..], [Drive::Look, Drive::Cease { .. }, Drive::Serve { .. }]));
        assert!(orders.rest().is_empty());
    }
}
