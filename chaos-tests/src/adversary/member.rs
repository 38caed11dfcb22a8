//! A member that says what it likes: the agent of one node is killed, and this program speaks with its key.
//!
//! It has what root on that server has: the key, the roster, the addresses; and no agent that would refuse to lie.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use quinn::Connection;
use stead::agent_file::PORT;
use stead::demo::stage::Stage;
use stead_node::transport::Plane;
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::message::Message;
use stead_proto::sign::SecretKey;
use stead_proto::time::Span;
use stead_proto::tribunal::{Ground, Place, Probe, Sanction, Subject, Testimony};
use zeroize::Zeroizing;

use super::audience::Audience;
use crate::bad_input::intruder::{Intruder, seed_in};

/// How long a liar goes on at least.
const LIES_FOR: Duration = Duration::from_secs(4);
/// How many lies it tells at least, also where it gets little of the processor.
pub const LIES_MIN: u64 = 150;
const LIES_FOR_MAX: Duration = Duration::from_secs(30);
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What a hostile member says all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Testimonies against one honest node, on every ground there is.
    Slander,
    /// The same against everybody, each a little different, as fast as they go.
    Spam,
    /// The same in the name of the others, whose keys it does not have.
    Impersonate,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slander, Self::Spam, Self::Impersonate];

    const fn pause(self) -> Duration {
        match self {
            Self::Slander | Self::Impersonate => Duration::from_millis(5),
            Self::Spam => Duration::from_micros(200),
        }
    }
}

/// One hostile member, with a connection to each of the others.
pub(super) struct Liar {
    pub(super) id: NodeId,
    pub(super) key: SecretKey,
    pub(super) cluster: ClusterId,
    roster_index: u64,
    others: Vec<(NodeId, PublicKey)>,
    pub(super) connections: Vec<Connection>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Testimonies sent.
    pub said: u64,
    /// Cases that honest nodes have open: that they heard it, and look.
    pub cases: usize,
    /// Honest nodes that somebody has cut off or demoted.
    pub believed: usize,
    /// The longest time for which visitors were not served.
    pub outage: Span,
}

/// Kills the agents of `liars`, and lets whoever has their keys lie for a while to the rest.
///
/// # Errors
/// What could not be played, with the nodes' logs.
pub fn lie(stage: &mut Stage, liars: &[usize], lie: Lie) -> anyhow::Result<Heard> {
    for liar in liars {
        stage.kill_agent(*liar)?;
    }
    let honest: Vec<usize> = (0..stage.players.len()).filter(|i| !liars.contains(i)).collect();
    stage.until("the honest ones serve", PATIENCE, |stage| stage.holder().filter(|i| honest.contains(i)))?;
    let audience = Audience::seated(stage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(async {
        let mut all = Vec::new();
        for liar in liars {
            all.push(Liar::connect(stage, *liar, &honest).await?);
        }
        let mut said = 0;
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < LIES_FOR || (said < LIES_MIN && begun.elapsed() < LIES_FOR_MAX) {
            for liar in &all {
                said += liar.say(lie, said)?;
            }
            tokio::time::sleep(lie.pause()).await;
        }
        anyhow::Ok(said)
    })?;
    let (mut cases, mut believed) = (0, 0);
    for i in &honest {
        let status = stage.status(*i).context("an honest node answers")?;
        cases += status.cases.len();
        let honest_id = |node: &NodeId| honest.iter().any(|i| stage.player(*i).is_ok_and(|p| p.id == *node));
        believed += status.own.isolated.iter().filter(|node| honest_id(node)).count();
        believed += status.cases.iter().filter(|case| case.demoted && honest_id(&case.subject)).count();
    }
    Ok(Heard { said, cases, believed, outage: audience.dismissed()? })
}

impl Liar {
    pub(super) async fn connect(stage: &Stage, i: usize, honest: &[usize]) -> anyhow::Result<Self> {
        let player = stage.player(i)?;
        let seed = seed_in(&key_file(player.directory()))?;
        let state = stage.status(*honest.first().context("nobody is honest")?)?.state;
        let intruder = Intruder::at(&stage.lab, player.place, seed, state.cluster)?;
        let mut connections = Vec::new();
        for other in honest {
            let to = SocketAddr::new(stage.lab.ip4(stage.player(*other)?.place).into(), PORT);
            connections.push(intruder.connect(to, Plane::Report.alpn()).await?);
        }
        let others = state.members.values().filter(|member| member.id != player.id);
        Ok(Self {
            id: player.id,
            key: SecretKey::from_seed(&Zeroizing::new(seed)),
            cluster: state.cluster,
            roster_index: state.roster_index,
            others: others.map(|member| (member.id, member.key)).collect(),
            connections,
        })
    }

    /// One round of lies to everybody; how many.
    fn say(&self, lie: Lie, number: u64) -> anyhow::Result<u64> {
        let turn = usize::try_from(number % 1_000)?;
        let place = if lie == Lie::Slander { 0 } else { turn % self.others.len().max(1) };
        let (node, key) = *self.others.get(place).context("nobody to lie about")?;
        let by = match lie {
            Lie::Impersonate => self.others.iter().map(|(other, _)| *other).find(|other| *other != node),
            Lie::Slander | Lie::Spam => Some(self.id),
        };
        // Liars take turns with the numbers: each says both.
        let sanction = if (number / 2).is_multiple_of(2) { Sanction::Isolate } else { Sanction::Demote };
        let testimony = Testimony {
            subject: Subject { node, key },
            sanction,
            electorate: self.roster_index,
            by: by.unwrap_or(self.id),
            grounds: vec![
                Ground::Confession { report: [7; 32] },
                Ground::AtHome,
                Ground::Probed(Probe::HostKey),
                Ground::Flooded { per_second: 9_999 },
            ],
            unix_ms: unix_ms().saturating_add(number),
            heard: Some(Place { incarnation: 1, sequence: number }),
        };
        let message = Message::Testimony(self.key.sign(self.cluster, &testimony)?).encode()?;
        for connection in &self.connections {
            // One that is full or closed takes nothing more, which is what it is there for.
            let _ = connection.send_datagram(message.clone().into());
        }
        Ok(1)
    }
}

pub(super) fn key_file(directory: &Path) -> std::path::PathBuf {
    directory.join("node.key")
}

pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
