//! What an operator was told is committed survives `kill -9` of all nodes, at any moment.
//!
//! A later version number alone would prove little: a lost version can be given out again. So each order
//! carries a number and names its predecessor, and each acknowledged one has to be an ancestor of what the
//! nodes know after their death. Moves are looked up by the time that was signed with them.
//!
//! Needs root. `STEAD_ROUNDS` says how often everybody is killed (10 unless told).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stead::demo::stage::{Cast, Director, Stage, sample_site, scratch};
use stead_deploy::lab::Family;
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId};
use stead_proto::incident::Matter;
use stead_proto::order::Act;
use stead_proto::state::{SiteVersion, State};

const PATIENCE: Duration = Duration::from_secs(20);
/// One order in so many is a move.
const MOVE_EVERY: u64 = 5;

/// A move that was acknowledged.
#[derive(Clone, Debug)]
struct Moved {
    /// The signed time lies in here, in milliseconds since 1970.
    between: (u64, u64),
    to: Name,
}

/// What was asked, and what was answered.
#[derive(Debug, Default)]
struct Told {
    orders: u64,
    /// The predecessor of each version that was ever submitted, acknowledged or not.
    parents: BTreeMap<u64, u64>,
    acknowledged: BTreeSet<u64>,
    moves: Vec<Moved>,
    /// Where each acknowledged order stands in the log: nothing may ever stand there again.
    indices: BTreeSet<u64>,
}

impl Told {
    fn count(&self) -> u64 {
        u64::try_from(self.indices.len()).unwrap()
    }

    fn acknowledge(&mut self, index: u64) {
        assert!(self.indices.insert(index), "two acknowledged orders stand at the log index {index}");
    }

    /// What is wrong with this state, which a node shows after everybody died; `moves` is the latest round's.
    fn missing(&self, state: &State, moves: &[Moved]) -> Vec<String> {
        let mut ancestors = BTreeSet::new();
        let mut at = number(state);
        while ancestors.insert(at) && at != 0 {
            at = *self.parents.get(&at).unwrap_or(&0);
        }
        let lost = self.acknowledged.difference(&ancestors).map(|order| format!("version of order {order}"));
        let shorter = self.indices.last().filter(|index| state.applied < **index);
        let shorter = shorter.map(|index| format!("the log ends at {} before {index}", state.applied));
        let moved = moves.iter().filter(|moved| !recorded(state, moved)).map(|moved| format!("{moved:?}"));
        lost.chain(shorter).chain(moved).collect()
    }
}

