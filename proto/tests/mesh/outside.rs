//! What peers see from outside: host keys and pages, right, wrong, and not to be seen.

use stead_proto::command::Command;
use stead_proto::id::NodeId;
use stead_proto::incident::{Incident, Matter};
use stead_proto::mesh::Now;
use stead_proto::order::Act;
use stead_proto::outside::{HostKey, Page};
use stead_proto::report::{Reach, Report};
use stead_proto::service::{Check, StatusRange};
use stead_proto::sign::Signed;
use stead_proto::state::{Authority, State};

use crate::judging::{others, refused_by, until_refused};
use crate::world::{World, key, settled};

const OLD: HostKey = HostKey([1; 32]);
const NEW: HostKey = HostKey([2; 32]);

/// A mesh whose servers have shown their host keys for a while.
fn known(nodes: u64) -> (World, NodeId) {
    let (mut world, holder) = settled(nodes);
    let all: Vec<NodeId> = world.nodes.keys().copied().collect();
    world.host_keys = all.iter().map(|node| (*node, OLD)).collect();
    world.run_ms(130_000);
    let state = state(&world);
    assert!(all.iter().all(|node| state.host_keys.get(node) == Some(&OLD)), "{:?}", state.host_keys);
    (world, holder)
}

fn state(world: &World) -> State {
    world.state_at(world.log.len())
}

fn demoted(world: &World, node: NodeId) -> bool {
    let by = others(world, node)[0];
    let status = world.nodes[&by].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "");
    status.cases.iter().any(|case| case.subject == node && case.demoted)
}

fn told(world: &World, matter: &Matter) -> Option<Incident> {
    state(world).incidents.open(matter).cloned()
}

#[test]
fn the_first_host_keys_that_enough_peers_see_are_kept_and_looking_is_rare() {
    let (mut world, _) = known(3);
    let before = world.looks;
    world.run_ms(600_000);
    let (hosts, pages) = (3 * 2 * 10, 2 * 60);
    let looks = world.looks - before;
    assert!(looks <= hosts + pages + 10 && looks >= (hosts + pages) * 8 / 10, "{looks} looks in ten minutes");
    assert!(others(&world, NodeId(9)).iter().all(|node| !demoted(&world, *node)));
}

#[test]
fn a_holder_with_another_host_key_is_demoted_until_an_operator_accepts_it() {
    let (mut world, holder) = known(3);
    world.host_keys.insert(holder, NEW);
    world.run_ms(75_000);
    assert!(demoted(&world, holder));
    assert_ne!(world.until_served(Some(holder), 3_000).0, holder);
    assert_eq!(refused_by(&world, holder), [], "one kind of sign cuts nobody off");
    let changed = told(&world, &Matter::HostKey(holder)).expect("an incident");
    assert!(changed.lines[0].text.contains(&NEW.to_string()), "{changed:#?}");
    let why = told(&world, &Matter::Demoted(holder)).expect("an incident");
    assert!(why.lines.iter().any(|line| line.text.contains("host key")), "{why:#?}");

    world.run_ms(1_200_000);
    assert!(demoted(&world, holder), "as long as it is seen");
    world.order(Act::AcceptHostKey { node: holder, key: NEW });
    world.run_ms(680_000);
    assert!(!demoted(&world, holder));
    assert_eq!(told(&world, &Matter::HostKey(holder)), None);
    assert_eq!(told(&world, &Matter::Demoted(holder)), None);
}

#[test]
fn a_server_with_another_host_key_and_without_its_agent_is_cut_off() {
    for nodes in [3, 5] {
        let (mut world, holder) = known(nodes);
        world.host_keys.insert(holder, NEW);
        world.crash(holder);
        until_refused(&mut world, holder, 180_000);
        let isolation = &state(&world).isolations.get(&holder).cloned();
        assert!(isolation.as_ref().is_none_or(|isolation| matches!(isolation.by, Authority::Peers(_))));
    }
}

