//! Golden bytes: how each type that leaves a process looks on the wire and on the disk.
//!
//! A changed line here is a changed format: the other version of stead, and the store of the last one, cannot read
//! it. Until the first release that is allowed; afterwards it takes a new version of the type.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod samples;

use std::fmt::Write as _;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use stead_proto::codec::{CodecError, VERSION, decode, encode};
use stead_proto::limits::{
    ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX, REPORT_FRAME_BYTES_MAX,
};

/// Longer ones are told by their hash.
const SHOWN_BYTES_MAX: usize = 96;

/// Writes down what each value looks like, and checks what has to hold of all bytes.
fn look<T>(out: &mut String, what: &str, all: Vec<T>, bytes_max: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    for (name, value) in samples::named(what, all) {
        let bytes = encode(&value, bytes_max).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decode::<T>(&bytes, bytes_max).unwrap(), value, "{name}");
        let hash: String = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let shown: String = bytes.iter().take(SHOWN_BYTES_MAX).map(|byte| format!("{byte:02x}")).collect();
        let more = if bytes.len() > SHOWN_BYTES_MAX { "…" } else { "" };
        writeln!(out, "{name}: {} bytes, sha256 {hash}, {shown}{more}", bytes.len()).unwrap();
        broken(&name, &bytes, &value, bytes_max);
    }
}

/// Truncated, padded, of another version, or with a flipped bit: refused or another value, never a panic.
fn broken<T>(name: &str, bytes: &[u8], value: &T, bytes_max: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let step = bytes.len().div_ceil(512);
    for end in (0..bytes.len()).step_by(step) {
        assert!(decode::<T>(&bytes[..end], bytes_max).is_err(), "{name} cut off after {end} bytes");
    }
    let padded = [bytes, &[0]].concat();
    assert!(decode::<T>(&padded, bytes_max.max(padded.len())).is_err(), "{name} with a byte more");
    let newer = [&[VERSION + 1], &bytes[1..]].concat();
    assert_eq!(decode::<T>(&newer, bytes_max).unwrap_err(), CodecError::Version(VERSION + 1), "{name}");
    assert!(matches!(decode::<T>(bytes, bytes.len() - 1), Err(CodecError::TooLong { .. })), "{name}");
    for bit in (0..8 * bytes.len()).step_by(step) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode::<T>(&flipped, bytes_max) {
            assert_ne!(other, *value, "{name}: bit {bit} says nothing");
        }
    }
}

#[test]
fn everything_that_leaves_a_process_has_its_bytes() {
    let mut out = String::new();
    look(&mut out, "message", samples::every_message(), LEASE_FRAME_BYTES_MAX);
    look(&mut out, "report", vec![samples::signed_report()], REPORT_FRAME_BYTES_MAX);
    look(&mut out, "act", samples::every_act(), COMMAND_FRAME_BYTES_MAX);
    look(
        &mut out,
        "order",
        samples::every_act().into_iter().map(samples::order).collect(),
        COMMAND_FRAME_BYTES_MAX,
    );
    look(&mut out, "command", samples::every_command(), COMMAND_FRAME_BYTES_MAX);
    look(&mut out, "refusal", samples::every_refusal(), COMMAND_FRAME_BYTES_MAX);
    look(&mut out, "request", samples::every_request(), ADMIN_FRAME_BYTES_MAX);
    look(&mut out, "answer", samples::every_answer(), ADMIN_FRAME_BYTES_MAX);
    look(&mut out, "genesis", vec![samples::genesis()], COMMAND_FRAME_BYTES_MAX);
    look(&mut out, "seed", vec![stead_proto::seed::Seed::of(&samples::state(), 4)], COMMAND_FRAME_BYTES_MAX);
    look(&mut out, "state", vec![samples::state()], ADMIN_FRAME_BYTES_MAX);
    look(&mut out, "memories", vec![samples::memories()], COMMAND_FRAME_BYTES_MAX);
    look(&mut out, "record", vec![samples::record()], COMMAND_FRAME_BYTES_MAX);
    insta::assert_snapshot!(out);
}
