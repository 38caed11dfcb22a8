//! The guard policy: how many connections a server may open to strangers, and for how long on trust.
//!
//! A living agent holds a *licence* in its kernel and renews it. While it lives, connections open freely (up to
//! a ceiling); when it is withdrawn or runs out, only the default limit and the allow-list remain.
//!
//! **Invariant.** A policy that [`GuardPolicy::check`] has nothing against always leaves a limit in the
//! kernel: no rate is zero or without bound, except the licensed ceiling where it says so.
//!
//! Deliberately absent: when to throttle or quarantine (the detectors decide) and how the kernel does it.

use crate::site::Complaint;
use alloc::{format, string::String, vec::Vec};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Entries of one allow-list.
pub const ALLOWED_MAX: usize = 64;
/// Destinations that stay within reach of a quarantined host.
pub const FRIENDS_MAX: usize = 128;
/// The highest rate that an entry or a ceiling may name, in SYNs a second.
pub const RATE_MAX: u32 = 100_000;
/// The shortest licence, in milliseconds: below it one slow renewal throttles a healthy node.
pub const LICENCE_MS_MIN: u32 = 1_000;
/// The longest licence, in milliseconds: for so long a dead agent's host stays open.
pub const LICENCE_MS_MAX: u32 = 30_000;

/// Addresses with the same leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix {
    /// Its first address; the bits behind `bits` are zero.
    pub address: IpAddr,
    /// How many leading bits count: 1 to 32 or 128.
    pub bits: u8,
}

/// A number of SYNs a second, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// SYNs a second.
    pub per_second: u32,
    /// SYNs at once.
    pub burst: u32,
}

/// Destinations that may be reached at their own rate without a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Where to.
    pub to: Prefix,
    /// Which port; each if none.
    pub port: Option<u16>,
    /// How often.
    pub rate: Rate,
}

/// What a server may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardPolicy {
    /// What passes without a licence, to anywhere.
    pub limit: Rate,
    /// What passes with one, to anywhere but what is allowed: a flood faster than that is cut before anybody has
    /// noticed it. `None` is without bound.
    pub ceiling: Option<Rate>,
    /// What passes without one, besides `limit`.
    pub allowed: Vec<Allowed>,
    /// How long a licence lasts without renewal, in milliseconds.
    pub licence_ms: u32,
    /// How often it is renewed, in milliseconds.
    pub renew_every_ms: u32,
    /// What a quarantined host may still reach: mesh peers, DNS servers, the operator.
    pub friends: Vec<Prefix>,
}

impl Default for GuardPolicy {
    fn default() -> Self {
        Self {
            limit: Rate { per_second: 10, burst: 10 },
            ceiling: Some(Rate { per_second: 2_000, burst: 2_000 }),
            allowed: Vec::new(),
            licence_ms: 3_000,
            renew_every_ms: 500,
            friends: Vec::new(),
        }
    }
}

impl GuardPolicy {
    /// Everything that is wrong with it, at once; empty if it can be enforced.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut say = |key: String, text: String| complaints.push(Complaint { key, text });
        self.limit.check("guard.limit", &mut say);
        if let Some(ceiling) = self.ceiling {
            ceiling.check("guard.ceiling", &mut say);
            if ceiling.per_second < self.limit.per_second {
                let limit = self.limit.per_second;
                say(
                    "guard.ceiling".into(),
                    format!("below the limit without a licence; write at least {limit}/s"),
                );
            }
        }
        if !(LICENCE_MS_MIN..=LICENCE_MS_MAX).contains(&self.licence_ms) {
            say("guard.licence".into(), format!("write {LICENCE_MS_MIN} to {LICENCE_MS_MAX} ms"));
        }
        if self.renew_every_ms == 0 || self.renew_every_ms > self.licence_ms / 3 {
            say(
                "guard.renew".into(),
                format!("write 1 to {} ms, a third of the licence", self.licence_ms / 3),
            );
        }
        if self.allowed.len() > ALLOWED_MAX {
            say("guard.allow".into(), format!("{} entries; at most {ALLOWED_MAX}", self.allowed.len()));
        }
        if self.friends.len() > FRIENDS_MAX {
            say("guard.friends".into(), format!("{} entries; at most {FRIENDS_MAX}", self.friends.len()));
        }
        for (index, entry) in self.allowed.iter().enumerate() {
            entry.to.check(&format!("guard.allow.{index}"), &mut say);
            entry.rate.check(&format!("guard.allow.{index}.rate"), &mut say);
            if entry.port == Some(0) {
                say(format!("guard.allow.{index}.port"), "write 1 to 65535, or no port for each".into());
            }
        }
        for (index, friend) in self.friends.iter().enumerate() {
            friend.check(&format!("guard.friends.{index}"), &mut say);
        }
        complaints
    }
}

impl Rate {
    fn check(self, key: &str, say: &mut impl FnMut(String, String)) {
        if !(1..=RATE_MAX).contains(&self.per_second) || !(1..=RATE_MAX).contains(&self.burst) {
            say(key.into(), format!("write a rate and a burst of 1 to {RATE_MAX}"));
        }
    }
}

impl Prefix {
    /// One address alone.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    fn check(self, key: &str, say: &mut impl FnMut(String, String)) {
        let (value, width) = match self.address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        if self.bits == 0 || self.bits > width {
            say(key.into(), format!("/{} is no prefix here; write /1 to /{width}", self.bits));
            return;
        }
        let host_bits = u32::from(width.saturating_sub(self.bits));
        if 1_u128.checked_shl(host_bits).is_some_and(|first| value & first.wrapping_sub(1) != 0) {
            say(
                key.into(),
                format!("{}/{} has bits behind its prefix; write zeros there", self.address, self.bits),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_default_can_be_enforced() {
        assert_eq!(GuardPolicy::default().check(), []);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let to = Prefix { address: "192.0.2.1".parse().unwrap(), bits: 24 };
        let none = Rate { per_second: 0, burst: 1 };
        let policy = GuardPolicy {
            limit: none,
            licence_ms: 10,
            renew_every_ms: 9,
            allowed: vec![Allowed { to, port: Some(0), rate: none }],
            friends: vec![Prefix { bits: 33, ..to }],
            ..GuardPolicy::default()
        };
        let keys: Vec<_> = policy.check().into_iter().map(|complaint| complaint.key).collect();
        assert_eq!(
            keys,
            [
                "guard.limit",
                "guard.licence",
                "guard.renew",
                "guard.allow.0",
                "guard.allow.0.rate",
                "guard.allow.0.port",
                "guard.friends.0"
            ]
        );
    }

    #[test]
    fn a_host_is_a_whole_prefix() {
        for host in ["192.0.2.1", "2001:db8::1"] {
            let friends = vec![Prefix::host(host.parse().unwrap())];
            assert_eq!(GuardPolicy { friends, ..GuardPolicy::default() }.check(), []);
        }
    }
}
