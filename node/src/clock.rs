//! The one clock that deadlines of leases are read from.
//!
//! **Invariant.** It never steps back and goes on counting while the machine is suspended
//! (`CLOCK_BOOTTIME`): the lease gate in the kernel compares with the same clock.

use rustix::time::{ClockId, clock_gettime};
use stead_proto::time::Instant;

/// Nanoseconds since boot.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the time since boot is not negative");
    let ns = u64::try_from(time.tv_nsec).expect("nanoseconds of a second are not negative");
    Instant::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_since_boot_grows() {
        let earlier = now();
        assert!(earlier.as_ns() > 0);
        assert!(now() >= earlier);
    }
}
