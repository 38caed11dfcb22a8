//! D1, provenance: SYNs that were made by hand, from raw and packet sockets. A server's software never does it.
//!
//! Convicts at 20 within a second, or at 60 within ten seconds.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 19 raw SYNs | Calm |
//! | Calm | 20 raw SYNs | Convict |
//! | Calm | 20 packet SYNs | Convict |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 19 raw SYNs | Convict |
//! | Convict | 20 raw SYNs | Convict |
//! | Convict | 20 packet SYNs | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 19 raw SYNs | Calm |
//! | Blind | 20 raw SYNs | Convict |
//! | Blind | 20 packet SYNs | Convict |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** SYNs of TCP sockets and forwarded ones never count here, at any rate.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::{Egress, Sample};
use crate::time::Span;

const BRIEF_MAX: u64 = 20;
const LONG_MAX: u64 = 60;

#[derive(Clone, Debug)]
pub(super) struct Provenance {
    brief: Window<16>,
    long: Window<128>,
}

impl Provenance {
    pub(super) fn new() -> Self {
        Self { brief: Window::new(Span::from_ms(1_000)), long: Window::new(Span::from_ms(10_000)) }
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let Some(Egress { syn, .. }) = sample.egress else { return Reading::default() };
        let brief = self.brief.push(sample.elapsed, syn.forged());
        let long = self.long.push(sample.elapsed, syn.forged());
        let drips = brief < BRIEF_MAX && long >= LONG_MAX;
        let (sum, threshold) = if drips { (long, LONG_MAX) } else { (brief, BRIEF_MAX) };
        Reading { level: Level::Convict.when(sum >= threshold), rate: self.brief.rate(), sum, threshold }
    }
}

#[cfg(test)]
mod tests {
    use super::super::driven::{Drive, assert_table, connects, forged, packets, run};
    use super::super::{Detector, Detectors};
    use super::*;

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("provenance.rs"),
            Detector::Provenance,
            &[
                Drive::quiet("nothing"),
                Drive::once("19 raw SYNs", forged(19)),
                Drive::once("20 raw SYNs", forged(20)),
                Drive::once("20 packet SYNs", packets(20)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }

    #[test]
    fn six_a_second_are_convicted_within_ten_seconds_and_five_never() {
        let mut detectors = Detectors::new();
        let mut worst = Level::Blind;
        for tick in 0..6_000_u64 {
            worst = worst.max(run(&mut detectors, &forged(u64::from(tick % 2 == 0))).provenance.level);
        }
        assert_eq!(worst, Level::Calm);
        let seconds = (1..=12_u64)
            .find(|_| (0..10).any(|_| run(&mut detectors, &forged(1)).provenance.level == Level::Convict));
        assert!(seconds.is_some_and(|seconds| seconds <= 10), "{seconds:?}");
    }

    #[test]
    fn any_number_of_connects_is_no_provenance() {
        let mut detectors = Detectors::new();
        assert_eq!(run(&mut detectors, &connects(1_000_000, 0)).provenance.level, Level::Calm);
    }
}
