//! The proxy before the endpoint's ports: raised while somebody floods them, lowered after it.
//!
//! | stage | what stands in the kernel | ends with |
//! |---|---|---|
//! | lowered | nothing | [`Shield::raise`] |
//! | raised | the proxy, around all connections that were there before | [`Shield::lower`] |
//! | draining | the proxy's chain, which no SYN reaches: it translates for connections that it let in | the last of them |
//!
//! What happens to whom:
//! - Connections from before the raising are read from the kernel (`sock_diag`) and pass the proxy by. They are
//!   read a second time when the rules stand, for those that came about in between.
//! - Handshakes that straddle the raising hold a cookie of the kernel's. The proxy would understand it, but not its
//!   timestamp, so for `GRACE` such ACKs go to the listener, told apart by that timestamp. Draining waits for
//!   those connections, too: only the kernel knows that they could do without.
//! - Handshakes that straddle the lowering hold the proxy's cookie, and are ended by the proxy.
//! - Connections that the proxy let in live on while it drains, for days if need be. What that costs: conntrack
//!   is on for the host, as with any stateful firewall.
//!
//! A killed agent leaves the shield as it was. The next [`Shield::open`] lowers it, since nobody knows whether the
//! flood goes on; the alarm raises it again within a second or two. All connections of that moment are then
//! taken for the proxy's, so draining may take longer, but cuts nobody off.
//!
//! **Invariant.** The table is only deleted when no connection is left that needs it, or by [`remove`]. Foreign
//! tables and sysctls are never touched (see [`super::cookies`] for the one exception).

use super::{
    cookies::Cookies,
    counts::{Counts, counts, packets, places},
    diag::{Diag, Entry, Flow},
    nft,
    notice::{Notice, ShieldError},
    offer,
    rules::{self, BYPASS_MAX, GRACE, Guarded, Offer, TABLE},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Addresses and ports that one shield guards.
pub const GUARDED_MAX: usize = 64;
/// After this long without a single answer, somebody else drops them …
const STARVED_AFTER: Duration = Duration::from_secs(5);
/// … if so many SYNs were answered, and there were visitors before.
const STARVED_SYNS: u64 = 100;
/// After that it is not tried again for a while.
const STARVED_PAUSE: Duration = Duration::from_secs(600);
/// A family of which so many SYNs came to the proxy without one answer is left alone.
const MUTE_SYNS: u64 = 5;
/// Where the shield is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of it is in the kernel.
    Lowered,
    /// The proxy answers every SYN.
    Raised,
    /// SYNs go to the listeners again; connections that the proxy let in are still translated.
    Draining {
        /// How many are left.
        connections: usize,
    },
}

/// The shield of one host. For one thread of ordinary priority, inside the endpoint's network namespace.
#[derive(Debug)]
pub struct Shield {
    uplink: String,
    cookies: Cookies,
    stage: Stage,
    guarded: BTreeSet<SocketAddr>,
    /// Families that the kernel's proxy does not answer.
    mute: BTreeSet<Family>,
    /// Connections that pass the proxy by.
    bypass: BTreeSet<Flow>,
    /// Connections that may need the proxy although they pass it by, or although they are not guarded any more.
    owed: BTreeSet<Flow>,
    /// How many needed the proxy when that was looked at last.
    needing: usize,
    starved_last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Ip4,
    Ip6,
}

impl Family {
    fn of(to: SocketAddr) -> Self {
        if to.is_ipv4() { Self::Ip4 } else { Self::Ip6 }
    }

    fn mute(self) -> ShieldError {
        let family = match self {
            Self::Ip4 => "IPv4",
            Self::Ip6 => "IPv6",
        };
        ShieldError::Mute { family }
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Lowered,
    Raised {
        since: Instant,
        before: Counts,
        visitors: usize,
    },
    Draining {
        since: Instant,
        /// Whether `owed` is complete: nothing that begins now needs the proxy.
        complete: bool,
    },
}

impl Shield {
    /// Switches SYN cookies on, tries whether the proxy can be had, and lowers what an earlier run left.
    ///
    /// Nothing is raised. Takes some tens of milliseconds.
    #[must_use]
    pub fn open(uplink: &str) -> (Self, Vec<Notice>) {
        let (cookies, notice) = Cookies::open();
        let mut notices: Vec<_> = notice.map(Notice::Cookies).into_iter().collect();
        let mut shield = Self {
            uplink: uplink.to_owned(),
            cookies,
            stage: Stage::Lowered,
            guarded: BTreeSet::new(),
            mute: BTreeSet::new(),
            bypass: BTreeSet::new(),
            owed: BTreeSet::new(),
            needing: 0,
            starved_last: None,
        };
        match nft::check(&sample_ruleset()) {
            Err(why) => notices.push(Notice::NoProxy { why }),
            Ok(()) => notices.extend(shield.adopt()),
        }
        (shield, notices)
    }

