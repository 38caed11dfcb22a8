//! On which rungs the sensors stand, and what a node therefore cannot see: what `stead doctor` tells.
//!
//! **Invariant.** Every sensor is told, whether it works or not.

use super::{Hook, Sensor, Sensors};
use stead_proto::{admin::RungSeen, roster::bounded_text};

impl Sensors {
    /// Each sensor with its rung.
    #[must_use]
    pub fn rungs(&self) -> Vec<RungSeen> {
        [Sensor::Egress, Sensor::Netdev, Sensor::Kernel, Sensor::Uplink]
            .map(|sensor| self.rung(sensor))
            .into()
    }

    fn rung(&self, sensor: Sensor) -> RungSeen {
        let missing = self.missing().iter().find(|missing| missing.sensor == sensor);
        let rung = match (missing, sensor, self.hook()) {
            (Some(_), ..) => "none",
            (None, Sensor::Egress, Some(Hook::Clsact)) => "clsact filter",
            (None, Sensor::Egress, Some(Hook::Tcx) | None) => "tcx link",
            (None, Sensor::Netdev, _) => "netdev egress hook",
            (None, Sensor::Kernel | Sensor::Uplink, _) => "procfs",
        };
        let flushable = rung == "clsact filter";
        let cost = match missing {
            Some(_) => sensor.blind(),
            None if flushable => "somebody else may flush it; it is put back within a second or two",
            None => sensor.misses(),
        };
        let remedy = match missing {
            Some(missing) => missing.why.clone(),
            None if flushable => "a tcx link needs Linux 6.6".into(),
            None => String::new(),
        };
        RungSeen {
            part: sensor.to_string(),
            rung: rung.into(),
            best: missing.is_none() && !flushable,
            cost: bounded_text(cost),
            remedy: bounded_text(&remedy),
        }
    }
}
