//! An election certificate: the grants by which a majority made one candidate the leader of one term.
//!
//! **Invariant.** A certificate counts only if every grant in it is for one candidate in one term, no voter
//! is counted twice, and each counted grant was signed under its voter's key in the roster. It needs more
//! than half of *each* set of voters of a membership that the verifier knows.
//!
//! **Liveness fallback.** A verifier whose membership lags cannot know all voters. It believes grants that
//! carry a newer membership than its own if at least ⌊(n−1)/2⌋+1 members of its own roster signed them, and at
//! least two (n is the size of its own largest set of voters): with at most ⌊(n−1)/2⌋ liars, one honest node that it knows
//! vouches. This proves less than a majority does, and stands in for a chain of configurations, each signed
//! by its predecessor, which does not exist.

use super::Grant;
use crate::id::{ClusterId, NodeId, PublicKey};
use crate::limits::{GRANTS_MAX, TERM_MAX};
use crate::sign::{SignError, Signed};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// The grants of one election. Nothing is proven before [`ElectionCertificate::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionCertificate {
    grants: Vec<Signed<Grant>>,
}

/// Who was elected, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elected {
    /// The term.
    pub term: u64,
    /// Its leader.
    pub leader: NodeId,
}

/// What a verifier knows of the voters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Electorate {
    /// The keys of all members in its roster.
    pub keys: BTreeMap<NodeId, PublicKey>,
    /// Memberships under any of which an election may have been held, each with one set of voters or, while
    /// one set replaces another, two.
    pub memberships: Vec<Vec<BTreeSet<NodeId>>>,
    /// The log index of the newest of them.
    pub membership: Option<u64>,
}

/// Why a certificate was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// None, or more than there can be voters.
    #[error("{0} grants: 1 to {GRANTS_MAX} make a certificate")]
    Count(usize),
    /// A grant that is forged, of another mesh, or unreadable.
    #[error("a grant: {0}")]
    Grant(#[from] SignError),
    /// Grants that are not for the same candidate in the same term.
    #[error("grants for different candidates or terms")]
    Mixed,
    /// A voter's grant under a key that is not his.
    #[error("a grant of {0} under a key that the roster does not have for it")]
    Key(NodeId),
    /// A voter counted twice.
    #[error("two grants of {0}")]
    Repeated(NodeId),
    /// A term that no honest mesh comes to.
    #[error("term {0} is too high to be true")]
    Term(u64),
    /// Too few of the voters.
    #[error("{0} grants of voters known here are no majority")]
    TooFew(usize),
}

impl ElectionCertificate {
    /// The certificate made of `grants`.
    #[must_use]
    pub const fn of(grants: Vec<Signed<Grant>>) -> Self {
        Self { grants }
    }

    /// Whether, by `electorate`, a majority elected somebody; and whom.
    ///
    /// # Errors
    /// [`CertificateError`] says what is wrong; whoever made it is broken or hostile.
    pub fn verify(&self, cluster: ClusterId, electorate: &Electorate) -> Result<Elected, CertificateError> {
        if self.grants.is_empty() || self.grants.len() > GRANTS_MAX {
            return Err(CertificateError::Count(self.grants.len()));
        }
        let mut elected = None;
        let mut all: BTreeSet<NodeId> = BTreeSet::new();
        let mut known: BTreeMap<NodeId, Option<u64>> = BTreeMap::new();
        for signed in &self.grants {
            let grant = signed.verify(cluster)?;
            let this = Elected { term: grant.term, leader: grant.candidate };
            if *elected.get_or_insert(this) != this {
                return Err(CertificateError::Mixed);
            }
            if !all.insert(grant.voter) {
                return Err(CertificateError::Repeated(grant.voter));
            }
            match electorate.keys.get(&grant.voter) {
                Some(key) if *key == signed.claimed_signer() => {
                    known.insert(grant.voter, grant.membership);
                }
                Some(_) => return Err(CertificateError::Key(grant.voter)),
                // A voter that joined since: it counts for nothing here.
                None => {}
            }
        }
        let elected = elected.ok_or(CertificateError::Count(0))?;
        if elected.term > TERM_MAX {
            return Err(CertificateError::Term(elected.term));
        }
        if electorate.elects(&known) { Ok(elected) } else { Err(CertificateError::TooFew(known.len())) }
    }
}

impl Electorate {
    fn elects(&self, granted: &BTreeMap<NodeId, Option<u64>>) -> bool {
        let majority = |set: &BTreeSet<NodeId>| {
            set.iter().filter(|voter| granted.contains_key(voter)).count() > set.len() / 2
        };
        let by = |sets: &Vec<BTreeSet<NodeId>>| !sets.is_empty() && sets.iter().all(majority);
        self.memberships.iter().any(by) || self.is_vouched_for(granted)
    }

    /// The liveness fallback.
    fn is_vouched_for(&self, granted: &BTreeMap<NodeId, Option<u64>>) -> bool {
        let Some(voters) = self.memberships.iter().flatten().map(BTreeSet::len).max() else { return false };
        let newer = granted.values().filter(|membership| **membership > self.membership).count();
        newer > (voters.saturating_sub(1) / 2).max(1)
    }
}
