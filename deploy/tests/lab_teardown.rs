//! Nothing outlives a lab, however it ends; and it needs no root.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod common;

use common::{CHILD, Canary, eventually, in_lab, lives, site};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stead_deploy::lab::namespace::Namespace;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::{Lab, LabError, Place, Shape};

fn canaries(lab: &Lab) -> Vec<Canary> {
    let mut canaries: Vec<Canary> =
        lab.places().map(|place| Canary::in_namespace(lab.namespace(place).unwrap())).collect();
    canaries.push(Canary::in_namespace(lab.switch()));
    canaries
}

fn all_gone(canaries: &[Canary], pids: &[u32]) {
    eventually("every process has ended", 5, || !pids.iter().any(|pid| lives(*pid)));
    eventually("every namespace is gone", 10, || !canaries.iter().any(Canary::sings));
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    in_lab("a_dropped_lab_leaves_nothing", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(2)).unwrap();
        let canaries = canaries(&lab);
        let site = site(&lab, 0, &directory);
        let pid = site.pid();
        assert!(lives(pid));
        drop((site, lab));
        all_gone(&canaries, &[pid]);
    });
}

#[test]
fn a_panic_leaves_nothing() {
    in_lab("a_panic_leaves_nothing", || {
        let directory = tempfile::tempdir().unwrap();
        let mut seen = None;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let lab = Lab::start(Shape::of(2)).unwrap();
            let mut site = site(&lab, 0, &directory);
            site.stop().unwrap();
            seen = Some((canaries(&lab), site.pid()));
            lab.namespace(Place::Node(1)).unwrap().run(|| panic!("on purpose")).unwrap();
        }));
        assert!(panicked.is_err());
        let (canaries, pid) = seen.unwrap();
        all_gone(&canaries, &[pid]);
    });
}

#[test]
fn a_killed_lab_leaves_nothing() {
    in_lab("a_killed_lab_leaves_nothing", || {
        let directory = tempfile::tempdir().unwrap();
        let mut lab =
            Command::new(CHILD).arg("hold").arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(lab.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pids: Vec<u32> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2, "{line:?}");
        let canaries: Vec<Canary> =
            pids.iter().map(|pid| Canary::in_namespace(&Namespace::of_process(*pid).unwrap())).collect();
        assert!(pids.iter().all(|pid| lives(*pid)));
        lab.kill().unwrap();
        lab.wait().unwrap();
        all_gone(&canaries, &pids);
    });
}

#[test]
fn a_process_takes_its_group_with_it_and_keeps_its_log() {
    in_lab("a_process_takes_its_group_with_it_and_keeps_its_log", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(1)).unwrap();
        let namespace = lab.namespace(Place::Node(0)).unwrap();
        let log = directory.path().join("log");
        let argv = ["sh", "-c", "sleep 1000 & echo $! $GREETING >&2; wait"];
        let mut parent = Process::start(namespace, &argv, &[("GREETING", "hello")], &log).unwrap();
        eventually("the shell has spoken", 5, || parent.log_tail().contains("hello"));
        let orphan: u32 = parent.log_tail().split_whitespace().next().unwrap().parse().unwrap();
        assert!(lives(orphan) && parent.is_running().unwrap());
        assert!(matches!(parent.wait(Duration::from_millis(1)), Err(LabError::StillRuns { .. })));
        parent.stop().unwrap();
        assert!(parent.is_running().unwrap());
        assert!(!parent.kill_9().unwrap().success());
        eventually("the child of the child has ended", 5, || !lives(orphan));
        let missing = Process::start(namespace, &["/nonexistent"], &[], &log).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
    });
}

#[test]
fn a_child_survives_the_thread_that_asked_for_it() {
    in_lab("a_child_survives_the_thread_that_asked_for_it", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(1)).unwrap();
        let mut site = std::thread::scope(|scope| scope.spawn(|| site(&lab, 0, &directory)).join().unwrap());
        // The kernel would have sent the signal before the thread could be joined.
        assert!(matches!(site.wait(Duration::from_millis(100)), Err(LabError::StillRuns { .. })));
    });
}

#[test]
fn every_node_has_a_run_directory_of_its_own() {
    in_lab("every_node_has_a_run_directory_of_its_own", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(1)).unwrap();
        let log = directory.path().join("log");
        let namespace = lab.namespace(Place::Node(0)).unwrap();
        let mut child = Process::start(namespace, &[CHILD, "look-at-run"], &[], &log).unwrap();
        let status = child.wait(Duration::from_secs(5)).unwrap();
        assert!(status.success() && child.log_tail().contains("entries: 0"), "{}", child.log_tail());
        assert!(!Path::new("/run/left-by-lab-child").exists());
    });
}

#[test]
fn whoever_is_not_root_gets_a_lab_in_a_user_namespace() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("lab-child");
    fs::copy(CHILD, &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("stand-alone").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(told, "UserNamespace before true during false after true\n", "{failed}");
}

#[test]
fn a_signal_to_a_lab_reaches_nobody_else() {
    in_lab("a_signal_to_a_lab_reaches_nobody_else", || {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::start(Shape::of(2)).unwrap();
        let (mut first, mut second) = (site(&lab, 0, &directory), site(&lab, 1, &directory));
        first.kill_9().unwrap();
        first.kill_9().unwrap();
        assert!(second.is_running().unwrap());
        let pid = Pid::from_raw(i32::try_from(second.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(!second.wait(Duration::from_secs(5)).unwrap().success());
    });
}
