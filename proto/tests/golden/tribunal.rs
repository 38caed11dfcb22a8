//! Samples of what nodes say against each other.

use stead_proto::id::NodeId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::sign::Statement;
use stead_proto::tribunal::{Certificate, Ground, Probe, Sanction, Subject, Testimony};

use crate::parts::{CLUSTER, UNIX_MS, key, public};
use crate::sample::{Samples, every};

const SUBJECT: NodeId = NodeId(300);

fn subject() -> Subject {
    Subject { node: SUBJECT, key: public(1) }
}

fn sanctions() -> [(&'static str, Sanction); 2] {
    every!(Sanction: Demote; Isolate;)
}

fn probes() -> [(&'static str, Probe); 4] {
    every!(Probe: HostKey; Ports; Content; Certificate;)
}

fn grounds() -> [(&'static str, Ground); 6] {
    every!(Ground:
        Contradiction { one: [0x0a; 32], other: [0x0b; 32] };
        Confession { report: [0x0c; 32] };
        AtHome;
        Probed(Probe::Content);
        Flooded { per_second: 70_000 };
        Silence;
    )
}

fn testimony(by: u64) -> Testimony {
    Testimony {
        subject: subject(),
        sanction: Sanction::Isolate,
        electorate: 251,
        by: NodeId(by),
        grounds: grounds().map(|(_, ground)| ground).into(),
        unix_ms: UNIX_MS,
    }
}

fn certificate() -> Certificate {
    let signed = |by: u8| key(by).sign(CLUSTER, &testimony(by.into())).unwrap();
    Certificate::of(vec![signed(2), signed(3)])
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = Testimony::BYTES_MAX;
    samples.add("tribunal::testimony::Subject", subject(), limit);
    samples.add_all("tribunal::testimony::Sanction", sanctions(), limit);
    samples.add_all("tribunal::testimony::Probe", probes(), limit);
    samples.add_all("tribunal::testimony::Ground", grounds(), limit);
    samples.add("tribunal::testimony::Testimony", testimony(2), limit);
    samples.add("tribunal::certificate::Certificate", certificate(), COMMAND_FRAME_BYTES_MAX);
}
