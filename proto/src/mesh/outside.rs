//! What this node sees of the others from outside, when it looks again, and what it makes of it.
//!
//! | look | at | every | counts |
//! |---|---|---|---|
//! | host key | each other node | 60 s | another one than the mesh knows, three times in a row |
//! | page | the holder of each endpoint | 10 s | another answer than expected, three times in a row, while the holder calls it healthy and this node has had the right one from there |
//!
//! What looks wrong is looked at again after two seconds, and every ten once it counts. No answer counts as nothing:
//! it may be the way.
//!
//! **Invariant.** At most one look at a thing is under way, and nothing is looked at more often than every two seconds.

use super::{Effect, Mesh};
use crate::id::{Name, NodeId};
use crate::inventory::serves;
use crate::outside::{HostKey, Look, Page, Sight};
use crate::plan::Epoch;
use crate::report::LeaseSeen;
use crate::service::{Check, StatusRange};
use crate::time::{Instant, Span};
use crate::tribunal::{Ground, Probe};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::net::SocketAddr;

const HOST_KEY_EVERY: Span = Span::from_ms(60_000);
const PAGE_EVERY: Span = Span::from_ms(10_000);
/// How soon something that looks wrong is looked at again.
const AGAIN: Span = Span::from_ms(2_000);
/// How soon, once it counts.
const CONFIRM_EVERY: Span = Span::from_ms(10_000);
/// How often in a row something has to look wrong.
const TIMES: u32 = 3;
/// How long something counts that was seen.
const COUNTS_FOR: Span = Span::from_ms(30_000);
/// How long a host key is reported that was seen.
const REPORTED_FOR: Span = Span::from_ms(180_000);
/// After a start, nobody is looked at before this.
const FIRST_AFTER: Span = Span::from_ms(2_000);
/// For how long a host has to show another key while nothing is heard of its agent, for that to be silence: longer than
/// an upgrade or a boot takes.
const GONE_AFTER: Span = Span::from_ms(60_000);

/// What was seen, and when to look again.
#[derive(Debug, Default)]
pub(super) struct Outside {
    hosts: BTreeMap<NodeId, Host>,
    pages: BTreeMap<Name, Shown>,
}

#[derive(Debug)]
struct Host {
    rhythm: Rhythm,
    key: Option<(Instant, HostKey)>,
    /// Since when it shows a wrong key while its agent is not heard.
    alone: Option<Instant>,
}

#[derive(Debug)]
struct Shown {
    rhythm: Rhythm,
    /// By whom, under which epoch, the wrong page was shown.
    by: Option<(NodeId, Epoch)>,
    /// What is asked for there; nothing before the first look.
    asked: Option<Question>,
    /// Whether this node has had the right answer, since it asks that and since a holder was found to give another one: what
    /// is wrong everywhere is no holder's fault.
    known: bool,
}

/// What a page is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    at: SocketAddr,
    path: String,
    host: Option<String>,
    expect: StatusRange,
}

/// When to look, and how often in a row it looked wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Rhythm {
    due: Instant,
    seen: Instant,
    wrong: u32,
}

impl Rhythm {
    fn saw(&mut self, now: Instant, wrong: bool, every: Span) -> bool {
        self.wrong = if wrong { self.wrong.saturating_add(1) } else { 0 };
        self.seen = now;
        self.due = now.after(match self.wrong {
            0 => every,
            1..TIMES => AGAIN,
            TIMES.. => CONFIRM_EVERY,
        });
        self.wrong == TIMES
    }

    fn counts(&self, now: Instant) -> bool {
        self.wrong >= TIMES && now.since(self.seen) < COUNTS_FOR
    }
}

impl Outside {
    /// The host key that a node showed lately.
    pub(super) fn host_key(&self, now: Instant, node: NodeId) -> Option<HostKey> {
        let (at, key) = self.hosts.get(&node)?.key?;
        (now.since(at) < REPORTED_FOR).then_some(key)
    }

    pub(super) fn deadline(&self) -> Instant {
        let hosts = self.hosts.values().map(|host| host.rhythm.due);
        hosts.chain(self.pages.values().map(|page| page.rhythm.due)).min().unwrap_or(Instant::NEVER)
    }

