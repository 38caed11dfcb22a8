//! The act that stead is for: malware on the server that leads the mesh and serves the site.
//!
//! **Invariant.** What is told is what the other servers, the visitor and the flooded stranger saw.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use stead_deploy::lab::malware::{Malware, Stranger};
use stead_deploy::lab::visitor::Visitor;
use stead_deploy::lab::{Place, now};
use stead_proto::id::NodeId;
use stead_proto::order::Act as Order;
use stead_proto::time::{Instant, Span};

use super::acts::{self, Act};
use super::stage::Stage;
use super::timeline::Played;

const PATIENCE: Duration = Duration::from_secs(15);
const PER_S: u32 = 1_000;
const LASTS: Duration = Duration::from_secs(4);

/// What became of it.
#[derive(Debug)]
pub(super) struct Night {
    pub(super) played: Played,
    /// What had reached the stranger, moment by moment.
    pub(super) arrived: Vec<(Instant, u64)>,
    /// What there is to tell besides.
    pub(super) told: Vec<String>,
}

/// Starts what an earlier act killed, and lets one server lead and serve: `None` if this machine's kernel lets no
/// agent see a flood, for then nothing would follow.
pub(super) fn prepare(stage: &mut Stage) -> anyhow::Result<Option<usize>> {
    for i in 0..stage.players.len() {
        if stage.agent(i).is_err() {
            stage.start_agent(i)?;
        }
    }
    stage.until("every node takes part", PATIENCE, acts::all_take_part)?;
    if !stage.until("every agent tells of its sensors", PATIENCE, all_see)? {
        return Ok(None);
    }
    let leads_and_serves =
        |stage: &mut Stage| stage.leader().filter(|leader| stage.holder() == Some(*leader));
    let leader = stage.until("a node leads", PATIENCE, |stage| stage.leader())?;
    if leads_and_serves(stage).is_none() {
        let order = Order::Move { endpoint: "www".parse()?, to: stage.player(leader)?.id };
        stage.order(leader, order)?;
    }
    stage.until("one node leads and serves", PATIENCE, leads_and_serves).map(Some)
}

/// Whether every agent has a sensor that sees raw packets, once all have told.
fn all_see(stage: &mut Stage) -> Option<bool> {
    let sees = |i: usize| {
        let rungs = stage.status(i).ok()?.rungs;
        let mut sensors = rungs.iter().filter(|rung| rung.part.contains("sensor")).peekable();
        sensors.peek()?;
        Some(sensors.any(|rung| rung.rung != "none"))
    };
    let told = (0..stage.players.len()).map(sees).collect::<Option<Vec<bool>>>()?;
    Some(told.into_iter().all(|sees| sees))
}

/// Lets the malware loose there and watches.
pub(super) fn play(
    stage: &mut Stage,
    visitor: &Visitor,
    bad: usize,
    stranger: Place,
    slack: Duration,
) -> anyhow::Result<Night> {
    let (place, id) = (stage.player(bad)?.place, stage.player(bad)?.id);
    let counting = Stranger::start(&stage.lab, stranger)?;
    let begin = now();
    let malware = Malware::start(&stage.lab, place, stranger, PER_S, LASTS)?;
    let (cut_off, after) = watch(stage, bad, id)?;
    let led = now();
    let sent = malware.ended()?;
    std::thread::sleep(acts::AFTERMATH); // for as long as visitors shall be watched
    let arrived = counting.told()?;
    let reached = arrived.last().map_or(0, |(_, count)| *count);
    let name = stage.player(bad)?.name.to_string();
    let told = vec![
        format!("{name} told what its kernel saw, against itself; the others looked, and agreed"),
        format!(
            "after {} nobody talks to {name} any more; a new leader after {}",
            ms(begin, cut_off),
            ms(begin, led)
        ),
        format!("{reached} of {sent} SYNs reached the stranger"),
    ];
    let played = Played {
        act: Act::Malware,
        who: name.clone(),
        from: name,
        to: stage.player(after)?.name.to_string(),
        outage: acts::longest_outage(visitor, begin),
        goal: Act::Malware.goal().plus(Span::from_ms(u64::try_from(slack.as_millis())?)),
    };
    Ok(Night { played, arrived, told })
}

/// When all others had cut it off, and who serves instead; waits until another one leads.
fn watch(stage: &mut Stage, bad: usize, id: NodeId) -> anyhow::Result<(Instant, usize)> {
    let honest: Vec<usize> = (0..stage.players.len()).filter(|i| *i != bad).collect();
    let (mut done, mut all, mut serves) = (BTreeSet::new(), None, None);
    stage.until("it is cut off and replaced", PATIENCE, |stage| {
        let mut led = false;
        for i in &honest {
            let Ok(status) = stage.status(*i) else { continue };
            if status.own.isolated.contains(&id) {
                done.insert(*i);
            }
            if status.endpoints.iter().any(|endpoint| endpoint.serving.is_some()) {
                serves = Some(*i);
            }
            led |= status.leader_fresh && status.own.log.leader.is_some_and(|leader| leader != id);
        }
        if done.len() == honest.len() {
            all.get_or_insert_with(now);
        }
        (all.is_some() && serves.is_some() && led).then_some(())
    })?;
    all.zip(serves).ok_or_else(|| anyhow!("nobody cut it off"))
}

fn ms(from: Instant, to: Instant) -> String {
    format!("{} ms", to.since(from).as_ms())
}
