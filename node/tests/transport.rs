//! The transport over loopback: real sockets, real quinn, real keys.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    reason = "the lints excuse test functions only, not the helpers beside them"
)]

use bytes::Bytes;
use quinn::{ConnectionError, Endpoint};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use stead_node::clock;
use stead_node::identity::Identity;
use stead_node::transport::{
    AdminClient, CallError, ClientError, Datagram, Directory, Inbound, Inboxes, Plane, Profile, Refusal,
    SendError, Transport, Who,
};
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::limits::{LEASE_FRAME_BYTES_MAX, RAFT_PLANE_BYTES_MAX, REPORT_FRAME_BYTES_MAX};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(10);
const LOOPBACK: &str = "127.0.0.1:0";
const MESH: ClusterId = ClusterId([0xa5; 32]);
const MESH_NAME: &str = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5.stead";

struct Node {
    transport: Transport,
    directory: Directory,
    datagrams: mpsc::Receiver<Datagram>,
    messages: mpsc::Receiver<Inbound>,
}

fn identity(n: u8) -> Identity {
    Identity::from_seed(Zeroizing::new([n; 32]))
}

fn node_keys(ids: &[u8]) -> BTreeMap<PublicKey, Who> {
    ids.iter().map(|n| (identity(*n).public(), Who::Node(id(*n)))).collect()
}

fn id(n: u8) -> NodeId {
    NodeId(n.into())
}

fn node(n: u8, accepted: BTreeMap<PublicKey, Who>) -> Node {
    node_at(n, LOOPBACK.parse().unwrap(), accepted, 64).unwrap()
}

fn node_at(
    n: u8,
    bind: SocketAddr,
    accepted: BTreeMap<PublicKey, Who>,
    inbox: usize,
) -> Result<Node, stead_node::transport::TransportError> {
    let directory = Directory::new(accepted);
    let (datagram_sender, datagrams) = mpsc::channel(inbox);
    let (message_sender, messages) = mpsc::channel(inbox);
    let inboxes = Inboxes { datagrams: datagram_sender, messages: message_sender };
    let profile = Profile { jitter_seed: n.into(), ..Profile::default() };
    let transport = Transport::start(&identity(n), (MESH, id(n)), bind, directory.clone(), profile, inboxes)?;
    Ok(Node { transport, directory, datagrams, messages })
}

/// Two nodes that know each other's keys, connected on both planes. Only the first knew an address, so that
/// there are no twins.
async fn pair() -> (Node, Node) {
    let (a, b) = (node(1, node_keys(&[1, 2])), node(2, node_keys(&[1, 2])));
    introduce(&a, 2, &b);
    until("connected", || ready(&a, 2) && ready(&b, 1)).await;
    (a, b)
}

fn introduce(from: &Node, n: u8, to: &Node) {
    from.transport.set_hints(id(n), &[to.transport.local_addr().unwrap()]);
}

fn ready(node: &Node, peer: u8) -> bool {
    let planes = [Plane::Raft, Plane::Report];
    planes.iter().all(|plane| node.transport.connections(id(peer), *plane) > 0)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Answers calls with their own bytes, until aborted; other messages are passed over.
fn echo(mut messages: mpsc::Receiver<Inbound>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if let Inbound::Raft { bytes, reply, .. } | Inbound::Admin { bytes, reply, .. } = message {
                reply.send(bytes);
            }
        }
    })
}

async fn call(from: &Transport, to: u8, text: &str) -> Result<Vec<u8>, CallError> {
    from.call(id(to), Bytes::from(text.to_owned()), Duration::from_secs(1), 1_000).await
}

async fn next_report(messages: &mut mpsc::Receiver<Inbound>) -> (NodeId, Vec<u8>) {
    let next = async {
        loop {
            if let Inbound::Report { from, bytes, .. } = messages.recv().await.expect("the transport runs") {
                return (from, bytes);
            }
        }
    };
    tokio::time::timeout(SOON, next).await.expect("a report in time")
}

