//! The binary itself: exit codes, what goes to which stream, and that bad input changes nothing.
//!
//! Needs neither root nor a network: nothing here reaches a mesh.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const BROKEN: &str = "[service.web]\nchekc = { tcp = 1 }\n\n[endpoint.www]\naddress = \"x\"\nports = [80]\nservices = [\"wbe\"]\n";

fn stead(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    command.current_dir(directory).args(arguments).env_clear();
    command.env("HOME", directory).output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_no_failure_and_a_wrong_word_is_bad_usage() {
    let here = tempfile::tempdir().unwrap();
    let help = stead(here.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(out(&help).contains("Exit codes:"));
    let wrong = stead(here.path(), &["staus"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("status"), "the nearest command: {}", err(&wrong));
}

#[test]
fn a_broken_site_is_told_completely_before_any_mesh_is_looked_for() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("site.toml"), BROKEN).unwrap();
    let told = stead(here.path(), &["apply", "site.toml"]);
    assert_eq!(told.status.code(), Some(2));
    let lines: Vec<String> = err(&told).lines().map(String::from).collect();
    let starts = [
        "site.toml:1: service.web.check: is missing",
        "site.toml:2: service.web.chekc: unknown key; did you mean `check`?",
        "site.toml:5: endpoint.www.address: \"x\" is no address",
        "site.toml:7: endpoint.www.services: nobody defines the service wbe",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:#?}");
}

#[test]
fn failures_are_json_too() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("site.toml"), BROKEN).unwrap();
    for (arguments, problems) in [(&["apply", "site.toml", "--json"][..], 4), (&["staus", "--json"][..], 0)] {
        let told = stead(here.path(), arguments);
        let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told.status.code(), Some(2));
        assert_eq!((&json["kind"], &json["exit_code"]), (&"error".into(), &2.into()));
        assert_eq!(json["problems"].as_array().unwrap().len(), problems);
    }
}

#[test]
fn a_mesh_is_made_once_and_its_files_are_sound() {
    let here = tempfile::tempdir().unwrap();
    let init = ["init", "--node", "a=127.0.0.1", "--witness", "w=127.0.0.2", "--uplink", "lo", "out"];
    let made = stead(here.path(), &init);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(out(&made).contains("stead --context out/operator/mesh.toml status"));
    let check = stead(here.path(), &["agent", "--config", "out/a/agent.toml", "--check"]);
    assert_eq!(check.status.code(), Some(0), "{}", err(&check));
    let key = fs::read(here.path().join("out/a/node.key")).unwrap();
    let again = stead(here.path(), &init);
    assert_eq!(again.status.code(), Some(2));
    assert!(err(&again).contains("never overwritten"));
    assert_eq!(fs::read(here.path().join("out/a/node.key")).unwrap(), key);
}

#[test]
fn every_operator_gets_a_key_and_one_of_them_is_an_admin() {
    let here = tempfile::tempdir().unwrap();
    let init = |rest: &[&str]| {
        stead(here.path(), &[&["init", "--node", "a=127.0.0.1", "--uplink", "lo"], rest].concat())
    };
    let none = init(&["--operator", "bob=viewer", "out"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(err(&none).contains("no operator is an admin"), "{}", err(&none));
    assert!(init(&["--operator", "ann", "--operator", "bob=viewer", "out"]).status.success());
    for directory in ["operator", "operator-bob"] {
        assert!(here.path().join("out").join(directory).join("operator.key").is_file(), "{directory}");
    }
}

#[test]
fn a_mesh_that_does_not_answer_has_no_quorum() {
    let here = tempfile::tempdir().unwrap();
    // Nobody listens on the discard port.
    assert!(
        stead(here.path(), &["init", "--node", "a=127.0.0.1:9", "--uplink", "lo", "out"]).status.success()
    );
    let ask = |command: &str| {
        stead(here.path(), &[command, "--context", "out/operator/mesh.toml", "--timeout", "300ms"])
    };
    let status = ask("status");
    assert_eq!(status.status.code(), Some(3), "{}", err(&status));
    assert!(out(&status).starts_with("mesh no quorum"), "{}", out(&status));
    assert_eq!(ask("nodes").status.code(), Some(3));
    assert_eq!(ask("syn").status.code(), Some(3));
    let doctor = ask("doctor");
    assert_eq!(doctor.status.code(), Some(3), "{}", err(&doctor));
    assert!(out(&doctor).starts_with("a (silent)"), "what could not be asked is said: {}", out(&doctor));
}

#[test]
fn without_a_mesh_to_speak_to_one_is_told_where_it_was_looked_for() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("other.toml"), "").unwrap();
    let named = stead(here.path(), &["status", "--context", "other.toml"]);
    assert_eq!(named.status.code(), Some(2));
    assert!(err(&named).contains("other.toml:1: cluster: is missing"), "{}", err(&named));
}

#[test]
fn admission_says_what_it_needs_and_makes_nothing_without_a_mesh() {
    let here = tempfile::tempdir().unwrap();
    // Nobody listens on the discard port.
    let init = stead(here.path(), &["init", "--node", "a=127.0.0.1:9", "--uplink", "lo", "out"]);
    assert!(init.status.success(), "{}", err(&init));
    let ask = |arguments: &[&str]| {
        let mesh = ["--context", "out/operator/mesh.toml", "--timeout", "300ms"];
        stead(here.path(), &[arguments, &mesh[..]].concat())
    };
    let neither = ask(&["admit", "d=127.0.0.4"]);
    assert_eq!(neither.status.code(), Some(2));
    assert!(err(&neither).contains("--out"), "{}", err(&neither));
    for command in
        [&["admit", "d=127.0.0.4", "--out", "d"][..], &["remove", "a", "--yes"], &["role", "a", "learner"]]
    {
        let told = ask(command);
        assert_eq!(told.status.code(), Some(3), "{command:?}: {}", err(&told));
    }
    assert!(!here.path().join("d").exists(), "no key before the mesh was asked");
}

#[test]
fn completions_and_manual_pages_come_from_the_arguments() {
    let here = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&stead(here.path(), &["completions", shell])).contains("undrain"), "{shell}");
        assert!(out(&stead(here.path(), &["completions", shell])).contains("doctor"), "{shell}");
    }
    assert!(stead(here.path(), &["man", "pages"]).status.success());
    let page = |name: &str| fs::read_to_string(here.path().join("pages").join(name)).unwrap();
    assert!(page("stead.1").contains("Exit codes"));
    assert!(page("stead-site-rollback.1").contains("earlier version"));
    assert!(page("stead-doctor.1").contains("stands on a rung"));
    assert!(page("stead-syn.1").contains("watch"));
}
