//! The shield: the defence against an inbound SYN flood.
//!
//! - [`cookies`]: SYN cookies, the defence that is always on.
//! - [`queues`]: how full the listeners' accept queues are.
//! - [`proxy`]: an nft SYNPROXY before the endpoint's ports, while somebody floods them.
//! - [`rules`]: its ruleset, as text.
//!
//! Cookies alone survive a flood, as long as the listener has the time to answer it. The proxy answers earlier, and
//! only who answered back reaches the listener. In exchange every connection that it let in needs its sequence
//! numbers translated for as long as it lives (see [`proxy`]), and a visitor whose handshake loses its last packet
//! may hang (see [`rules`]): it is for floods that cookies do not carry.
//!
//! **Invariant.** Nothing that was there before is cut off: neither a connection by raising or lowering, nor a
//! foreign rule by ours, nor a sysctl but `tcp_syncookies`, which is set back.
//!
//! Deliberately absent: when to raise (`stead_proto::detect`'s inbound alarm), rate limits by source (sources
//! of a flood are invented), and ports that this host only forwards to a container.

pub mod cookies;
mod counts;
mod diag;
mod notice;
mod offer;
pub mod proxy;
pub mod queues;
pub mod rules;

pub use counts::{Counts, counts};
pub use diag::{DiagError, Flow};
pub use notice::{Notice, ShieldError};
