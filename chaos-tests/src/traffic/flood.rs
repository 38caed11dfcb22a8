//! What malware adds to the traffic of an honest server.
//!
//! **Invariant.** A flood touches exactly the counters that its way of sending touches on a real kernel (measured
//! on Linux 6.18): a SYN of a raw socket moves no TCP counter, AF_XDP moves nothing but the uplink's.

use serde::Serialize;
use stead_proto::telemetry::Sample;

/// How the SYNs are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A raw socket.
    Raw,
    /// A packet socket.
    Packet,
    /// A raw socket, with a payload in each SYN.
    Payload,
    /// A raw socket, from addresses that are not ours.
    Foreign,
    /// `connect` of TCP sockets, closed at once; the victim is silent.
    Connect,
    /// AF_XDP: seen by the uplink's counter only.
    Xdp,
}

/// From which rate on a flood has to be found, in SYNs a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detectable {
    /// At least suspected.
    pub suspect: u64,
    /// Convicted; `None` where no detector ever convicts.
    pub convict: Option<u64>,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Packet, Self::Payload, Self::Foreign, Self::Connect, Self::Xdp];

    /// What the rules promise.
    #[must_use]
    pub const fn detectable(self) -> Detectable {
        match self {
            Self::Raw | Self::Packet | Self::Payload | Self::Foreign => {
                Detectable { suspect: 20, convict: Some(20) }
            }
            Self::Connect => Detectable { suspect: 20, convict: Some(400) },
            Self::Xdp => Detectable { suspect: 2_000, convict: None },
        }
    }

    /// Adds `syn` SYNs to what the sensors counted.
    pub fn add(self, syn: u64, sample: &mut Sample) {
        if let Some(uplink) = &mut sample.uplink {
            uplink.sent += syn;
        }
        if self == Self::Xdp {
            return;
        }
        if let Some(netdev_syn) = &mut sample.netdev_syn {
            *netdev_syn += syn;
        }
        let Some(egress) = &mut sample.egress else { return };
        egress.segments += syn;
        match self {
            Self::Packet => egress.syn.packet += syn,
            Self::Connect => egress.syn.tcp += syn,
            Self::Raw | Self::Payload | Self::Foreign | Self::Xdp => egress.syn.raw += syn,
        }
        match self {
            Self::Payload => egress.syn_with_payload += syn,
            Self::Foreign => egress.syn_foreign += syn,
            Self::Raw | Self::Packet | Self::Connect | Self::Xdp => (),
        }
        if let (Self::Connect, Some(kernel)) = (self, &mut sample.kernel) {
            kernel.active_opens += syn;
        }
    }
}

/// A flood at a steady rate, from some moment on.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    kind: Kind,
    per_s: u64,
    owed_us: u64,
}

impl Flood {
    /// A flood of `per_s` SYNs a second.
    #[must_use]
    pub const fn new(kind: Kind, per_s: u64) -> Self {
        Self { kind, per_s, owed_us: 0 }
    }

    /// Adds what it sends in `span_us` to `sample`.
    pub fn add(&mut self, span_us: u64, sample: &mut Sample) {
        self.owed_us += span_us * self.per_s;
        let syn = self.owed_us / 1_000_000;
        self.owed_us %= 1_000_000;
        self.kind.add(syn, sample);
    }
}
