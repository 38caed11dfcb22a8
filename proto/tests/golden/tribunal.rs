//! Samples of what nodes say against each other.

use stead_proto::admin::CaseSeen;
use stead_proto::id::NodeId;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX};
use stead_proto::mesh::Conviction;
use stead_proto::sign::{Signed, Statement};
use stead_proto::state::{Authority, Isolation};
use stead_proto::tribunal::{Certificate, Ground, Place, Probe, Sanction, Subject, Testimony};

use crate::parts::{CLUSTER, UNIX_MS, key, name, public};
use crate::reports;
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
        heard: Some(Place { incarnation: 3, sequence: 70_000 }),
    }
}

/// One that its author signed.
pub(crate) fn signed() -> Signed<Testimony> {
    signed_by(2)
}

fn signed_by(by: u8) -> Signed<Testimony> {
    key(by).sign(CLUSTER, &testimony(by.into())).unwrap()
}

pub(crate) fn certificate() -> Certificate {
    Certificate::of(vec![signed_by(2), signed_by(3)])
}

fn authorities() -> [(&'static str, Authority); 2] {
    every!(Authority:
        Peers(certificate());
        Operator { name: name("ann"), reason: "it mines coins".into() };
    )
}

pub(crate) fn isolation() -> Isolation {
    let [(_, by), _] = authorities();
    Isolation { index: 251, unix_ms: UNIX_MS, by }
}

fn conviction() -> Conviction {
    Conviction { certificate: certificate(), evidence: reports::signed() }
}

pub(crate) fn case() -> CaseSeen {
    CaseSeen { subject: SUBJECT, open_ms: 251, demoted: true, testimonies: vec![testimony(2), testimony(3)] }
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = Testimony::BYTES_MAX;
    samples.add("tribunal::testimony::Subject", subject(), limit);
    samples.add_all("tribunal::testimony::Sanction", sanctions(), limit);
    samples.add_all("tribunal::testimony::Probe", probes(), limit);
    samples.add_all("tribunal::testimony::Ground", grounds(), limit);
    samples.add("tribunal::testimony::Place", Place { incarnation: 3, sequence: 70_000 }, limit);
    samples.add("tribunal::testimony::Testimony", testimony(2), limit);
    samples.add("sign::Signed<Testimony>", signed(), LEASE_FRAME_BYTES_MAX);
    samples.add_all("state::isolations::Authority", authorities(), COMMAND_FRAME_BYTES_MAX);
    samples.add("state::isolations::Isolation", isolation(), COMMAND_FRAME_BYTES_MAX);
    samples.add("mesh::judging::Conviction", conviction(), COMMAND_FRAME_BYTES_MAX);
    samples.add("admin::CaseSeen", case(), ADMIN_FRAME_BYTES_MAX);
    samples.add("tribunal::certificate::Certificate", certificate(), COMMAND_FRAME_BYTES_MAX);
}
