//! D2, illegal SYNs: with a payload but without TCP Fast Open (RFC 7413), or from an address that is not ours.
//!
//! Convicts at 5 of one kind within a second.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 4 of each kind | Calm |
//! | Calm | 5 with payload | Convict |
//! | Calm | 5 foreign | Convict |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 4 of each kind | Convict |
//! | Convict | 5 with payload | Convict |
//! | Convict | 5 foreign | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 4 of each kind | Calm |
//! | Blind | 5 with payload | Convict |
//! | Blind | 5 foreign | Convict |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** The two kinds are counted apart: four of each are no five.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::Span;

const ILLEGAL_MAX: u64 = 5;

#[derive(Clone, Debug)]
pub(super) struct Illegal {
    payload: Window<16>,
    foreign: Window<16>,
}

impl Illegal {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self { payload: window.clone(), foreign: window }
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let Some(egress) = sample.egress else { return Reading::default() };
        let payload = self.payload.push(sample.elapsed, egress.syn_with_payload);
        let foreign = self.foreign.push(sample.elapsed, egress.syn_foreign);
        let sum = payload.max(foreign);
        let rate = self.payload.rate().max(self.foreign.rate());
        Reading { level: Level::Convict.when(sum >= ILLEGAL_MAX), rate, sum, threshold: ILLEGAL_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table, illegal};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("illegal.rs"),
            Detector::Illegal,
            &[
                Drive::quiet("nothing"),
                Drive::once("4 of each kind", illegal(4, 4)),
                Drive::once("5 with payload", illegal(5, 0)),
                Drive::once("5 foreign", illegal(0, 5)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
