//! One reading of each sensor.
//!
//! **Invariant.** What could not be read is `None`, and lost until it is read or opened again; never zero.

use super::{Sensor, Sensors, difference, kernel_tcp, opening::RETRY};
use stead_proto::{
    telemetry::{Egress, KernelTcp, Uplink},
    time::{Instant, Span},
};

/// The counters of nft and of the kernel's TCP are compared, so they must be of one moment …
const PAIR_GAP_MAX: Span = Span::from_ms(1);
/// … which is tried so often.
const PAIR_TRIES: u32 = 3;

impl Sensors {
    /// The counters of nft and of the kernel's TCP, read as close together as this machine allows.
    pub(super) fn read_pair(&mut self, now: Instant) -> (Option<u64>, Option<KernelTcp>) {
        let mut netdev = None;
        let mut kernel = None;
        let mut failed = None;
        for _ in 0..PAIR_TRIES {
            let begun = crate::sys::now();
            netdev = self.netdev.as_mut().map(|(counters, _)| counters.read());
            kernel = self.kernel.as_mut().map(|(counters, _)| counters.read());
            if crate::sys::now().since(begun) <= PAIR_GAP_MAX {
                break;
            }
        }
        let netdev = match netdev {
            Some(Ok(totals)) => Some(totals),
            Some(Err(error)) => {
                failed = Some(error);
                None
            }
            None => None,
        };
        let netdev = netdev.zip(self.netdev.as_mut()).map(|(totals, (_, last))| {
            let difference = difference(&totals, last);
            *last = totals;
            difference
        });
        if let Some(error) = failed {
            // The next try, which makes the table anew, may come at once.
            self.netdev = None;
            self.tried_last = now.before(RETRY);
            self.lost(Sensor::Netdev, format!("its table was removed or cannot be read ({error})"));
        }
        let forwarded = netdev.map_or(0, |[_, forwarded]| forwarded);
        let kernel = match (kernel, self.kernel.as_mut()) {
            (Some(Ok(totals)), Some((_, last))) => {
                let told = kernel_tcp::since(&totals, last, forwarded);
                *last = totals;
                self.found(Sensor::Kernel);
                Some(told)
            }
            (Some(Err(error)), _) => {
                self.lost(Sensor::Kernel, error.to_string());
                None
            }
            _ => None,
        };
        (netdev.map(|[syn, _]| syn), kernel)
    }

    pub(super) fn read_egress(&mut self, now: Instant) -> Option<(Egress, u64)> {
        let (egress, rtnl) = (self.egress.as_mut()?, self.rtnl.as_mut()?);
        match egress.read(rtnl, now) {
            Ok(told) => {
                self.found(Sensor::Egress);
                Some(told)
            }
            Err(why) => {
                self.lost(Sensor::Egress, why);
                None
            }
        }
    }

    pub(super) fn read_uplink(&mut self) -> Option<Uplink> {
        let (counters, last) = self.uplink.as_mut()?;
        match counters.read(&self.name) {
            Ok(Some(totals)) => {
                let [received, sent] = difference(&totals, last);
                *last = totals;
                self.found(Sensor::Uplink);
                Some(Uplink { sent, received })
            }
            // Gone in this moment: the next reading says so.
            Ok(None) => None,
            Err(error) => {
                self.lost(Sensor::Uplink, error.to_string());
                None
            }
        }
    }
}
