//! Bad input for real agents: the scene of a small mesh in the lab, handicapped hosts, an intruder.

pub mod handicap;
pub mod intruder;
pub mod scene;

pub use handicap::Handicap;
pub use intruder::Intruder;
pub use scene::Scene;
