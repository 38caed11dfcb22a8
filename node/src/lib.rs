//! The stead agent: the I/O around stead-proto.

pub mod holding;
pub mod service;
