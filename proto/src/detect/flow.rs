//! SYNs and what answered them in one tick: the input of D4 and D5.
//!
//! **Invariant.** A repeated SYN is forgiven only as far as the kernel's own TCP repeated SYNs, or as far as they
//! may be forwarded ones: whoever floods with a fixed 4-tuple by hand is not excused as a retransmission.

use crate::telemetry::{Egress, Sample};

/// The most that one tick can count, as in the windows.
const COUNT_MAX: u64 = 1 << 32;

/// What went out, and what takes it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// SYNs of every kind of socket.
    pub(super) sent: u64,
    /// SYN-ACKs and RSTs for recent SYNs, and SYNs that were only repeated.
    pub(super) settled: u64,
}

impl Flow {
    /// `None` without BPF: nothing else matches answers to questions.
    pub(super) fn of(sample: &Sample) -> Option<Self> {
        let Egress { syn, syn_again, syn_ack_matched, rst_matched, .. } = sample.egress?;
        let own = sample.kernel.map_or(syn.tcp, |kernel| kernel.syn_retransmits.min(syn.tcp));
        let again = syn_again.min(own.saturating_add(syn.forwarded));
        let settled = again.saturating_add(syn_ack_matched).saturating_add(rst_matched);
        Some(Self { sent: syn.sum().min(COUNT_MAX), settled: settled.min(COUNT_MAX) })
    }

    /// New unanswered SYNs; negative where answers came late.
    pub(super) fn outstanding(self) -> i64 {
        i64::try_from(self.sent).unwrap_or(i64::MAX).saturating_sub_unsigned(self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{BySource, KernelTcp};

    #[test]
    fn only_the_kernels_own_repetitions_are_forgiven() {
        let mut sample = Sample {
            egress: Some(Egress {
                syn: BySource { raw: 100, tcp: 10, ..BySource::default() },
                syn_again: 110,
                ..Egress::default()
            }),
            kernel: Some(KernelTcp { syn_retransmits: 4, ..KernelTcp::default() }),
            ..Sample::default()
        };
        assert_eq!(Flow::of(&sample).unwrap().outstanding(), 106);
        sample.kernel = None;
        assert_eq!(Flow::of(&sample).unwrap().outstanding(), 100);
    }
}
