//! Hostile members, played against real agents in the lab.
//!
//! **Invariant.** What a mesh is credited with is told by its honest nodes, its visitors and the victim of the attack;
//! never by the hostile one. All packets stay in the lab's namespaces.

mod audience;
pub mod break_in;
pub mod evicted;
mod malware;
pub mod member;
pub mod raft;
mod role;
mod row;
pub mod two_faced;
pub mod warrant;

pub use malware::{Night, Struck};
pub use role::Role;
pub use row::Row;
