//! The sensors as the lookout wants them: one [`Watched`] a tick, and what they could not see.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use stead_proto::admin::RungSeen;
use stead_proto::detect::Integrity;
use stead_proto::guard::GuardPolicy;
use stead_proto::lookout::Watched;

use crate::telemetry::{ForgedLimit, Hook, Missing, Sensors};

/// The open sensors, and what they were when they were looked at last.
pub(super) struct Vigil {
    sensors: Sensors,
    missing: Vec<Missing>,
    forged: ForgedLimit,
    program: Option<Program>,
}

/// The file that this agent runs, to notice that somebody put another one in its place.
struct Program {
    path: PathBuf,
    was: Option<(u64, u64, i64)>,
}

impl Vigil {
    pub(super) fn open(uplink: &str, instance: &str, policy: &GuardPolicy) -> Self {
        let forged = ForgedLimit::from(policy);
        let (mut sensors, missing) = Sensors::open_limiting(uplink, Hook::Tcx, Some(forged.clone()));
        sensors.outlive(instance);
        for lacking in &missing {
            tracing::warn!("{lacking}");
        }
        Self { sensors, missing, forged, program: Program::running() }
    }

    /// What the agent's end leaves behind: the cut of SYNs made by hand, as the limit.
    pub(super) fn leave(self) {
        self.sensors.leave();
    }

    /// The site may have changed.
    pub(super) fn follow(&mut self, policy: &GuardPolicy) {
        let forged = ForgedLimit::from(policy);
        if forged != self.forged {
            self.sensors.limit_forged(forged.clone());
            self.forged = forged;
        }
    }

    /// One tick; `slow` when what costs more is due, too.
    pub(super) fn watch(&mut self, slow: bool) -> Watched {
        let sample = self.sensors.read();
        let top = self.sensors.top().map(|top| (top.address, top.per_mille()));
        let lost = self.newly_missing();
        let replaced = if slow { self.program.as_mut().and_then(Program::replaced) } else { None };
        let meddled = lost.or(replaced);
        let integrity = if meddled.is_some() { Integrity::Changed } else { Integrity::Ours };
        Watched { sample, top, integrity: Some(integrity), meddled, ..Watched::default() }
    }

    pub(super) fn rungs(&self) -> Vec<RungSeen> {
        self.sensors.rungs()
    }

    fn newly_missing(&mut self) -> Option<String> {
        if self.sensors.missing() == self.missing {
            return None;
        }
        let now = self.sensors.missing().to_vec();
        let new = now.iter().find(|lacking| !self.missing.contains(lacking)).map(ToString::to_string);
        if let Some(text) = &new {
            tracing::warn!("{text}");
        } else {
            tracing::info!("a sensor that was missing is back");
        }
        self.missing = now;
        new
    }
}

impl Program {
    fn running() -> Option<Self> {
        let path = std::env::current_exe().ok()?;
        let was = identity(&path);
        Some(Self { path, was })
    }

    /// That another file lies where this agent was started from; told once for each.
    fn replaced(&mut self) -> Option<String> {
        let is = identity(&self.path);
        if is == self.was {
            return None;
        }
        self.was = is;
        let path = self.path.display();
        Some(format!("the agent's program {path} was replaced; if that was an upgrade, restart the agent"))
    }
}

fn identity(path: &PathBuf) -> Option<(u64, u64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime()))
}
