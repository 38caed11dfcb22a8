//! The misfortunes: how each is brought about, what has to come of it, and how it is undone.

use anyhow::{anyhow, bail};
use stead::demo::stage::Stage;
use stead_deploy::lab::Place;
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::order::Act;

use super::renumber;

/// One misfortune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// All processes and the link of the holder, which leads too.
    HostLostLeading,
    /// The same of a holder that does not lead.
    HostLostFollowing,
    /// The leader's host, while another node holds.
    LeaderLost,
    /// `kill -9` of the holder's agent.
    AgentKilled,
    /// SIGSTOP of the holder's agent for longer than the lease, then SIGCONT.
    AgentStopped,
    /// The holder is cut off from everybody.
    Partition,
    /// The holder is cut off from the other nodes, not from the visitor.
    PartitionOfNodes,
    /// The holder sends, and hears nothing.
    Deaf,
    /// The holder hears, and nothing that it sends arrives.
    Mute,
    /// A node that does not hold is cut off.
    MinorityWithoutHolder,
    /// The application is killed.
    ApplicationDies,
    /// The application accepts and never answers.
    ApplicationHangs,
    /// The operator moves the endpoint.
    PlannedMove,
    /// Somebody deletes the address on the holder.
    AddressDeleted,
    /// All agents are killed at once and started again.
    AllAgentsRestart,
    /// Every node gets another address at the same moment, and the operator tells each agent where the others
    /// are now.
    AddressesChange,
    /// One node after the other gets another address, and nobody is told.
    AddressesChangeInTurn,
}

