//! Failover, measured: real agents in the lab, one misfortune at a time, many times each.
//!
//! Every outage is measured at a visitor outside of the mesh (open loop, a request every 5 ms), and a tap on
//! the switch's ports proves at the same time that never two nodes answered for the address.

pub mod figures;
mod rehearsal;
mod renumber;
mod scenario;

pub use figures::{Figures, Row};
pub use rehearsal::{Rehearsal, Run};
pub use scenario::{Goal, Scenario};
