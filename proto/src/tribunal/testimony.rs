//! What one node says against another after it has looked for itself.
//!
//! **Invariant.** A testimony is about one [`Subject`], under one electorate, and commits to its evidence by
//! digest. It says what its witness found, never what it heard.

use crate::id::{NodeId, PublicKey};
use crate::limits::{GROUNDS_MAX, TESTIMONY_BYTES_MAX};
use crate::sign::Statement;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Who is judged: a node under one key. A node that is readmitted has another id and another key, so nobody is
/// judged twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// Its number.
    pub node: NodeId,
    /// Its key.
    pub key: PublicKey,
}

/// What a certificate does to its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sanction {
    /// No endpoint and no leadership, for a while.
    Demote,
    /// Out of the mesh: nobody talks to it any more.
    Isolate,
}

/// Something that any peer can look at again, from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Probe {
    /// The host key of its SSH server is another one.
    HostKey,
    /// Ports are open that nobody expects, or the expected ones are not.
    Ports,
    /// The site answers with something else than on the other nodes.
    Content,
    /// The site's TLS certificate is another one.
    Certificate,
}

/// What a witness found. Evidence that others can verify is named by the SHA-256 of its signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ground {
    /// The subject signed two statements for one place of its chain (DESIGN §11 P4): a proof that needs no trust.
    Contradiction {
        /// The one.
        one: [u8; 32],
        /// The other.
        other: [u8; 32],
    },
    /// In a report that came on its own live session, in its current incarnation, its detectors convict it.
    Confession {
        /// The report.
        report: [u8; 32],
    },
    /// That session stands at an address that the roster knows, and answered there just now: whoever stole a key
    /// elsewhere cannot confess with it (§11 P11).
    AtHome,
    /// A probe, three times in a row.
    Probed(Probe),
    /// A flood of SYNs from its addresses arrived here.
    Flooded {
        /// The highest rate, a second.
        per_second: u32,
    },
    /// Its reports stopped or stand still, though its host answers; it was asked why, and did not say.
    Silence,
}

impl Ground {
    /// Whether it can be the reason of an isolation, with something beside it.
    const fn is_hard(self) -> bool {
        matches!(self, Self::Confession { .. } | Self::Probed(_))
    }
}

/// Where the reports of a node stand: a time that its witnesses have in common, whatever their clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// How often it had started.
    pub incarnation: u64,
    /// How many reports it had made since.
    pub sequence: u64,
}

/// One node's word against another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// Against whom.
    pub subject: Subject,
    /// What it asks for.
    pub sanction: Sanction,
    /// The log index of the electorate under which it counts.
    pub electorate: u64,
    /// Who speaks; the key that signs has to be his.
    pub by: NodeId,
    /// What he found, without repetition.
    pub grounds: Vec<Ground>,
    /// When, in milliseconds since 1970 by his clock: testimonies of different times do not add up.
    pub unix_ms: u64,
    /// The last report of the subject that he had heard.
    pub heard: Option<Place>,
}

impl Statement for Testimony {
    const CONTEXT: &'static str = "stead testimony v1";
    const BYTES_MAX: usize = TESTIMONY_BYTES_MAX;
}

impl Testimony {
    /// Whether what it says carries its sanction, as far as one witness can: see [`suffices`].
    #[must_use]
    pub fn suffices(&self) -> bool {
        self.grounds.len() <= GROUNDS_MAX && suffices(self.sanction, &self.grounds)
    }
}

/// Whether grounds carry a sanction, as far as one witness can.
///
/// One ground is enough to demote, but for [`Ground::AtHome`], which is no charge. To isolate it takes a proof; or two
/// different grounds, one of them a confession or a probe. What only one observer can see ([`Ground::Flooded`]) and
/// what a bad network does, too ([`Ground::Silence`]) carry nothing by themselves.
#[must_use]
pub fn suffices(sanction: Sanction, grounds: &[Ground]) -> bool {
    let confessed = grounds.iter().any(|ground| matches!(ground, Ground::Confession { .. }));
    let counts = |ground: &Ground| confessed || *ground != Ground::AtHome;
    match sanction {
        Sanction::Demote => grounds.iter().any(|ground| *ground != Ground::AtHome),
        Sanction::Isolate => {
            let proof = grounds.iter().any(|ground| matches!(ground, Ground::Contradiction { .. }));
            let mut different: Vec<_> = grounds.iter().filter(|ground| counts(ground)).map(kind).collect();
            different.sort_unstable();
            different.dedup();
            proof || (different.len() >= 2 && grounds.iter().any(|ground| ground.is_hard()))
        }
    }
}

