//! Samples of grants and of the certificate that they make.

use stead_proto::election::{ElectionCertificate, Grant};
use stead_proto::id::NodeId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::sign::Statement;

use crate::parts::{CLUSTER, key};
use crate::sample::Samples;

fn grant(voter: u64) -> Grant {
    let (last, membership) = (Some((250, 70_001)), Some(400));
    Grant { term: 251, candidate: NodeId(2), last, membership, voter: NodeId(voter) }
}

fn certificate() -> ElectionCertificate {
    let signed = |by: u8| key(by).sign(CLUSTER, &grant(by.into())).unwrap();
    ElectionCertificate::of(vec![signed(2), signed(3)])
}

pub(crate) fn add(samples: &mut Samples) {
    samples.add("election::grant::Grant", grant(3), Grant::BYTES_MAX);
    samples.add("election::certificate::ElectionCertificate", certificate(), COMMAND_FRAME_BYTES_MAX);
}
