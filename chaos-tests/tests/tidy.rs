//! What the tree has to look like, as far as a program can tell: sizes, headers, arrows between crates,
//! unsafe code, things left for later, and traces of somebody's machine.
//!
//! **Invariant.** Each rule is a pure function from a file to complaints, and is first shown a file that
//! breaks it, so that no rule passes because it sees nothing.
//!
//! Deliberately absent: what rustfmt, clippy and cargo-deny see already.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file with more lines is two ideas.
const LINES_MAX: usize = 600;
/// Tests are lists of cases; a long one is easier to find one's way in than a clever one.
const TEST_LINES_MAX: usize = 800;
/// How the root of the repository may look: entries that are fixed, and what belongs to tools.
const TOP_LEVEL: [&str; 21] = [
    ".ci",
    ".config",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "chaos-tests",
    "cli",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "node",
    "proto",
    "rust-toolchain.toml",
    "rustfmt.toml",
];
/// The crates of the workspace, and which of the others each may use.
const ARROWS: [(&str, &[&str]); 5] = [
    ("proto", &[]),
    ("node", &["stead-proto"]),
    ("cli", &["stead-proto", "stead-node", "stead-deploy"]),
    ("deploy", &["stead-proto"]),
    ("chaos-tests", &["stead-proto", "stead-node", "stead-deploy", "stead"]),
];
/// All that `proto` may be built from: encodings, signatures, hashes, errors. Nothing that can wait or look.
const PROTO_MAY_USE: [&str; 7] =
    ["serde", "base64ct", "bincode", "ed25519-dalek", "sha2", "thiserror", "zeroize"];

struct Tidied {
    path: String,
    text: String,
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let long = |file: &Tidied| {
        let lines = file.text.lines().count();
        let tests = is_test(&file.path) || file.path.starts_with("chaos-tests/");
        (lines > if tests { TEST_LINES_MAX } else { LINES_MAX })
            .then(|| format!("{}: {lines} lines: split it by concern", file.path))
    };
    assert!(long(&file("a.rs", &"x\n".repeat(601))).is_some());
    assert!(long(&file("a/tests/b.rs", &"x\n".repeat(801))).is_some());
    let written = |file: &Tidied| file.path != "Cargo.lock" && !file.path.ends_with(".snap");
    none(tree().iter().filter(|file| written(file)).filter_map(long));
}

#[test]
fn every_rust_file_opens_with_what_it_is_for_and_goes_on() {
    let wrong = |file: &Tidied| {
        let headed = file.text.starts_with("//! ");
        let written = file.text.lines().any(|line| !line.is_empty() && !line.starts_with("//"));
        match (headed, written) {
            (true, true) => None,
            (false, _) => Some(format!("{}: begin with `//! `, purpose and invariant", file.path)),
            (true, false) => {
                Some(format!("{}: a header and nothing under it: write it or drop it", file.path))
            }
        }
    };
    assert!(wrong(&file("a.rs", "use core::fmt;\n//! Late.")).is_some());
    assert!(wrong(&file("a.rs", "//! Some day.\n\n// Soon.\n")).is_some());
    none(rust(&tree()).filter_map(wrong));
}