    /// Puts the proxy before exactly these addresses and ports; what it guarded else it guards no more.
    ///
    /// Takes some tens of milliseconds, a second with ten thousands of connections, and never more than the
    /// deadlines of nft and of the kernel (about 25 s in all).
    ///
    /// # Errors
    /// [`ShieldError`]. The shield then is what it was before: lowered, or before the former places.
    pub fn raise(&mut self, endpoints: &[(IpAddr, Vec<u16>)]) -> Result<(), ShieldError> {
        let places = endpoints.iter().flat_map(|(address, ports)| {
            ports.iter().map(|port| SocketAddr::new(address.to_canonical(), *port))
        });
        let wanted: BTreeSet<_> = places.collect();
        if wanted.is_empty() {
            return Err(ShieldError::Nothing);
        }
        let guarded: BTreeSet<_> =
            wanted.iter().copied().filter(|to| !self.mute.contains(&Family::of(*to))).collect();
        if guarded.is_empty() {
            return Err(wanted.first().map_or(ShieldError::Nothing, |to| Family::of(*to).mute()));
        }
        if guarded.len() > GUARDED_MAX {
            return Err(ShieldError::TooMany(guarded.len()));
        }
        self.guard(guarded)
    }

    fn guard(&mut self, guarded: BTreeSet<SocketAddr>) -> Result<(), ShieldError> {
        if self.is_raised() && guarded == self.guarded {
            return Ok(());
        }
        if self.starved_last.is_some_and(|at| at.elapsed() < STARVED_PAUSE) {
            return Err(ShieldError::Starved);
        }
        let mut diag = Diag::open()?;
        let mut owed = self.owed_now(&mut diag)?;
        let known = connections(&mut diag, &guarded)?;
        if known.len() > BYPASS_MAX {
            return Err(ShieldError::Crowded(known.len()));
        }
        let rules: Vec<_> = guarded
            .iter()
            .map(|to| Guarded { to: *to, offer: offer::offer(&self.uplink, *to, &known, &mut diag) })
            .collect();
        // Asking the listeners took a moment: what came about meanwhile is bypassed, too.
        let known = connections(&mut diag, &guarded)?;
        let mut bypass: BTreeSet<_> = known.iter().map(|entry| entry.flow).collect();
        let before = counts().unwrap_or_default();
        nft::run(&rules::raised(&rules, &bypass, clock_ms())).map_err(|why| self.refused(why))?;
        match spare_latecomers(&mut diag, &guarded, &bypass) {
            Ok(late) => {
                owed.extend(late.iter().copied());
                bypass.extend(late);
            }
            Err(error) => {
                tracing::warn!(%error, "connections of the moment of raising the shield may have to be tried again");
            }
        }
        let visitors = known.iter().filter(|entry| is_visitor(entry)).count();
        self.stage = Stage::Raised { since: Instant::now(), before, visitors };
        (self.guarded, self.bypass, self.owed) = (guarded, bypass, owed);
        Ok(())
    }

    /// Sends SYNs to the listeners again. [`Self::tend`] takes the rest away when nobody needs it any more.
    ///
    /// # Errors
    /// [`ShieldError::Nft`]; the shield then is still raised, and the call may be repeated.
    pub fn lower(&mut self) -> Result<(), ShieldError> {
        if !self.is_raised() {
            return Ok(());
        }
        nft::run(&rules::lowered(&self.ports())).map_err(ShieldError::Nft)?;
        self.stage = Stage::Draining { since: Instant::now(), complete: false };
        Ok(())
    }

