//! The kernel's gate in the owner's hands: it guards every address of the site, and opens for those served here.
//!
//! **Invariant.** An address is not claimed before the gate has opened for it: one that the gate could not be made
//! to guard would go on being heard when its lease is over. A gate that fails is told to the core as a trouble of
//! the endpoint, so that another node serves it, and is tried again meanwhile.

use std::collections::BTreeMap;
use std::net::IpAddr;

use stead_proto::id::Name;
use stead_proto::limits::LEASE_MAX;
use stead_proto::mesh::{Event, Serving};
use stead_proto::time::{Instant, Span};

use super::owner::is_vip;
use crate::kernel::gate::{Gate, GateError};

/// How soon a gate that did not open is tried again: it may take a while to fail.
const AGAIN_AFTER: Span = Span::from_ms(1_000);
/// After this long an endpoint that the gate failed for may be served here again.
const TROUBLE_FORGOTTEN_AFTER: Span = Span::from_ms(10_000);

/// What is asked of a gate: the kernel's, or a test's.
pub(super) trait Door {
    fn watch(&mut self, address: IpAddr) -> Result<(), GateError>;
    fn forget(&mut self, address: IpAddr) -> Result<(), GateError>;
    fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError>;
    fn close(&mut self, address: IpAddr) -> Result<(), GateError>;
    fn watched(&self) -> Vec<IpAddr>;
    fn slack(&self) -> Span;
}

impl Door for Gate {
    fn watch(&mut self, address: IpAddr) -> Result<(), GateError> {
        self.watch(address)
    }

    fn forget(&mut self, address: IpAddr) -> Result<(), GateError> {
        self.forget(address)
    }

    fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError> {
        self.set(address, until)
    }

    fn close(&mut self, address: IpAddr) -> Result<(), GateError> {
        self.close(address)
    }

    fn watched(&self) -> Vec<IpAddr> {
        self.watched().into_iter().map(|(address, _)| address).collect()
    }

    fn slack(&self) -> Span {
        Span::from_ms(self.rung().slack_ms())
    }
}

/// How the gate stands for an endpoint that is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Open until then.
    Open { until: Instant },
    /// It never opened; when that was tried last.
    Shut { tried: Instant },
}

/// The gate, if there is one, and how it stands for each endpoint.
#[derive(Debug)]
pub(super) struct Gating<D = Gate> {
    door: Option<D>,
    stands: BTreeMap<Name, Stand>,
    /// What the core was told of, and when.
    troubles: BTreeMap<Name, Instant>,
}

impl<D: Door> Gating<D> {
    pub(super) const fn new(door: Option<D>) -> Self {
        Self { door, stands: BTreeMap::new(), troubles: BTreeMap::new() }
    }

    /// Guards the addresses of the site, also those that others hold, and no others but those in use.
    pub(super) fn follow(&mut self, wanted: &[IpAddr], in_use: impl Fn(IpAddr) -> bool) {
        let Some(door) = &mut self.door else { return };
        for address in door.watched() {
            if !wanted.contains(&address) && !in_use(address) {
                log_failure("forget an address", door.forget(address));
            }
        }
        for address in wanted {
            log_failure("guard an address", door.watch(*address));
        }
    }

    /// Opens the gate for what is served from now on. Says whether the address may be claimed.
    pub(super) fn open(
        &mut self,
        endpoint: &Name,
        serving: &Serving,
        now: Instant,
        news: &mut Vec<Event>,
    ) -> bool {
        let opened = self.try_open(serving, serving.until);
        let stand = match &opened {
            Ok(()) => Stand::Open { until: serving.until },
            Err(_) => Stand::Shut { tried: now },
        };
        self.stands.insert(endpoint.clone(), stand);
        let opens = opened.is_ok();
        self.tell(endpoint, opened.err(), now, news);
        opens
    }