#[test]
fn a_server_whose_keys_were_changed_before_it_boots_is_not_cut_off() {
    let (mut world, holder) = known(3);
    world.host_keys.insert(holder, NEW);
    world.run_ms(100_000);
    // Nothing answers for three minutes; then its SSH does, and a while later its agent.
    world.host_keys.remove(&holder);
    world.crash(holder);
    world.run_ms(180_000);
    world.host_keys.insert(holder, NEW);
    world.run_ms(45_000);
    world.boot(holder);
    world.run_ms(120_000);
    assert_eq!(refused_by(&world, holder), []);
    assert!(demoted(&world, holder), "for the key that nobody has accepted");
}

#[test]
fn a_server_that_is_merely_gone_or_answers_nothing_is_not_cut_off() {
    let (mut world, holder) = known(3);
    world.crash(holder);
    world.run_ms(60_000);
    world.host_keys.remove(&holder);
    world.run_ms(600_000);
    assert_eq!(refused_by(&world, holder), []);
    assert!(!demoted(&world, holder));
}

#[test]
fn a_glimpse_of_another_key_or_page_is_nothing() {
    let (mut world, holder) = known(3);
    for _ in 0..20 {
        world.host_keys.insert(holder, NEW);
        world.pages.insert(holder, Page::Other("status 502".into()));
        world.run_ms(3_000);
        world.host_keys.insert(holder, OLD);
        world.pages.clear();
        world.run_ms(57_000);
        assert!(!demoted(&world, holder));
    }
    assert_eq!(world.holders(), [holder]);
}

#[test]
fn who_shows_visitors_something_else_than_it_says_is_demoted_and_the_site_served_elsewhere() {
    let (mut world, holder) = known(3);
    world.pages.insert(holder, Page::Other("status 404, expected 200 to 299".into()));
    world.run_ms(20_000);
    assert!(demoted(&world, holder));
    let (next, _) = world.until_served(Some(holder), 2_000);
    world.run_ms(30_000);
    assert_eq!(world.holders(), [next]);
    assert_eq!(refused_by(&world, holder), []);
}

#[test]
fn who_is_demoted_does_not_lead_and_helps_another_one_to() {
    let (mut world, holder) = known(3);
    world.pages.insert(holder, Page::Other("status 404".into()));
    assert_eq!(world.leader, Some(holder));
    world.run_ms(20_000);
    assert!(demoted(&world, holder));
    assert!(world.leader.is_some_and(|leader| leader != holder), "it led, and does not any more");
    let [dead, left] = others(&world, holder)[..] else { panic!("three nodes") };
    world.crash(dead);
    world.leader = None;
    world.tell_raft();
    world.run_ms(5_000);
    assert_eq!(world.leader, Some(left));
}

#[test]
fn a_page_that_was_never_right_from_here_says_nothing() {
    let (mut world, holder) = settled(3);
    for node in world.nodes.keys().copied().collect::<Vec<_>>() {
        world.pages.insert(node, Page::Other("status 403".into()));
    }
    // It had been right in the first moments of this world, for those who looked then.
    for node in others(&world, holder) {
        world.crash(node);
        world.run_ms(500);
        world.boot(node);
        world.run_ms(3_000);
    }
    let serves = world.until_served(None, 2_000).0;
    world.run_ms(120_000);
    assert_eq!(world.holders(), [serves]);
    assert!(!demoted(&world, serves));
}

#[test]
fn a_page_that_is_wrong_everywhere_costs_one_node_at_most_and_the_site_nothing() {
    let (mut world, first) = known(5);
    for node in world.nodes.keys().copied().collect::<Vec<_>>() {
        world.pages.insert(node, Page::Other("status 403".into()));
    }
    world.run_ms(20_000);
    let (next, _) = world.until_served(Some(first), 2_000);
    for _ in 0..30 {
        world.run_ms(10_000);
        assert_eq!(world.holders(), [next]);
    }
    assert!(!demoted(&world, next));
    // Once it is right again, it is known again.
    world.pages.clear();
    world.run_ms(15_000);
    world.pages.insert(next, Page::Other("status 404".into()));
    world.run_ms(20_000);
    assert!(demoted(&world, next));
}

