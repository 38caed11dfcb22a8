//! What the router's kernel is fitted with, as an agent would do it.
//!
//! **Invariant.** A fitting that lacks a sensor, or has the limit anywhere but at netdev egress, is not measured. It is
//! made and taken out by a thread in the router's namespace.

use super::road::UPLINK;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::fmt;
use stead_node::guard::{limiter::Guard, rules::Rung};
use stead_node::telemetry::{ForgedLimit, Sensors};
use stead_proto::guard::{GuardPolicy, LICENCE_MS_MAX};

/// What watches and holds the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fitted {
    /// Nothing at all.
    Nothing,
    /// The sensors: BPF at tc, nft at netdev egress and forward.
    Sensors,
    /// The sensors and the limit, with a licence and no ceiling: every packet passes.
    Limit,
    /// The sensors and the limit without a licence: ten SYNs a second pass.
    Cut,
}

impl fmt::Display for Fitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "nothing",
            Self::Sensors => "sensors",
            Self::Limit => "sensors and limit",
            Self::Cut => "sensors and limit, cutting",
        })
    }
}

/// In the kernel until it is taken out.
pub(super) struct Fitting {
    pub(super) sensors: Option<Sensors>,
    pub(super) guard: Option<Guard>,
}

impl Fitting {
    pub(super) fn put(what: Fitted, uplink: u32) -> anyhow::Result<Self> {
        let policy = GuardPolicy { ceiling: None, licence_ms: LICENCE_MS_MAX, ..GuardPolicy::default() };
        let sensors = (what != Fitted::Nothing).then(|| sensors(&policy)).transpose()?;
        let guard = match what {
            Fitted::Nothing | Fitted::Sensors => None,
            Fitted::Limit | Fitted::Cut => {
                let (mut guard, shortfalls) = Guard::open(UPLINK, uplink, policy)?;
                ensure!(guard.rung() == Rung::NetdevEgress, "the limit stands too low: {shortfalls:?}");
                if what == Fitted::Limit {
                    guard.renew()?;
                }
                Some(guard)
            }
        };
        Ok(Self { sensors, guard })
    }

    /// SYNs that the limit has dropped.
    pub(super) fn dropped(&mut self) -> anyhow::Result<u64> {
        Ok(self.guard.as_mut().map(Guard::counters).transpose()?.unwrap_or_default().dropped)
    }

    /// Segments that the sensors saw leave, and the SYNs among them that were forwarded, since the last time.
    pub(super) fn seen(&mut self) -> anyhow::Result<Option<(u64, u64)>> {
        let Some(sensors) = &mut self.sensors else { return Ok(None) };
        let egress = sensors.read().egress.context("the egress sensor went blind")?;
        Ok(Some((egress.segments, egress.syn.forwarded)))
    }

    pub(super) fn take_out(self) -> anyhow::Result<()> {
        drop(self.sensors);
        self.guard.map_or(Ok(()), Guard::close)?;
        Ok(())
    }
}

fn sensors(policy: &GuardPolicy) -> anyhow::Result<Sensors> {
    let (mut sensors, missing) = Sensors::open(UPLINK);
    ensure!(missing.is_empty(), "not all sensors work here: {missing:?}");
    sensors.limit_forged(ForgedLimit::from(policy));
    Ok(sensors)
}
