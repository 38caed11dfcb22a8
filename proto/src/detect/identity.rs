//! D3, the identity that needs no BPF: SYNs on the wire that the kernel's TCP did not make and nobody forwarded.
//!
//! `netdev SYN − ActiveOpens − TCPSynRetrans − forwarded` is exactly the number of SYNs made by hand. Convicts at
//! 20 within a second. A container whose interface is stacked upon the uplink (macvlan, ipvlan) counts its `connect`s in
//! a namespace of its own. With BPF at tc they are known as what they are, and explained; without it such a node has to
//! go without this detector.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 10000 connects | Calm |
//! | Calm | 10000 connects of a stacked container | Calm |
//! | Calm | 19 unexplained | Calm |
//! | Calm | 20 unexplained | Convict |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 10000 connects | Convict |
//! | Convict | 10000 connects of a stacked container | Convict |
//! | Convict | 19 unexplained | Convict |
//! | Convict | 20 unexplained | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 10000 connects | Calm |
//! | Blind | 10000 connects of a stacked container | Calm |
//! | Blind | 19 unexplained | Calm |
//! | Blind | 20 unexplained | Convict |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** What BPF at tc says can explain SYNs, but never hide those that it did not see at all.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::Span;

const UNEXPLAINED_MAX: u64 = 20;

#[derive(Clone, Debug)]
pub(super) struct Identity {
    seen: Window<16>,
    own: Window<16>,
    at_tc: Window<16>,
}

impl Identity {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self { seen: window.clone(), own: window.clone(), at_tc: window }
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let (Some(seen), Some(kernel)) = (sample.netdev_syn, sample.kernel) else {
            return Reading::default();
        };
        let own =
            kernel.active_opens.saturating_add(kernel.syn_retransmits).saturating_add(kernel.forwarded_syn);
        let at_tc = sample.egress.map_or(0, |egress| egress.syn.tcp.saturating_add(egress.syn.forwarded));
        // Over a second, not tick by tick: the counters are not read at the same instant.
        let seen = self.seen.push(sample.elapsed, seen);
        let own = self.own.push(sample.elapsed, own);
        let at_tc = self.at_tc.push(sample.elapsed, at_tc);
        // The window is a second long: the sum is the rate.
        let sum = seen.saturating_sub(own.max(at_tc));
        let level = Level::Convict.when(sum >= UNEXPLAINED_MAX);
        Reading { level, rate: sum, sum, threshold: UNEXPLAINED_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table, connects, connects_of_a_container, unexplained};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("identity.rs"),
            Detector::Identity,
            &[
                Drive::quiet("nothing"),
                Drive::once("10000 connects", connects(10_000, 10_000)),
                Drive::once("10000 connects of a stacked container", connects_of_a_container(10_000)),
                Drive::once("19 unexplained", unexplained(19)),
                Drive::once("20 unexplained", unexplained(20)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
