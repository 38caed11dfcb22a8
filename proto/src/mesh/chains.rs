//! Whether a node tells everybody the same: the last reports of each, and two that cannot both be of one honest chain.
//!
//! ```text
//! a report, heard of its author ────▶ kept for a while ◀──── the head that a peer names, of the same author
//! another one of that place, shown by a peer ──▶ proof           └─ another one? show ours to everybody
//! ```
//!
//! Nobody is believed about anybody here: a proof is two signatures of one key (DESIGN §11 P4; PeerReview, SOSP 2007).
//!
//! **Invariant.** Bounded: [`KEPT`] reports and [`SHOWN`] exhibits of each author, one proof, and one exhibit sent in
//! [`SHOW_EVERY`].

use crate::id::NodeId;
use crate::report::{self, Head, Report};
use crate::sign::Signed;
use crate::time::{Instant, Span};
use crate::tribunal::{Ground, Place};
use alloc::collections::{BTreeMap, VecDeque};

/// How many reports of each author are kept: as many as come until the others have named them.
const KEPT: usize = 16;
/// How many that others show are kept beside.
const SHOWN: usize = 4;
/// How often a report of one author is shown to the others.
const SHOW_EVERY: Span = Span::from_ms(500);

/// What this node heard of the others, and what others show it.
#[derive(Debug, Default)]
pub(super) struct Chains(BTreeMap<NodeId, Chain>);

#[derive(Debug, Default)]
struct Chain {
    /// From the author himself, in the order in which they came.
    heard: VecDeque<Link>,
    /// From others.
    shown: VecDeque<Link>,
    showed: Option<Instant>,
    proof: Option<[Signed<Report>; 2]>,
}

/// One signed report, with what it takes to compare it.
#[derive(Clone, Debug)]
struct Link {
    at: Place,
    link: [u8; 32],
    previous: [u8; 32],
    signed: Signed<Report>,
}

impl Chains {
    /// A verified report of its author; whether it proves him a liar only now.
    pub(super) fn hear(&mut self, report: &Report, signed: &Signed<Report>) -> bool {
        let chain = self.0.entry(report.from).or_default();
        let link = Link::of(report, signed);
        let proves = chain.compare(&link);
        if !chain.knows(&link) {
            keep(&mut chain.heard, link, KEPT);
        }
        proves
    }

    /// A verified report that somebody else shows; whether it proves its author a liar only now.
    pub(super) fn see(&mut self, report: &Report, signed: &Signed<Report>) -> bool {
        let chain = self.0.entry(report.from).or_default();
        let link = Link::of(report, signed);
        let proves = chain.compare(&link);
        if !chain.knows(&link) {
            keep(&mut chain.shown, link, SHOWN);
        }
        proves
    }

    /// Whether this very report need not be verified any more.
    pub(super) fn knows(&self, author: NodeId, signed: &Signed<Report>) -> bool {
        self.0.get(&author).is_some_and(|chain| chain.all().any(|known| known.signed == *signed))
    }

    /// The last report that was heard of a node.
    pub(super) fn head(&self, author: NodeId) -> Option<Head> {
        let latest = self.0.get(&author)?.heard.iter().max_by_key(|link| link.at)?;
        Some(Head { at: latest.at, link: latest.link })
    }

    /// What to show everybody if a peer heard `head` of a node: a report that does not go with it.
    pub(super) fn objects(&mut self, now: Instant, author: NodeId, head: Head) -> Option<Signed<Report>> {
        let chain = self.0.get_mut(&author)?;
        if chain.proof.is_some() || chain.showed.is_some_and(|at| now.since(at) < SHOW_EVERY) {
            return None;
        }
        let other = chain.heard.iter().find(|link| {
            (link.at == head.at && link.link != head.link)
                || (follows(head.at, link.at) && link.previous != head.link)
        })?;
        chain.showed = Some(now);
        Some(other.signed.clone())
    }

    /// The ground that a proof makes.
    pub(super) fn ground(&self, author: NodeId) -> Option<Ground> {
        let [one, other] = self.proof(author)?;
        Some(Ground::Contradiction { one: report::link(one), other: report::link(other) })
    }

    /// Two signed reports that cannot both be honest.
    pub(super) fn proof(&self, author: NodeId) -> Option<&[Signed<Report>; 2]> {
        self.0.get(&author)?.proof.as_ref()
    }

    /// Of how many there is a proof.
    pub(super) fn proven(&self) -> impl Iterator<Item = (NodeId, &[Signed<Report>; 2])> {
        self.0.iter().filter_map(|(author, chain)| Some((*author, chain.proof.as_ref()?)))
    }

    pub(super) fn retain(&mut self, belongs: impl Fn(NodeId) -> bool) {
        self.0.retain(|author, _| belongs(*author));
    }
}

impl Chain {
    fn all(&self) -> impl Iterator<Item = &Link> {
        self.heard.iter().chain(&self.shown)
    }

    fn knows(&self, link: &Link) -> bool {
        self.all().any(|known| known.link == link.link)
    }

    fn compare(&mut self, link: &Link) -> bool {
        if self.proof.is_some() {
            return false;
        }
        let other = self.all().find(|known| contradict(known, link)).map(|known| known.signed.clone());
        let Some(other) = other else { return false };
        let mut both = [other, link.signed.clone()];
        // The same for everybody, whatever he heard first.
        both.sort_by_key(report::link);
        self.proof = Some(both);
        true
    }
}

impl Link {
    fn of(report: &Report, signed: &Signed<Report>) -> Self {
        let (at, previous) = (report.place(), report.previous);
        Self { at, previous, link: report::link(signed), signed: signed.clone() }
    }
}

fn keep(links: &mut VecDeque<Link>, link: Link, most: usize) {
    links.push_back(link);
    let excess = links.len().saturating_sub(most);
    links.drain(..excess);
}

/// Whether no honest chain holds both: two at one place, or one that names another one before it than there is.
fn contradict(one: &Link, other: &Link) -> bool {
    let broken = |before: &Link, after: &Link| follows(before.at, after.at) && after.previous != before.link;
    (one.at == other.at && one.link != other.link) || broken(one, other) || broken(other, one)
}

fn follows(before: Place, after: Place) -> bool {
    before.incarnation == after.incarnation && before.sequence.checked_add(1) == Some(after.sequence)
}
