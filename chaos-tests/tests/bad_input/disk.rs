//! Disks that are full.

use super::{assert_says, three};
use chaos_tests::bad_input::scene::PATIENCE;
use chaos_tests::bad_input::{Handicap, Scene};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use stead_deploy::lab::outage;
use stead_deploy::lab::visitor::{Route, Visitor};
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::order::Act;
use stead_proto::report::Unwell;

/// Three agents with their stores on disks of 32 MB.
fn three_on_tiny_disks() -> Scene {
    let mut scene = three();
    for i in 0..3 {
        scene.stage.kill_agent(i).unwrap();
        scene.handicap(i, &[Handicap::TinyDisk]).unwrap();
    }
    for i in 0..3 {
        scene.stage.start_agent(i).unwrap();
    }
    scene.until_part(&[0, 1, 2]).unwrap();
    scene.stage.until_served().unwrap();
    scene
}

/// A file beside the store of node `i`, on its disk.
fn ballast(scene: &mut Scene, i: usize) -> PathBuf {
    let pid = scene.stage.agent(i).unwrap().pid();
    let data = scene.home(i).unwrap().join("data");
    PathBuf::from(format!("/proc/{pid}/root{}", data.join("ballast").display()))
}

/// Writes until there is no room for one more byte.
fn fill(scene: &mut Scene, i: usize) {
    let mut file = File::create(ballast(scene, i)).unwrap();
    for piece in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

fn free(scene: &mut Scene, i: usize) {
    fs::remove_file(ballast(scene, i)).unwrap();
}

fn drain(scene: &Scene, drained: bool) -> Act {
    Act::Drain { node: scene.stage.players[0].id, drained }
}

fn until_disk_is(scene: &mut Scene, i: usize, full: bool) {
    let says = |status: &stead_proto::admin::Status| {
        (status.own.unwell.contains(&Unwell::DiskFull) == full).then_some(())
    };
    scene.until_status(i, "it says how its disk is", says).unwrap();
}

/// Gives orders until one is carried out.
fn until_ordered(scene: &mut Scene) {
    let act = drain(scene, false);
    let done = |answer: &Answer| matches!(answer, Answer::Committed { outcome: Outcome::Done, .. });
    scene
        .stage
        .until("an order is carried out", PATIENCE, |stage| stage.order(1, act.clone()).ok().filter(done))
        .unwrap();
}

#[test]
fn with_every_disk_full_the_site_is_served_writes_are_refused_and_room_mends_it() {
    let mut scene = three_on_tiny_disks();
    let pids: Vec<u32> = (0..3).map(|i| scene.stage.agent(i).unwrap().pid()).collect();
    let site = SocketAddr::new(scene.stage.address, 80);
    let visitor = Visitor::start(&scene.stage.lab, Route::to(site)).unwrap();
    (0..3).for_each(|i| fill(&mut scene, i));
    (0..3).for_each(|i| until_disk_is(&mut scene, i, true));
    for i in 0..3 {
        let answer = scene.stage.order(i, drain(&scene, true)).unwrap();
        let Answer::Unavailable { why, unknown: false } = answer else { panic!("{answer:?}") };
        assert_says(&why, &["the disk is full", "free some space"]);
    }
    assert!(scene.stage.holder().is_some());
    (0..3).for_each(|i| free(&mut scene, i));
    (0..3).for_each(|i| until_disk_is(&mut scene, i, false));
    until_ordered(&mut scene);
    let after: Vec<u32> = (0..3).map(|i| scene.stage.agent(i).unwrap().pid()).collect();
    assert_eq!(pids, after, "nobody was restarted");
    let visits = visitor.stop().unwrap().visits;
    let gaps = outage::outages(&visits);
    println!("FIGURE full disks: {} visits, outages {gaps:?}", visits.len());
    assert!(visits.len() > 100 && gaps.is_empty(), "{gaps:?}");
}

#[test]
fn a_leader_whose_disk_is_full_refuses_orders_and_takes_them_again_by_itself() {
    let mut scene = three_on_tiny_disks();
    let leader = scene.stage.until("somebody leads", PATIENCE, |stage| stage.leader()).unwrap();
    fill(&mut scene, leader);
    until_disk_is(&mut scene, leader, true);
    let answer = scene.stage.order(leader, drain(&scene, true)).unwrap();
    println!(
        "FIGURE an order to a leader with a full disk: {answer:?}, leader then {:?}",
        scene.stage.leader()
    );
    match answer {
        Answer::Unavailable { why, unknown: false } => {
            assert_says(&why, &["the disk is full", "free some space"])
        }
        // Another one leads by now, and has room.
        Answer::Committed { outcome: Outcome::Done, .. } => assert_ne!(scene.stage.leader(), Some(leader)),
        other @ (Answer::Status(_)
        | Answer::Refused(_)
        | Answer::Committed { .. }
        | Answer::Genesis(_)
        | Answer::Unavailable { .. }) => panic!("{other:?}"),
    }
    assert!(scene.stage.holder().is_some());
    free(&mut scene, leader);
    until_disk_is(&mut scene, leader, false);
    until_ordered(&mut scene);
}
