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

pub mod admin;
pub mod codec;
pub mod command;
pub mod config;
pub mod detect;
pub mod election;
pub mod evidence;
pub mod fence;
pub mod genesis;
pub mod guard;
pub mod health;
pub mod id;
pub mod incident;
pub mod inventory;
pub mod lease;
pub mod limits;
pub mod liveness;
pub mod lookout;
pub mod memory;
pub mod mesh;
pub mod message;
pub mod order;
pub mod outside;
pub mod plan;
pub mod planner;
pub mod report;
pub mod roster;
pub mod seed;
pub mod service;
pub mod sign;
pub mod site;
pub mod state;
pub mod telemetry;
pub mod time;
pub mod tribunal;