#[tokio::test]
async fn both_sides_know_whom_they_talk_to_on_every_plane() {
    let (mut a, mut b) = pair().await;
    a.transport.send_datagram(id(2), Bytes::from_static(b"lease")).unwrap();
    let before = clock::now();
    let datagram = tokio::time::timeout(SOON, b.datagrams.recv()).await.unwrap().unwrap();
    assert_eq!((datagram.from, &datagram.bytes[..]), (id(1), &b"lease"[..]));
    assert!(datagram.at.since(before).as_ms() < 1_000 && datagram.at <= clock::now());

    b.transport.send_report(id(1), Bytes::from_static(b"report")).unwrap();
    assert_eq!(next_report(&mut a.messages).await, (id(2), b"report".to_vec()));

    let answering = tokio::spawn(async move {
        loop {
            if let Inbound::Raft { from, bytes, reply } = b.messages.recv().await.unwrap() {
                reply.send([&bytes[..], b" from ", from.to_string().as_bytes()].concat());
                return b;
            }
        }
    });
    assert_eq!(call(&a.transport, 2, "vote").await, Ok(b"vote from #1".to_vec()));
    let b = answering.await.unwrap();
    assert!(a.transport.rtt(id(2)).unwrap() < Duration::from_millis(100));
    assert_eq!(a.transport.connected(), [id(2)]);
    assert_eq!((a.transport.counters().refused.len(), b.transport.counters().refused.len()), (0, 0));
}

#[tokio::test]
async fn a_key_that_is_not_listed_is_refused_and_counted_on_both_sides() {
    let a = node(1, node_keys(&[1]));
    let stranger = node(9, node_keys(&[1, 9]));
    introduce(&stranger, 1, &a);
    until("refused", || {
        a.transport.counters().refused.contains_key(&Refusal::UnknownKey)
            && stranger.transport.counters().refused_by_peer.contains_key(&Refusal::UnknownKey)
    })
    .await;
    assert_eq!(stranger.transport.connected(), []);
    assert_eq!(call(&stranger.transport, 1, "x").await, Err(CallError::Send(SendError::NotConnected)));
}

#[tokio::test]
async fn an_accepted_node_cannot_pass_for_another_one() {
    let a = node(1, node_keys(&[1, 2, 3]));
    let b = node(2, node_keys(&[1, 2, 3]));
    // The address of node 3, as far as node 1 knows, is that of node 2.
    introduce(&a, 3, &b);
    until("refused", || a.transport.counters().refused.contains_key(&Refusal::WrongNode)).await;
    assert_eq!(a.transport.connected(), []);
}

#[tokio::test]
async fn eviction_by_the_side_that_dialled_is_at_once_and_for_good() {
    let (a, b) = pair().await;
    evict((1, a), (2, b)).await;
}

#[tokio::test]
async fn eviction_by_the_side_that_was_dialled_is_at_once_and_for_good() {
    let (a, b) = pair().await;
    evict((2, b), (1, a)).await;
}

async fn evict((judge, a): (u8, Node), (evicted, mut b): (u8, Node)) {
    let start = Instant::now();
    a.directory.replace(node_keys(&[judge]));
    until("closed on both sides", || {
        let gone = |n: &Node, peer| {
            n.transport.connections(id(peer), Plane::Raft) == 0 && n.transport.connected().is_empty()
        };
        gone(&a, evicted) && gone(&b, judge)
    })
    .await;
    let closed = start.elapsed();
    println!("eviction: both planes closed on both sides after {closed:?}");
    assert!(closed < Duration::from_millis(50), "{closed:?}");
    assert_eq!(a.transport.counters().evicted, 2);

    b.transport.poke(id(judge));
    until("tried to come back", || a.transport.counters().refused.get(&Refusal::EvictedKey) >= Some(&4))
        .await;
    assert_eq!(a.transport.connected(), []);
    assert_eq!(b.transport.connected(), []);
    assert_eq!(b.transport.send_datagram(id(judge), Bytes::from_static(b"x")), Err(SendError::NotConnected));
    let mut news = Vec::new();
    while let Ok(message) = b.messages.try_recv() {
        news.push(matches!(message, Inbound::Connected { .. }));
    }
    assert_eq!(news, [true, false], "connected once, lost once, and never connected again");
}