#[test]
fn another_check_begins_anew() {
    let (mut world, holder) = known(3);
    let before = state(&world);
    let mut site = before.site.clone();
    let service = site.services.values_mut().next().unwrap();
    let expect = StatusRange { from: 200, to: 299 };
    service.check = Check::Http { port: 80, path: "/only-from-here".into(), host: None, expect };
    world.order(Act::Apply { base: before.site_version, site: Box::new(site), text: String::new() });
    world.pages.insert(holder, Page::Other("status 403".into()));
    world.run_ms(120_000);
    assert_eq!(world.holders(), [holder]);
    assert!(!demoted(&world, holder));
}

#[test]
fn two_signs_of_different_kinds_cut_off() {
    let (mut world, holder) = known(3);
    world.host_keys.insert(holder, NEW);
    world.pages.insert(holder, Page::Other("status 404".into()));
    world.run_ms(75_000);
    // Its endpoint was taken from it before both could be seen: the page of the next holder is right.
    assert!(demoted(&world, holder) || refused_by(&world, holder).len() == 2);
    assert!(world.until_served(Some(holder), 2_000).0 != holder);
}

#[test]
fn when_all_servers_change_their_keys_at_once_it_is_no_break_in() {
    let (mut world, holder) = known(3);
    let all: Vec<NodeId> = world.nodes.keys().copied().collect();
    world.host_keys = all.iter().map(|node| (*node, NEW)).collect();
    world.run_ms(300_000);
    assert!(all.iter().filter(|node| demoted(&world, **node)).count() <= 1);
    assert!(all.iter().all(|node| refused_by(&world, *node).is_empty()));
    assert_eq!(world.holders().len(), 1, "{holder}");
}

/// A report of `by` that shows `shown` as the key of `of`.
fn showing(world: &World, by: u64, of: NodeId, shown: HostKey) -> Signed<Report> {
    let node = &world.nodes[&NodeId(by)];
    let own = node.mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "").own;
    let reach = vec![(of, Reach { heard_ms_ago: 1, rtt_us: 1, head: None, host_key: Some(shown) })];
    key(by as u8).sign(world.cluster, &Report { reach, ..own }).unwrap()
}

#[test]
fn a_minority_teaches_nobody_a_false_first_key_and_nobody_changes_a_known_one() {
    let (mut world, _) = settled(5);
    let victim = NodeId(1);
    let learn = |reports: Vec<Signed<Report>>| Command::HostKey { node: victim, key: NEW, reports };
    let said =
        |world: &World, by: &[u64]| by.iter().map(|by| showing(world, *by, victim, NEW)).collect::<Vec<_>>();
    let two = said(&world, &[4, 5]);
    let twice = [two.clone(), two.clone()].concat();
    let with_itself = [two.clone(), said(&world, &[1])].concat();
    for reports in [vec![], two, twice, with_itself] {
        world.commit(&learn(reports));
        world.run_ms(50);
        assert_eq!(state(&world).host_keys.get(&victim), None);
    }
    let three = said(&world, &[3, 4, 5]);
    world.commit(&learn(three));
    world.run_ms(50);
    assert_eq!(state(&world).host_keys.get(&victim), Some(&NEW));
    let other: Vec<_> = [2, 3, 4, 5].map(|by| showing(&world, by, victim, OLD)).into();
    world.commit(&Command::HostKey { node: victim, key: OLD, reports: other });
    world.run_ms(50);
    assert_eq!(state(&world).host_keys.get(&victim), Some(&NEW));
}
