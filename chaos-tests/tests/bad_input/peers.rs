//! Peers that may not come in: unknown, removed, of another mesh, of another version.

use super::{assert_says, three};
use chaos_tests::bad_input::scene::PATIENCE;
use chaos_tests::bad_input::{Intruder, Scene, intruder};
use quinn::ConnectionError;
use std::net::SocketAddr;
use stead_deploy::lab::Place;
use stead_proto::admin::HandshakeRefusal;
use stead_proto::genesis::Genesis;
use stead_proto::id::ClusterId;
use stead_proto::order::Act;
use stead_proto::roster::Role;

const PLANES: [&[u8]; 3] = [b"stead-raft/1", b"stead-report/1", b"stead-admin/1"];
/// TLS alerts as QUIC carries them: certificate_revoked, unknown_ca, access_denied, no_application_protocol.
const REVOKED: u64 = 0x12c;
const UNKNOWN: u64 = 0x130;
const DENIED: u64 = 0x131;
const NO_PROTOCOL: u64 = 0x178;

fn address_of(scene: &Scene, node: u8) -> SocketAddr {
    (scene.stage.lab.ip4(Place::Node(node)), 7832).into()
}

fn mesh_of(scene: &Scene) -> ClusterId {
    scene.stage.status(0).unwrap().state.cluster
}

fn alert(error: &ConnectionError) -> Option<u64> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    Some(close.error_code.into())
}

fn refusals_told(log: &str) -> usize {
    log.lines().filter(|line| line.contains("refused connections")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_other_meshes_and_newer_protocols_are_refused_in_the_handshake_with_one_line_a_minute() {
    let scene = tokio::task::block_in_place(three);
    let mesh = mesh_of(&scene);
    let stranger = Intruder::at(&scene.stage.lab, Place::Visitor, [7; 32], mesh).unwrap();
    let key = scene.home(1).unwrap().join("node.key");
    let member =
        Intruder::at(&scene.stage.lab, Place::Node(1), intruder::seed_in(&key).unwrap(), mesh).unwrap();
    let a = address_of(&scene, 0);
    for plane in PLANES {
        for _ in 0..5 {
            assert_eq!(alert(&stranger.refused(a, plane).await.unwrap()), Some(UNKNOWN));
        }
    }
    let lab = &scene.stage.lab;
    let foreign =
        Intruder::at(lab, Place::Node(1), intruder::seed_in(&key).unwrap(), ClusterId([9; 32])).unwrap();
    for plane in PLANES {
        assert_eq!(alert(&foreign.refused(a, plane).await.unwrap()), Some(DENIED));
    }
    for newer in [&b"stead-raft/2"[..], b"stead-report/2", b"stead-admin/2", b"h3"] {
        assert_eq!(alert(&member.refused(a, newer).await.unwrap()), Some(NO_PROTOCOL));
    }
    let log = scene.log(0).unwrap();
    assert_eq!(refusals_told(&log), 1, "{log}");
    assert!(log.contains("compare its key, mesh and version with the roster"), "{log}");
    assert!(tokio::task::block_in_place(|| scene.stage.status(0)).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_cut_off_by_all_and_refused_when_it_comes_back() {
    let mut scene = tokio::task::block_in_place(three);
    let key = scene.home(2).unwrap().join("node.key");
    let mesh = mesh_of(&scene);
    let evicted =
        Intruder::at(&scene.stage.lab, Place::Node(2), intruder::seed_in(&key).unwrap(), mesh).unwrap();
    tokio::task::block_in_place(|| {
        let node = scene.stage.players[2].id;
        scene.commit(0, &Act::SetRole { node, role: Role::Learner }).unwrap();
        scene
            .until_status(0, "it votes no more", |s| (!s.state.config.voters.contains(&node)).then_some(()))
            .unwrap();
        scene.commit(0, &Act::Remove(node)).unwrap();
        for i in [0, 1] {
            scene
                .until_status(i, "it is gone", |s| (!s.state.members.contains_key(&node)).then_some(()))
                .unwrap();
        }
    });
    for node in [0, 1] {
        for plane in PLANES {
            let refused = evicted.refused(address_of(&scene, node), plane).await.unwrap();
            assert_eq!(alert(&refused), Some(REVOKED), "{refused:?}");
        }
    }
    tokio::task::block_in_place(|| {
        scene
            .stage
            .until("both say that they refuse somebody", PATIENCE, |stage| {
                let log =
                    |i: usize| std::fs::read_to_string(stage.directory.join(["a", "b"][i]).join("agent.log"));
                (0..2).all(|i| log(i).is_ok_and(|log| refusals_told(&log) == 1)).then_some(())
            })
            .unwrap();
        scene.until_part(&[0, 1]).unwrap();
        let seen = scene.stage.status(2).map(|s| (s.waiting, s.leader_fresh));
        println!("FIGURE the removed node itself: {seen:?}, {}", scene.log(2).unwrap());
    });
}

#[test]
fn a_member_with_the_genesis_of_another_mesh_never_takes_part_in_this_one() {
    let mut scene = three();
    scene.stage.kill_agent(2).unwrap();
    let home = scene.home(2).unwrap();
    let genesis = std::fs::read(home.join("genesis.bin")).unwrap();
    let mut other = Genesis::decode(&genesis).unwrap();
    other.nonce[0] ^= 1;
    std::fs::write(home.join("genesis.bin"), other.encode().unwrap()).unwrap();
    let said = scene.refused_start(2).unwrap();
    assert_says(&said, &["LAYOUT", "belongs to node 3 of mesh"]);
    let (_agent, log_of_c) = scene.first_start(2).unwrap();
    scene
        .stage
        .until("both sides say what is wrong", PATIENCE, |stage| {
            let a = std::fs::read_to_string(stage.directory.join("a/agent.log")).ok()?;
            let c = std::fs::read_to_string(&log_of_c).ok()?;
            let said = a.contains("WrongMesh") && c.contains("belongs to another mesh: compare genesis.bin");
            said.then_some(())
        })
        .unwrap();
    let status = scene.stage.status(2).unwrap();
    assert!(status.waiting.is_some(), "it takes part in nothing");
    let refused = status.transport.last_refused_by_peer.unwrap();
    assert_eq!(refused.why, HandshakeRefusal::WrongMesh);
    assert!(refused.peer.is_some_and(|peer| peer.0 < 3), "{refused:?}");
    assert!(status.transport.refused_by_peers[&HandshakeRefusal::WrongMesh] > 0);
    let sound = scene.stage.status(0).unwrap().transport;
    assert!(sound.refused[&HandshakeRefusal::WrongMesh] > 0);
    scene.until_part(&[0, 1]).unwrap();
    let state = scene.stage.status(0).unwrap().state;
    assert_ne!(state.cluster, other.cluster().unwrap());
}