/// Two floods, or two confessions, are one kind of ground; two probes of different things are two.
const fn kind(ground: &Ground) -> (u8, Option<Probe>) {
    match ground {
        Ground::Contradiction { .. } => (0, None),
        Ground::Confession { .. } => (1, None),
        Ground::AtHome => (2, None),
        Ground::Probed(probe) => (3, Some(*probe)),
        Ground::Flooded { .. } => (4, None),
        Ground::Silence => (5, None),
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction { .. } => f.write_str("it signed two statements that contradict each other"),
            Self::Confession { .. } => f.write_str("its own detectors convict it"),
            Self::AtHome => f.write_str("it said so from an address of its own"),
            Self::Probed(Probe::HostKey) => f.write_str("the host key of its SSH server was exchanged"),
            Self::Probed(Probe::Ports) => f.write_str("other ports are open on it than should be"),
            Self::Probed(Probe::Content) => f.write_str("it serves something else than the other nodes"),
            Self::Probed(Probe::Certificate) => f.write_str("it serves the site under another certificate"),
            Self::Flooded { per_second } => write!(f, "it sent up to {per_second} SYNs a second here"),
            Self::Silence => {
                f.write_str("its reports stopped while its host answers, and it did not say why")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFESSION: Ground = Ground::Confession { report: [1; 32] };
    const FLOODED: Ground = Ground::Flooded { per_second: 900 };
    const HOST_KEY: Ground = Ground::Probed(Probe::HostKey);

    #[test]
    fn one_ground_never_isolates_but_a_proof() {
        let proof = Ground::Contradiction { one: [1; 32], other: [2; 32] };
        let all = [CONFESSION, Ground::AtHome, HOST_KEY, FLOODED, Ground::Silence];
        for one in all {
            assert!(!suffices(Sanction::Isolate, &[one, one]), "{one:?}");
        }
        assert!(suffices(Sanction::Isolate, &[proof]));
    }

    #[test]
    fn two_different_grounds_isolate_if_one_of_them_is_hard() {
        let isolates = |grounds: &[Ground]| suffices(Sanction::Isolate, grounds);
        assert!(isolates(&[CONFESSION, Ground::AtHome]));
        assert!(isolates(&[HOST_KEY, Ground::Probed(Probe::Content)]));
        assert!(isolates(&[HOST_KEY, FLOODED]) && isolates(&[HOST_KEY, Ground::Silence]));
        assert!(!isolates(&[FLOODED, Ground::Silence]), "a bad network does both");
        assert!(!isolates(&[HOST_KEY, Ground::AtHome]), "where it lives is no charge");
        assert!(!isolates(&[FLOODED, Ground::Flooded { per_second: 7 }]), "twice the same");
    }

    #[test]
    fn anything_but_its_address_demotes() {
        assert!(suffices(Sanction::Demote, &[Ground::Silence]));
        assert!(!suffices(Sanction::Demote, &[Ground::AtHome]) && !suffices(Sanction::Demote, &[]));
    }

    fn ground() -> impl Strategy<Value = Ground> {
        prop_oneof![
            Just(CONFESSION),
            Just(Ground::AtHome),
            Just(HOST_KEY),
            Just(Ground::Probed(Probe::Content)),
            any::<u32>().prop_map(|per_second| Ground::Flooded { per_second }),
            Just(Ground::Silence),
        ]
    }

    proptest! {
        #[test]
        fn more_grounds_never_carry_less(grounds in prop::collection::vec(ground(), 0..6), more in ground()) {
            let mut both = grounds.clone();
            both.push(more);
            for sanction in [Sanction::Demote, Sanction::Isolate] {
                prop_assert!(!suffices(sanction, &grounds) || suffices(sanction, &both));
            }
        }
    }
}