    /// Somebody accuses somebody: look at everybody at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        let hosts = self.hosts.values_mut().map(|host| &mut host.rhythm);
        for rhythm in hosts.chain(self.pages.values_mut().map(|page| &mut page.rhythm)) {
            rhythm.due = rhythm.due.min(now.max(rhythm.seen.after(AGAIN)));
        }
    }

    /// Whether anything is wrong that may have to be said again.
    pub(super) fn finds_anything(&self, now: Instant) -> bool {
        self.hosts.values().any(|host| host.rhythm.counts(now))
            || self.pages.values().any(|page| page.rhythm.counts(now))
    }
}

impl Mesh {
    /// Whom and what to look at, by the roster and the site.
    pub(super) fn keep_watch(&mut self, now: Instant) {
        let ssh_port = self.state.site.watch.ssh_port;
        let findable = |node: &NodeId| !self.homes(*node, ssh_port).is_empty();
        let hosts: Vec<NodeId> = self.peers().filter(|_| ssh_port != 0).filter(findable).collect();
        let pages: Vec<Name> = self.state.site.endpoints.keys().cloned().collect();
        let first = Rhythm { due: now.max(self.started.after(FIRST_AFTER)), ..Rhythm::default() };
        self.outside.hosts.retain(|node, _| hosts.contains(node));
        self.outside.pages.retain(|name, _| pages.contains(name));
        for node in hosts {
            self.outside.hosts.entry(node).or_insert_with(|| Host { rhythm: first, key: None, alone: None });
        }
        for name in pages {
            let shown = || Shown { rhythm: first, by: None, asked: None, known: false };
            self.outside.pages.entry(name).or_insert_with(shown);
        }
    }

    /// Looks at whatever is due.
    pub(super) fn look_if_due(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if now < self.outside.deadline() {
            return;
        }
        let due = |rhythm: &mut Rhythm, every| {
            let due = rhythm.due <= now;
            if due {
                rhythm.due = now.after(every);
            }
            due
        };
        let Outside { hosts, pages } = &mut self.outside;
        let hosts = hosts
            .iter_mut()
            .filter_map(|(node, host)| due(&mut host.rhythm, HOST_KEY_EVERY).then_some(*node));
        let hosts: Vec<NodeId> = hosts.collect();
        let pages = pages
            .iter_mut()
            .filter_map(|(name, page)| due(&mut page.rhythm, PAGE_EVERY).then(|| name.clone()));
        let pages: Vec<Name> = pages.collect();
        let ssh_port = self.state.site.watch.ssh_port;
        let hosts = hosts.into_iter().map(|node| Look::HostKey { node, at: self.homes(node, ssh_port) });
        out.extend(hosts.map(Effect::Look));
        for endpoint in pages {
            let look = self.ask_for_page(endpoint);
            out.extend(look.map(Effect::Look));
        }
    }

    /// What a look saw.
    pub(super) fn take_sight(&mut self, now: Instant, sight: Sight) {
        let news = match sight {
            Sight::HostKey { node, key } => self.saw_host_key(now, node, key),
            Sight::Page { endpoint, holder, page } => self.saw_page(now, &endpoint, holder, page),
        };
        if news {
            self.judging.hurry(now);
        }
    }

    fn saw_host_key(&mut self, now: Instant, node: NodeId, key: Option<HostKey>) -> bool {
        let (expected, heard) = (self.state.host_keys.get(&node), self.hears(now, node));
        let Some(host) = self.outside.hosts.get_mut(&node) else { return false };
        let Some(key) = key else { return false };
        let first = host.key.is_none_or(|(_, before)| before != key);
        host.key = Some((now, key));
        let wrong = expected.is_some_and(|expected| *expected != key);
        host.alone = if wrong && !heard { host.alone.or(Some(now)) } else { None };
        let counts = host.rhythm.saw(now, wrong, HOST_KEY_EVERY);
        if first {
            self.reporter.hurry();
        }
        counts
    }

