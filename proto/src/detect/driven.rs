//! Drives the real detectors through named ticks, and writes down where each leads: the tables in their docs.

use super::{Detector, Detectors, Findings, Integrity};
use crate::telemetry::{BySource, Egress, KernelTcp, Sample, Uplink};
use crate::time::{Instant, Span};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const TICK: Span = Span::from_ms(100);

/// Ticks with a name.
#[derive(Clone)]
pub(super) struct Drive {
    name: &'static str,
    sample: Sample,
    integrity: Option<Integrity>,
    ticks: u32,
}

impl Drive {
    /// One tick of `sample`.
    pub(super) const fn once(name: &'static str, sample: Sample) -> Self {
        Self::times(name, sample, 1)
    }

    /// `ticks` ticks of `sample`.
    pub(super) const fn times(name: &'static str, sample: Sample, ticks: u32) -> Self {
        Self { name, sample, integrity: Some(Integrity::Ours), ticks }
    }

    /// One tick in which nothing happens.
    pub(super) fn quiet(name: &'static str) -> Self {
        Self::once(name, sample())
    }

    /// Twenty seconds in which nothing happens.
    pub(super) fn calm(name: &'static str) -> Self {
        Self::times(name, sample(), 200)
    }

    /// One tick in which no sensor works.
    pub(super) fn blind(name: &'static str) -> Self {
        let sample = Sample { elapsed: TICK, ..Sample::default() };
        Self { integrity: None, ..Self::once(name, sample) }
    }

    /// One tick in which our own parts are found changed.
    pub(super) fn changed(name: &'static str) -> Self {
        Self { integrity: Some(Integrity::Changed), ..Self::quiet(name) }
    }
}

/// One tick of `sample`, with our own parts unchanged.
pub(super) fn run(detectors: &mut Detectors, sample: &Sample) -> Findings {
    detectors.tick(Instant::ZERO, sample, Some(Integrity::Ours))
}

/// Compares the table in `source`'s docs with what `detector` does.
pub(super) fn assert_table(source: &str, detector: Detector, drives: &[Drive]) {
    assert_table_of(source, |findings| format!("{:?}", findings.of(detector).level), drives);
}

/// Compares the table in `source`'s docs with the states that `state` names.
pub(super) fn assert_table_of(source: &str, state: impl Fn(&Findings) -> String, drives: &[Drive]) {
    let told: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    let told = told.iter().map(|row| format!("//! |{row}\n")).collect::<String>();
    let driven = table(state, drives);
    assert!(told == driven, "the docs say:\n{told}the detector does:\n{driven}");
}

/// From every state that one drive reaches, every drive.
fn table(state: impl Fn(&Findings) -> String, drives: &[Drive]) -> String {
    let mut text = String::from("//! | state | tick | then |\n//! |---|---|---|\n");
    let mut reached = BTreeSet::new();
    for first in drives {
        let mut detectors = Detectors::new();
        let from = state(&take(&mut detectors, first));
        if !reached.insert(from.clone()) {
            continue;
        }
        for second in drives {
            let then = state(&take(&mut detectors.clone(), second));
            text.push_str(&format!("//! | {from} | {} | {then} |\n", second.name));
        }
    }
    text
}

fn take(detectors: &mut Detectors, drive: &Drive) -> Findings {
    (0..drive.ticks)
        .fold(Findings::default(), |_, _| detectors.tick(Instant::ZERO, &drive.sample, drive.integrity))
}

fn sample() -> Sample {
    Sample {
        elapsed: TICK,
        egress: Some(Egress::default()),
        netdev_syn: Some(0),
        inbound_syn: Some(0),
        kernel: Some(KernelTcp::default()),
        uplink: Some(Uplink::default()),
    }
}

fn with_egress(egress: Egress) -> Sample {
    Sample { egress: Some(egress), ..sample() }
}

fn with_kernel(kernel: KernelTcp) -> Sample {
    Sample { kernel: Some(kernel), ..sample() }
}

/// SYNs of raw sockets.
pub(super) fn forged(raw: u64) -> Sample {
    with_egress(Egress { syn: BySource { raw, ..BySource::default() }, ..Egress::default() })
}

/// SYNs of packet sockets.
pub(super) fn packets(packet: u64) -> Sample {
    with_egress(Egress { syn: BySource { packet, ..BySource::default() }, ..Egress::default() })
}

/// `connect`s, of which some are answered at once.
pub(super) fn connects(tcp: u64, answered: u64) -> Sample {
    let syn = BySource { tcp, ..BySource::default() };
    let egress = Egress { syn, syn_ack_matched: answered, ..Egress::default() };
    let kernel = KernelTcp { active_opens: tcp, ..KernelTcp::default() };
    Sample { kernel: Some(kernel), netdev_syn: Some(tcp), ..with_egress(egress) }
}

/// `connect`s of a container on a macvlan or ipvlan interface, counted in its own namespace, answered at once.
pub(super) fn connects_of_a_container(tcp: u64) -> Sample {
    Sample { kernel: Some(KernelTcp::default()), ..connects(tcp, tcp) }
}

/// SYNs with a payload, and from a foreign address.
pub(super) fn illegal(syn_with_payload: u64, syn_foreign: u64) -> Sample {
    with_egress(Egress { syn_with_payload, syn_foreign, ..Egress::default() })
}

/// SYNs on the wire that the kernel's TCP did not make.
pub(super) fn unexplained(syn: u64) -> Sample {
    Sample { netdev_syn: Some(syn), ..sample() }
}

/// Packets on the uplink, and those of them that passed tc.
pub(super) fn wire(sent: u64, segments: u64) -> Sample {
    Sample {
        uplink: Some(Uplink { sent, received: 0 }),
        ..with_egress(Egress { segments, ..Egress::default() })
    }
}

/// Raw packets that are no SYNs.
pub(super) fn raw_other(raw_other: u64) -> Sample {
    with_egress(Egress { raw_other, ..Egress::default() })
}

/// SYNs that were answered with a cookie, and cookies that came back.
pub(super) fn cookies(sent: u64, received: u64) -> Sample {
    with_kernel(KernelTcp {
        queue_full_cookies: sent,
        cookies_sent: sent,
        cookies_received: received,
        ..KernelTcp::default()
    })
}

/// SYNs that were dropped, cookies being off.
pub(super) fn dropped(queue_full_drops: u64) -> Sample {
    with_kernel(KernelTcp { queue_full_drops, ..KernelTcp::default() })
}
