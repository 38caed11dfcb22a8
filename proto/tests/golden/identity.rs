//! What hangs on bytes: signatures, the mesh's identity, the chain of reports, the state's digest. If one of these
//! differs from what was committed, nodes of two versions stop understanding each other.

use ed25519_dalek::{Signer, SigningKey};
use stead_proto::codec::{self, CodecError};
use stead_proto::command::{Command, Outcome, Refusal};
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::incident::Matter;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::order::{Act, Order};
use stead_proto::report::{Report, link};
use stead_proto::sign::{SignError, Signed, Statement};
use stead_proto::state::State;

use crate::parts::{CLUSTER, UNIX_MS, genesis, key, made_of, public};
use crate::reports;
use crate::sample::hex;

/// The signature of a signed statement.
pub(crate) fn signature<T: Statement>(signed: &Signed<T>) -> Vec<u8> {
    let (_, _, signature): (PublicKey, Vec<u8>, Vec<u8>) = made_of(signed);
    signature
}

/// A statement signed by hand, as another implementation would do it.
fn signed_by_hand<T: Statement>(seed: u8, context: &str, statement: &[u8]) -> Signed<T> {
    let length = u8::try_from(context.len()).unwrap();
    let covered = [&[length], context.as_bytes(), &CLUSTER.0, statement].concat();
    let signature = SigningKey::from_bytes(&[seed; 32]).sign(&covered).to_bytes().to_vec();
    made_of(&(public(seed), statement, signature))
}

#[test]
fn a_signature_covers_context_mesh_and_statement() {
    let order = Order { serial: 5, act: Act::Remove(NodeId(7)) };
    let bytes = codec::encode(&order, Order::BYTES_MAX).unwrap();
    assert_eq!(signed_by_hand(99, "stead order v1", &bytes), key(99).sign(CLUSTER, &order).unwrap());
    let report = reports::full();
    let bytes = codec::encode(&report, Report::BYTES_MAX).unwrap();
    assert_eq!(signed_by_hand(1, "stead report v1", &bytes), key(1).sign(CLUSTER, &report).unwrap());
}

#[test]
fn a_statement_of_another_version_is_refused_although_it_is_signed() {
    let order = Order { serial: 5, act: Act::Remove(NodeId(7)) };
    let mut bytes = codec::encode(&order, Order::BYTES_MAX).unwrap();
    for version in [0, 2, u8::MAX] {
        bytes[0] = version;
        let signed: Signed<Order> = signed_by_hand(99, Order::CONTEXT, &bytes);
        let refused = SignError::Statement(CodecError::Version(version));
        assert_eq!(signed.verify(CLUSTER), Err(refused));
    }
}

#[test]
fn a_command_of_another_version_changes_nothing_but_the_digest() {
    let mut state = State::begin(CLUSTER, &genesis());
    let before = state.clone();
    assert_eq!(state.apply(9, &[2, 4]), Outcome::Refused(Refusal::Unreadable));
    assert_ne!(state.digest, before.digest);
    assert_eq!(State { applied: before.applied, digest: before.digest, ..state }, before);
}

#[test]
fn identities_and_digests_stay_what_they_are() {
    let mut state = State::begin(CLUSTER, &genesis());
    let note = Command::Note {
        matter: Matter::NodeLost(NodeId(3)),
        text: "nobody reaches it".into(),
        closes: false,
        unix_ms: UNIX_MS,
    };
    let order = Order { serial: 1 << 60, act: Act::Drain { node: NodeId(3), drained: true } };
    let signed = key(99).sign(CLUSTER, &order).unwrap();
    for (index, command) in (1..).zip([Command::Probe, note, Command::Order(signed)]) {
        let bytes = codec::encode(&command, COMMAND_FRAME_BYTES_MAX).unwrap();
        assert_eq!(state.apply(index, &bytes), Outcome::Done);
    }
    let lines = [
        format!("cluster of the sample of a genesis {}", genesis().cluster().unwrap()),
        format!("link to the full report {}", hex(&link(&reports::signed()[0]))),
        format!("digest after a probe, a note and an order {}", hex(&state.digest)),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}
