//! Outbound traffic of servers, simulated, to judge the flood detectors: what eight honest servers send, and what
//! malware adds to it.
//!
//! **Invariant.** A seed fixes a run to the last SYN. The detectors get nothing but [`stead_proto::telemetry::Sample`]s,
//! the same that the agent's sensors fill. The profiles are invented, since nobody published measured ones: the
//! simulation shows that the thresholds leave room, not that no server on earth is different.

pub mod chance;
pub mod flood;
pub mod profile;
pub mod source;
pub mod trial;
