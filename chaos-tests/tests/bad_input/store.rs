//! Stores that are damaged, somebody else's, gone, or older than they should be.

use super::{assert_says, three};
use chaos_tests::bad_input::{Scene, handicap};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const B: usize = 1;
const C: usize = 2;

/// Spoils the store in a directory.
type Spoiler<'a> = Box<dyn Fn(&Path) + 'a>;

/// Every file below a directory, with its content.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn replace(data: &Path, with: &Path) {
    if data.exists() {
        fs::remove_dir_all(data).unwrap();
    }
    handicap::copy(with, data).unwrap();
}

/// Starts the agent of `c` on a store that `spoil` has spoiled; what it says when it refuses.
fn refusal_after(scene: &mut Scene, spoil: impl FnOnce(&Path)) -> String {
    let data = scene.home(C).unwrap().join("data");
    replace(&data, &data.with_extension("sound"));
    spoil(&data);
    scene.refused_start(C).unwrap()
}

/// A mesh whose third agent is down, with a sound copy of its store beside the store.
fn without_the_third() -> (Scene, PathBuf) {
    let mut scene = three();
    scene.stage.kill_agent(C).unwrap();
    let data = scene.home(C).unwrap().join("data");
    handicap::copy(&data, &data.with_extension("sound")).unwrap();
    (scene, data)
}

#[test]
fn an_agent_on_a_damaged_store_names_the_file_says_how_to_rejoin_and_does_not_start() {
    let (mut scene, data) = without_the_third();
    let db = data.join("sled").join("db");
    let truncate = |_: &Path| {
        let used = fs::read(&db).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
        println!("FIGURE {used} bytes of the engine file are in use");
        let file = fs::OpenOptions::new().write(true).open(&db).unwrap();
        file.set_len(u64::try_from(used / 2).unwrap()).unwrap();
    };
    let scribble = |_: &Path| {
        let mut bytes = fs::read(&db).unwrap();
        bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
        fs::write(&db, bytes).unwrap();
    };
    let spoilers: [(&str, Spoiler<'_>, &str); 6] = [
        ("no LAYOUT", Box::new(|data| fs::remove_file(data.join("LAYOUT")).unwrap()), "LAYOUT"),
        ("LAYOUT of noise", Box::new(|data| fs::write(data.join("LAYOUT"), [0xff; 64]).unwrap()), "LAYOUT"),
        ("no engine", Box::new(|data| fs::remove_dir_all(data.join("sled")).unwrap()), "sled"),
        ("an empty engine file", Box::new(|data| fs::write(data.join("sled/db"), "").unwrap()), "sled/db"),
        ("a truncated engine file", Box::new(truncate), "mesh/c/data"),
        ("a scribbled engine file", Box::new(scribble), "db"),
    ];
    for (what, spoil, file) in spoilers {
        let said = refusal_after(&mut scene, spoil);
        println!("FIGURE {what}: {}", said.lines().last().unwrap_or_default());
        assert_says(&said, &[file, "new node"]);
    }
    // With its own store it is welcome.
    replace(&data, &data.with_extension("sound"));
    scene.stage.start_agent(C).unwrap();
    scene.until_part(&[C]).unwrap();
}

#[test]
fn an_agent_without_its_store_never_starts_empty_by_itself() {
    let (mut scene, data) = without_the_third();
    for empty in [false, true] {
        let said = refusal_after(&mut scene, |data| {
            fs::remove_dir_all(data).unwrap();
            if empty {
                fs::create_dir(data).unwrap();
            }
        });
        assert_says(&said, &[data.to_str().unwrap(), "no store here", "join again as a new node"]);
        assert_eq!(data.exists(), empty, "nothing was made");
    }
    // Nor by the flag of its very first start: the others remember it.
    let said = scene.refused_first_start(C).unwrap();
    assert_says(&said, &["older than what its peers saw of it", "join again as a new node"]);
}

#[test]
fn an_agent_on_the_store_of_another_node_or_mesh_says_whose_it_is_and_touches_nothing() {
    let (mut scene, data) = without_the_third();
    let of_b = scene.home(B).unwrap().join("data");
    scene.stage.kill_agent(B).unwrap();
    let said = refusal_after(&mut scene, |data| replace(data, &of_b));
    assert_says(&said, &["LAYOUT", "belongs to node 2", "not to node 3", "join again as a new node"]);
    assert_eq!(fs::read(data.join("sled/db")).unwrap(), fs::read(of_b.join("sled/db")).unwrap());
    scene.stage.start_agent(B).unwrap();

    let layout = fs::read_to_string(data.with_extension("sound").join("LAYOUT")).unwrap();
    let cluster = layout.lines().find_map(|line| line.strip_prefix("cluster ")).unwrap();
    let foreign = layout.replace(cluster, &"ab".repeat(32));
    let said = refusal_after(&mut scene, |data| fs::write(data.join("LAYOUT"), &foreign).unwrap());
    assert_says(&said, &["LAYOUT", "belongs to node 3 of mesh abab", "join again as a new node"]);
    let before = contents(&data);
    let newer = layout.replace("format 1", "format 2");
    let said = refusal_after(&mut scene, |data| fs::write(data.join("LAYOUT"), newer).unwrap());
    assert_says(&said, &["newer version", "Upgrade stead"]);
    assert_eq!(before.len(), contents(&data).len());
}

#[test]
fn a_node_restored_from_an_image_refuses_to_take_part_and_says_how_to_rejoin() {
    let (mut scene, data) = without_the_third();
    scene.stage.start_agent(C).unwrap();
    scene.until_part(&[C]).unwrap();
    let applied = scene.stage.status(C).unwrap().state.applied;
    let drain = |drained| stead_proto::order::Act::Drain { node: scene.stage.players[B].id, drained };
    for act in [drain(true), drain(false)] {
        scene.commit(0, &act).unwrap();
    }
    scene.until_status(C, "it has applied more", |s| (s.state.applied > applied).then_some(())).unwrap();
    scene.stage.kill_agent(C).unwrap();
    // The image was taken before its last start.
    replace(&data, &data.with_extension("sound"));
    let said = scene.refused_start(C).unwrap();
    println!("FIGURE restored image: {}", said.lines().last().unwrap_or_default());
    assert_says(
        &said,
        &[
            "restored from an image",
            "must not vote again",
            "stead remove c",
            "stead admit c=",
            data.to_str().unwrap(),
        ],
    );
    // Again and again, also when everybody who saw it has been restarted meanwhile.
    for i in [0, B] {
        scene.stage.kill_agent(i).unwrap();
        scene.stage.start_agent(i).unwrap();
        scene.until_part(&[0, B]).unwrap();
    }
    replace(&data, &data.with_extension("sound"));
    let said = scene.refused_start(C).unwrap();
    assert_says(&said, &["restored from an image"]);
    scene.until_part(&[0, B]).unwrap();
}
