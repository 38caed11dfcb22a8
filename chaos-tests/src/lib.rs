//! Simulation, fault-injecting lab scenarios, oracles and benchmarks of stead.
