//! Floods from a node whose agent is killed, stopped or restarted meanwhile.
//!
//! What has to come of it: within the licence's three seconds only the limit leaves the host; what was throttled
//! before stays so, and SYNs made by hand never pass it; the web site of that very node goes on answering.
//!
//! **Invariant.** Requests go to the node's own address, since the endpoint moves away from a node whose agent is
//! gone; the endpoint's own visitors are counted beside them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stead_deploy::lab::{now, outage};
use stead_proto::time::{Instant, Span};

use super::flooder::Way;
use super::incident;
use super::scenario::Scenario;
use super::scene::{PATIENCE, Scene, diary, during, everybody};
use super::verdict;
use super::victim::{OPEN, SILENT};

/// How long a flood goes on before the agent is struck: well beyond the moment of its throttle.
const BEFORE: Span = Span::from_ms(2_000);
/// How long it goes on after that: the licence, and long enough to see that only the limit is left.
const AFTER: Span = Span::from_ms(4_500);
/// How long the agent is gone before it is started again.
const GONE: Span = Span::from_ms(1_500);

/// What happens to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blow {
    /// `kill -9`.
    Killed,
    /// SIGSTOP.
    Stopped,
    /// `kill -9`, and started again.
    Restarted,
}

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A hundred connections a second that are answered: no detector has anything to say.
    Answered,
    /// A thousand a second that are not: throttled before the blow.
    Silent,
    /// A thousand a second from a raw socket, and the malware has struck the agent first.
    Fresh,
}

/// One way in which an agent cannot do anything about a flood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfortune {
    /// What happens to the agent.
    pub blow: Blow,
    /// What floods meanwhile.
    pub stream: Stream,
    /// Whether the node holds the endpoint.
    pub holder: bool,
}

/// What came of it. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Struck {
    /// Which it was.
    pub scenario: String,
    /// From the blow until only the limit left the host; 0 if that was so before it; nothing if it never was.
    pub limited_ms: Option<u64>,
    /// SYNs at the victim between the two.
    pub left: u64,
    /// Requests to the node's own address, from the flood's first SYN to its last.
    pub own_asked: u64,
    /// Of these, those that failed.
    pub own_failed: u64,
    /// The longest time for which the endpoint's visitors were not served.
    pub endpoint_outage_ms: u64,
    /// SYNs that the flooder gave to the kernel.
    pub sent: u64,
    /// SYNs that the flood's incident tells of in the end, if there was one and the agent lives.
    pub told: Option<u64>,
    /// Whether everything that is asked was reached.
    pub reached: bool,
}

/// The licence lasts 3 s and is renewed before the blow; the rest is for a busy machine.
const LIMITED_MS_MAX: u64 = 3_200;
/// How far the incident's count may be from the flooder's, in thousandths: the ticks before the first sign.
const UNTOLD_PER_MILLE_MAX: u64 = 50;

impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blow = match self.blow {
            Blow::Killed => "killed",
            Blow::Stopped => "stopped",
            Blow::Restarted => "restarted",
        };
        let stream = match self.stream {
            Stream::Answered => "answered",
            Stream::Silent => "silent",
            Stream::Fresh => "fresh",
        };
        write!(f, "{blow}-{stream}-{}", if self.holder { "holder" } else { "other" })
    }
}

