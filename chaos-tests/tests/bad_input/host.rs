//! Hosts that are not as they should be: rights, tools, ports, interfaces, addresses.

use super::{assert_says, three, three_where};
use chaos_tests::bad_input::scene::PATIENCE;
use chaos_tests::bad_input::{Handicap, Scene};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Duration;
use stead_deploy::lab::Place;
use stead_deploy::lab::tap::Tap;
use stead_proto::incident::Matter;
use stead_proto::order::Act;
use stead_proto::report::Unwell;

const C: usize = 2;

/// Orders the endpoint to node `to` and waits until somebody serves for as long as a handover may take.
fn move_to(scene: &mut Scene, to: usize) {
    let act = Act::Move { endpoint: scene.endpoint().unwrap(), to: scene.stage.players[to].id };
    let director = scene.operator("director").unwrap();
    scene.order(&director, 0, act).unwrap();
}

#[test]
fn an_agent_without_net_admin_says_so_votes_and_leaves_the_address_to_others() {
    let mut scene = three_where("c", &[Handicap::NoNetAdmin]);
    let own = scene.stage.status(C).unwrap().own;
    println!("FIGURE without CAP_NET_ADMIN: {:?}", own.gate);
    assert!(own.gate.shortfalls.iter().any(|text| text.contains("costs")), "{:?}", own.gate);
    move_to(&mut scene, C);
    let others = scene
        .stage
        .until("another node serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder != C));
    others.unwrap();
    // It is one of the majority that the mesh needs when another one is gone.
    let gone = (0..3).find(|i| *i != C && Some(*i) != scene.stage.holder()).unwrap();
    scene.stage.lose_host(gone).unwrap();
    scene
        .stage
        .until("the two others go on", PATIENCE, |stage| {
            stage.leader().filter(|leader| *leader != gone).and(stage.holder().filter(|holder| *holder != C))
        })
        .unwrap();
}

#[test]
fn an_agent_without_bpf_says_what_that_costs_and_serves_with_nft() {
    let mut scene = three_where("c", &[Handicap::NoBpf]);
    let gate = scene.stage.status(C).unwrap().own.gate;
    println!("FIGURE without BPF: {gate:?}");
    assert_says(&gate.rung, &["nft"]);
    assert_says(&gate.shortfalls.join("\n"), &["no BPF", "with nft timeouts instead", "100 ms longer"]);
    move_to(&mut scene, C);
    scene.stage.until("it serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder == C)).unwrap();
}

#[test]
fn an_agent_without_bpf_and_nft_says_what_that_costs_and_serves_with_address_lifetimes() {
    let mut scene = three_where("c", &[Handicap::NoBpf, Handicap::NoNft]);
    let gate = scene.stage.status(C).unwrap().own.gate;
    println!("FIGURE without BPF and nft: {gate:?}");
    assert_says(&gate.shortfalls.join("\n"), &["no nft", "with address lifetimes instead", "2.4 s longer"]);
    move_to(&mut scene, C);
    scene.stage.until("it serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder == C)).unwrap();
}

#[test]
fn an_agent_whose_port_is_taken_says_which_and_does_not_start() {
    let mut scene = three();
    scene.stage.kill_agent(C).unwrap();
    let here = scene.stage.lab.namespace(Place::Node(2)).unwrap();
    let squatter = here.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 7832))).unwrap().unwrap();
    let said = scene.refused_start(C).unwrap();
    assert_says(&said, &["[::]:7832", "is another agent running, or the port taken?"]);
    drop(squatter);
    scene.stage.start_agent(C).unwrap();
    scene.until_part(&[C]).unwrap();
}

#[test]
fn a_second_agent_with_the_same_files_refuses_and_leaves_the_first_alone() {
    let mut scene = three();
    let (log, home) = (scene.log(C).unwrap().len(), scene.home(C).unwrap());
    let config = home.join("agent.toml");
    let argv = [super::NODE.as_ref(), "agent".as_ref(), "--config".as_ref(), config.as_os_str()];
    let log_file = home.join("second.log");
    let here = scene.stage.lab.namespace(Place::Node(2)).unwrap();
    let mut second = stead_deploy::lab::process::Process::start(here, &argv, &[], &log_file).unwrap();
    let ended = second.wait(PATIENCE).unwrap();
    let said = std::fs::read_to_string(log_file).unwrap();
    assert!(!ended.success(), "{said}");
    assert_says(&said, &["another agent"]);
    scene.until_part(&[C]).unwrap();
    assert!(!scene.log(C).unwrap()[log..].contains("ERROR"));
}

