//! Membership from the command line, with real agents: a server that lost its disk comes back, a mesh grows and
//! shrinks, and the site is served all the while.
//!
//! Needs root. Each test raises a mesh of its own in network namespaces, one after another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chaos_tests::bad_input::scene::PATIENCE;
use chaos_tests::bad_input::{Intruder, Scene, intruder};
use serde_json::Value;
use stead_deploy::lab::Place;
use stead_deploy::lab::process::Process;
use stead_proto::id::NodeId;

/// The program that is every node, and the operator's.
const STEAD: &str = env!("CARGO_BIN_EXE_stead_under_test");
/// Voters change one at a time, each change once the leases of the one before are over.
const SETTLED: Duration = Duration::from_secs(60);
const PLANES: [&[u8]; 3] = [b"stead-raft/1", b"stead-report/1", b"stead-admin/1"];
/// The TLS alert certificate_revoked, as QUIC carries it.
const REVOKED: u64 = 0x12c;

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    text: String,
}

/// A `stead` command of the operator's that runs on the visitor's host.
struct Asked(Process);

fn ask(scene: &Scene, arguments: &[&str]) -> Asked {
    let context = scene.operator_files("director").join("mesh.toml");
    let mut argv = vec![STEAD.to_string()];
    argv.extend(arguments.iter().map(ToString::to_string));
    argv.extend(["--context".into(), context.display().to_string(), "--timeout".into(), "30s".into()]);
    let number = fs::read_dir(&scene.stage.directory).unwrap().count();
    let log = scene.stage.directory.join(format!("operator-{number}.log"));
    fs::write(&log, "").unwrap();
    let here = scene.stage.lab.namespace(Place::Visitor).unwrap();
    Asked(Process::start(here, &argv, &[], &log).unwrap())
}

impl Asked {
    fn told(mut self) -> Told {
        let code = self.0.wait(2 * SETTLED).unwrap().code();
        Told { code, text: fs::read_to_string(self.0.log()).unwrap() }
    }
}

/// Runs a command, which has to succeed; its JSON.
#[track_caller]
fn done(scene: &Scene, arguments: &[&str]) -> Value {
    let told = ask(scene, &[arguments, &["--json"]].concat()).told();
    assert_eq!(told.code, Some(0), "{arguments:?}: {told:?}\n{}", scene.stage.logs());
    // What is said beside the output comes first.
    let json = told.text.find('{').map(|at| &told.text[at..]).unwrap_or_default();
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", told.text))
}

/// Applies the site with something in it replaced.
#[track_caller]
fn apply(scene: &Scene, from: &str, to: &str) {
    let text = done(scene, &["site", "show"])["text"].as_str().unwrap().to_string();
    assert!(text.contains(from), "{text}");
    let file = scene.stage.directory.join("site.toml");
    fs::write(&file, text.replace(from, to)).unwrap();
    done(scene, &["apply", file.to_str().unwrap()]);
}

fn raised(nodes: u8, hosts: u8) -> Scene {
    let scene = Scene::raise_with_room(STEAD, nodes, hosts, &[]).unwrap();
    apply(&scene, "promote_after = \"30s\"", "promote_after = \"1s\"");
    scene
}

fn address(scene: &Scene, i: usize) -> String {
    scene.stage.lab.ip4(Place::Node(u8::try_from(i).unwrap())).to_string()
}

