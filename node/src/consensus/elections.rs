//! Election certificates on this node: the grants it signs, those it collects, and what it believes.
//!
//! A candidate's own grant is signed when openraft sends its first request for a vote, or first leads: in
//! openraft 0.9, both come after `save_vote` returned, which is when the vote is on the disk.
//!
//! **Invariant.** A grant is signed only for a vote that is durable. Nobody is in the table but with a
//! certificate that was verified, here or before this start.
//!
//! Deliberately absent: asking for certificates. A leader shows its own, and again after each failure.

use super::flusher::Flusher;
use super::gate::GateError;
use super::status::Metrics;
use super::wire::{Ballot, EntryId};
use crate::storage::{Op, Store, StoreError, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use stead_proto::codec;
use stead_proto::election::{CertificateError, Elected, ElectionCertificate, Electorate, Grant};
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::sign::{SecretKey, Signed};
use tokio::sync::watch;

/// Elections that a node remembers; the oldest goes first.
const ELECTIONS_MAX: usize = 4;
/// Where the last certificate is.
const CERTIFICATE_KEY: &[u8] = b"consensus/election";

/// Who may vote, by the roster of this node.
pub trait Electors: fmt::Debug + Send + Sync + 'static {
    /// The keys of all members.
    fn keys(&self) -> BTreeMap<NodeId, PublicKey>;
    /// The voters, for as long as the log does not say.
    fn voters(&self) -> BTreeSet<NodeId>;
}

/// What is on the disk.
type Kept = (u64, u64, ElectionCertificate);

/// All that this node knows of elections.
pub(super) struct Elections {
    me: u64,
    cluster: ClusterId,
    key: Arc<SecretKey>,
    electors: Arc<dyn Electors>,
    flusher: Flusher,
    metrics: OnceLock<watch::Receiver<Metrics>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    certificates: BTreeMap<(u64, u64), ElectionCertificate>,
    /// The grants of this node's own latest candidacy.
    term: u64,
    grants: BTreeMap<u64, Signed<Grant>>,
}

impl Elections {
    /// With the certificate that was kept before this start.
    pub(super) fn open(
        me: u64,
        cluster: ClusterId,
        key: Arc<SecretKey>,
        electors: Arc<dyn Electors>,
        store: &dyn Store,
        flusher: Flusher,
    ) -> Result<Self, StoreError> {
        let mut table = Table::default();
        if let Some(bytes) = store.get(Tree::Meta, CERTIFICATE_KEY)? {
            // Its loss costs one more showing.
            match codec::decode::<Kept>(&bytes, super::META_BYTES_MAX) {
                Ok((term, node, certificate)) => drop(table.certificates.insert((term, node), certificate)),
                Err(error) => tracing::warn!(%error, "the last election certificate is unreadable"),
            }
        }
        let (metrics, table) = (OnceLock::new(), Mutex::new(table));
        Ok(Self { me, cluster, key, electors, flusher, metrics, table })
    }

    /// Where this node's membership is read from, once openraft runs.
    pub(super) fn watch(&self, metrics: watch::Receiver<Metrics>) {
        drop(self.metrics.set(metrics));
    }

    /// Whether the election of that very vote is proven: a look into a table.
    pub(super) fn is_elected(&self, ballot: Ballot) -> bool {
        self.lock().certificates.contains_key(&(ballot.term, ballot.node))
    }

    /// This node's grant of a vote that is on its disk.
    pub(super) fn grant(&self, ballot: Ballot, last: Option<EntryId>) -> Option<Signed<Grant>> {
        let membership = self
            .metrics
            .get()
            .and_then(|metrics| metrics.borrow().membership_config.log_id().as_ref().map(|id| id.index));
        let grant = Grant {
            term: ballot.term,
            candidate: NodeId(ballot.node),
            last: last.map(EntryId::position),
            membership,
            voter: NodeId(self.me),
        };
        let signed = self.key.sign(self.cluster, &grant);
        signed.inspect_err(|error| tracing::error!(%error, "a grant is too long")).ok()
    }

