//! The stead agent: the I/O around stead-proto.

pub mod kernel;
pub mod sys;
pub mod vip;