/// The number of the order that made the newest version; 0 for genesis.
fn number(state: &State) -> u64 {
    let text = state.site_history.last().map_or("", |version| version.text.as_str());
    text.strip_prefix("# order ").and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

fn recorded(state: &State, moved: &Moved) -> bool {
    let text = format!("director ordered it to {}", moved.to);
    let (from, until) = moved.between;
    let about_moves = state.incidents.iter().filter(|incident| matches!(incident.matter, Matter::Move(_)));
    let mut lines = about_moves.flat_map(|incident| &incident.lines);
    lines.any(|line| line.text == text && (from..=until).contains(&line.unix_ms))
}

/// Gives orders as fast as they are acknowledged, through one node after another.
fn keep_ordering(director: &Director, nodes: &[(NodeId, Name)], told: &Mutex<Told>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let order = {
            let mut told = told.lock().unwrap();
            told.orders += 1;
            told.orders
        };
        let (through, target) = (usize::try_from(order).unwrap(), order / MOVE_EVERY);
        let (id, name) = &nodes[usize::try_from(target).unwrap() % nodes.len()];
        if order.is_multiple_of(MOVE_EVERY) {
            let act = Act::Move { endpoint: "www".parse().unwrap(), to: *id };
            let from = unix_ms();
            let answer = director.order(through % director.nodes(), act);
            if let Ok(Answer::Committed { index, outcome: Outcome::Done }) = answer {
                let mut told = told.lock().unwrap();
                told.acknowledge(index);
                told.moves.push(Moved { between: (from, unix_ms()), to: name.clone() });
            }
            continue;
        }
        let Ok(status) = director.status(through % director.nodes()) else { continue };
        told.lock().unwrap().parents.insert(order, number(&status.state));
        let text = format!("# order {order}\n");
        let act = Act::Apply { base: status.state.site_version, site: Box::new(status.state.site), text };
        let answer = director.order(through % director.nodes(), act);
        if let Ok(Answer::Committed { index, outcome: Outcome::Site(_) }) = answer {
            let mut told = told.lock().unwrap();
            told.acknowledge(index);
            told.acknowledged.insert(order);
        }
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn everything_acknowledged_survives_the_death_of_all() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let rounds: u64 = std::env::var("STEAD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let directory = scratch(&std::env::temp_dir()).expect("a directory for the mesh");
    let program = env!("CARGO_BIN_EXE_stead_under_test").into();
    let cast = Cast {
        nodes: 3,
        lease_ms: 350,
        program,
        directory: directory.clone(),
        gate: None,
        family: Family::Ip4,
        judges: true,
    };
    let mut stage = Stage::raise(&cast).expect("the mesh comes up");
    stage.until_served().expect("somebody serves");
    let nodes: Vec<(NodeId, Name)> =
        stage.players.iter().map(|player| (player.id, player.name.clone())).collect();
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds {
        let (director, stop) = (stage.director(), Arc::new(AtomicBool::new(false)));
        let moves_before = told.lock().unwrap().moves.len();
        let (teller, stopped, there) = (told.clone(), stop.clone(), nodes.clone());
        let orders = std::thread::spawn(move || keep_ordering(&director, &there, &teller, &stopped));
        // Wait for news, then strike at whatever moment the clock says.
        let before = told.lock().unwrap().count();
        let patience = Instant::now() + PATIENCE;
        while told.lock().unwrap().count() < before + 3 + round % 7 {
            assert!(Instant::now() < patience, "nothing is acknowledged in round {round}:\n{}", stage.logs());
            std::thread::yield_now();
        }
        let moment = Instant::now() + Duration::from_micros(unix_ms().wrapping_mul(7_919) % 30_000);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        for i in 0..stage.players.len() {
            stage.kill_agent(i).expect("an agent can be killed");
        }
        stop.store(true, Ordering::Release);
        orders.join().expect("the operator survives");
        for i in 0..stage.players.len() {
            stage.start_agent(i).expect("an agent can be started");
        }
        look(&mut stage, &told.lock().unwrap(), moves_before, round);
    }
    let told = told.lock().unwrap();
    println!(
        "{rounds} deaths of all nodes, {} orders given, {} acknowledged ({} versions, {} moves), 0 lost",
        told.orders,
        told.count(),
        told.acknowledged.len(),
        told.moves.len()
    );
    assert!(told.moves.len() > usize::try_from(rounds / 4).unwrap(), "too few moves were acknowledged");
    drop(stage);
    std::fs::remove_dir_all(directory).expect("the files go");
}

/// Every node has to know everything again, once it follows a leader.
fn look(stage: &mut Stage, told: &Told, moves_before: usize, round: u64) {
    let moves = &told.moves[moves_before..];
    for i in 0..stage.players.len() {
        let mut missing = vec!["it does not follow a leader".to_owned()];
        let found = stage.until("everything acknowledged is there", PATIENCE, |stage| {
            let status = stage.status(i).ok().filter(|status| status.leader_fresh)?;
            missing = told.missing(&status.state, moves);
            missing.is_empty().then_some(())
        });
        found.unwrap_or_else(|error| panic!("round {round}, node {i}: {missing:?} is missing\n{error:#}"));
    }
}

#[test]
fn a_version_that_was_given_out_again_is_missed() {
    let mut told = Told { parents: [(1, 0), (2, 1), (3, 1)].into(), ..Told::default() };
    let mut state = state_after("# order 3\n");
    told.acknowledged = [1, 3].into();
    assert_eq!(told.missing(&state, &[]), Vec::<String>::new());
    told.acknowledged = [1, 2].into();
    assert_eq!(told.missing(&state, &[]), ["version of order 2"]);
    told.indices = [5].into();
    state.applied = 4;
    assert_eq!(told.missing(&state, &[]).len(), 2);
    let moved = Moved { between: (10, 20), to: "a".parse().unwrap() };
    assert_eq!(told.missing(&state, &[moved]).len(), 3);
}

fn state_after(text: &str) -> State {
    let site = sample_site(Ipv4Addr::LOCALHOST.into(), 350).unwrap();
    let genesis = Genesis { nonce: [0; 16], members: Vec::new(), operators: BTreeMap::new(), site };
    let mut state = State::begin(ClusterId([7; 32]), &genesis);
    let first = state.site_history[0].clone();
    state.site_history.push(SiteVersion { version: 2, text: text.into(), ..first });
    state
}
