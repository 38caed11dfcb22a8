//! The stead agent: the I/O around stead-proto.

pub mod clock;
pub mod identity;
pub mod transport;