#[test]
fn an_agent_whose_uplink_is_missing_says_so_votes_and_never_serves() {
    let mut scene = three();
    scene.stage.kill_agent(C).unwrap();
    scene.reconfigure(C, "\"eth0\"", "\"eth9\"").unwrap();
    scene.stage.start_agent(C).unwrap();
    scene.until_part(&[C]).unwrap();
    let own = scene.stage.status(C).unwrap().own;
    assert_says(
        &own.gate.shortfalls.join("\n"),
        &["the uplink eth9 does not exist", "no address can be served"],
    );
    assert_eq!(own.unwell, [Unwell::UplinkMissing]);
    move_to(&mut scene, C);
    let holder = scene
        .stage
        .until("another node serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder != C));
    holder.unwrap();
    let held = scene.stage.lab.addresses(Place::Node(2)).unwrap();
    assert!(!held.contains(&scene.stage.address), "{held:?}");
}

/// A cable in the namespace of node C whose end here is called `name`.
fn plug_in(scene: &Scene, name: &str) {
    ip(scene, &["link", "add", name, "type", "veth", "peer", "name", "far"]);
    ip(scene, &["link", "set", "far", "up"]);
    ip(scene, &["link", "set", name, "up"]);
}

fn ip(scene: &Scene, arguments: &[&str]) {
    let here = scene.stage.lab.namespace(Place::Node(2)).unwrap();
    let mut command = std::process::Command::new("ip");
    command.args(arguments);
    assert!(here.spawn(command).unwrap().wait().unwrap().success(), "ip {arguments:?}");
}

#[test]
fn an_agent_whose_uplink_appears_or_comes_back_ends_with_its_own_code_and_serves_when_started_again() {
    let mut scene = three();
    scene.stage.kill_agent(C).unwrap();
    scene.reconfigure(C, "\"eth0\"", "\"eth9\"").unwrap();
    scene.stage.start_agent(C).unwrap();
    scene.until_part(&[C]).unwrap();
    for round in 0..2 {
        let since = scene.log(C).unwrap().len();
        plug_in(&scene, "eth9");
        let ended = scene.stage.agent(C).unwrap().wait(PATIENCE).unwrap();
        let said = scene.log(C).unwrap()[since..].to_owned();
        assert_eq!(ended.code(), Some(5), "{said}");
        assert_says(&said, &["INFO", "the uplink has appeared", "start the agent again"]);
        assert!(!said.contains("ERROR"), "{said}");
        // What a service manager does.
        scene.stage.start_agent(C).unwrap();
        scene.until_part(&[C]).unwrap();
        let own = scene.until_status(C, "it is well", |s| s.own.unwell.is_empty().then(|| s.own.clone()));
        let own = own.unwrap();
        assert!(own.gate.rung != "none" && own.gate.shortfalls.is_empty(), "{:?}", own.gate);
        move_to(&mut scene, C);
        scene
            .stage
            .until("it serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder == C))
            .unwrap();
        if round == 0 {
            // Gone with all that hangs on it; the agent waits for it.
            ip(&scene, &["link", "delete", "eth9"]);
            let unwell =
                |s: &stead_proto::admin::Status| s.own.unwell.contains(&Unwell::UplinkMissing).then_some(());
            scene.until_status(C, "it says that the uplink is gone", unwell).unwrap();
            scene
                .stage
                .until("another node serves", PATIENCE, |stage| stage.holder().filter(|holder| *holder != C))
                .unwrap();
        }
    }
}

#[test]
fn every_node_tells_how_far_the_others_are() {
    let mut scene = three();
    for node in 0..3 {
        let measured = |s: &stead_proto::admin::Status| {
            let rtts: Vec<u32> = s.own.reach.iter().map(|(_, reach)| reach.rtt_us).collect();
            (rtts.len() == 2 && rtts.iter().all(|rtt_us| (1..1_000_000).contains(rtt_us))).then_some(rtts)
        };
        let rtts = scene.until_status(node, "round trips are measured", measured).unwrap();
        println!("FIGURE round trips of node {node}: {rtts:?} us");
    }
}

#[test]
fn an_address_that_another_host_has_is_not_claimed_until_it_is_free() {
    let mut scene = three();
    let taken = IpAddr::V4(scene.stage.lab.shape().ip4(101));
    scene.stage.lab.add_address(Place::Visitor, taken).unwrap();
    let tap = Tap::start(&scene.stage.lab, &[taken], 10_000).unwrap();
    let mut site = scene.stage.status(0).unwrap().state.site;
    site.endpoints.values_mut().for_each(|endpoint| endpoint.address = taken);
    let text = stead::site_file::write(&site);
    let act =
        Act::Apply { base: scene.stage.status(0).unwrap().state.site_version, site: Box::new(site), text };
    let director = scene.operator("director").unwrap();
    scene.order(&director, 0, act).unwrap();
    for node in 0..3 {
        let trouble = scene.until_status(node, "it says who has the address", |status| {
            status.own.unwell.contains(&Unwell::AddressTaken).then_some(())?;
            status.endpoints[0].trouble.clone()
        });
        assert_says(&trouble.unwrap(), &["another host", "free it there or choose another"]);
    }
    let recorded = |status: &stead_proto::admin::Status| {
        status.state.incidents.iter().find(|i| matches!(i.matter, Matter::NodeUnwell(_))).map(|_| ())
    };
    scene.until_status(0, "it is an incident", recorded).unwrap();
    // The tap listens at the nodes: none of them ever spoke for it.
    assert_eq!(tap.so_far().records, []);

    scene.stage.lab.delete_address(Place::Visitor, taken).unwrap();
    scene.stage.until("somebody serves it", Duration::from_secs(20), |stage| stage.holder()).unwrap();
}
