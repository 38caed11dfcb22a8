//! Frames that are none, from a member that turned bad, and from whoever reaches a port or a socket.

use super::three;
use bytes::Bytes;
use chaos_tests::bad_input::scene::memory_kb;
use chaos_tests::bad_input::{Intruder, intruder};
use quinn::Connection;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use stead_deploy::lab::Place;
use stead_node::agent::SOCKET_NAME;
use stead_proto::admin::Request;
use stead_proto::codec;
use stead_proto::id::NodeId;
use stead_proto::limits::{
    ADMIN_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX, REPORT_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX,
};
use stead_proto::message::Message;

/// Eight frames of 8 MB are sent at once; half as much again is left for copies and the allocator.
const GROWTH_KB_MAX: u64 = 96 * 1024;

/// A small generator (SplitMix64), so that a failure can be played again.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// `frame` cut short, with a bit flipped, with something behind it, or something else altogether.
    fn spoilt(&mut self, frame: &[u8]) -> Vec<u8> {
        let place = usize::try_from(self.next()).unwrap() % frame.len();
        let mut spoilt = frame.to_vec();
        match self.next() % 4 {
            0 => spoilt.truncate(place),
            1 => spoilt[place] ^= 1 << (self.next() % 8),
            2 => spoilt.extend(self.bytes(20)),
            _ => spoilt = self.bytes(place * 4),
        }
        spoilt
    }
}

/// One frame on a stream of its own, as a call or as a report; whatever comes of it.
async fn send(connection: &Connection, frame: &[u8], is_call: bool) {
    let sending = async {
        if is_call {
            let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
            if send.write_all(frame).await.is_ok() && send.finish().is_ok() {
                let _ = tokio::time::timeout(Duration::from_millis(50), receive.read_to_end(1 << 24)).await;
            }
        } else if let Ok(mut send) = connection.open_uni().await {
            let _ = send.write_all(frame).await;
            let _ = send.finish();
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
}

/// What a frame of each kind looks like.
fn samples() -> Vec<Vec<u8>> {
    let status = codec::encode(&Request::StatusOf(NodeId(1)), ADMIN_FRAME_BYTES_MAX).unwrap();
    let passed_on = [&[1], status.as_slice()].concat();
    let consensus = [vec![0], vec![1; 60]].concat();
    vec![Message::Recall.encode().unwrap(), status, passed_on, consensus]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_sends_garbage_on_every_plane_breaks_nothing_and_costs_bounded_memory() {
    let mut scene = tokio::task::block_in_place(three);
    // The member's agent was replaced by something else that has its key.
    scene.stage.kill_agent(2).unwrap();
    let key = scene.home(2).unwrap().join("node.key");
    let mesh = scene.stage.status(0).unwrap().state.cluster;
    let bad = Intruder::at(&scene.stage.lab, Place::Node(2), intruder::seed_in(&key).unwrap(), mesh).unwrap();
    let a = SocketAddr::from((scene.stage.lab.ip4(Place::Node(0)), 7832));
    let pid = scene.stage.agent(0).unwrap().pid();
    let before = memory_kb(pid, "VmHWM").unwrap();
    let (raft, report, admin) = tokio::join!(
        bad.connect(a, b"stead-raft/1"),
        bad.connect(a, b"stead-report/1"),
        bad.connect(a, b"stead-admin/1")
    );
    let (raft, report, admin) = (raft.unwrap(), report.unwrap(), admin.unwrap());

    let (mut noise, samples) = (Noise(1), samples());
    for round in 0..400_usize {
        let frame = noise.spoilt(&samples[round % samples.len()]);
        let (to_raft, to_admin) = (noise.spoilt(&samples[2 + round % 2]), noise.spoilt(&samples[1]));
        let datagram = Bytes::from(frame.get(..frame.len().min(1_000)).unwrap().to_vec());
        let _ = report.send_datagram(datagram);
        tokio::join!(
            send(&raft, &to_raft, true),
            send(&report, &frame, false),
            send(&admin, &to_admin, true)
        );
    }
    // Frames of full length that mean nothing, and longer ones that are not read to their end.
    let beyond =
        [SNAPSHOT_BYTES_MAX, SNAPSHOT_BYTES_MAX + 2, ADMIN_FRAME_BYTES_MAX + 1, REPORT_FRAME_BYTES_MAX + 1];
    for length in beyond {
        let frame = vec![0; length];
        let _ = report.send_datagram(vec![0; LEASE_FRAME_BYTES_MAX + 1].into());
        let calls = (0..8).map(|i| send(if i % 2 == 0 { &raft } else { &admin }, &frame, true));
        futures_util::future::join_all(calls).await;
        send(&report, &frame, false).await;
    }
    let after = memory_kb(pid, "VmHWM").unwrap();
    println!("FIGURE garbage: peak {before} kB before, {after} kB after");
    assert!(after < before + GROWTH_KB_MAX, "{before} kB before, {after} kB after");

    let log = scene.log(0).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    tokio::task::block_in_place(|| {
        assert!(scene.stage.agent(0).unwrap().is_running().unwrap());
        scene.until_part(&[0, 1]).unwrap();
        scene.stage.until_served().unwrap();
        // The real one is welcome again.
        scene.stage.start_agent(2).unwrap();
        scene.until_part(&[2]).unwrap();
    });
}

#[test]
fn noise_on_the_port_and_on_the_local_socket_is_dropped_and_the_agent_answers_on() {
    let mut scene = three();
    let from = scene.stage.lab.namespace(Place::Visitor).unwrap();
    let socket = from.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap().unwrap();
    let (a, mut noise) = (SocketAddr::from((scene.stage.lab.ip4(Place::Node(0)), 7832)), Noise(2));
    for _ in 0..5_000 {
        let length = usize::try_from(noise.next() % 1_400).unwrap();
        let _ = socket.send_to(&noise.bytes(length), a);
    }
    let path = scene.home(0).unwrap().join("run").join(SOCKET_NAME);
    for length in [0, 1, 100, u32::MAX] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(&length.to_le_bytes()).unwrap();
        let _ = client.write_all(&noise.bytes(100));
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // Hung up or told, never left waiting.
        if let Err(error) = client.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    scene.until_part(&[0, 1, 2]).unwrap();
    let log = scene.log(0).unwrap();
    assert!(!log.contains("panicked") && !log.contains("lost peer"), "{log}");
}