#[tokio::test]
async fn eviction_reaches_operators_and_readmission_works() {
    let operator = identity(77);
    let with_operator: BTreeMap<_, _> = [(operator.public(), Who::Operator)].into();
    let a = node(1, with_operator.clone());
    let address = a.transport.local_addr().unwrap();
    let directory = a.directory.clone();
    let _echo = echo(a.messages);
    let client = AdminClient::connect(&operator, MESH, identity(1).public(), address, SOON).await.unwrap();
    let request = || client.request(Bytes::from_static(b"status"), SOON);
    assert_eq!(request().await.unwrap(), b"status");
    directory.replace(BTreeMap::new());
    until("evicted", || a.transport.counters().evicted == 1).await;
    assert!(request().await.is_err());
    let refused =
        AdminClient::connect(&operator, MESH, identity(1).public(), address, SOON).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { why: Refusal::EvictedKey, .. }), "{refused}");
    directory.replace(with_operator);
    let client = AdminClient::connect(&operator, MESH, identity(1).public(), address, SOON).await.unwrap();
    assert_eq!(client.request(Bytes::from_static(b"again"), SOON).await.unwrap(), b"again");
}

#[tokio::test]
async fn an_operator_is_known_by_key_and_bounded_in_number() {
    let operator = identity(77);
    let mut a = node(1, [(operator.public(), Who::Operator)].into());
    let address = a.transport.local_addr().unwrap();
    let connect = || AdminClient::connect(&operator, MESH, identity(1).public(), address, SOON);
    let client = connect().await.unwrap();
    let asked = async {
        let Some(Inbound::Admin { from, key, remote, bytes, reply }) = a.messages.recv().await else {
            panic!("an admin request")
        };
        assert_eq!((from, key, bytes), (Who::Operator, identity(77).public(), b"drain".to_vec()));
        assert!(remote.ip().is_loopback() && remote.ip().is_ipv4(), "{remote}");
        reply.send(b"done".to_vec());
    };
    let (answer, ()) = tokio::join!(client.request(Bytes::from_static(b"drain"), SOON), asked);
    assert_eq!(answer.unwrap(), b"done");

    let more = [connect().await.unwrap(), connect().await.unwrap(), connect().await.unwrap()];
    let crowded = connect().await.unwrap_err();
    assert!(matches!(crowded, ClientError::Refused { why: Refusal::Crowded, .. }), "{crowded}");
    drop(more);

    // Four requests at once: two are worked on, the others wait on the wire.
    let request = || client.request(Bytes::from_static(b"slow"), SOON);
    let asked = async {
        let next = |message| match message {
            Some(Inbound::Admin { reply, .. }) => reply,
            other => panic!("{other:?}"),
        };
        let (first, second) = (next(a.messages.recv().await), next(a.messages.recv().await));
        let third = tokio::time::timeout(Duration::from_millis(100), a.messages.recv()).await;
        assert!(third.is_err(), "only two at once");
        first.send(b"1".to_vec());
        second.send(b"2".to_vec());
        next(a.messages.recv().await).send(b"3".to_vec());
        next(a.messages.recv().await).send(b"4".to_vec());
    };
    let (one, two, three, four, ()) = tokio::join!(request(), request(), request(), request(), asked);
    assert!([one, two, three, four].iter().all(Result::is_ok));
}

#[tokio::test]
async fn wrong_keys_and_silent_addresses_tell_the_operator_what_to_do() {
    let operator = identity(77);
    let a = node(1, [(operator.public(), Who::Operator)].into());
    let address = a.transport.local_addr().unwrap();
    let error = AdminClient::connect(&operator, MESH, identity(2).public(), address, SOON).await.unwrap_err();
    assert!(error.to_string().contains("another node answers"), "{error}");
    let error =
        AdminClient::connect(&identity(78), MESH, identity(1).public(), address, SOON).await.unwrap_err();
    assert!(error.to_string().contains("ask an admin to add you"), "{error}");
    let nobody = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let deadline = Duration::from_millis(300);
    let silent = nobody.local_addr().unwrap();
    let error =
        AdminClient::connect(&operator, MESH, identity(1).public(), silent, deadline).await.unwrap_err();
    assert!(error.to_string().contains("is the agent running"), "{error}");
}

#[tokio::test]
async fn an_operator_gets_nowhere_but_to_the_admin_plane() {
    let a = node(1, [(identity(77).public(), Who::Operator)].into());
    for alpn in [Plane::Raft, Plane::Report] {
        let connection = raw_connection(77, &a, alpn.alpn()).await.unwrap();
        let ConnectionError::ApplicationClosed(_) = closed(&connection).await else {
            panic!("closed by the node")
        };
    }
    assert_eq!(a.transport.counters().refused.get(&Refusal::WrongPlane), Some(&2));
}

