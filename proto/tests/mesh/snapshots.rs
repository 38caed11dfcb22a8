//! Snapshots of the state: what one node made at an entry is, byte for byte, what any other makes there. Peers vouch for
//! each other's snapshots by a hash, so a state that remembers how it came about would never be believed.

use stead_proto::codec;
use stead_proto::detect::{Detector, Level};
use stead_proto::id::NodeId;
use stead_proto::limits::SNAPSHOT_BYTES_MAX;
use stead_proto::lookout::{Flood, Posture, TrafficSeen};
use stead_proto::mesh::Event;
use stead_proto::order::Act;
use stead_proto::roster::Role;
use stead_proto::state::State;

use crate::world::{World, settled, www};

fn bytes(state: &State) -> Vec<u8> {
    codec::encode(state, SNAPSHOT_BYTES_MAX).unwrap()
}

/// A log with a bit of everything: moves, a drain, a takeover, a voter that is lost and comes back, an isolation.
fn eventful() -> World {
    let (mut world, holder) = settled(5);
    let others: Vec<NodeId> = (1..=5).map(NodeId).filter(|node| *node != holder).collect();
    world.order(Act::Move { endpoint: www(), to: others[0] });
    world.run_ms(3_000);
    world.order(Act::Drain { node: others[0], drained: true });
    world.run_ms(3_000);
    world.order(Act::SetRole { node: others[3], role: Role::Witness });
    world.run_ms(3_000);
    let now = world.holders().first().copied().unwrap();
    world.isolate(now, true);
    world.run_ms(90_000);
    world.isolate(now, false);
    world.run_ms(90_000);
    let flood = Flood { worst: Level::Convict, detectors: vec![Detector::Provenance], ..Flood::default() };
    let seen = TrafficSeen { posture: Posture::Throttled, flood: Some(flood), ..TrafficSeen::default() };
    world.push(world.now, others[1], Event::Traffic { seen: Box::new(seen), urgent: true });
    world.run_ms(10_000);
    world
}

#[test]
fn a_state_that_was_written_and_read_at_every_entry_is_the_same_byte_for_byte() {
    let world = eventful();
    let begin = || State::begin(world.cluster, &world.genesis);
    let (mut straight, mut restored) = (begin(), begin());
    for (i, command) in world.log.iter().enumerate() {
        let index = i as u64 + 1;
        let outcomes = [straight.apply(index, command), restored.apply(index, command)];
        assert_eq!(outcomes[0], outcomes[1], "entry {index}");
        let written = bytes(&restored);
        assert!(written == bytes(&straight), "entry {index}");
        restored = codec::decode(&written, SNAPSHOT_BYTES_MAX).unwrap();
        assert_eq!(restored, straight, "entry {index}");
    }
    assert!(
        straight.isolations.len() == 1 && world.log.len() > 15,
        "too little happened: {}",
        world.log.len()
    );
}
