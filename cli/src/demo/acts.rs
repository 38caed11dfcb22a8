//! The acts of the demo: a misfortune, what the mesh makes of it, and what a visitor noticed.

use std::time::Duration;

use anyhow::{anyhow, bail};
use stead_deploy::lab::{now, outage, visitor::Visitor};
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::order::Act as Order;
use stead_proto::time::{Instant, Span};

use super::stage::Stage;
use super::timeline::Played;

/// How long an act may take until the site is served again.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the visitor watches after it is.
pub(super) const AFTERMATH: Duration = Duration::from_millis(1_500);

/// One misfortune, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    HostLost,
    HostReturns,
    ApplicationDies,
    ApplicationReturns,
    Partition,
    PartitionEnds,
    PlannedMove,
    AgentKilled,
    /// The last one, of which its node does not come back: played by [`super::night`].
    Malware,
}

impl Act {
    /// All acts that leave a whole mesh, in the order in which they are played.
    pub(super) const ALL: [Self; 8] = [
        Self::HostLost,
        Self::HostReturns,
        Self::ApplicationDies,
        Self::ApplicationReturns,
        Self::Partition,
        Self::PartitionEnds,
        Self::PlannedMove,
        Self::AgentKilled,
    ];

    /// What the watcher reads.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::HostLost => "the server that serves the site dies: no power, no cable",
            Self::HostReturns => "it comes back",
            Self::ApplicationDies => "the application on the serving server is killed",
            Self::ApplicationReturns => "the application is started again",
            Self::Partition => "the serving server is cut off from the others, and does not know it",
            Self::PartitionEnds => "the network is whole again",
            Self::PlannedMove => "the operator moves the site: stead move www --to …",
            Self::AgentKilled => "the agent on the serving server is killed (kill -9)",
            Self::Malware => "malware on the server that leads and serves floods a stranger",
        }
    }

    /// The longest outage that the design allows, without the gate's slack.
    pub(super) const fn goal(self) -> Span {
        match self {
            Self::Malware => Span::from_ms(1_000),
            Self::HostLost | Self::Partition | Self::AgentKilled => Span::from_ms(800),
            Self::ApplicationDies => Span::from_ms(400),
            Self::PlannedMove => Span::from_ms(50),
            Self::HostReturns | Self::ApplicationReturns | Self::PartitionEnds => Span::from_ms(20),
        }
    }

    /// Whether a lease has to run out, so that the gate's slack counts.
    const fn waits_for_lease(self) -> bool {
        matches!(self, Self::HostLost | Self::Partition | Self::AgentKilled | Self::Malware)
    }
}

/// Plays one act and measures it at the visitor.
pub(super) fn play(
    act: Act,
    stage: &mut Stage,
    visitor: &Visitor,
    slack: Duration,
) -> anyhow::Result<Played> {
    let before = stage.until_served()?;
    let begin = now();
    let (who, moves) = strike(act, stage, before)?;
    let after = match moves {
        true => stage.until("another node serves", PATIENCE, |stage| {
            (0..stage.players.len()).find(|i| *i != before && serves(stage, *i))
        })?,
        false => before,
    };
    std::thread::sleep(AFTERMATH);
    let slack = if act.waits_for_lease() { u64::try_from(slack.as_millis())? } else { 0 };
    Ok(Played {
        act,
        who: stage.player(who)?.name.to_string(),
        from: stage.player(before)?.name.to_string(),
        to: stage.player(after)?.name.to_string(),
        outage: longest_outage(visitor, begin),
        goal: act.goal().plus(Span::from_ms(slack)),
    })
}

fn serves(stage: &Stage, i: usize) -> bool {
    stage.status(i).is_ok_and(|status| status.endpoints.iter().any(|e| e.serving.is_some()))
}

/// Does it; says to whom, and whether the endpoint has to move.
fn strike(act: Act, stage: &mut Stage, holder: usize) -> anyhow::Result<(usize, bool)> {
    let others = |stage: &Stage| (0..stage.players.len()).filter(|i| *i != holder).collect::<Vec<_>>();
    match act {
        Act::HostLost => stage.lose_host(holder).map(|()| (holder, true)),
        Act::HostReturns => {
            let gone = find(stage, |stage, i| stage.status(i).is_err())?;
            stage.return_host(gone)?;
            stage.until("the node takes part again", PATIENCE, |stage| takes_part(stage, gone))?;
            Ok((gone, false))
        }
        Act::ApplicationDies => stage.kill_site(holder).map(|()| (holder, true)),
        Act::ApplicationReturns => {
            let dead =
                find(stage, |stage, i| stage.status(i).is_ok_and(|s| s.endpoints.iter().any(|e| !e.ready)))?;
            stage.start_site(dead)?;
            stage.until("its application is healthy", PATIENCE, |stage| {
                let status = stage.status(dead).ok()?;
                status.endpoints.iter().all(|e| e.ready).then_some(())
            })?;
            Ok((dead, false))
        }
        Act::Partition => stage.cut_off(holder, true).map(|()| (holder, true)),
        Act::PartitionEnds => {
            let cut = stage
                .players
                .iter()
                .position(|p| {
                    stage.lab.cuts().iter().any(|(from, _)| {
                        *from == p.place && stage.lab.cuts().iter().filter(|(f, _)| f == from).count() > 1
                    })
                })
                .ok_or_else(|| anyhow!("nobody is cut off"))?;
            stage.cut_off(cut, false)?;
            stage.until("the node takes part again", PATIENCE, |stage| takes_part(stage, cut))?;
            Ok((cut, false))
        }
        Act::PlannedMove => {
            let to = *others(stage).first().ok_or_else(|| anyhow!("there is only one node"))?;
            let order = Order::Move { endpoint: "www".parse()?, to: stage.player(to)?.id };
            let answer = stage.order(to, order)?;
            let Answer::Committed { outcome: Outcome::Done, .. } = answer else {
                bail!("the order was not carried out: {answer:?}")
            };
            Ok((to, true))
        }
        Act::AgentKilled => stage.kill_agent(holder).map(|()| (holder, true)),
        Act::Malware => bail!("this act is played by itself"),
    }
}

fn find(stage: &Stage, wanted: impl Fn(&Stage, usize) -> bool) -> anyhow::Result<usize> {
    (0..stage.players.len()).find(|i| wanted(stage, *i)).ok_or_else(|| anyhow!("no such node"))
}

/// A node takes part when it follows a leader, and its services are known.
fn takes_part(stage: &Stage, i: usize) -> Option<()> {
    let status = stage.status(i).ok()?;
    let ready = status.endpoints.iter().all(|e| e.ready);
    (status.waiting.is_none() && status.leader_fresh && ready).then_some(())
}

/// All of them do.
pub(super) fn all_take_part(stage: &mut Stage) -> Option<()> {
    (0..stage.players.len()).try_for_each(|i| takes_part(stage, i))
}

/// The visitor has been answered for a while.
pub(super) fn is_answered(visitor: &Visitor) -> Option<()> {
    let good = visitor.so_far().visits.iter().filter(|visit| outage::is_good(visit)).count();
    (good >= 50).then_some(())
}

/// The longest outage that the visitor saw since `begin`; none if every request was answered.
pub(super) fn longest_outage(visitor: &Visitor, begin: Instant) -> Option<Span> {
    let gaps = outage::outages(&visitor.so_far().visits);
    let since_begin = gaps.iter().filter(|gap| gap.until.is_none_or(|until| until >= begin));
    since_begin.map(|gap| gap.length().unwrap_or_else(|| now().since(begin))).max()
}