#[tokio::test]
async fn another_protocol_version_is_refused_in_the_handshake() {
    let a = node(1, node_keys(&[1, 2]));
    assert!(raw_connection(2, &a, b"stead-raft/2").await.is_err());
    assert!(raw_connection(2, &a, b"h3").await.is_err());
    until("counted", || a.transport.counters().refused.get(&Refusal::WrongPlane) == Some(&2)).await;
}

#[tokio::test]
async fn another_mesh_is_refused_in_the_handshake_whatever_key_it_shows() {
    let a = node(1, node_keys(&[1, 2]));
    for name in ["a6a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5.stead", "x", "stead"] {
        for alpn in [&b"stead-raft/1"[..], b"stead-report/1", b"stead-admin/1"] {
            assert!(raw_connection_to(name, 2, &a, alpn).await.is_err());
        }
    }
    until("counted", || a.transport.counters().refused == [(Refusal::WrongMesh, 9)].into()).await;
    let (address, key) = (a.transport.local_addr().unwrap(), identity(1).public());
    let other = AdminClient::connect(&identity(2), ClusterId([1; 32]), key, address, SOON).await.unwrap_err();
    assert!(other.to_string().contains("belongs to another mesh"), "{other}");
}

#[tokio::test]
async fn frames_beyond_their_limit_are_cut_off_and_others_go_on() {
    let mut a = node(1, node_keys(&[1, 2]));
    let raft = raw_connection(2, &a, Plane::Raft.alpn()).await.unwrap();
    let (mut send, mut receive) = raft.open_bi().await.unwrap();
    // The node stops reading at its limit, so that this can never be written whole.
    let written = send.write_all(&vec![0; RAFT_PLANE_BYTES_MAX + 1_000_000]).await;
    assert!(written.is_err() && receive.read_to_end(10).await.is_err());

    let report = raw_connection(2, &a, Plane::Report.alpn()).await.unwrap();
    let mut send = report.open_uni().await.unwrap();
    let _ = send.write_all(&vec![0; REPORT_FRAME_BYTES_MAX + 1]).await;
    let _ = send.finish();
    report.send_datagram(vec![0; LEASE_FRAME_BYTES_MAX + 1].into()).unwrap();
    until("all three counted", || a.transport.counters().oversize == 3).await;

    // A frame that is cut off never arrives; one of full length does.
    let mut send = report.open_uni().await.unwrap();
    send.write_all(b"half").await.unwrap();
    send.reset(9_u8.into()).unwrap();
    let mut send = report.open_uni().await.unwrap();
    send.write_all(&vec![7; REPORT_FRAME_BYTES_MAX]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(next_report(&mut a.messages).await, (id(2), vec![7; REPORT_FRAME_BYTES_MAX]));
    assert!(raft.close_reason().is_none() && report.close_reason().is_none());
    assert!(a.datagrams.try_recv().is_err());
}

#[tokio::test]
async fn random_packets_disturb_nobody() {
    let (mut a, b) = pair().await;
    let socket = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let (mut noise, target) = (1_u64, a.transport.local_addr().unwrap());
    for n in 0..20_000_u64 {
        let packet: Vec<u8> = (0..n % 1_400)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                noise.to_le_bytes()[7]
            })
            .collect();
        let _ = socket.send_to(&packet, target);
        if n % 500 == 0 {
            tokio::task::yield_now().await;
        }
    }
    b.transport.send_report(id(1), Bytes::from_static(b"still here")).unwrap();
    assert_eq!(next_report(&mut a.messages).await.1, b"still here");
    assert_eq!(a.transport.connected(), [id(2)]);
}