/// Admits a node for host `i` and brings its files there; its id. Admitting it again changes nothing.
fn admit(scene: &mut Scene, i: usize, name: &str, role: &str, out: &str) -> NodeId {
    let directory: PathBuf = scene.stage.directory.join(out);
    let node = format!("{name}={}", address(scene, i));
    let arguments =
        ["admit", &node, "--role", role, "--uplink", "eth0", "--out", directory.to_str().unwrap()];
    let first = done(scene, &arguments);
    let again = done(scene, &arguments);
    assert_eq!((&first["kind"], &again["index"]), (&"admitted".into(), &Value::Null), "{first} {again}");
    assert!(first["index"].as_u64().is_some());
    assert_eq!((&first["id"], &first["key"]), (&again["id"], &again["key"]));
    let place = |setting: &str, usual: &str| {
        let (path, wanted) = (directory.join("agent.toml"), directory.join(setting));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(usual), "{text}");
        fs::write(&path, text.replace(usual, wanted.to_str().unwrap())).unwrap();
    };
    place("data", "/var/lib/stead");
    place("run", "/run/stead");
    let id = NodeId(first["id"].as_u64().unwrap());
    scene.stage.enlist(i, name.parse().unwrap(), id, directory).unwrap();
    id
}

/// What was given to the node is needed, and is looked at before anything is believed.
fn starts_on_nothing_but_its_own_roster(scene: &Scene) {
    let home = scene.home(B).unwrap();
    let spoilt = |file: &str, bytes: &[u8], says: &str| {
        let path = home.join(file);
        let sound = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        assert_says(&scene.refused_first_start(B).unwrap(), &[says]);
        fs::write(&path, sound).unwrap();
    };
    spoilt("roster.bin", b"noise", "not the roster of this mesh");
    let config = fs::read_to_string(home.join("agent.toml")).unwrap();
    let without = config.replace("roster = \"roster.bin\"\n", "");
    assert_ne!(config, without);
    spoilt("agent.toml", without.as_bytes(), "needs `roster = \"roster.bin\"`");
}

fn until_votes(scene: &mut Scene, asked: usize, node: NodeId) {
    let votes = |stage: &mut stead::demo::stage::Stage| {
        let status = stage.status(asked).ok()?;
        status.state.config.voters.contains(&node).then_some(())
    };
    scene.stage.until(&format!("{node} votes"), SETTLED, votes).unwrap();
}

#[track_caller]
fn assert_says(told: &str, texts: &[&str]) {
    for text in texts {
        assert!(told.contains(text), "nobody said {text:?} in:\n{told}");
    }
}

