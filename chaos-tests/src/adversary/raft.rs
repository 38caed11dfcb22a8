//! A member that speaks Raft as it likes: what openraft by itself believes of anybody, sent to real agents.
//!
//! The agent of one node is killed, and this program speaks with its key on the Raft plane, to each of the others.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use stead::agent_file::PORT;
use stead::demo::stage::Stage;
use stead_node::transport::Plane;
use stead_proto::codec;
use stead_proto::election::{ElectionCertificate, Grant};
use stead_proto::id::{ClusterId, NodeId};
use stead_proto::limits::{SNAPSHOT_BYTES_MAX, TERM_MAX};
use stead_proto::report::LogSeen;
use stead_proto::sign::{SecretKey, Signed};
use zeroize::Zeroizing;

use self::forged::{Ballot, EntryId, Forged, Payload, bytes, only};
use super::audience::Audience;
use super::member::{PATIENCE, key_file};
use crate::bad_input::intruder::{Intruder, seed_in};

// One mirror of what is on the wire, for the tests of one process and for these.
#[path = "../../../node/tests/consensus/forged.rs"]
mod forged;

/// How long an agent may take to refuse.
const SOON: Duration = Duration::from_secs(2);
/// What the agents pass to consensus begins with this on the Raft plane.
const CONSENSUS: u8 = 0;

/// What became of one kind of attack.
#[derive(Clone, Debug, Serialize)]
pub struct Attack {
    /// What it is.
    pub name: &'static str,
    /// Messages sent, to all honest nodes together.
    pub sent: usize,
    /// Those that were not refused.
    pub believed: usize,
}

/// What came of all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Siege {
    /// How many nodes there are.
    pub nodes: usize,
    /// Whether what any member may ask was answered: the attacks came to where they would have been believed.
    pub heard: bool,
    /// Each kind.
    pub attacks: Vec<Attack>,
    /// Whether leader, term and voters are what they were, for every honest node.
    pub undisturbed: bool,
    /// The longest time for which visitors were not served.
    pub outage_ms: u64,
}

impl Siege {
    /// Whether nothing was believed and nobody noticed.
    #[must_use]
    pub fn held(&self) -> bool {
        let refused = self.attacks.iter().all(|attack| attack.sent > 0 && attack.believed == 0);
        self.heard && self.undisturbed && refused
    }
}

/// What an agent answers, as far as it matters here.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the form of the wire")]
enum Told {
    Append,
    Vote { ballot: Ballot, granted: bool, last: Option<EntryId>, grant: Option<Signed<Grant>> },
}

/// One hostile member.
struct Member {
    id: u64,
    key: SecretKey,
    cluster: ClusterId,
    log: LogSeen,
    nodes: u64,
}

/// Kills the agent of node `hostile`, and lets whoever has its key attack consensus on all the others.
///
/// # Errors
/// What could not be played, with the nodes' logs.
pub fn besiege(stage: &mut Stage, hostile: usize) -> anyhow::Result<Siege> {
    stage.kill_agent(hostile)?;
    let honest: Vec<usize> = (0..stage.players.len()).filter(|i| *i != hostile).collect();
    stage.until("the honest ones serve", PATIENCE, |stage| stage.holder().filter(|i| honest.contains(i)))?;
    let before = stage
        .until("one of them leads, and all know it", PATIENCE, |stage| settled(stage, &honest, hostile))?;
    let audience = Audience::seated(stage)?;
    let player = stage.player(hostile)?;
    let seed = seed_in(&key_file(player.directory()))?;
    let state = stage.status(*honest.first().context("nobody is honest")?)?.state;
    let member = Member {
        id: player.id.0,
        key: SecretKey::from_seed(&Zeroizing::new(seed)),
        cluster: state.cluster,
        log: before,
        nodes: u64::try_from(stage.players.len())?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (heard, attacks) = runtime.block_on(async {
        let intruder = Intruder::at(&stage.lab, player.place, seed, state.cluster)?;
        let mut heard = true;
        for other in &honest {
            let to = SocketAddr::new(stage.lab.ip4(stage.player(*other)?.place).into(), PORT);
            heard &= is_believed(&intruder, to, &bytes(&Forged::Vouch { index: 1 })).await?;
        }
        let mut attacks = Vec::new();
        for (name, frames) in member.attacks() {
            let mut attack = Attack { name, sent: 0, believed: 0 };
            for other in &honest {
                let to = SocketAddr::new(stage.lab.ip4(stage.player(*other)?.place).into(), PORT);
                for frame in &frames {
                    attack.sent += 1;
                    attack.believed += usize::from(is_believed(&intruder, to, frame).await?);
                }
            }
            attacks.push(attack);
        }
        anyhow::Ok((heard, attacks))
    })?;
    let after = stage.until("all of them still agree", PATIENCE, |stage| settled(stage, &honest, hostile))?;
    let undisturbed = (after.term, after.leader) == (before.term, before.leader)
        && stage.status(*honest.first().context("nobody is honest")?)?.state.config.voters
            == state.config.voters;
    let outage_ms = audience.dismissed()?.as_ms();
    Ok(Siege { nodes: stage.players.len(), heard, attacks, undisturbed, outage_ms })
}

/// The log of the honest ones, once they have one leader among themselves and the same term.
fn settled(stage: &Stage, honest: &[usize], hostile: usize) -> Option<LogSeen> {
    let logs: Vec<LogSeen> =
        honest.iter().map(|i| Some(stage.status(*i).ok()?.own.log)).collect::<Option<_>>()?;
    let first = *logs.first()?;
    let leader = first.leader?;
    let is_hostile = stage.player(hostile).is_ok_and(|player| player.id == leader);
    let agreed = logs.iter().all(|log| (log.term, log.leader) == (first.term, first.leader));
    (agreed && !is_hostile).then_some(first)
}

/// Sends a frame; whether the agent did anything but refuse it.
async fn is_believed(intruder: &Intruder, to: SocketAddr, frame: &[u8]) -> anyhow::Result<bool> {
    let connection = intruder.connect(to, Plane::Raft.alpn()).await?;
    let asked = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&[&[CONSENSUS], frame].concat()).await?;
        send.finish()?;
        anyhow::Ok(receive.read_to_end(SNAPSHOT_BYTES_MAX).await?)
    };
    let Ok(Ok(answer)) = tokio::time::timeout(SOON, asked).await else { return Ok(false) };
    ensure!(!answer.is_empty(), "an agent answers nothing at all");
    Ok(!matches!(codec::decode(&answer, SNAPSHOT_BYTES_MAX), Ok(Told::Vote { granted: false, .. })))
}

