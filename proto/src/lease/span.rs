//! How long a promise has to be: the only place where clock rates enter.
//!
//! A clock of rate `r` shows `r·t` after the true time `t`, with `1−ρ ≤ r ≤ 1+ρ`. A holder's lease and its
//! gate's slack are `L+s` on its own clock, so at most `(L+s)/(1−ρ)` in truth. A promise of `P` on the voter's
//! clock lasts at least `P/(1+ρ)`. So `P = (L+s)·(1+ρ)/(1−ρ)` covers the lease, whichever clocks run fast.
//!
//! **Invariant.** Rounded up, integers only.

use crate::limits::{CLOCK_DRIFT_PPM, GATE_SLACK_MAX, HANDOVER_GUARD, LEASE_MAX};
use crate::time::Span;

const MILLION: u64 = 1_000_000;

/// How long a voter promises, from the receipt of an ask, for a lease of `lease` whose gate closes up to
/// `slack` late. The [`HANDOVER_GUARD`] on top separates the old holder's last frame from the new one's first.
#[must_use]
pub(crate) const fn promise_span(lease: Span, slack: Span) -> Span {
    let own = lease.plus(slack).as_ns();
    let scaled = own.saturating_mul(MILLION + CLOCK_DRIFT_PPM).div_ceil(MILLION - CLOCK_DRIFT_PPM);
    Span::from_ns(scaled).plus(HANDOVER_GUARD)
}

/// As long as the longest promise that anybody can have given: the silence of a voter that forgot (P7), and
/// the age at which a configuration has outlived every lease of the one before (P2).
pub const OUTLIVED: Span = promise_span(LEASE_MAX, GATE_SLACK_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_silence_after_a_forgetful_restart_is_five_and_a_half_seconds_scaled() {
        assert_eq!(OUTLIVED.as_ms(), 5_631);
    }

    proptest! {
        #[test]
        fn a_promise_outlives_the_lease_on_the_worst_pair_of_clocks(lease in 60_u64..=3_000, slack in 0_u64..=2_500) {
            let (lease, slack) = (Span::from_ms(lease), Span::from_ms(slack));
            // True ns, scaled by 10^12 to stay exact: the slowest holder against the fastest voter.
            let held = u128::from(lease.plus(slack).as_ns()) * 1_010_000;
            let promised = u128::from(promise_span(lease, slack).as_ns() - HANDOVER_GUARD.as_ns()) * 990_000;
            prop_assert!(promised >= held);
            prop_assert!(promised < held + 1_000_000, "no longer than needed");
        }
    }
}