/// How long an outage may be, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Goal {
    /// The median.
    pub p50_ms: Option<u64>,
    /// The 99th percentile.
    pub p99_ms: u64,
}

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Another node serves.
    Moved,
    /// The same node goes on.
    Stays,
    /// Somebody serves.
    Anybody,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::HostLostLeading,
        Self::HostLostFollowing,
        Self::LeaderLost,
        Self::AgentKilled,
        Self::AgentStopped,
        Self::Partition,
        Self::PartitionOfNodes,
        Self::Deaf,
        Self::Mute,
        Self::MinorityWithoutHolder,
        Self::ApplicationDies,
        Self::ApplicationHangs,
        Self::PlannedMove,
        Self::AddressDeleted,
        Self::AllAgentsRestart,
        Self::AddressesChange,
        Self::AddressesChangeInTurn,
    ];

    /// Its name on the command line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostLostLeading => "host-lost-leading",
            Self::HostLostFollowing => "host-lost-following",
            Self::LeaderLost => "leader-lost",
            Self::AgentKilled => "agent-killed",
            Self::AgentStopped => "agent-stopped",
            Self::Partition => "partition",
            Self::PartitionOfNodes => "partition-of-nodes",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::MinorityWithoutHolder => "minority-without-holder",
            Self::ApplicationDies => "application-dies",
            Self::ApplicationHangs => "application-hangs",
            Self::PlannedMove => "planned-move",
            Self::AddressDeleted => "address-deleted",
            Self::AllAgentsRestart => "all-agents-restart",
            Self::AddressesChange => "addresses-change",
            Self::AddressesChangeInTurn => "addresses-change-in-turn",
        }
    }

    /// What DESIGN §10 asks for under this lease.
    #[must_use]
    pub const fn goal(self, lease_ms: u32) -> Option<Goal> {
        match self {
            Self::HostLostLeading | Self::HostLostFollowing if lease_ms <= 100 => {
                Some(Goal { p50_ms: Some(120), p99_ms: 250 })
            }
            Self::HostLostLeading | Self::HostLostFollowing => Some(Goal { p50_ms: Some(500), p99_ms: 800 }),
            Self::ApplicationDies => Some(Goal { p50_ms: None, p99_ms: 400 }),
            Self::PlannedMove => Some(Goal { p50_ms: None, p99_ms: 50 }),
            Self::LeaderLost
            | Self::AgentKilled
            | Self::AgentStopped
            | Self::Partition
            | Self::PartitionOfNodes
            | Self::Deaf
            | Self::Mute
            | Self::MinorityWithoutHolder
            | Self::ApplicationHangs
            | Self::AddressDeleted
            | Self::AllAgentsRestart
            | Self::AddressesChange
            | Self::AddressesChangeInTurn => None,
        }
    }

    /// Whether the holder has to lead, or must not; `None` if it does not matter.
    pub(super) const fn holder_leads(self) -> Option<bool> {
        match self {
            Self::HostLostLeading => Some(true),
            Self::HostLostFollowing | Self::LeaderLost => Some(false),
            Self::AgentKilled
            | Self::AgentStopped
            | Self::Partition
            | Self::PartitionOfNodes
            | Self::Deaf
            | Self::Mute
            | Self::MinorityWithoutHolder
            | Self::ApplicationDies
            | Self::ApplicationHangs
            | Self::PlannedMove
            | Self::AddressDeleted
            | Self::AllAgentsRestart
            | Self::AddressesChange
            | Self::AddressesChangeInTurn => None,
        }
    }

    pub(super) const fn expected(self) -> Expected {
        match self {
            Self::HostLostLeading
            | Self::HostLostFollowing
            | Self::AgentKilled
            | Self::AgentStopped
            | Self::Partition
            | Self::PartitionOfNodes
            | Self::Deaf
            | Self::Mute
            | Self::ApplicationDies
            | Self::ApplicationHangs
            | Self::PlannedMove => Expected::Moved,
            Self::LeaderLost | Self::MinorityWithoutHolder | Self::AddressDeleted => Expected::Stays,
            Self::AllAgentsRestart | Self::AddressesChange | Self::AddressesChangeInTurn => Expected::Anybody,
        }
    }

    /// Brings it about; says which node it struck.
    pub(super) fn strike(self, stage: &mut Stage, holder: usize, leader: usize) -> anyhow::Result<usize> {
        let other = (0..stage.players.len()).find(|i| *i != holder && *i != leader);
        let other = other.or_else(|| (0..stage.players.len()).find(|i| *i != holder));
        let other = other.ok_or_else(|| anyhow!("a mesh of one has no others"))?;
        match self {
            Self::HostLostLeading | Self::HostLostFollowing => stage.lose_host(holder).map(|()| holder),
            Self::LeaderLost => stage.lose_host(leader).map(|()| leader),
            Self::AgentKilled => stage.kill_agent(holder).map(|()| holder),
            Self::AgentStopped => {
                stage.agent(holder)?.stop()?;
                Ok(holder)
            }
            Self::Partition => stage.cut_off(holder, true).map(|()| holder),
            Self::PartitionOfNodes => cut(stage, holder, true, true).map(|()| holder),
            Self::Deaf => cut(stage, holder, false, true).map(|()| holder),
            Self::Mute => cut(stage, holder, true, false).map(|()| holder),
            Self::MinorityWithoutHolder => stage.cut_off(other, true).map(|()| other),
            Self::ApplicationDies => stage.kill_site(holder).map(|()| holder),
            Self::ApplicationHangs => stage.hang_site(holder, true).map(|()| holder),
            Self::PlannedMove => {
                let act = Act::Move { endpoint: "www".parse()?, to: stage.player(other)?.id };
                let answer = stage.order(other, act)?;
                let Answer::Committed { outcome: Outcome::Done, .. } = answer else { bail!("{answer:?}") };
                Ok(other)
            }
            Self::AddressDeleted => {
                let place = stage.player(holder)?.place;
                stage.lab.delete_address(place, stage.address)?;
                Ok(holder)
            }
            Self::AllAgentsRestart => {
                (0..stage.players.len()).try_for_each(|i| stage.kill_agent(i))?;
                (0..stage.players.len()).try_for_each(|i| stage.start_agent(i))?;
                Ok(holder)
            }
            Self::AddressesChange => renumber::all_at_once(stage).map(|()| holder),
            Self::AddressesChangeInTurn => renumber::in_turn(stage).map(|()| holder),
        }
    }

    /// Undoes it on the node that it struck; says whether there was anything to undo.
    pub(super) fn restore(self, stage: &mut Stage, struck: usize) -> anyhow::Result<bool> {
        match self {
            Self::HostLostLeading | Self::HostLostFollowing | Self::LeaderLost => {
                stage.return_host(struck)?
            }
            Self::AgentKilled => stage.start_agent(struck)?,
            Self::AgentStopped => stage.agent(struck)?.cont()?,
            Self::Partition
            | Self::PartitionOfNodes
            | Self::Deaf
            | Self::Mute
            | Self::MinorityWithoutHolder => stage.lab.heal_all()?,
            Self::ApplicationDies => stage.start_site(struck)?,
            Self::ApplicationHangs => stage.hang_site(struck, false)?,
            Self::PlannedMove
            | Self::AddressDeleted
            | Self::AllAgentsRestart
            | Self::AddressesChange
            | Self::AddressesChangeInTurn => return Ok(false),
        }
        Ok(true)
    }
}

/// Cuts a node off from the other nodes, outwards, inwards, or both ways; the visitor reaches everybody.
fn cut(stage: &mut Stage, node: usize, outwards: bool, inwards: bool) -> anyhow::Result<()> {
    let place = stage.player(node)?.place;
    let others: Vec<Place> = stage.players.iter().map(|p| p.place).filter(|p| *p != place).collect();
    let mut cuts = stage.lab.cuts().clone();
    for other in others {
        if outwards {
            cuts.insert((place, other));
        }
        if inwards {
            cuts.insert((other, place));
        }
    }
    Ok(stage.lab.set_cuts(cuts)?)
}