impl Member {
    /// Every attack of hostile.md §6.1, and those on what stands against them.
    fn attacks(&self) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let (me, term) = (self.id, self.log.term);
        let leader = self.log.leader.map_or(0, |leader| leader.0);
        let (last_term, last) = self.log.durable;
        let prev: EntryId = (last_term, leader, last);
        let terms = [term, term + 1, term + 64, term + 65, TERM_MAX, u64::MAX];
        let led = |ballot: Ballot, payloads: Vec<Payload>| {
            let entries = payloads.into_iter().zip(last + 1..);
            let entries = entries.map(|(payload, i)| ((ballot.0, ballot.1, i), payload)).collect();
            bytes(&Forged::Append {
                ballot,
                prev: Some(prev),
                entries,
                commit: Some((ballot.0, ballot.1, last + 1)),
            })
        };
        let command = || vec![Payload::Command(b"mine".to_vec())];
        let each = |frame: &dyn Fn(u64) -> Vec<u8>| terms.iter().map(|term| frame(*term)).collect::<Vec<_>>();
        let snapshot = |term: u64| {
            let index = last + 1_000;
            let image = (Some((term, me, index)), Some((term, me, index)), only(me), b"mine".to_vec());
            bytes(&Forged::Snapshot {
                ballot: (term, me, true),
                name: format!("{index:020}-{:032x}", 7),
                image,
            })
        };
        vec![
            ("forged leader: heartbeat", each(&|term| led((term, me, true), vec![]))),
            ("forged leader: command", each(&|term| led((term, me, true), command()))),
            ("forged membership", each(&|term| led((term, me, true), vec![Payload::Members(only(me))]))),
            ("forged snapshot", each(&snapshot)),
            ("impersonated leader", each(&|term| led((term, leader, true), command()))),
            ("election certificate of its own", self.certificates(term + 1)),
            ("term bomb", each(&|term| bytes(&Forged::Vote { ballot: (term, me, false), last: Some(prev) }))),
            (
                "forced transfer: a vote it calls won",
                each(&|term| bytes(&Forged::Vote { ballot: (term, me, true), last: Some(prev) })),
            ),
            (
                "a vote for somebody else",
                each(&|term| bytes(&Forged::Vote { ballot: (term, leader, false), last: Some(prev) })),
            ),
            ("entries out of order", vec![self.out_of_order(prev)]),
            ("not a frame", vec![vec![], vec![1], vec![1, 200], vec![255; 4_000]]),
        ]
    }

    fn grant(&self, term: u64, candidate: u64, voter: u64) -> anyhow::Result<Signed<Grant>> {
        let (candidate, voter) = (NodeId(candidate), NodeId(voter));
        let grant = Grant { term, candidate, last: None, membership: Some(u64::MAX / 8), voter };
        Ok(self.key.sign(self.cluster, &grant)?)
    }

    fn certificates(&self, term: u64) -> Vec<Vec<u8>> {
        let all = |term, candidate| (1..=self.nodes).map(move |voter| (term, candidate, voter));
        let mine = [(term, self.id, self.id)];
        let sets: [Vec<(u64, u64, u64)>; 4] = [
            Vec::new(),
            mine.to_vec(),
            mine.into_iter().cycle().take(5).collect(),
            all(term, self.id).collect(),
        ];
        let frame = |set: Vec<(u64, u64, u64)>| {
            let grants = set
                .into_iter()
                .filter_map(|(term, candidate, voter)| self.grant(term, candidate, voter).ok());
            let certificate = ElectionCertificate::of(grants.collect());
            bytes(&Forged::Elected { ballot: (term, self.id, true), certificate })
        };
        sets.into_iter().map(frame).collect()
    }

    fn out_of_order(&self, prev: EntryId) -> Vec<u8> {
        let ballot = (self.log.term + 1, self.id, true);
        let entries = [5, 3, 9].map(|i| ((ballot.0, self.id, i), Payload::Command(Vec::new())));
        bytes(&Forged::Append { ballot, prev: Some(prev), entries: entries.into(), commit: None })
    }
}
