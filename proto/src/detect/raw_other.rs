//! D7, raw traffic other than SYNs: floods of UDP, DNS or bare ACKs from raw and packet sockets.
//!
//! Convicts above 2000 packets within a second. ICMP and VRRP are not counted by the sensor.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 2000 raw packets | Calm |
//! | Calm | 2001 raw packets | Convict |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 2000 raw packets | Convict |
//! | Convict | 2001 raw packets | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 2000 raw packets | Calm |
//! | Blind | 2001 raw packets | Convict |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** Ordinary UDP sockets never count here.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::Span;

const PACKETS_MAX: u64 = 2_000;

#[derive(Clone, Debug)]
pub(super) struct RawOther(Window<16>);

impl RawOther {
    pub(super) fn new() -> Self {
        Self(Window::new(Span::from_ms(1_000)))
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let Some(egress) = sample.egress else { return Reading::default() };
        let sum = self.0.push(sample.elapsed, egress.raw_other);
        Reading {
            level: Level::Convict.when(sum > PACKETS_MAX),
            rate: self.0.rate(),
            sum,
            threshold: PACKETS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table, raw_other};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("raw_other.rs"),
            Detector::RawOther,
            &[
                Drive::quiet("nothing"),
                Drive::once("2000 raw packets", raw_other(2_000)),
                Drive::once("2001 raw packets", raw_other(2_001)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