impl Misfortune {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let blows = [Blow::Killed, Blow::Stopped, Blow::Restarted];
        let streams = [Stream::Answered, Stream::Silent, Stream::Fresh];
        let both = move |blow| {
            let of = move |stream| [false, true].map(|holder| Self { blow, stream, holder });
            streams.into_iter().flat_map(of)
        };
        // A restart is about the count of what was throttled before it.
        let tells = |m: &Self| m.blow != Blow::Restarted || m.stream == Stream::Silent;
        blows.into_iter().flat_map(both).filter(tells)
    }

    const fn scenario(self) -> (Scenario, u16) {
        match self.stream {
            Stream::Answered => (Scenario { way: Way::Tcp, per_s: Some(100) }, OPEN),
            Stream::Silent => (Scenario { way: Way::Tcp, per_s: Some(1_000) }, SILENT),
            Stream::Fresh => (Scenario { way: Way::Raw, per_s: Some(1_000) }, SILENT),
        }
    }

    /// Plays it, and puts the agent back.
    ///
    /// # Errors
    /// What could not be played, with the nodes' logs.
    pub fn play(self, scene: &mut Scene) -> anyhow::Result<Struck> {
        let nodes = scene.nodes()?;
        let i = *nodes.get(usize::from(!self.holder)).context("a mesh has several nodes")?;
        scene.until_free(i)?;
        scene.victim.forget();
        let (place, node) = (scene.stage.player(i)?.place, scene.stage.player(i)?.id);
        let own = scene.stage.lab.ip4(place);
        let before = incident::last_id(&scene.stage.status(i)?);
        let visitors = (scene.visit(IpAddr::V4(own))?, scene.visit(scene.stage.address)?);
        let (scenario, port) = self.scenario();
        let since = now();
        let (blow, mut flood) = match self.stream {
            Stream::Answered | Stream::Silent => {
                let lasts_ms = BEFORE.plus(AFTER).as_ms();
                let flood = scene.start_flood_for(place, scenario, port, lasts_ms)?;
                wait_until(since.after(BEFORE));
                let blow = now();
                self.strike(scene, i)?;
                (blow, flood)
            }
            Stream::Fresh => {
                let blow = now();
                self.strike(scene, i)?;
                (blow, scene.start_flood_for(place, scenario, port, AFTER.as_ms())?)
            }
        };
        let sent = flood.ended()?;
        let ended = Instant::from_ns(sent.ended_ns);
        let (syns, lost) = scene.victim.record(|source| source == own, port, since)?;
        let (own_visits, endpoint_visits) = (diary(visitors.0)?, diary(visitors.1)?);
        self.undo(scene, i)?;
        scene.until_free(i)?;

        let verdict = verdict::judge(&syns, Scene::limit(), scenario.per_s, ended);
        let within = |verdict: &verdict::Verdict| verdict.before == 0;
        let limited = verdict.map(|v| if within(&v) { 0 } else { v.throttled.since(blow).as_ms() });
        let too_many = |at: Instant| verdict.is_none_or(|v| !within(&v) && at <= v.throttled);
        let left = syns.iter().filter(|at| **at > blow && too_many(**at)).count();
        let (own_asked, own_failed) = during(&own_visits, since, ended);
        let told = incident::latest(
            &scene.stage.status(i)?,
            &stead_proto::incident::Matter::OutboundFlood(node),
            before,
        )
        .and_then(incident::closing)
        .map(|closing| closing.syns);
        let gaps = outage::outages(&endpoint_visits);
        let outage = gaps.iter().filter_map(outage::Gap::length).max().unwrap_or_default();
        let mut struck = Struck {
            scenario: self.to_string(),
            limited_ms: limited,
            left: u64::try_from(left)?.saturating_add(lost),
            own_asked,
            own_failed,
            endpoint_outage_ms: outage.as_ms(),
            sent: sent.syns,
            told,
            reached: false,
        };
        struck.reached = self.reached(&struck);
        Ok(struck)
    }

    fn reached(self, struck: &Struck) -> bool {
        let in_time = struck.limited_ms.is_some_and(|ms| match self.stream {
            Stream::Silent | Stream::Fresh => ms == 0,
            Stream::Answered => ms <= LIMITED_MS_MAX,
        });
        let counted = match (self.stream, struck.told) {
            (Stream::Answered, told) => told.is_none(),
            // Nobody was there to count: whether it is told at all is not asked.
            (Stream::Fresh, _) => true,
            (Stream::Silent, Some(told)) => {
                told.abs_diff(struck.sent) * 1_000 <= struck.sent * UNTOLD_PER_MILLE_MAX
            }
            (Stream::Silent, None) => false,
        };
        in_time && counted && struck.own_failed == 0
    }

    fn strike(self, scene: &mut Scene, i: usize) -> anyhow::Result<()> {
        match self.blow {
            Blow::Killed => scene.stage.kill_agent(i),
            Blow::Stopped => Ok(scene.stage.agent(i)?.stop()?),
            Blow::Restarted => {
                scene.stage.kill_agent(i)?;
                wait_until(now().after(GONE));
                scene.stage.start_agent(i)
            }
        }
    }

    fn undo(self, scene: &mut Scene, i: usize) -> anyhow::Result<()> {
        match self.blow {
            Blow::Killed => scene.stage.start_agent(i)?,
            Blow::Stopped => scene.stage.agent(i)?.cont()?,
            Blow::Restarted => {}
        }
        scene.stage.until("everybody takes part again", PATIENCE, everybody)
    }
}

/// The plot's own time: how long a flood goes on before something happens to it.
fn wait_until(moment: Instant) {
    std::thread::sleep(Duration::from_nanos(moment.since(now()).as_ns()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(limited_ms: Option<u64>, told: Option<u64>, own_failed: u64) -> Struck {
        Struck {
            scenario: String::new(),
            limited_ms,
            left: 0,
            own_asked: 1_400,
            own_failed,
            endpoint_outage_ms: 0,
            sent: 7_000,
            told,
            reached: false,
        }
    }

    #[test]
    fn every_misfortune_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = Misfortune::all().map(|m| m.to_string()).collect();
        assert_eq!(names.len(), Misfortune::all().count());
        assert!(names.contains("restarted-silent-holder") && !names.contains("restarted-fresh-other"));
    }

    #[test]
    fn each_stream_is_asked_for_what_it_can_show() {
        let of = |stream| Misfortune { blow: Blow::Killed, stream, holder: false };
        let silent = of(Stream::Silent);
        assert!(silent.reached(&struck(Some(0), Some(6_900), 0)));
        let lost = struck(Some(0), Some(4_506), 0);
        let opened = struck(Some(40), Some(6_900), 0);
        let unserved = struck(Some(0), Some(6_900), 1);
        assert!([lost, opened, unserved, struck(None, None, 0)].iter().all(|bad| !silent.reached(bad)));

        let answered = of(Stream::Answered);
        assert!(answered.reached(&struck(Some(2_900), None, 0)));
        assert!(!answered.reached(&struck(Some(2_900), Some(7_000), 0)), "an honest stream is no flood");
        assert!(!answered.reached(&struck(Some(3_201), None, 0)));
        assert!(of(Stream::Fresh).reached(&struck(Some(0), None, 0)));
        assert!(!of(Stream::Fresh).reached(&struck(Some(40), None, 0)), "the kernel needs no agent for it");
        assert!(!of(Stream::Fresh).reached(&struck(None, None, 0)));
    }
}