#[test]
fn nothing_is_ignored_or_left_for_later() {
    let bad = [
        concat!("#[", "ignore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let left = |file: &Tidied| find(file, &bad, "do it now or open an issue");
    assert_eq!(left(&file("a.rs", concat!("fn a() {\n    to", "do!()\n}\n#[", "ignore]\n"))).len(), 2);
    none(tree().iter().flat_map(left));
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let bad = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/root", "/."),
        concat!("/home", "/"),
        concat!("crates", ".io"),
        concat!("py", "pi.org"),
        concat!("registry", ".npmjs"),
        concat!("deb.", "debian.org"),
    ];
    let traces = |file: &Tidied| find(file, &bad, "it is true on one machine only");
    assert_eq!(traces(&file("a.md", concat!("ok\nsee /wo", "rk/x"))).len(), 1);
    // The lock file has to say where its crates come from.
    none(tree().iter().filter(|file| file.path != "Cargo.lock").flat_map(traces));
}

#[test]
fn unsafe_code_is_in_sys_modules_and_argued_for() {
    let block = concat!("un", "safe { f() }");
    assert_eq!(unsafe_uses(&file("a.rs", &format!("// SAFETY: f is sound.\n{block};\n"))).len(), 1);
    assert_eq!(unsafe_uses(&file("a/sys.rs", &format!("// SAFETY: f is sound.\n\n{block};\n"))).len(), 1);
    assert_eq!(unsafe_uses(&file("a/sys.rs", &format!("// SAFETY: g.\ng();\nlet x = {block};\n"))).len(), 1);
    assert_eq!(unsafe_uses(&file("a/sys.rs", &format!("// SAFETY: f.\nlet x =\n    {block};\n"))).len(), 0);
    assert_eq!(unsafe_uses(&file("a/sys.rs", concat!("// un", "safe { } is a word here\n"))).len(), 0);
    none(rust(&tree()).flat_map(unsafe_uses));
}

#[test]
fn crates_depend_on_each_other_along_the_arrows() {
    let wrong = |krate: &str, manifest: &str| -> Vec<String> {
        let may = ARROWS.iter().find(|(name, _)| *name == krate).map_or(&[][..], |(_, may)| *may);
        let ours = |name: &String| name.as_str() == "stead" || name.starts_with("stead-");
        let wrong = dependencies(manifest).into_iter().filter(|name| {
            if ours(name) {
                !may.contains(&name.as_str())
            } else {
                krate == "proto" && !PROTO_MAY_USE.contains(&name.as_str())
            }
        });
        wrong.map(|name| format!("{krate}/Cargo.toml: {krate} may not depend on {name}")).collect()
    };
    let manifest =
        "[dependencies]\nstead-node.workspace = true\n[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n";
    assert_eq!(wrong("proto", manifest).len(), 2);
    assert_eq!(wrong("deploy", "[dependencies.stead-node]\nworkspace = true\n").len(), 1);
    assert_eq!(wrong("proto", "[dev-dependencies]\nproptest.workspace = true\n").len(), 0);

    let members = quoted(line(&read("Cargo.toml"), "members = "));
    assert_eq!(members, ARROWS.map(|(name, _)| name.to_owned()));
    none(ARROWS.iter().flat_map(|(krate, _)| wrong(krate, &read(&format!("{krate}/Cargo.toml")))));
}

#[test]
fn proto_can_reach_neither_the_standard_library_nor_unsafe_code() {
    let lib = read("proto/src/lib.rs");
    for attribute in ["#![no_std]", concat!("#![forbid(un", "safe_code)]")] {
        assert!(lib.lines().any(|line| line == attribute), "proto/src/lib.rs: {attribute} is gone");
    }
}

#[test]
fn what_weakens_the_lease_is_only_switched_on_for_tests() {
    let switched = |file: &Tidied| -> Vec<String> {
        if file.path == "proto/Cargo.toml" || file.path == "chaos-tests/Cargo.toml" {
            return Vec::new();
        }
        find(file, &[concat!("weak", "en\"")], "only chaos-tests may ask for this feature")
    };
    let manifest = file("cli/Cargo.toml", concat!("stead-proto = { features = [\"weak", "en\"] }"));
    assert_eq!(switched(&manifest).len(), 1);
    none(tree().iter().filter(|file| file.path.ends_with("Cargo.toml")).flat_map(switched));
}

#[test]
fn the_top_level_is_as_it_was_agreed() {
    let mut surplus = BTreeSet::new();
    for file in tree() {
        let top = file.path.split('/').next().unwrap_or_default().to_owned();
        if !TOP_LEVEL.contains(&top.as_str()) {
            surplus.insert(top);
        }
    }
    none(surplus.into_iter().map(|name| format!("{name}: the top level is fixed; put it into a crate")));
}

/// Uses of unsafe code that are in the wrong place, or without their argument right above the statement.
fn unsafe_uses(file: &Tidied) -> Vec<String> {
    let words =
        ["{", "fn ", "impl", "extern", "trait"].map(|next| format!("{} {next}", concat!("un", "safe")));
    let lines: Vec<&str> = file.text.lines().collect();
    let uses = lines.iter().enumerate().filter(|(_, line)| {
        let code = line.split("//").next().unwrap_or_default();
        words.iter().any(|word| code.contains(word))
    });
    let wrong = uses.filter_map(|(at, _)| {
        if file.path.rsplit('/').next() != Some("sys.rs") && !is_test(&file.path) {
            return Some((at, "belongs into a module called sys.rs"));
        }
        let above = lines[..at].iter().rev().map(|line| line.trim());
        let argument = above
            .take_while(|line| {
                line.starts_with("//") || !(line.is_empty() || line.ends_with([';', '{', '}']))
            })
            .any(|line| line.starts_with("// SAFETY: "));
        (!argument).then_some((at, "needs `// SAFETY: ` and the argument right above"))
    });
    wrong.map(|(at, what)| format!("{}:{}: unsafe code {what}", file.path, at + 1)).collect()
}

/// Whether a file holds nothing but tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The names of the crates that a manifest asks for outside of tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut listing = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            listing = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
                && !kind.ends_with("dev-dependencies")
            {
                names.insert(name.to_owned());
            }
        } else if listing && let Some(end) = line.find(['.', ' ', '=']) {
            let name = &line[..end];
            if !name.is_empty() && !name.starts_with('#') {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// Each line that has one of the words, with what to do about it.
fn find(file: &Tidied, words: &[&str], advice: &str) -> Vec<String> {
    let found = file.text.lines().enumerate().filter_map(|(at, line)| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(format!("{}:{}: {word}: {advice}", file.path, at + 1))
    });
    found.collect()
}

/// Fails with all complaints at once.
fn none(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn rust(tree: &[Tidied]) -> impl Iterator<Item = &Tidied> {
    tree.iter().filter(|file| file.path.ends_with(".rs"))
}

fn file(path: &str, text: &str) -> Tidied {
    Tidied { path: path.to_owned(), text: text.to_owned() }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or_else(|| panic!("{} has no parent", here.display())).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository, built ones excepted; what is not text is read as if it were.
fn tree() -> Vec<Tidied> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        for entry in entries {
            let path = entry.unwrap_or_else(|e| panic!("{}: {e}", directory.display())).path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if matches!(name.as_deref(), Some(".git" | "target")) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let inside = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(inside, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    assert!(files.contains_key("Cargo.toml"), "this is not the repository: {}", root().display());
    files.into_iter().map(|(path, text)| Tidied { path, text }).collect()
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    let found = text.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("Cargo.toml: no line begins with {start:?}"))
}

fn quoted(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