    fn saw_page(&mut self, now: Instant, endpoint: &Name, holder: (NodeId, Epoch), page: Page) -> bool {
        let calls_it_healthy = self.serves_healthily(endpoint, holder);
        let Some(shown) = self.outside.pages.get_mut(endpoint) else { return false };
        shown.known |= page == Page::AsExpected;
        if shown.by != Some(holder) {
            shown.known &= shown.rhythm.wrong < TIMES || page == Page::AsExpected;
            shown.rhythm.wrong = 0;
        }
        let wrong = matches!(page, Page::Other(_)) && calls_it_healthy && shown.known;
        shown.by = Some(holder);
        shown.rhythm.saw(now, wrong, PAGE_EVERY)
    }

    /// What speaks against a node that can be seen from outside.
    pub(super) fn sights(&self, now: Instant, node: NodeId) -> Vec<Ground> {
        let mut grounds = Vec::new();
        if let Some(host) = self.outside.hosts.get(&node).filter(|host| host.rhythm.counts(now)) {
            grounds.push(Ground::Probed(Probe::HostKey));
            let gone =
                host.alone.is_some_and(|since| now.since(since) >= GONE_AFTER) && !self.hears(now, node);
            grounds.extend(gone.then_some(Ground::Silence));
        }
        let shows_other = |(name, page): (&Name, &Shown)| {
            let by = page.by.filter(|(holder, _)| *holder == node);
            page.rhythm.counts(now) && by.is_some_and(|by| self.serves_healthily(name, by))
        };
        grounds.extend(self.outside.pages.iter().any(shows_other).then_some(Ground::Probed(Probe::Content)));
        grounds
    }

    /// Whether a node says that it holds an endpoint under this epoch, and that all is well there.
    fn serves_healthily(&self, endpoint: &Name, (node, epoch): (NodeId, Epoch)) -> bool {
        let Some(spec) = self.state.site.endpoints.get(endpoint) else { return false };
        self.rows.get(&node).is_some_and(|row| {
            let holds = |lease: &LeaseSeen| lease.endpoint == *endpoint && lease.holding == Some(epoch);
            serves(&row.report, spec) && row.report.leases.iter().any(holds)
        })
    }

    /// Asks the holder of an endpoint, if there is one, for the page by which it is judged.
    fn ask_for_page(&mut self, endpoint: Name) -> Option<Look> {
        let question = self.question(&endpoint)?;
        let shown = self.outside.pages.get_mut(&endpoint)?;
        if shown.asked.as_ref() != Some(&question) {
            (shown.known, shown.rhythm.wrong) = (false, 0);
            shown.asked = Some(question.clone());
        }
        let holder = self.peers().find_map(|peer| {
            let report = &self.rows.get(&peer)?.report;
            let lease = report.leases.iter().find(|lease| lease.endpoint == endpoint)?;
            Some((peer, lease.holding?))
        })?;
        let Question { at, path, host, expect } = question;
        Some(Look::Page { endpoint, holder, at, path, host, expect })
    }

    /// That of a check that goes where visitors go.
    fn question(&self, endpoint: &Name) -> Option<Question> {
        let spec = self.state.site.endpoints.get(endpoint)?;
        let mut checks = spec.services.iter().filter_map(|name| self.state.site.services.get(name));
        checks.find_map(|service| match &service.check {
            Check::Http { port, path, host, expect } if spec.ports.contains(port) => {
                let at = SocketAddr::new(spec.address, *port);
                Some(Question { at, path: path.clone(), host: host.clone(), expect: *expect })
            }
            Check::Http { .. } | Check::Tcp { .. } | Check::Exec { .. } => None,
        })
    }

    /// Where a node's server may be found from elsewhere.
    fn homes(&self, node: NodeId, port: u16) -> Vec<SocketAddr> {
        let member = self.state.members.get(&node);
        let homes =
            member.into_iter().flat_map(|member| &member.addresses).map(|home| home.ip().to_canonical());
        let mut homes: Vec<SocketAddr> =
            homes.filter(|home| !home.is_loopback()).map(|home| SocketAddr::new(home, port)).collect();
        homes.dedup();
        homes
    }
}
