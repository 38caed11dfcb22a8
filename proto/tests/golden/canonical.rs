//! How many forms one value has. Writing knows one; reading bears more: integers wider than they need be, and maps
//! and sets in any order, also with an entry twice. Whatever compares, hashes or verifies therefore has to take the
//! bytes that came, never those that it would write itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV6};

use stead_proto::codec::{self, CodecError};
use stead_proto::id::NodeId;
use stead_proto::order::{Act, Order};
use stead_proto::report::{Report, link};
use stead_proto::sign::{SignError, Signed, Statement};

use crate::identity::signature;
use crate::parts::{CLUSTER, key, made_of, public};
use crate::{reports, samples};

#[test]
fn no_flipped_bit_panics_and_what_is_read_has_one_written_form() {
    for sample in samples() {
        for bit in 0..sample.frame.len() * 8 {
            let mut frame = sample.frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let Ok(read) = sample.read(&frame) else { continue };
            let again = (sample.reread)(&read.frame, 2 * sample.bytes_max);
            let again = again.unwrap_or_else(|error| panic!("{} bit {bit}: {error}", sample.name));
            assert_eq!(again.frame, read.frame, "{} bit {bit}", sample.name);
            assert_eq!(again.is_the_sample, read.is_the_sample, "{} bit {bit}", sample.name);
            assert!(!read.is_the_sample, "{}: bit {bit} does not count", sample.name);
        }
    }
}

#[test]
fn integers_wider_than_needed_are_read() {
    assert_eq!(codec::decode::<NodeId>(&[1, 7], 100), Ok(NodeId(7)));
    assert_eq!(codec::decode::<NodeId>(&[1, 251, 7, 0], 100), Ok(NodeId(7)));
    assert_eq!(codec::decode::<NodeId>(&[1, 252, 7, 0, 0, 0], 100), Ok(NodeId(7)));
    assert_eq!(codec::decode::<NodeId>(&[1, 253, 7, 0, 0, 0, 0, 0, 0, 0], 100), Ok(NodeId(7)));
    for marker in [254, 255] {
        let frame = [&[1, marker][..], &[0; 16]].concat();
        assert_eq!(codec::decode::<NodeId>(&frame, 100), Err(CodecError::Malformed), "{marker}");
    }
}

#[test]
fn maps_and_sets_are_read_in_any_order_and_the_last_of_two_counts() {
    let set = BTreeSet::from([NodeId(1), NodeId(2)]);
    assert_eq!(codec::decode(&[1, 2, 2, 1], 100), Ok(set.clone()));
    assert_eq!(codec::decode(&[1, 3, 2, 1, 2], 100), Ok(set));
    let map = BTreeMap::from([(NodeId(1), 8_u8)]);
    assert_eq!(codec::decode(&[1, 2, 1, 7, 1, 8], 100), Ok(map));
}

#[test]
fn booleans_and_options_have_one_form_each() {
    assert_eq!(codec::decode::<bool>(&[1, 2], 100), Err(CodecError::Malformed));
    assert_eq!(codec::decode::<Option<u8>>(&[1, 2, 0], 100), Err(CodecError::Malformed));
}

/// Nobody but the signer can give a statement another form.
#[test]
fn another_form_of_a_signed_statement_does_not_verify() {
    let order = Order { serial: 5, act: Act::Remove(NodeId(7)) };
    let signed = key(99).sign(CLUSTER, &order).unwrap();
    let wider = [&[1, 251, 5, 0], &signed.bytes()[2..]].concat();
    assert_eq!(codec::decode::<Order>(&wider, Order::BYTES_MAX), Ok(order));
    let recast: Signed<Order> = made_of(&(public(99), wider, signature(&signed)));
    assert_eq!(recast.verify(CLUSTER), Err(SignError::Signature));
}

/// The frame around a statement is not signed: whoever passes it on may write it otherwise, and changes nothing.
#[test]
fn another_form_of_the_frame_around_a_statement_means_the_same() {
    let signed = &reports::signed()[1];
    let frame = codec::encode(signed, 1_000).unwrap();
    let (head, rest) = frame.split_at(1 + 32);
    let length = u16::from(rest[0]);
    assert!(length < 251, "the statement's length takes one byte");
    let wider = [head, &[251], &length.to_le_bytes(), &rest[1..]].concat();
    let read: Signed<Report> = codec::decode(&wider, 1_000).unwrap();
    assert_eq!(read, *signed);
    assert_eq!(read.verify(CLUSTER), signed.verify(CLUSTER));
    assert_eq!(link(&read), link(signed));
}

/// Addresses are hints, and a scope or a flow label means nothing on another machine.
#[test]
fn of_an_ipv6_address_only_address_and_port_are_written() {
    let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7_832, 5, 2));
    let frame = codec::encode(&scoped, 100).unwrap();
    assert_eq!(codec::decode::<SocketAddr>(&frame, 100), Ok("[fe80::1]:7832".parse().unwrap()));
}