#[tokio::test]
async fn own_limits_bind_before_anything_is_sent() {
    let (a, b) = pair().await;
    let too_long = |bytes_max| SendError::TooLong { bytes: bytes_max + 1, bytes_max };
    let zeros = |n: usize| Bytes::from(vec![0; n]);
    let max = LEASE_FRAME_BYTES_MAX;
    assert_eq!(a.transport.send_datagram(id(2), zeros(max + 1)), Err(too_long(max)));
    assert_eq!(a.transport.send_datagram(id(2), zeros(max)), Ok(()));
    let max = REPORT_FRAME_BYTES_MAX;
    assert_eq!(a.transport.send_report(id(2), zeros(max + 1)), Err(too_long(max)));
    let max = RAFT_PLANE_BYTES_MAX;
    let refused = a.transport.call(id(2), zeros(max + 1), SOON, 10).await;
    assert_eq!(refused, Err(CallError::Send(too_long(max))));
    let _echo = echo(b.messages);
    let answer = a.transport.call(id(2), zeros(max), SOON, max).await;
    assert_eq!(answer.map(|bytes| bytes.len()), Ok(max));
    assert_eq!(a.transport.call(id(2), zeros(11), SOON, 10).await, Err(CallError::AnswerTooLong(10)));
}

#[tokio::test]
async fn a_full_inbox_drops_datagrams_and_holds_streams_back() {
    let a = node(1, node_keys(&[1, 2]));
    let mut b = node_at(2, LOOPBACK.parse().unwrap(), node_keys(&[1, 2]), 4).unwrap();
    introduce(&a, 2, &b);
    until("connected", || ready(&a, 2) && ready(&b, 1)).await;
    for n in 0..100_u8 {
        a.transport.send_datagram(id(2), Bytes::from(vec![n])).unwrap();
        tokio::task::yield_now().await;
    }
    until("dropped", || b.transport.counters().datagrams_dropped > 0).await;
    until("read or dropped", || b.datagrams.len() == 4).await;
    assert!(b.transport.counters().datagrams_dropped <= 96);
    for n in 0..100_u8 {
        a.transport.send_report(id(2), Bytes::from(vec![n])).unwrap();
        tokio::task::yield_now().await;
    }
    until("the newest replaced others", || a.transport.counters().reports_dropped > 50).await;
    assert!(b.messages.len() <= 4 && b.datagrams.len() <= 4, "nothing grows");
    // The newest one is what comes last, once there is room again.
    let mut last = 0;
    while last < 99 {
        last = last.max(next_report(&mut b.messages).await.1[0]);
    }
}

#[tokio::test]
async fn a_peer_that_floods_with_datagrams_leaves_room_for_the_others() {
    let all = || node_keys(&[1, 2, 3]);
    let (flood, honest, mut target) = (node(1, all()), node(3, all()), node(2, all()));
    introduce(&flood, 2, &target);
    introduce(&honest, 2, &target);
    until("connected", || ready(&target, 1) && ready(&target, 3) && ready(&flood, 2) && ready(&honest, 2))
        .await;
    let (heard_sender, mut heard) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(datagram) = target.datagrams.recv().await {
            if datagram.from == id(3) && heard_sender.send(datagram.bytes).await.is_err() {
                return;
            }
        }
    });
    for n in 0..50_u8 {
        for _ in 0..400 {
            flood.transport.send_datagram(id(2), Bytes::from_static(b"!")).unwrap();
        }
        honest.transport.send_datagram(id(2), Bytes::from(vec![n])).unwrap();
        let arrived = tokio::time::timeout(SOON, heard.recv()).await.expect("room for an honest word");
        assert_eq!(arrived.unwrap(), vec![n]);
    }
}

#[tokio::test]
async fn a_frame_that_was_given_up_half_way_never_arrives() {
    let (a, mut b) = pair().await;
    let frame = Bytes::from(vec![1; RAFT_PLANE_BYTES_MAX]);
    // Longer than the windows, so that the first attempt to write leaves a rest.
    assert_eq!(a.transport.call(id(2), frame, Duration::ZERO, 10).await, Err(CallError::TimedOut));
    // What had been written would arrive beside the calls of this time, if anything of it did.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        let (answer, got) = tokio::join!(call(&a.transport, 2, "whole"), async {
            loop {
                if let Inbound::Raft { bytes, reply, .. } = b.messages.recv().await.unwrap() {
                    reply.send(Vec::new());
                    return bytes.len();
                }
            }
        });
        assert_eq!((answer, got), (Ok(Vec::new()), b"whole".len()));
    }
}

