//! D3, the identity that needs no BPF: SYNs on the wire that the kernel's TCP did not make and nobody forwarded.
//!
//! `netdev SYN − ActiveOpens − TCPSynRetrans − forwarded` is exactly the number of SYNs made by hand. Convicts at
//! 20 within a second.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 10000 connects | Calm |
//! | Calm | 19 unexplained | Calm |
//! | Calm | 20 unexplained | Convict |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 10000 connects | Convict |
//! | Convict | 19 unexplained | Convict |
//! | Convict | 20 unexplained | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 10000 connects | Calm |
//! | Blind | 19 unexplained | Calm |
//! | Blind | 20 unexplained | Convict |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** It shares no sensor with D1: whoever blinds one has to blind the other too.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::Span;

const UNEXPLAINED_MAX: u64 = 20;

#[derive(Clone, Debug)]
pub(super) struct Identity {
    seen: Window<16>,
    explained: Window<16>,
}

impl Identity {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self { seen: window.clone(), explained: window }
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let (Some(seen), Some(kernel)) = (sample.netdev_syn, sample.kernel) else {
            return Reading::default();
        };
        let own = kernel.active_opens.saturating_add(kernel.syn_retransmits);
        let seen = self.seen.push(sample.elapsed, seen);
        // Over a second, not tick by tick: the two counters are not read at the same instant.
        let explained = self.explained.push(sample.elapsed, own.saturating_add(kernel.forwarded_syn));
        let sum = seen.saturating_sub(explained);
        let level = Level::Convict.when(sum >= UNEXPLAINED_MAX);
        Reading {
            level,
            rate: self.seen.rate().saturating_sub(self.explained.rate()),
            sum,
            threshold: UNEXPLAINED_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table, connects, unexplained};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("identity.rs"),
            Detector::Identity,
            &[
                Drive::quiet("nothing"),
                Drive::once("10000 connects", connects(10_000, 10_000)),
                Drive::once("19 unexplained", unexplained(19)),
                Drive::once("20 unexplained", unexplained(20)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
