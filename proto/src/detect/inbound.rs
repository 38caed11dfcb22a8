//! The inbound alarm: somebody floods us.
//!
//! More than 100 SYNs within a second met a full queue, and fewer than a fifth of the cookies came back. A rush of
//! real visitors brings its cookies back and is no attack.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Quiet | nothing | Quiet |
//! | Quiet | 100 cookies, none back | Quiet |
//! | Quiet | 101 cookies, none back | UnderAttack |
//! | Quiet | 1000 cookies, 200 back | Quiet |
//! | Quiet | 101 dropped, cookies off | UnderAttack |
//! | Quiet | 20 quiet seconds | Quiet |
//! | Quiet | no sensor | Blind |
//! | UnderAttack | nothing | UnderAttack |
//! | UnderAttack | 100 cookies, none back | UnderAttack |
//! | UnderAttack | 101 cookies, none back | UnderAttack |
//! | UnderAttack | 1000 cookies, 200 back | UnderAttack |
//! | UnderAttack | 101 dropped, cookies off | UnderAttack |
//! | UnderAttack | 20 quiet seconds | Quiet |
//! | UnderAttack | no sensor | UnderAttack |
//! | Blind | nothing | Quiet |
//! | Blind | 100 cookies, none back | Quiet |
//! | Blind | 101 cookies, none back | UnderAttack |
//! | Blind | 1000 cookies, 200 back | Quiet |
//! | Blind | 101 dropped, cookies off | UnderAttack |
//! | Blind | 20 quiet seconds | Quiet |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** Its result has a type of its own: a victim can never be suspected or convicted for being one.

use super::level::{Alarm, Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::{Instant, Span};

const QUEUE_FULL_MAX: u64 = 100;
/// The share of the cookies that real visitors at least bring back: a fifth.
const SHARE: u64 = 5;

/// Whether we are flooded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// The kernel's counters are missing.
    #[default]
    Blind,
    /// Nothing to see.
    Quiet,
    /// Somebody floods us.
    UnderAttack,
}

/// What the inbound alarm says, with the figures that a person needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attack {
    /// What it says now.
    pub state: Inbound,
    /// Since when it says so.
    pub since: Instant,
    /// SYNs that met a full queue in the last second.
    pub queue_full: u64,
    /// Cookies that were sent in the last second.
    pub cookies_sent: u64,
    /// Cookies that came back in the last second.
    pub cookies_received: u64,
    /// Above how many SYNs a second at a full queue the alarm begins.
    pub threshold: u64,
}

#[derive(Clone, Debug)]
pub(super) struct InboundAlarm {
    full: Window<16>,
    sent: Window<16>,
    received: Window<16>,
    alarm: Alarm,
}

impl InboundAlarm {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self { full: window.clone(), sent: window.clone(), received: window, alarm: Alarm::default() }
    }

    pub(super) fn judge(&mut self, now: Instant, sample: &Sample) -> Attack {
        let elapsed = sample.elapsed;
        let Some(kernel) = sample.kernel else {
            return told(self.alarm.judge(now, elapsed, Reading::default()), 0, 0, 0);
        };
        let full = kernel.queue_full_cookies.saturating_add(kernel.queue_full_drops);
        let full = self.full.push(elapsed, full);
        let sent = self.sent.push(elapsed, kernel.cookies_sent);
        let received = self.received.push(elapsed, kernel.cookies_received);
        let returned = sent > 0 && received.saturating_mul(SHARE) >= sent;
        let level = Level::Suspect.when(full > QUEUE_FULL_MAX && !returned);
        let reading = Reading { level, rate: full, sum: full, threshold: QUEUE_FULL_MAX };
        told(self.alarm.judge(now, elapsed, reading), full, sent, received)
    }
}

fn told(judged: super::Judgement, queue_full: u64, cookies_sent: u64, cookies_received: u64) -> Attack {
    let state = match judged.level {
        Level::Blind => Inbound::Blind,
        Level::Calm => Inbound::Quiet,
        Level::Suspect | Level::Convict => Inbound::UnderAttack,
    };
    Attack {
        state,
        since: judged.since,
        queue_full,
        cookies_sent,
        cookies_received,
        threshold: QUEUE_FULL_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::super::driven::{Drive, assert_table_of, cookies, dropped};

    #[test]
    fn the_table_in_the_docs_is_what_the_alarm_does() {
        assert_table_of(
            include_str!("inbound.rs"),
            |findings| alloc::format!("{:?}", findings.inbound.state),
            &[
                Drive::quiet("nothing"),
                Drive::once("100 cookies, none back", cookies(100, 0)),
                Drive::once("101 cookies, none back", cookies(101, 0)),
                Drive::once("1000 cookies, 200 back", cookies(1_000, 200)),
                Drive::once("101 dropped, cookies off", dropped(101)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
