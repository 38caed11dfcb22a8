//! The program nft, run once per transaction, with a deadline.
//!
//! **Invariant.** No call lasts longer than [`DEADLINE`]; a child that does not end is killed and collected.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A ruleset with ten thousands of elements takes a good second.
const DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);

/// Runs a script as one transaction.
pub(crate) fn run(script: &str) -> Result<(), String> {
    call(&["-f", "-"], script).map(drop)
}

/// Whether kernel and nft would take a script; nothing is changed.
pub(crate) fn check(script: &str) -> Result<(), String> {
    call(&["-c", "-f", "-"], script).map(drop)
}

/// What a listing says.
pub(crate) fn list(arguments: &[&str]) -> Result<String, String> {
    call(arguments, "")
}

fn call(arguments: &[&str], script: &str) -> Result<String, String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("the program nft cannot be started ({error}); install the package nftables")
        })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // Killing the child closes the other ends, so that none of these can outlast the deadline.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(script.as_bytes())));
        let said = scope.spawn(|| text(stdout));
        let complained = scope.spawn(|| text(stderr));
        let ended = wait(&mut child);
        let said = said.join().unwrap_or_default();
        let complained = complained.join().unwrap_or_default();
        match ended {
            Ok(true) => Ok(said),
            Ok(false) => Err(complained
                .lines()
                .next()
                .unwrap_or("it failed without a word")
                .chars()
                .take(200)
                .collect()),
            Err(why) => Err(why),
        }
    })
}

fn text(pipe: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What came before a failure is still worth telling.
        let _ = pipe.by_ref().take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child) -> Result<bool, String> {
    let end = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {DEADLINE:?}; the kernel keeps its last rules"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
