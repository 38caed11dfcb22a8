//! Orders that are too late, or not the operator's to give.

use super::{NODE, assert_says, three};
use chaos_tests::bad_input::Scene;
use std::time::Duration;
use stead_deploy::lab::Place;
use stead_deploy::lab::process::Process;
use stead_node::identity::Identity;
use stead_proto::admin::Answer;
use stead_proto::command::{Outcome, Refusal};
use stead_proto::incident::Matter;
use stead_proto::order::Act;

/// The site as it is, with another title for the holding page, written against version `base`.
fn retitled(scene: &Scene, base: u64, title: &str) -> Act {
    let mut site = scene.stage.status(0).unwrap().state.site;
    site.endpoints.values_mut().for_each(|endpoint| endpoint.holding.title = title.into());
    let text = stead::site_file::write(&site);
    Act::Apply { base, site: Box::new(site), text }
}

fn site_version(scene: &Scene) -> u64 {
    scene.stage.status(0).unwrap().state.site_version
}

#[test]
fn of_two_sites_written_against_one_version_the_mesh_takes_one_and_calls_the_other_stale() {
    let scene = three();
    let base = site_version(&scene);
    let (ours, theirs) = (retitled(&scene, base, "ours"), retitled(&scene, base, "theirs"));
    let (director, deputy) = (scene.operator("director").unwrap(), scene.operator("deputy").unwrap());
    let scene = &scene;
    let answers = std::thread::scope(|scope| {
        let race = [(director, 1, ours), (deputy, 2, theirs)]
            .map(|(who, node, act)| scope.spawn(move || scene.order(&who, node, act).unwrap()));
        race.map(|racer| racer.join().unwrap())
    });
    let committed = |outcome: &Outcome| {
        let same =
            |answer: &&Answer| matches!(answer, Answer::Committed { outcome: got, .. } if got == outcome);
        answers.iter().filter(same).count()
    };
    assert_eq!(committed(&Outcome::Site(base + 1)), 1, "{answers:?}");
    let stale = Refusal::Stale { base, newest: base + 1 };
    assert_says(&stale.to_string(), &["look at the difference and apply again"]);
    assert_eq!(committed(&Outcome::Refused(stale)), 1, "{answers:?}");
    assert_eq!(site_version(scene), base + 1);
}

#[test]
fn an_apply_on_an_older_version_is_refused_with_the_difference() {
    let scene = three();
    let base = site_version(&scene);
    let act = retitled(&scene, base, "somebody else was here");
    scene.order(&scene.operator("deputy").unwrap(), 0, act).unwrap();
    let file = scene.stage.directory.join("mine.toml");
    let Act::Apply { text, .. } = retitled(&scene, base, "mine") else { panic!("an apply") };
    std::fs::write(&file, text).unwrap();

    let context = scene.operator_files("director").join("mesh.toml");
    let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
    let base_text = base.to_string();
    let argv = [NODE, "--context", context, "apply", file, "--base", &base_text];
    let log = scene.stage.directory.join("apply.log");
    let laptop = scene.stage.lab.namespace(Place::Visitor).unwrap();
    let mut apply = Process::start(laptop, &argv, &[], &log).unwrap();
    let status = apply.wait(Duration::from_secs(15)).unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!status.success(), "{said}");
    assert_says(&said, &["Nothing was changed", "-title = \"somebody else was here\"", "+title = \"mine\""]);
    assert_eq!(site_version(&scene), base + 1);
}

#[test]
fn an_operator_without_the_role_changes_nothing_and_the_attempt_is_recorded() {
    let mut scene = three();
    let watcher = scene.operator("watcher").unwrap();
    let before = scene.stage.status(0).unwrap().state;
    let drain = Act::Drain { node: scene.stage.players[1].id, drained: true };
    for act in [drain, retitled(&scene, before.site_version, "mine now")] {
        let answer = scene.order(&watcher, 1, act).unwrap();
        let Answer::Committed { outcome: Outcome::Refused(Refusal::Role { name, has, .. }), .. } = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!((name.as_str(), has.as_str()), ("watcher", "viewer"));
    }
    let matter = Matter::OrderRefused(watcher.public());
    let recorded = scene.until_status(0, "the attempt is recorded", |status| {
        let mut incidents = status.state.incidents.iter();
        incidents.find(|incident| incident.matter == matter).cloned()
    });
    assert_says(&recorded.unwrap().lines[0].text, &["takes the role", "watcher is viewer"]);
    let after = scene.stage.status(0).unwrap().state;
    assert_eq!((after.site, after.site_version), (before.site, before.site_version));
    assert_eq!(after.members, before.members);
}

#[test]
fn an_order_of_a_stranger_does_not_even_reach_the_log() {
    let scene = three();
    let stranger = Identity::generate().unwrap();
    let before = scene.stage.status(0).unwrap().state.incidents;
    for node in 0..3 {
        let answer = scene.order(&stranger, node, retitled(&scene, 1, "mine")).unwrap();
        assert_eq!(answer, Answer::Refused(Refusal::UnknownOperator));
    }
    let after = scene.stage.status(0).unwrap().state.incidents;
    assert!(after.iter().all(|i| !matches!(i.matter, Matter::OrderRefused(_))), "{before:?} {after:?}");
}
