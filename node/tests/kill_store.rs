//! `kill -9` at random instants: what was acknowledged is there afterwards, in order, without holes.
//!
//! The writer is this very test program, started again with a directory in its environment.
//! `STEAD_KILL_ROUNDS` (default 60) and `STEAD_KILL_SEED` (default: the time) change the run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

#[path = "common/alone.rs"]
mod alone;

use alone::{Alone, secret};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use stead_node::consensus::{Compaction, Consensus, Courier, CourierError, Replica, Role, Settings, Timing};
use stead_node::storage::{Create, StoreError};
use stead_proto::id::ClusterId;

const DIR: &str = "STEAD_KILL_DIR";
const PATIENCE: Duration = Duration::from_secs(20);

struct Nobody;
impl Courier for Nobody {
    async fn call(&self, _to: u64, _frame: Vec<u8>, _deadline: Duration) -> Result<Vec<u8>, CourierError> {
        Err(CourierError::Unreachable("nobody is there".into()))
    }
}

/// Remembers the numbers of all commands, and checks their filling.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Vec<u64>>>);

impl Numbers {
    fn all(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

/// A number and a filling that depends on it: some fit one part of a stored value, some need several.
fn command(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let filling = usize::try_from(number * 37 % 5_000).unwrap();
    bytes.resize(8 + filling, u8::try_from(number % 251).unwrap());
    bytes
}

impl Replica for Numbers {
    fn apply(&mut self, _index: u64, bytes: &[u8]) -> Vec<u8> {
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(bytes, command(number), "the command is not what was proposed");
        self.0.lock().unwrap().push(number);
        Vec::new()
    }
    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.all()).unwrap()
    }
    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), String> {
        *self.0.lock().unwrap() = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        Ok(())
    }
}

async fn lead(dir: &Path, create: Create) -> (Consensus, Numbers) {
    let numbers = Numbers::default();
    let timing =
        Timing { heartbeat: Duration::from_millis(20), election_timeout: Duration::from_millis(100) };
    let compaction = Compaction { entries: 64, keep: 16, ..Compaction::default() };
    let settings = Settings {
        dir: dir.to_path_buf(),
        cluster: ClusterId([7; 32]),
        me: 1,
        create,
        timing,
        compaction,
        key: Arc::new(secret()),
        electors: Arc::new(Alone),
    };
    let consensus = Consensus::open(settings, numbers.clone(), Nobody).await.unwrap();
    consensus.initialize([1].into()).await.unwrap();
    consensus.campaign().await.unwrap();
    let mut changes = consensus.changes();
    let leads = changes
        .wait_for(|status| status.role == Role::Leader && status.applied == status.last_log.map(|it| it.1));
    drop(tokio::time::timeout(PATIENCE, leads).await.expect("elected in time").unwrap());
    (consensus, numbers)
}

/// Writes and reports each acknowledgement, `count` times or until it is killed.
async fn write(dir: &Path, count: u64, mut report: impl FnMut(String)) {
    let (consensus, numbers) = lead(dir, Create::IfAbsent).await;
    let first = numbers.all().last().map_or(1, |last| last + 1);
    for number in first..first + count {
        consensus.propose(command(number), PATIENCE).await.unwrap();
        report(format!("ack {number}"));
        if number % 5 == 0 {
            consensus.meta_put("number", &number.to_le_bytes()).await.unwrap();
            report(format!("meta {number}"));
        }
    }
    consensus.shutdown().await.unwrap();
}

/// The writer's side when the environment names a directory; else the same code, run to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reports_only_what_is_there_afterwards() {
    if let Some(dir) = std::env::var_os(DIR) {
        let mut stdout = std::io::stdout();
        write(Path::new(&dir), u64::MAX / 2, |line| {
            writeln!(stdout, "{line}").unwrap();
            stdout.flush().unwrap();
        })
        .await;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let mut acknowledged = Acknowledged::default();
    write(&at, 12, |line| acknowledged.note(&line)).await;
    acknowledged.verify(&at).await;
    assert_eq!(acknowledged.numbers.len(), 12);
}