    /// Starts to collect grants for this node's own candidacy, with its own.
    pub(super) fn stand(&self, ballot: Ballot, last: Option<EntryId>) {
        if self.lock().term >= ballot.term {
            return;
        }
        let own = self.grant(ballot, last);
        let mut table = self.lock();
        if table.term < ballot.term {
            (table.term, table.grants) = (ballot.term, own.map(|own| (self.me, own)).into_iter().collect());
        }
    }

    /// A voter's grant for this node's own candidacy: no vote counts without it.
    pub(super) fn collect(
        &self,
        from: u64,
        ballot: Ballot,
        last: Option<EntryId>,
        signed: Option<Signed<Grant>>,
    ) -> Result<(), GateError> {
        let refused = GateError::Grant { from };
        let signed = signed.ok_or(refused)?;
        let grant = signed.verify(self.cluster).map_err(|_| refused)?;
        let fits = (grant.term, grant.candidate, grant.voter) == (ballot.term, NodeId(self.me), NodeId(from))
            && grant.last == last.map(EntryId::position);
        let key = self.electors.keys().get(&NodeId(from)).copied();
        if !fits || key != Some(signed.claimed_signer()) {
            return Err(refused);
        }
        let mut table = self.lock();
        if table.term == ballot.term {
            table.grants.insert(from, signed);
        }
        Ok(())
    }

    /// The certificate to show as the leader of `ballot`.
    pub(super) fn certificate(&self, ballot: Ballot) -> Option<ElectionCertificate> {
        let known = self.lock().certificates.get(&(ballot.term, ballot.node)).cloned();
        if known.is_some() || ballot.node != self.me {
            return known;
        }
        // A single voter asks nobody.
        self.stand(ballot, None);
        let grants: Vec<_> = {
            let table = self.lock();
            if table.term != ballot.term {
                return None;
            }
            table.grants.values().cloned().collect()
        };
        let certificate = ElectionCertificate::of(grants);
        self.keep(ballot, certificate.clone());
        Some(certificate)
    }

    /// What this node knows of voters beyond its log.
    pub(super) fn electorate(
        &self,
        mut memberships: Vec<Vec<BTreeSet<NodeId>>>,
        membership: Option<u64>,
    ) -> Electorate {
        memberships.retain(|sets| !sets.is_empty());
        if memberships.is_empty() {
            memberships.push(vec![self.electors.voters()]);
        }
        Electorate { keys: self.electors.keys(), memberships, membership }
    }

    /// Verifies the proof of `ballot`, and remembers it.
    pub(super) fn believe(
        &self,
        ballot: Ballot,
        certificate: ElectionCertificate,
        electorate: &Electorate,
    ) -> Result<(), CertificateError> {
        let elected = certificate.verify(self.cluster, electorate)?;
        if elected != (Elected { term: ballot.term, leader: NodeId(ballot.node) }) {
            return Err(CertificateError::Mixed);
        }
        self.keep(ballot, certificate);
        Ok(())
    }

    fn keep(&self, ballot: Ballot, certificate: ElectionCertificate) {
        let newest = {
            let mut table = self.lock();
            table.certificates.insert((ballot.term, ballot.node), certificate.clone());
            while table.certificates.len() > ELECTIONS_MAX {
                table.certificates.pop_first();
            }
            table.certificates.last_key_value().map(|(key, _)| *key)
        };
        if newest != Some((ballot.term, ballot.node)) {
            return;
        }
        let kept: Kept = (ballot.term, ballot.node, certificate);
        let Ok(bytes) = codec::encode(&kept, super::META_BYTES_MAX) else { return };
        // Without it, a restarted node is shown the certificate once more.
        self.flusher.keep(Op::Put(Tree::Meta, CERTIFICATE_KEY.to_vec(), bytes), "the election certificate");
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