    /// To be called about once a second: ends the draining, and lowers a shield that keeps visitors out.
    ///
    /// # Errors
    /// [`ShieldError::Starved`] when the shield was lowered for that, [`ShieldError::Mute`] when it was for one
    /// family; else what went wrong with looking, which is tried again with the next call.
    pub fn tend(&mut self) -> Result<State, ShieldError> {
        match self.stage {
            Stage::Lowered => {}
            Stage::Raised { since, before, visitors } => {
                self.leave_the_mute()?;
                if visitors > 0 && since.elapsed() >= STARVED_AFTER && is_starved(before) {
                    self.lower()?;
                    self.starved_last = Some(Instant::now());
                    return Err(ShieldError::Starved);
                }
            }
            Stage::Draining { since, complete } => self.drain(since, complete)?,
        }
        Ok(self.state())
    }

    /// Where it is, as of the last call.
    #[must_use]
    pub fn state(&self) -> State {
        match self.stage {
            Stage::Lowered => State::Lowered,
            Stage::Raised { .. } => State::Raised,
            Stage::Draining { .. } => State::Draining { connections: self.needing },
        }
    }

    /// Whether the proxy answers SYNs now.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        matches!(self.stage, Stage::Raised { .. })
    }

    /// Lowers it, and sets the cookies back. Tells [`State::Draining`] if connections need what then stays in the
    /// kernel; the next [`Self::open`] takes it away in time, and so does [`remove`], which cuts them off.
    ///
    /// # Errors
    /// [`ShieldError`]. Everything that could be done was done.
    pub fn close(mut self) -> Result<State, ShieldError> {
        let lowered = self.lower().and_then(|()| self.tend());
        self.cookies.close().map_err(ShieldError::Cookies)?;
        lowered
    }

    fn refused(&self, why: String) -> ShieldError {
        match nft::check(&sample_ruleset()) {
            Ok(()) => ShieldError::Nft(why),
            Err(why) => ShieldError::NoProxy(why),
        }
    }

    fn ports(&self) -> BTreeSet<u16> {
        self.guarded.iter().map(SocketAddr::port).collect()
    }

    /// Lowers what an earlier run left, whatever stage it was in.
    fn adopt(&mut self) -> Option<Notice> {
        let table = format!("table {TABLE}");
        if !nft::list(&["list", "tables"]).is_ok_and(|tables| tables.lines().any(|line| line == table)) {
            return None;
        }
        let listed = ["guarded4", "guarded6"]
            .map(|set| nft::list(&["-n", "list", "set", "inet", "stead_shield", set]));
        self.guarded = listed.iter().flatten().flat_map(|text| places(text)).collect();
        let guarded = self.guarded.len();
        // Whatever is left of it, an unknown table of our name must not go on dropping.
        if let Err(why) = nft::run(&rules::lowered(&self.ports())) {
            tracing::warn!(why, "the shield of an earlier run cannot be lowered and is removed");
            if let Err(why) = nft::run(&rules::removal()) {
                tracing::error!(why, "remove it by hand: nft delete table {TABLE}");
            }
            return Some(Notice::Abandoned { guarded });
        }
        self.stage = Stage::Draining { since: Instant::now(), complete: false };
        Some(Notice::Abandoned { guarded })
    }

    /// Guards no more what the kernel's proxy does not answer for.
    fn leave_the_mute(&mut self) -> Result<(), ShieldError> {
        let listed =
            nft::list(&["list", "counters", "table", "inet", "stead_shield"]).map_err(ShieldError::Nft)?;
        let [asked4, asked6, answered4, answered6] =
            rules::COUNTERS.map(|name| packets(&listed, name).unwrap_or(0));
        let mute = [(Family::Ip4, asked4, answered4), (Family::Ip6, asked6, answered6)]
            .into_iter()
            .find(|(_, asked, answered)| *asked >= MUTE_SYNS && *answered == 0);
        let Some((family, ..)) = mute else { return Ok(()) };
        let rest: BTreeSet<_> = self.guarded.iter().copied().filter(|to| Family::of(*to) != family).collect();
        if rest.is_empty() {
            self.lower()?;
        } else {
            self.guard(rest)?;
        }
        self.mute.insert(family);
        Err(family.mute())
    }