#[tokio::test]
async fn a_key_that_becomes_another_node_has_to_connect_anew() {
    let (a, mut b) = pair().await;
    let renamed: BTreeMap<_, _> = [(identity(1).public(), Who::Node(id(5)))].into();
    b.directory.replace(renamed);
    until("lost", || !b.transport.connected().contains(&id(1))).await;
    until("back under the new id", || b.transport.connected() == [id(5)]).await;
    until("its side too", || ready(&a, 2)).await;
    a.transport.send_report(id(2), Bytes::from_static(b"new")).unwrap();
    assert_eq!(next_report(&mut b.messages).await, (id(5), b"new".to_vec()));
}

#[tokio::test]
async fn simultaneous_dials_end_in_one_connection_and_lose_no_call() {
    for _ in 0..5 {
        let (a, b) = (node(1, node_keys(&[1, 2])), node(2, node_keys(&[1, 2])));
        let (to_a, to_b) = (a.transport.local_addr().unwrap(), b.transport.local_addr().unwrap());
        let _echoes = (echo(a.messages), echo(b.messages));
        a.transport.set_hints(id(2), &[to_b]);
        b.transport.set_hints(id(1), &[to_a]);
        let connections = |t: &Transport, peer| {
            t.connections(id(peer), Plane::Raft) + t.connections(id(peer), Plane::Report)
        };
        until("connected", || {
            a.transport.connections(id(2), Plane::Raft) > 0 && b.transport.connections(id(1), Plane::Raft) > 0
        })
        .await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            let (there, back) = tokio::join!(call(&a.transport, 2, "ping"), call(&b.transport, 1, "pong"));
            assert_eq!((there, back), (Ok(b"ping".to_vec()), Ok(b"pong".to_vec())));
        }
        until("one connection per plane", || {
            connections(&a.transport, 2) == 2 && connections(&b.transport, 1) == 2
        })
        .await;
        println!("duplicates closed: {}", a.transport.counters().duplicates);
    }
}

