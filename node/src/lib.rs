//! The stead agent: the I/O around stead-proto.
//!
//! Tasks here only translate: what comes in becomes an event of [`stead_proto::mesh::Mesh`], what it wants
//! done becomes a system call, a datagram or a proposal. See [`agent`] for the way through.

pub mod agent;
pub mod clock;
pub mod config;
pub mod consensus;
pub mod guard;
pub mod holding;
pub mod identity;
pub mod kernel;
mod nfnetlink;
mod nft;
pub mod outside;
mod seat;
pub mod service;
pub mod shield;
pub mod storage;
pub mod sys;
pub mod telemetry;
pub mod transport;
pub mod vip;