const B: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_disk_is_named_the_way_back_and_comes_back_under_its_name() {
    let (mut scene, evicted) = tokio::task::block_in_place(|| {
        let mut scene = raised(3, 0);
        let home = scene.home(B).unwrap();
        let old_key = intruder::seed_in(&home.join("node.key")).unwrap();
        scene.stage.kill_agent(B).unwrap();
        fs::remove_dir_all(home.join("data")).unwrap();

        // It does not start, with or without the flag of a first start, and names the commands that lead back.
        for said in [scene.refused_start(B).unwrap(), scene.refused_first_start(B).unwrap()] {
            assert_says(&said, &["`stead remove b`", "`stead admit b=ADDRESS --out DIR`", "--create"]);
        }
        let unmade = scene.stage.directory.join("unmade");
        let early = ["admit", &format!("b={}", address(&scene, B)), "--out", unmade.to_str().unwrap()];
        let refused = ask(&scene, &early).told();
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert_says(&refused.text, &["there is a node b (#2) already", "stead remove b"]);
        assert!(!unmade.exists(), "no key for nothing");

        let asked = ask(&scene, &["remove", "b"]).told();
        assert_eq!(asked.code, Some(2), "nobody can be asked here: {asked:?}");
        assert_says(&asked.text, &["add --yes", "2 voters stay"]);
        let removed = done(&scene, &["remove", "b", "--yes"]);
        assert_eq!(removed["act"], "remove");
        let names = |scene: &Scene| {
            let nodes = done(scene, &["nodes"])["nodes"].as_array().unwrap().clone();
            nodes.iter().map(|node| node["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&scene), ["a", "c"]);

        let id = admit(&mut scene, B, "b", "voter", "b-new");
        assert_eq!(id, NodeId(4));
        starts_on_nothing_but_its_own_roster(&scene);
        scene.stage.start_agent(B).unwrap();
        until_votes(&mut scene, 0, id);
        scene.until_part(&[0, B, 2]).unwrap();
        assert_eq!(names(&scene), ["a", "c", "b"]);
        let mesh = scene.stage.status(0).unwrap().state.cluster;
        let intruder = Intruder::at(&scene.stage.lab, Place::Node(1), old_key, mesh).unwrap();
        (scene, intruder)
    });
    for node in [0, 2] {
        let to = (scene.stage.lab.ip4(Place::Node(node)), 7832).into();
        for plane in PLANES {
            let refused = evicted.refused(to, plane).await.unwrap();
            let quinn::ConnectionError::ConnectionClosed(close) = &refused else { panic!("{refused:?}") };
            assert_eq!(u64::from(close.error_code), REVOKED, "{refused:?}");
        }
    }
    tokio::task::block_in_place(|| {
        let holder = scene.stage.until_served().unwrap();
        let killed = Instant::now();
        scene.stage.kill_agent(holder).unwrap();
        let next = scene.stage.until("somebody else serves", Duration::from_secs(2), |stage| stage.holder());
        let next = next.unwrap();
        println!("FIGURE served by {next} instead of {holder} after {:?}", killed.elapsed());
        assert_ne!(next, holder);
        // And once more from its own store, like any other node.
        scene.stage.start_agent(holder).unwrap();
        scene.until_part(&[0, B, 2]).unwrap();
        scene.stage.kill_agent(B).unwrap();
        scene.stage.start_agent(B).unwrap();
        scene.until_part(&[0, B, 2]).unwrap();
    });
}

#[test]
fn a_mesh_grows_to_four_and_gives_up_its_leader_while_sites_are_applied() {
    const D: usize = 3;
    let mut scene = raised(3, 1);
    let id = admit(&mut scene, D, "d", "learner", "d");
    apply(&scene, "retry_after = \"120s\"", "retry_after = \"123s\"");
    scene.stage.start_site(D).unwrap();
    scene.stage.start_agent(D).unwrap();
    apply(&scene, "retry_after = \"123s\"", "retry_after = \"124s\"");
    scene.until_part(&[0, 1, 2, D]).unwrap();
    assert!(!scene.stage.status(0).unwrap().state.config.voters.contains(&id), "a learner has no vote");
    done(&scene, &["role", "d", "voter"]);
    until_votes(&mut scene, 0, id);
    apply(&scene, "retry_after = \"124s\"", "retry_after = \"125s\"");

    let leader = scene.stage.until("somebody leads", PATIENCE, |stage| stage.leader()).unwrap();
    let (name, gone) = (scene.stage.players[leader].name.to_string(), scene.stage.players[leader].id);
    println!("FIGURE {name} leads and is removed");
    let removing = ask(&scene, &["remove", &name, "--yes"]);
    apply(&scene, "retry_after = \"125s\"", "retry_after = \"126s\"");
    let removed = removing.told();
    assert_eq!(removed.code, Some(0), "{removed:?}\n{}", scene.stage.logs());
    apply(&scene, "retry_after = \"126s\"", "retry_after = \"127s\"");

    let stay: Vec<usize> = (0..=D).filter(|i| *i != leader).collect();
    scene.until_part(&stay).unwrap();
    for i in stay {
        let state = scene.stage.status(i).unwrap().state;
        assert!(!state.members.contains_key(&gone) && state.config.voters.len() == 3, "{:?}", state.config);
        assert_eq!(state.site_version, 7);
    }
    scene.stage.kill_agent(leader).unwrap();
    scene.stage.until_served().unwrap();
    // The operator's file knows who is there, for the day on which nobody of the first three is left.
    let context = fs::read_to_string(scene.operator_files("director").join("mesh.toml")).unwrap();
    assert!(
        context.contains("name = \"d\"") && !context.contains(&format!("name = \"{name}\"")),
        "{context}"
    );
}
