//! What the sensors are called, and what an operator is told when one of them is not there.

use std::fmt;

/// Letters of a reason, so that a [`Missing`] fits a report.
pub(super) const WHY_CHARS_MAX: usize = 120;

/// Where the BPF program is attached, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A tcx link (Linux 6.6).
    Tcx,
    /// A clsact filter (Linux 5.8), which somebody else may flush.
    Clsact,
}

/// One of the sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensor {
    /// BPF at tc: `Sample::egress`.
    Egress,
    /// nft at netdev egress: `Sample::netdev_syn`.
    Netdev,
    /// The kernel's TCP counters: `Sample::kernel`.
    Kernel,
    /// The uplink's packet counters: `Sample::uplink`.
    Uplink,
}

impl Sensor {
    /// What cannot be seen without it, and what to do about that.
    pub(super) const fn blind(self) -> &'static str {
        match self {
            Self::Egress => {
                "which sockets send SYNs, and their destinations, are not seen; forged ones pass until the limit is on; \
                 needs BPF (Linux 5.8), CAP_BPF, Ethernet"
            }
            Self::Netdev => "SYNs that go around tc are not seen; install nftables on Linux 5.16 or later",
            Self::Kernel => "SYNs of ordinary programs, and an inbound flood, are not seen",
            Self::Uplink => {
                "packets that go around every hook (AF_XDP) are not seen; check the node's uplink setting"
            }
        }
    }
}

impl Sensor {
    /// What it does not see where it works.
    pub(super) const fn misses(self) -> &'static str {
        match self {
            Self::Egress => {
                "packets that go around tc (PACKET_QDISC_BYPASS, AF_XDP): the netdev sensor and the uplink see them"
            }
            Self::Netdev => "who sends; AF_XDP; SYNs behind VLAN tags that a packet socket wrote by hand",
            Self::Kernel => "whatever is made by hand",
            Self::Uplink => "what is in a packet",
        }
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress sensor (BPF)",
            Self::Netdev => "netdev sensor (nft)",
            Self::Kernel => "kernel TCP counters",
            Self::Uplink => "uplink counters",
        })
    }
}

/// A sensor that is not there: a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub sensor: Sensor,
    /// Why it does not work.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}; {}", self.sensor, self.why, self.sensor.blind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_fits_the_report_with_its_reason() {
        for sensor in [Sensor::Egress, Sensor::Netdev, Sensor::Kernel, Sensor::Uplink] {
            let text = Missing { sensor, why: "x".repeat(WHY_CHARS_MAX) }.to_string();
            assert!(text.len() <= stead_proto::limits::TEXT_BYTES_MAX, "{} bytes: {text}", text.len());
            assert!(text.contains("not seen"), "{text}");
        }
    }
}
