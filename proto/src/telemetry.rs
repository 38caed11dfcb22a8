//! Telemetry: what the sensors of one node counted in one tick, as the detectors want it.
//!
//! A sample holds differences, never totals: the node that reads the counters takes care of wraps, resets and
//! restarts. What no sensor could see is `None`, which is not the same as zero: a detector that lacks its input
//! says that it is blind.
//!
//! **Invariant.** A sample speaks for one node and one span of its own clock. Inbound and outbound are apart:
//! what arrives is a reason to defend, and never makes anybody hostile.

use crate::time::Span;

/// How often the sensors are read.
pub const TICK: Span = Span::from_ms(100);

/// One reading of all sensors: what was counted since the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The time that it covers: about one [`TICK`], more after a pause of the agent.
    pub elapsed: Span,
    /// What the kernel program at tc egress and ingress saw; `None` without BPF.
    pub egress: Option<Egress>,
    /// SYNs without ACK at the nft netdev egress hook, whoever sent them; `None` without that hook.
    pub netdev_syn: Option<u64>,
    /// SYNs without ACK that came in on the uplink, as tc ingress saw them; `None` without BPF.
    pub inbound_syn: Option<u64>,
    /// The kernel's own TCP counters of this network namespace.
    pub kernel: Option<KernelTcp>,
    /// Of the uplink's counters; `None` when it is gone.
    pub uplink: Option<Uplink>,
}

/// Outbound SYNs (without ACK) and their answers, as seen at tc by BPF; both address families together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// By the kind of socket that sent them.
    pub syn: BySource,
    /// SYNs with a payload and without a TCP Fast Open option (RFC 7413).
    pub syn_with_payload: u64,
    /// SYNs of raw and packet sockets from an address that is not ours. (A TCP socket cannot make up a source;
    /// what looks like it is a container on a macvlan, or an address that is ours by a local route.)
    pub syn_foreign: u64,
    /// SYN-ACKs that came in for the 4-tuple and sequence number of a recent SYN, as its first answer.
    pub syn_ack_matched: u64,
    /// RSTs that came in for the 4-tuple and sequence number of a recent SYN, as its first answer.
    pub rst_matched: u64,
    /// SYNs sent again, with the same sequence number, for a 4-tuple that has no answer yet; at most ten times each.
    pub syn_again: u64,
    /// SYNs of raw and packet sockets, counted above, that this hook dropped: they went beyond the limit.
    pub syn_cut: u64,
    /// Packets of raw and packet sockets that are neither TCP nor ICMP nor VRRP.
    pub raw_other: u64,
    /// All segments that left through tc, the dropped ones not among them; each segment of an offloaded one counted.
    pub segments: u64,
    /// Distinct destinations of SYNs in the last second, estimated (HyperLogLog; Flajolet and others 2007).
    pub destinations: u32,
    /// The share of the most frequent destination among the SYNs of the last second, in thousandths.
    pub top_per_mille: u16,
}

/// SYNs by the kind of socket that sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BySource {
    /// TCP sockets: `connect`.
    pub tcp: u64,
    /// Raw sockets.
    pub raw: u64,
    /// Packet sockets.
    pub packet: u64,
    /// No socket of ours: forwarded for a container or another machine.
    pub forwarded: u64,
}

impl BySource {
    /// Of all kinds.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.tcp.saturating_add(self.forged()).saturating_add(self.forwarded)
    }

    /// Made by hand, beside the kernel's TCP: from raw and packet sockets.
    #[must_use]
    pub const fn forged(&self) -> u64 {
        self.raw.saturating_add(self.packet)
    }
}

/// Differences of `/proc/net/snmp` and `/proc/net/netstat`, by their names there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTcp {
    /// `Tcp: ActiveOpens`.
    pub active_opens: u64,
    /// `TcpExt: TCPSynRetrans`.
    pub syn_retransmits: u64,
    /// `TcpExt: TCPReqQFullDoCookies`.
    pub queue_full_cookies: u64,
    /// `TcpExt: TCPReqQFullDrop`.
    pub queue_full_drops: u64,
    /// `TcpExt: SyncookiesSent`.
    pub cookies_sent: u64,
    /// `TcpExt: SyncookiesRecv`.
    pub cookies_received: u64,
    /// `TcpExt: ListenOverflows`: a slow application, not an attack.
    pub listen_overflows: u64,
    /// `TcpExt: ListenDrops`.
    pub listen_drops: u64,
    /// SYNs that were forwarded, by the nft forward hook; zero where nothing is forwarded.
    pub forwarded_syn: u64,
}

/// Differences of the uplink's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Packets sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
}
