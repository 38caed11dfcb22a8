//! The stead agent: the I/O around stead-proto.

pub mod consensus;
pub mod storage;
