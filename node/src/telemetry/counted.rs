//! What was counted between two readings of counters that somebody may have reset.
//!
//! **Invariant.** A counter that was reset or that wrapped tells no more than happened, and one that went back for
//! whatever reason no more than [`SINCE_RESET_MAX`].

/// Packets between two readings: ten million a second.
const SINCE_RESET_MAX: u64 = 1 << 20;

/// What was counted between two readings, counter by counter.
///
/// A counter that went back was reset, or wrapped at a width that nobody knows, and counts from zero: what was
/// before is lost. Unless it stands where it cannot have come to since:
/// then it lost a part of what it sums up (the queues of a card that was given fewer), the rest is old, and
/// nothing is told of this once.
pub(super) fn difference<const N: usize>(now: &[u64; N], then: &[u64; N]) -> [u64; N] {
    let mut told = *now;
    for (told, then) in told.iter_mut().zip(then) {
        let from_zero = *told <= then / 2 && *told <= SINCE_RESET_MAX;
        *told = told.checked_sub(*then).unwrap_or(if from_zero { *told } else { 0 });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_counter_that_went_back_counts_from_zero() {
        assert_eq!(difference(&[10, 3, u64::MAX], &[4, 9, u64::MAX]), [6, 3, 0]);
    }

    #[test]
    fn a_card_that_lost_some_of_its_queues_has_not_sent_all_the_rest_just_now() {
        let then = [4_000_000_000, 1_000, 4_000_000_000];
        assert_eq!(difference(&[3_999_999_999, 900, 1_000_000_000], &then), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_counter_that_wraps_tells_no_more_than_happened(
            width in prop_oneof![Just(32), Just(40), Just(48), Just(64)],
            before in any::<u64>(),
            near_the_end in 0..2_000_000_u64,
            at_the_end in any::<bool>(),
            happened in 0..SINCE_RESET_MAX,
        ) {
            let last = u64::MAX >> (64 - width);
            let before = if at_the_end { last - near_the_end } else { before & last };
            let after = before.wrapping_add(happened) & last;
            let [told] = difference(&[after], &[before]);
            let lost = if after < before { last - before + 1 } else { 0 };
            prop_assert_eq!(told, happened - lost);
        }

        #[test]
        fn a_counter_that_was_reset_tells_what_came_since(
            since in 0..=SINCE_RESET_MAX,
            before in any::<u64>(),
        ) {
            let [told] = difference(&[since], &[before.max(2 * since + 1)]);
            prop_assert_eq!(told, since);
        }

        #[test]
        fn no_two_readings_of_a_counter_that_went_back_tell_an_enormous_number(
            before in any::<u64>(),
            after in any::<u64>(),
        ) {
            let (after, before) = (after.min(before), after.max(before));
            let [told] = difference(&[after], &[before]);
            prop_assert!(told <= SINCE_RESET_MAX);
        }
    }
}