#[derive(Default)]
struct Acknowledged {
    numbers: BTreeSet<u64>,
    meta: u64,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let mut words = line.split(' ');
        match (words.next(), words.next().and_then(|number| number.parse().ok())) {
            (Some("ack"), Some(number)) => drop(self.numbers.insert(number)),
            (Some("meta"), Some(number)) => self.meta = number,
            _ => {}
        }
    }

    async fn verify(&self, dir: &Path) {
        let (consensus, numbers) = lead(dir, Create::Never).await;
        let there = numbers.all();
        let expected: Vec<u64> = (1..).take(there.len()).collect();
        assert_eq!(there, expected, "a hole, a repetition or a disorder");
        let last = self.numbers.last().copied().unwrap_or(0);
        assert!(
            expected.len() >= usize::try_from(last).unwrap(),
            "{last} was acknowledged, but is not there"
        );
        let meta =
            consensus.meta_get("number").unwrap().map_or(0, |it| u64::from_le_bytes(it.try_into().unwrap()));
        assert!(meta >= self.meta, "the local fact went back from {} to {meta}", self.meta);
        consensus.shutdown().await.unwrap();
    }
}

/// Runs a writer for `life`, kills it, and notes what it acknowledged.
fn run_and_kill(dir: &Path, life: Duration, acknowledged: &mut Acknowledged) {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_writer_reports_only_what_is_there_afterwards", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = writer.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            // A line that the kill cut short acknowledges nothing.
            if let Some(whole) = line.strip_suffix('\n') {
                lines.push(whole.to_owned());
            }
            line.clear();
        }
        lines
    });
    std::thread::sleep(life);
    let ended = writer.try_wait().unwrap();
    writer.kill().unwrap();
    let output = writer.wait_with_output().unwrap();
    assert!(ended.is_none(), "the writer failed by itself: {}", String::from_utf8_lossy(&output.stderr));
    reader.join().unwrap().iter().for_each(|line| acknowledged.note(line));
}

struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = std::env::var("STEAD_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(now.as_secs());
        println!("STEAD_KILL_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn rounds() -> u64 {
    std::env::var("STEAD_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let (mut dice, mut acknowledged) = (Dice::new(), Acknowledged::default());
    let began = Instant::now();
    for round in 0..rounds() {
        let life_us = if round % 2 == 0 { dice.below(20_000) } else { 20_000 + dice.below(280_000) };
        run_and_kill(&at, Duration::from_micros(life_us), &mut acknowledged);
        if round % 3 == 2 && at.exists() {
            acknowledged.verify(&at).await;
        }
    }
    run_and_kill(&at, Duration::from_secs(1), &mut acknowledged);
    acknowledged.verify(&at).await;
    let count = acknowledged.numbers.len();
    println!("{} kills, {count} acknowledged writes, {:?}", rounds() + 1, began.elapsed());
    assert!(count > 100, "only {count} writes in all: the kills came too early to prove anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_killed_can_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new();
    let mut created = 0_u64;
    for round in 0..rounds() {
        let at = dir.path().join(round.to_string());
        let mut acknowledged = Acknowledged::default();
        run_and_kill(&at, Duration::from_micros(dice.below(40_000)), &mut acknowledged);
        created += u64::from(at.exists());
        if !at.exists() {
            assert!(acknowledged.numbers.is_empty());
            let absent = stead_node::storage::SledStore::open(&at, ClusterId([7; 32]), 1, Create::Never);
            assert!(matches!(absent, Err(StoreError::Absent { .. })));
        }
        write(&at, 1, |line| acknowledged.note(&line)).await;
        acknowledged.verify(&at).await;
    }
    println!("{} first starts killed, {created} of them after the store was in its place", rounds());
}
