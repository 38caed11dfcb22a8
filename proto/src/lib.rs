//! Everything the stead mesh says and decides, with no I/O.
//!
//! Ids, wire messages and their codec, signed statements, the replicated state and its `apply`, and
//! the pure deciders: lease arithmetic, failure detection, endpoint placement, elections.
//!
//! **Invariant.** No clock, socket, thread, file or random source is reachable from here: the crate is
//! `no_std`. Time, seeds and configuration are arguments; what shall happen comes back as an effect.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::as_conversions))]

extern crate alloc;

pub mod codec;
pub mod config;
pub mod id;
pub mod lease;
pub mod limits;
pub mod plan;
pub mod sign;
pub mod time;
