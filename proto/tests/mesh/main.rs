//! Three whole mesh cores in one process, in virtual time, with a network that delays and cuts, and a log
//! that is given: the way from an event to an endpoint served elsewhere, without any I/O.
#![allow(missing_docs, clippy::as_conversions, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod alarms;
mod faults;
mod fences;
mod judging;
mod outside;
mod probation;
mod roster;
mod secrets;
mod snapshots;
mod takeover;
mod testimonies;
mod world;