    /// Moves the end of a lease. Says whether the gate opened only now, so that the address may be claimed.
    pub(super) fn extend(
        &mut self,
        endpoint: &Name,
        serving: &Serving,
        until: Instant,
        now: Instant,
        news: &mut Vec<Event>,
    ) -> bool {
        let stand = self.stands.get(endpoint).copied().unwrap_or(Stand::Open { until: now });
        let (was_shut, closed) = match stand {
            Stand::Shut { tried } if now < tried.after(AGAIN_AFTER) => return false,
            Stand::Shut { .. } => (true, true),
            // Until it has closed, the next renewal may still come in time.
            Stand::Open { until } => (false, until <= now),
        };
        let extended = self.try_open(serving, until);
        let (extends, stand) = match &extended {
            Ok(()) => (true, Stand::Open { until }),
            Err(_) if was_shut => (false, Stand::Shut { tried: now }),
            Err(_) => (false, stand),
        };
        self.stands.insert(endpoint.clone(), stand);
        if extends || closed {
            self.tell(endpoint, extended.err(), now, news);
        }
        extends && was_shut
    }

    /// Closes the gate; how long it may still be open if that fails.
    pub(super) fn close(&mut self, endpoint: &Name, serving: &Serving, now: Instant) -> Option<Span> {
        let stand = self.stands.remove(endpoint);
        let door = self.door.as_mut().filter(|_| is_vip(&serving.spec))?;
        if matches!(stand, Some(Stand::Shut { .. })) {
            return None;
        }
        let error = door.close(serving.spec.address).err()?;
        tracing::error!(%error, "cannot close the gate: waiting until it closes by itself");
        // An agent that was started anew may have been told an older end than the kernel.
        let latest = serving.until.max(now.after(LEASE_MAX));
        Some(latest.after(door.slack()).since(now))
    }

    /// What went wrong once need not be so for ever.
    pub(super) fn forget_troubles(&mut self, now: Instant, news: &mut Vec<Event>) {
        let stands = &self.stands;
        self.troubles.retain(|endpoint, told| {
            let stays = stands.contains_key(endpoint) || now.since(*told) < TROUBLE_FORGOTTEN_AFTER;
            news.extend((!stays).then(|| trouble(endpoint, None)));
            stays
        });
    }

    /// Each trouble is told once, until it is over.
    fn tell(&mut self, endpoint: &Name, why: Option<String>, now: Instant, news: &mut Vec<Event>) {
        let Some(why) = why else {
            news.extend(self.troubles.remove(endpoint).map(|_| trouble(endpoint, None)));
            return;
        };
        if self.troubles.insert(endpoint.clone(), now).is_none() {
            tracing::error!(%endpoint, why, "the gate does not open: the endpoint is not served here");
            news.push(trouble(endpoint, Some(why)));
        }
    }

    fn try_open(&mut self, serving: &Serving, until: Instant) -> Result<(), String> {
        if !is_vip(&serving.spec) {
            return Ok(());
        }
        let door = self.door.as_mut().ok_or("this node has no lease gate")?;
        let address = serving.spec.address;
        // Guarding may have failed when the address became known.
        door.watch(address).and_then(|()| door.set(address, until)).map_err(|error| error.to_string())
    }
}

fn trouble(endpoint: &Name, text: Option<String>) -> Event {
    Event::Trouble { endpoint: endpoint.clone(), text }
}

