//! Simulation, fault-injecting lab scenarios, oracles and benchmarks of stead.

pub mod adversary;
pub mod bad_input;
pub mod cost;
pub mod failover;
pub mod flood;
pub mod lease_search;
pub mod misfortune;
pub mod traffic;
pub mod trials;
