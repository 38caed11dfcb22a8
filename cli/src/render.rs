//! For people: short, aligned, no boxes; colour only on words of state.
//!
//! **Invariant.** A function of a value from [`crate::json`], the paint and the hour, and nothing else.

mod cases;
mod doctor;
mod mesh;
mod order;
mod paint;
mod site;
mod syn;
mod table;
mod why;

pub(crate) use cases::{cases, evidence};
pub(crate) use doctor::doctor;
pub(crate) use mesh::{endpoints, health_word, incident, incidents, nodes, services, status};
pub(crate) use order::{admitted, checked, done, made};
pub(crate) use paint::Paint;
pub(crate) use site::{site_history, site_show};
pub(crate) use syn::{syn, traces};
pub(crate) use why::why;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Agreement;
    use crate::ask::{Answers, Heard};
    use crate::json::{Admitted, Document, Done, Incidents, Made, MadeNode, Nodes, Services};
    use crate::{sample, view};
    use stead_proto::id::NodeId;
    use stead_proto::report::Unwell;

    fn shown(answers: &Answers) -> String {
        status(&view::mesh(&Agreement::of(answers)), Paint::Plain, sample::NOW_UNIX_MS)
    }

    fn explained(answers: &Answers) -> String {
        let found = view::why(&Agreement::of(answers), &sample::name("www")).unwrap();
        why(&found, Paint::Plain, sample::NOW_UNIX_MS)
    }

    #[test]
    fn status_of_a_healthy_mesh() {
        insta::assert_snapshot!(shown(&sample::healthy()));
    }

    #[test]
    fn status_with_a_silent_node() {
        insta::assert_snapshot!(shown(&sample::silent(&[2])));
    }

    #[test]
    fn status_without_a_quorum() {
        insta::assert_snapshot!(shown(&sample::silent(&[2, 3])));
    }

    #[test]
    fn status_when_nobody_answers() {
        insta::assert_snapshot!(shown(&sample::silent(&[1, 2, 3])));
    }

    #[test]
    fn status_with_a_node_that_disagrees() {
        insta::assert_snapshot!(shown(&sample::disagreeing(2)));
    }

    #[test]
    fn status_with_the_holding_page() {
        insta::assert_snapshot!(shown(&sample::holding_page()));
    }

    #[test]
    fn status_with_floods_in_and_out() {
        insta::assert_snapshot!(shown(&sample::flooded()));
    }

    #[test]
    fn status_with_a_node_that_was_cut_off() {
        insta::assert_snapshot!(shown(&sample::cut_off()));
    }

    fn judged(answers: &Answers) -> String {
        let agreement = Agreement::of(answers);
        let found = view::cases(&agreement, agreement.state().unwrap());
        cases(&found, Paint::Plain, sample::NOW_UNIX_MS)
    }

    #[test]
    fn cases_of_who_was_cut_off_and_who_is_accused() {
        insta::assert_snapshot!(judged(&sample::cut_off()));
    }

    #[test]
    fn cases_when_there_are_none() {
        assert_eq!(judged(&sample::healthy()), "Nobody is accused, and nobody is cut off.\n");
    }

    #[test]
    fn status_without_a_leader() {
        insta::assert_snapshot!(shown(&sample::leaderless()));
    }

    #[test]
    fn status_with_a_node_that_its_peers_refuse() {
        insta::assert_snapshot!(shown(&sample::refused()));
    }

    #[test]
    fn status_with_two_holders() {
        insta::assert_snapshot!(shown(&sample::contested()));
    }

    #[test]
    fn colour_is_on_words_of_state_only() {
        let mesh = view::mesh(&Agreement::of(&sample::silent(&[2])));
        let coloured = status(&mesh, Paint::Colour, sample::NOW_UNIX_MS);
        assert!(coloured.contains("\x1b[33mdegraded\x1b[0m") && coloured.contains("\x1b[31msilent\x1b[0m"));
        let bare =
            ["\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"].iter().fold(coloured, |t, c| t.replace(c, ""));
        assert_eq!(bare, status(&mesh, Paint::Plain, sample::NOW_UNIX_MS));
    }

    #[test]
    fn why_in_a_healthy_mesh() {
        insta::assert_snapshot!(explained(&sample::healthy()));
    }

    #[test]
    fn why_with_a_silent_successor() {
        insta::assert_snapshot!(explained(&sample::silent(&[2])));
    }

    #[test]
    fn why_with_the_service_down_everywhere() {
        insta::assert_snapshot!(explained(&sample::holding_page()));
    }

    fn traffic(answers: &Answers) -> String {
        syn(&view::syn(&Agreement::of(answers)), Paint::Plain, sample::NOW_UNIX_MS)
    }

    #[test]
    fn syn_of_a_calm_mesh() {
        insta::assert_snapshot!(traffic(&sample::healthy()));
    }

    #[test]
    fn syn_with_floods_in_and_out() {
        insta::assert_snapshot!(traffic(&sample::flooded()));
    }

    #[test]
    fn syn_after_the_floods() {
        let mut answers = sample::flooded();
        for id in 1..=2 {
            let seen = &mut sample::status(&mut answers, id).own.traffic;
            let over = Some(sample::NOW_UNIX_MS - 3_000);
            seen.flood.iter_mut().for_each(|flood| flood.ended_unix_ms = over);
            seen.attack.iter_mut().for_each(|attack| attack.ended_unix_ms = over);
            (seen.alarms, seen.blinded, seen.meddled) = (Vec::new(), Vec::new(), None);
        }
        insta::assert_snapshot!(traffic(&answers));
    }

    #[test]
    fn syn_with_a_silent_node_one_that_disagrees_and_one_that_never_reported() {
        let mut answers = sample::silent(&[2]);
        sample::status(&mut answers, 1).state.digest = [0xbb; 32];
        let why = "no address is known".to_string();
        answers.insert(NodeId(4), Heard { name: sample::name("d"), answer: Err(why), via: None });
        insta::assert_snapshot!(traffic(&answers));
    }

    #[test]
    fn the_json_of_syn_keeps_its_shape() {
        let mut answers = sample::flooded();
        answers.remove(&NodeId(3));
        let shown = view::syn(&Agreement::of(&answers));
        insta::assert_snapshot!(format!("{:#}", shown.to_json()));
    }

    #[test]
    fn only_what_is_more_than_a_figure_is_worth_a_new_picture_of_traffic() {
        let moods = |answers: &Answers| view::moods(&view::syn(&Agreement::of(answers)));
        let calm = sample::healthy();
        let mut busier = sample::healthy();
        sample::status(&mut busier, 1).own.traffic.out.syn = 500;
        assert_eq!(moods(&busier), moods(&calm));
        let (before, after) = (moods(&calm), moods(&sample::flooded()));
        assert!(before.keys().all(|node| before[node] != after[node]), "{after:#?}");
    }

    fn examined(answers: &Answers) -> String {
        doctor(&view::doctor(&Agreement::of(answers), None).unwrap(), Paint::Plain)
    }

    #[test]
    fn doctor_of_a_sound_mesh() {
        let answers = sample::healthy();
        assert!(view::doctor(&Agreement::of(&answers), None).unwrap().sound);
        insta::assert_snapshot!(examined(&answers));
    }

    #[test]
    fn doctor_of_kernels_that_lack_something() {
        insta::assert_snapshot!(examined(&sample::poor()));
    }

    #[test]
    fn doctor_of_nodes_that_are_silent_unwell_refused_or_flooding() {
        let mut answers = sample::flooded();
        answers.extend(sample::silent(&[3]).into_iter().filter(|(id, _)| *id == NodeId(3)));
        let refused = sample::refused().remove(&NodeId(2)).unwrap().answer.unwrap();
        let b = sample::status(&mut answers, 2);
        b.transport = refused.transport;
        b.own.unwell = vec![Unwell::DiskFull];
        b.own.reach[0].1.heard_ms_ago = 42_000;
        b.own.gate.shortfalls = vec!["no announcement by IPv6: the module is not loaded".into()];
        insta::assert_snapshot!(examined(&answers));
    }

    #[test]
    fn doctor_when_nobody_answers() {
        insta::assert_snapshot!(examined(&sample::silent(&[1, 2, 3])));
    }

    #[test]
    fn doctor_of_one_node_speaks_of_no_other() {
        let answers = sample::poor();
        let agreement = Agreement::of(&answers);
        let of = |name: &str| view::doctor(&agreement, Some(&sample::name(name)));
        let (a, b) = (of("a").unwrap(), of("b").unwrap());
        assert!(a.sound && !b.sound && b.nodes.len() == 1);
        assert!(b.todo.iter().all(|line| line.starts_with("b: ")), "{:?}", b.todo);
        assert_eq!(of("x"), None);
    }

    #[test]
    fn an_agent_that_tells_of_no_parts_has_a_lease_gate_all_the_same() {
        let mut answers = sample::healthy();
        let a = sample::status(&mut answers, 1);
        (a.rungs, a.own.gate.shortfalls) = (Vec::new(), vec!["no BPF: EPERM".into()]);
        let examined = view::doctor(&Agreement::of(&answers), None).unwrap();
        let [gate] = &examined.nodes[0].parts[..] else { panic!("{:?}", examined.nodes[0]) };
        assert_eq!((&*gate.part, &*gate.rung, gate.best), ("lease gate", "bpf", false));
        assert_eq!(examined.todo, ["a: lease gate: no BPF: EPERM"]);
    }

    #[test]
    fn the_json_of_doctor_keeps_its_shape() {
        let answers = sample::poor();
        let shown = view::doctor(&Agreement::of(&answers), Some(&sample::name("b"))).unwrap();
        insta::assert_snapshot!(format!("{:#}", shown.to_json()));
    }

    #[test]
    fn lists_of_nodes_services_and_incidents() {
        let answers = sample::holding_page();
        let agreement = Agreement::of(&answers);
        let state = agreement.state().unwrap();
        let all = [
            nodes(&view::nodes(&agreement), Paint::Plain),
            services(&view::services(&agreement), Paint::Plain),
            incidents(&view::incidents(state), Paint::Plain, sample::NOW_UNIX_MS),
            incident(&view::incidents(state)[1], Paint::Plain, sample::NOW_UNIX_MS),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn the_json_of_a_status_keeps_its_shape() {
        let mesh = view::mesh(&Agreement::of(&sample::silent(&[2])));
        insta::assert_snapshot!(format!("{:#}", mesh.to_json()));
    }

    #[test]
    fn the_json_of_a_why_keeps_its_shape() {
        let answers = sample::silent(&[2]);
        let found = view::why(&Agreement::of(&answers), &sample::name("www")).unwrap();
        insta::assert_snapshot!(format!("{:#}", found.to_json()));
    }

    #[test]
    fn the_json_of_lists_and_orders_keeps_its_shape() {
        let answers = sample::holding_page();
        let agreement = Agreement::of(&answers);
        let state = agreement.state().unwrap();
        let (incidents, services) = (view::incidents(state), view::services(&agreement));
        let all = [
            Nodes { nodes: Vec::new() }.to_json(),
            Services { services }.to_json(),
            Incidents { incidents }.to_json(),
            sample_done().to_json(),
        ];
        insta::assert_snapshot!(all.map(|json| format!("{json:#}")).join("\n"));
    }

    #[test]
    fn an_order_says_what_was_committed_and_what_is_missing() {
        insta::assert_snapshot!(done(&Done { carried_out: Some(false), ..sample_done() }));
    }

    #[test]
    fn init_says_what_comes_next() {
        let node = |name: &str, id| MadeNode {
            name: name.into(),
            id,
            address: format!("10.0.0.{id}:7832"),
            directory: format!("mesh/{name}"),
        };
        let made_mesh = Made {
            cluster: "ab".repeat(32),
            nodes: vec![node("a", 1), node("b", 2)],
            context: "mesh/operator/mesh.toml".into(),
        };
        insta::assert_snapshot!(made(&made_mesh));
    }

    #[test]
    fn admit_says_what_comes_next() {
        let first = Admitted {
            name: "d".into(),
            id: 4,
            role: "voter".into(),
            address: "10.0.0.4:7832".into(),
            key: "ab".repeat(32),
            directory: Some("new/d".into()),
            has_secret: true,
            index: Some(131),
            promote_after_ms: Some(30_000),
            probation_until_unix_ms: None,
        };
        let again = Admitted { index: None, has_secret: false, ..first.clone() };
        let order_alone = Admitted {
            role: "learner".into(),
            directory: None,
            has_secret: false,
            promote_after_ms: None,
            ..first.clone()
        };
        let back = Admitted { probation_until_unix_ms: Some(1_800_000_000_000), ..order_alone.clone() };
        let json = format!("{:#}\n", first.to_json());
        insta::assert_snapshot!(
            [admitted(&first), admitted(&again), admitted(&order_alone), admitted(&back), json].join("\n")
        );
    }

    fn sample_done() -> Done {
        Done {
            act: "move".into(),
            text: "www is moved to b".into(),
            index: Some(121),
            site_version: None,
            took_ms: 12,
            carried_out: None,
        }
    }
}