#[tokio::test]
async fn wrong_addresses_do_no_harm_and_a_right_one_is_used_at_once() {
    let a = node(1, node_keys(&[1, 2]));
    let b = node(2, node_keys(&[1, 2]));
    let nobody = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let wrong = [nobody.local_addr().unwrap(), "127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
    a.transport.set_hints(id(2), &wrong);
    let mut buffer = [0; 2_000];
    nobody.set_nonblocking(true).unwrap();
    until("the wrong one was tried", || nobody.recv(&mut buffer).is_ok()).await;
    assert_eq!(a.transport.connected(), []);
    let start = Instant::now();
    let right = b.transport.local_addr().unwrap();
    a.transport.set_hints(id(2), &[wrong[0], wrong[1], right]);
    until("connected", || ready(&a, 2)).await;
    let took = start.elapsed();
    println!("right address after wrong ones: connected after {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn two_calls_in_a_row_without_an_answer_renew_the_connection() {
    let (a, mut b) = pair().await;
    let (megabyte, deadline) = (Bytes::from(vec![0; 1_000_000]), Duration::from_millis(300));
    for n in 1..=2 {
        let lost = a.transport.call(id(2), megabyte.clone(), deadline, 10).await;
        assert_eq!(lost, Err(CallError::TimedOut));
        assert_eq!(a.transport.counters().calls_timed_out, n);
        assert!(a.transport.traffic(id(2)).sent_bytes > 1_000_000, "still the old one");
    }
    assert_eq!(a.transport.counters().stale, 1);
    // The unanswered calls are dropped, and with them all that is in the way of new ones.
    while b.messages.try_recv().is_ok() {}
    let _echo = echo(b.messages);
    let start = Instant::now();
    while call(&a.transport, 2, "x").await.is_err() {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(a.transport.traffic(id(2)).sent_bytes < 1_000_000, "a new one");
}

#[tokio::test]
async fn dropping_the_last_handle_tells_the_peers_and_frees_the_port() {
    let (a, b) = pair().await;
    let port = b.transport.local_addr().unwrap();
    let start = Instant::now();
    drop(b);
    until("told", || a.transport.connected().is_empty()).await;
    assert!(start.elapsed() < Duration::from_millis(500), "not by the idle timeout");
    until("free", || std::net::UdpSocket::bind(port).is_ok()).await;
}

#[tokio::test]
async fn what_was_said_last_arrives_before_the_end() {
    let (a, mut b) = pair().await;
    // As an agent that stops: nothing else runs on this thread between the last words and the end.
    for n in 0..8_u8 {
        a.transport.send_datagram(id(2), Bytes::from(vec![n; 200])).unwrap();
    }
    a.transport.close(SOON).await;
    for n in 0..8_u8 {
        let last = tokio::time::timeout(SOON, b.datagrams.recv()).await.expect("every last word").unwrap();
        assert_eq!(last.bytes, vec![n; 200]);
    }
}

#[tokio::test]
async fn idle_connections_of_an_operator_keep_no_place_from_busy_ones() {
    let operator = identity(77);
    let a = node(1, [(operator.public(), Who::Operator)].into());
    let address = a.transport.local_addr().unwrap();
    let _echo = echo(a.messages);
    let connect = || AdminClient::connect(&operator, MESH, identity(1).public(), address, SOON);
    let _idle = [connect().await.unwrap(), connect().await.unwrap(), connect().await.unwrap()];
    let busy = connect().await.unwrap();
    assert_eq!(busy.request(Bytes::from_static(b"x"), SOON).await.unwrap(), b"x");
}

#[tokio::test]
async fn one_socket_serves_both_address_families() {
    let a = node(1, node_keys(&[1, 2, 3]));
    let b = node_at(2, "[::]:0".parse().unwrap(), node_keys(&[1, 2, 3]), 64).unwrap();
    let c = node_at(3, "[::1]:0".parse().unwrap(), node_keys(&[1, 2, 3]), 64).unwrap();
    introduce(&b, 1, &a);
    introduce(&b, 3, &c);
    until("connected", || b.transport.connected() == [id(1), id(3)]).await;
    // Where the others saw node 2 is where they can dial it.
    b.transport.close(SOON).await;
    until("gone", || a.transport.connected().is_empty() && c.transport.connected().is_empty()).await;
}

#[tokio::test]
async fn a_silent_mesh_costs_less_than_three_kilobytes_a_second_per_peer() {
    let (a, _b) = pair().await;
    tokio::time::sleep(Duration::from_secs(2)).await; // set-up and path discovery
    let (before, start) = (a.transport.traffic(id(2)), Instant::now());
    tokio::time::sleep(Duration::from_secs(4)).await; // the measurement itself
    let (after, seconds) = (a.transport.traffic(id(2)), start.elapsed().as_secs_f64());
    let packets = after.sent_packets + after.received_packets - before.sent_packets - before.received_packets;
    let payload = after.sent_bytes + after.received_bytes - before.sent_bytes - before.received_bytes;
    let on_the_wire = payload + packets * 48; // IPv6 and UDP headers
    let per_second = on_the_wire as f64 / seconds;
    println!(
        "idle: {per_second:.0} B/s per peer in both directions, {:.1} packets/s",
        packets as f64 / seconds
    );
    assert!(packets > 8, "keep-alives flow");
    assert!(per_second < 1_500.0, "{per_second}");
}

#[test]
fn lease_messages_take_well_under_a_millisecond() {
    // Two threads, as the two ends of a wire are never the same one.
    let (here, there) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let mut a = here.block_on(async { node(1, node_keys(&[1, 2])) });
    let mut b = there.block_on(async { node(2, node_keys(&[1, 2])) });
    introduce(&a, 2, &b);
    here.block_on(until("connected", || ready(&a, 2) && ready(&b, 1)));
    let back = b.transport.clone();
    there.spawn(async move {
        while let Some(datagram) = b.datagrams.recv().await {
            let _ = back.send_datagram(datagram.from, datagram.bytes);
        }
    });
    let before = a.transport.traffic(id(2)).sent_packets;
    let mut times = Vec::new();
    for n in 0..1_000_u32 {
        let start = Instant::now();
        a.transport.send_datagram(id(2), Bytes::copy_from_slice(&n.to_le_bytes())).unwrap();
        let answer = here.block_on(async { tokio::time::timeout(SOON, a.datagrams.recv()).await });
        assert_eq!(answer.unwrap().unwrap().bytes[..], n.to_le_bytes());
        times.push(start.elapsed());
    }
    assert!(
        a.transport.traffic(id(2)).sent_packets - before >= 1_000,
        "one packet each, none waits for another"
    );
    times.sort();
    println!("datagram round trip: p50 {:?}, p99 {:?}, max {:?}", times[500], times[990], times[999]);
    assert!(times[500] < Duration::from_millis(1), "{:?}", times[500]);
}

/// Kills a node without a word and starts it again on the same port.
fn restart(killed: u8, keeps_hints: bool, age: Duration) -> Duration {
    let survivor = if killed == 1 { 2 } else { 1 };
    let (here, there) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let a = here.block_on(async { node(survivor, node_keys(&[1, 2])) });
    let b = there.block_on(async { node(killed, node_keys(&[1, 2])) });
    let (to_a, to_b) = (a.transport.local_addr().unwrap(), b.transport.local_addr().unwrap());
    introduce(&a, killed, &b);
    introduce(&b, survivor, &a);
    let transport = a.transport.clone();
    here.block_on(until("connected", || ready(&a, killed) && ready(&b, survivor)));
    here.block_on(async { tokio::time::sleep(age).await }); // how long it has stood is what the caller varies

    // The tasks die with their runtime, so that whatever is dropped afterwards cannot say good-bye.
    there.shutdown_timeout(SOON);
    drop(b);
    std::thread::sleep(Duration::from_millis(50)); // long enough for a good-bye to arrive
    assert!(ready(&a, killed), "the survivor must not have been told");

    let there = Runtime::new().unwrap();
    let started = Instant::now();
    let again = there.block_on(async { node_at(killed, to_b, node_keys(&[1, 2]), 64) }).unwrap();
    if keeps_hints {
        again.transport.set_hints(id(survivor), &[to_a]);
    }
    here.block_on(until("found again", || ready(&again, survivor)));
    let _runs = there.enter();
    let _echo = echo(again.messages);
    here.block_on(async {
        while call_quickly(&transport, killed).await.is_err() {
            assert!(started.elapsed() < SOON);
        }
    });
    started.elapsed()
}

async fn call_quickly(from: &Transport, to: u8) -> Result<Vec<u8>, CallError> {
    from.call(id(to), Bytes::from_static(b"x"), Duration::from_millis(50), 10).await
}

#[test]
fn a_restarted_node_is_reached_again_at_once() {
    // Who knows no address waits until the other one says something on the dead connection and learns that it is dead:
    // here, where nothing else is said, that is the keep-alive of the side that waits longer.
    let keep_alive = Profile::default().keep_alive * 11 / 10;
    for killed in [1, 2] {
        for keeps_hints in [true, false] {
            for age in [Duration::from_millis(200), Duration::from_millis(2_500)] {
                let took = restart(killed, keeps_hints, age);
                println!("restart of #{killed}, it knows addresses: {keeps_hints}, age {age:?}: {took:?}");
                let most = if keeps_hints { Duration::ZERO } else { keep_alive } + Duration::from_millis(200);
                assert!(took < most, "{took:?}");
            }
        }
    }
}

/// What a modified agent could do: its own key, any plane, raw streams.
async fn raw_connection(n: u8, to: &Node, alpn: &[u8]) -> Result<quinn::Connection, ConnectionError> {
    raw_connection_to(MESH_NAME, n, to, alpn).await
}

async fn raw_connection_to(
    mesh: &str,
    n: u8,
    to: &Node,
    alpn: &[u8],
) -> Result<quinn::Connection, ConnectionError> {
    let config = raw::client_config([n; 32], alpn);
    let endpoint = Endpoint::client(LOOPBACK.parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, to.transport.local_addr().unwrap(), mesh).unwrap();
    tokio::time::timeout(SOON, connecting).await.expect("an answer in time")
}

async fn closed(connection: &quinn::Connection) -> ConnectionError {
    tokio::time::timeout(SOON, connection.closed()).await.expect("closed in time")
}

/// A client of its own, written against rustls and not against the code under test.
mod raw {
    use quinn::crypto::rustls::QuicClientConfig;
    use rustls::client::AlwaysResolvesClientRawPublicKeys;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::{default_provider, sign::any_eddsa_type};
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme, sign::CertifiedKey};
    use std::sync::Arc;

    pub(super) fn client_config(seed: [u8; 32], alpn: &[u8]) -> quinn::ClientConfig {
        let pkcs8 =
            [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &seed].concat();
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).unwrap();
        let spki = key.public_key().unwrap().to_vec();
        let shown = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown)));
        config.alpn_protocols = vec![alpn.to_vec()];
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
    }

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("TLS 1.3 only")
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    }
}
