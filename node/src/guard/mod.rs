//! The guard: what this host may send to strangers, limited in its kernel.
//!
//! - [`rules`]: the ruleset, as text.
//! - [`limiter`]: opening, licence, throttle, quarantine, repair.
//!
//! **Invariant.** The limit is in the kernel before it is needed and stays when the agent dies: without a
//! living licence only the default rate and the allow-list leave the host.
//!
//! Deliberately absent: when to throttle, and any inbound rule. Root on this host can remove the table; that
//! is noticed ([`limiter::Guard::verify`]) and is what the peers' layers are for. AF_XDP passes no hook at all.

pub mod limiter;
pub mod rules;