fn log_failure(what: &str, result: Result<(), GateError>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use stead_proto::plan::Epoch;
    use stead_proto::site::{Driver, EndpointSpec, HoldingText};

    /// A gate that can be broken.
    #[derive(Debug, Default)]
    struct Fake {
        broken: bool,
        open: BTreeMap<IpAddr, Instant>,
    }

    impl Fake {
        fn works(&self) -> Result<(), GateError> {
            if self.broken { Err(GateError::Busy) } else { Ok(()) }
        }
    }

    impl Door for Fake {
        fn watch(&mut self, address: IpAddr) -> Result<(), GateError> {
            self.works()?;
            self.open.entry(address).or_insert(Instant::ZERO);
            Ok(())
        }

        fn forget(&mut self, address: IpAddr) -> Result<(), GateError> {
            self.works()?;
            self.open.remove(&address);
            Ok(())
        }

        fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError> {
            self.works()?;
            self.open.insert(address, until);
            Ok(())
        }

        fn close(&mut self, address: IpAddr) -> Result<(), GateError> {
            self.set(address, Instant::ZERO)
        }

        fn watched(&self) -> Vec<IpAddr> {
            self.open.keys().copied().collect()
        }

        fn slack(&self) -> Span {
            Span::from_ms(100)
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO.after(Span::from_ms(ms))
    }

    fn serving() -> Serving {
        let spec = EndpointSpec {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            ports: Vec::new(),
            services: BTreeSet::new(),
            driver: Driver::Vip,
            lease_ms: 350,
            prefer: Vec::new(),
            holding: HoldingText::default(),
        };
        Serving { epoch: Epoch { plan: 1, rank: 0 }, until: at(350), spec, holding_page: false }
    }

    fn told(news: &mut Vec<Event>) -> Vec<bool> {
        let on = |event| {
            let Event::Trouble { text, .. } = event else { panic!("{event:?}") };
            text.is_some()
        };
        std::mem::take(news).into_iter().map(on).collect()
    }

    #[test]
    fn an_address_is_not_claimed_before_the_gate_has_opened_for_it() {
        let (www, serving, mut news) = ("www".parse().unwrap(), serving(), Vec::new());
        let mut gating = Gating::new(Some(Fake { broken: true, ..Fake::default() }));
        assert!(!gating.open(&www, &serving, at(0), &mut news));
        assert_eq!(told(&mut news), [true], "the core has to know, so that another node serves it");

        gating.door.as_mut().unwrap().broken = false;
        let mut extend = |ms| gating.extend(&www, &serving, at(ms + 350), at(ms), &mut news);
        assert!(!extend(999), "not at each renewal");
        assert!(extend(1_000));
        assert!(!extend(1_100), "it is open already");
        assert_eq!(told(&mut news), [false]);
        assert_eq!(gating.door.as_ref().unwrap().open[&serving.spec.address], at(1_450));
    }

    #[test]
    fn a_gate_that_never_opened_is_closed_without_waiting() {
        let (www, serving, mut news) = ("www".parse().unwrap(), serving(), Vec::new());
        let mut gating = Gating::new(Some(Fake { broken: true, ..Fake::default() }));
        gating.open(&www, &serving, at(0), &mut news);
        assert_eq!(gating.close(&www, &serving, at(10)), None);
        gating.forget_troubles(at(9_999), &mut news);
        assert_eq!(told(&mut news), [true], "or the endpoint would come back at once");
        gating.forget_troubles(at(10_000), &mut news);
        assert_eq!(told(&mut news), [false]);
    }

    #[test]
    fn a_gate_that_closed_against_our_will_is_told_once_until_it_is_open_again() {
        let (www, serving, mut news) = ("www".parse().unwrap(), serving(), Vec::new());
        let mut gating = Gating::new(Some(Fake::default()));
        assert!(gating.open(&www, &serving, at(0), &mut news));
        gating.door.as_mut().unwrap().broken = true;
        for (ms, expected) in [(100, vec![]), (200, vec![]), (350, vec![true]), (450, vec![])] {
            gating.extend(&www, &serving, at(ms + 350), at(ms), &mut news);
            assert_eq!(told(&mut news), expected, "at {ms} ms");
        }
        gating.door.as_mut().unwrap().broken = false;
        gating.extend(&www, &serving, at(900), at(550), &mut news);
        assert_eq!(told(&mut news), [false]);

        gating.door.as_mut().unwrap().broken = true;
        let left = gating.close(&www, &serving, at(300));
        assert_eq!(left, Some(Span::from_ms(LEASE_MAX.as_ms() + 100)), "the longest lease, and the slack");
    }

    #[test]
    fn without_a_gate_only_endpoints_of_a_command_are_served() {
        let (www, mut serving, mut news) = ("www".parse().unwrap(), serving(), Vec::new());
        let mut gating = Gating::<Fake>::new(None);
        assert!(!gating.open(&www, &serving, at(0), &mut news));
        assert_eq!(told(&mut news), [true]);
        gating.close(&www, &serving, at(1));
        serving.spec.driver = Driver::Exec(vec!["true".into()]);
        assert!(gating.open(&www, &serving, at(2), &mut news));
        assert!(!gating.extend(&www, &serving, at(400), at(3), &mut news));
        assert_eq!(gating.close(&www, &serving, at(4)), None);
        assert_eq!(told(&mut news), [false]);
    }
}