    fn drain(&mut self, since: Instant, complete: bool) -> Result<(), ShieldError> {
        let now = self.owed_now(&mut Diag::open()?)?;
        self.needing = now.len();
        if !complete && since.elapsed() <= GRACE {
            // The proxy may still end a handshake that it began.
            return Ok(());
        }
        self.owed = now;
        self.bypass.clear();
        self.stage = Stage::Draining { since, complete: true };
        if self.owed.is_empty() {
            nft::run(&rules::removal()).map_err(ShieldError::Nft)?;
            self.stage = Stage::Lowered;
            self.guarded.clear();
        }
        Ok(())
    }

    /// The connections of this moment that need the proxy.
    fn owed_now(&self, diag: &mut Diag) -> Result<BTreeSet<Flow>, ShieldError> {
        let complete = match self.stage {
            Stage::Lowered => return Ok(BTreeSet::new()),
            Stage::Raised { .. } => false,
            Stage::Draining { complete, .. } => complete,
        };
        let needs = |flow: &Flow| {
            let came_by_proxy =
                !complete && self.guarded.contains(&flow.local) && !self.bypass.contains(flow);
            came_by_proxy || self.owed.contains(flow)
        };
        let mut ports = self.ports();
        ports.extend(self.owed.iter().map(|flow| flow.local.port()));
        let mut owed = BTreeSet::new();
        for port in ports {
            owed.extend(diag.connections(port)?.iter().map(|entry| entry.flow).filter(needs));
        }
        Ok(owed)
    }
}

/// Whether SYNs were answered, and nothing ever came back.
fn is_starved(before: Counts) -> bool {
    let now = counts().unwrap_or_default();
    let silent = now.handshakes == before.handshakes && now.refused == before.refused;
    silent && now.syns.saturating_sub(before.syns) >= STARVED_SYNS
}

/// Takes everything out of the kernel at once: for who uninstalls the agent. Connections that the proxy let in break.
///
/// # Errors
/// [`ShieldError::Nft`] if the table could not be deleted.
pub fn remove() -> Result<(), ShieldError> {
    nft::run(&rules::removal()).map_err(ShieldError::Nft)
}

fn connections(diag: &mut Diag, guarded: &BTreeSet<SocketAddr>) -> Result<Vec<Entry>, ShieldError> {
    let ports: BTreeSet<_> = guarded.iter().map(SocketAddr::port).collect();
    let mut found = Vec::new();
    for port in ports {
        found.extend(diag.connections(port)?.into_iter().filter(|entry| guarded.contains(&entry.flow.local)));
    }
    Ok(found)
}

/// Leads past the proxy what came about between the list and the rules.
fn spare_latecomers(
    diag: &mut Diag,
    guarded: &BTreeSet<SocketAddr>,
    bypass: &BTreeSet<Flow>,
) -> Result<BTreeSet<Flow>, ShieldError> {
    let flows = connections(diag, guarded)?.into_iter().map(|entry| entry.flow);
    let late: BTreeSet<_> = flows.filter(|flow| !bypass.contains(flow)).collect();
    if !late.is_empty() {
        nft::run(&rules::more_bypass(&late)).map_err(ShieldError::Nft)?;
    }
    Ok(late)
}

/// Somebody from outside who completed a handshake.
fn is_visitor(entry: &Entry) -> bool {
    entry.offered.is_some() && entry.flow.remote.ip() != entry.flow.local.ip()
}

/// Something harmless that uses everything that the shield needs.
fn sample_ruleset() -> String {
    let offer = Offer { mss: 1_460, wscale: Some(7), timestamps: true, sack: true };
    let of = |address: IpAddr| Guarded { to: SocketAddr::new(address, 9), offer };
    rules::raised(
        &[of([192, 0, 2, 1].into()), of([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into())],
        &BTreeSet::new(),
        0,
    )
}

/// The clock of the proxy's timestamps.
fn clock_ms() -> u32 {
    let time = clock_gettime(ClockId::Monotonic);
    let ms = time.tv_sec.wrapping_mul(1_000).wrapping_add(time.tv_nsec / 1_000_000);
    u32::try_from(ms.rem_euclid(1 << 32)).expect("a remainder of 2^32")
}
