//! What is wrong with a mesh, and what to do about it.

use crate::json::{CutOff, Endpoint, Health, Incident, Mesh, Node, Service};

/// How the mesh is, and what to do, the most urgent first.
pub(super) fn mesh(mesh: &Mesh, quorum: bool) -> (Health, Vec<String>) {
    if mesh.nodes.iter().all(|node| node.opinion == "silent") {
        let mut advice = vec![
            "No node answered: check this machine's network, UDP port 7832 on the way, and that the agents run \
             (`systemctl status stead` on a server)."
                .into(),
        ];
        advice.extend(mesh.nodes.iter().map(|node| format!("{}: {}", node.name, node.details.join("; "))));
        return (Health::NoQuorum, advice);
    }
    let mut wrong = Vec::new();
    wrong.extend(mesh.endpoints.iter().filter_map(|endpoint| served(endpoint, &mesh.services)));
    if !quorum {
        wrong.push(format!(
            "Only {} of {} voters agree, and it takes {}: nothing can be changed until more are back. What is \
             served goes on for as long as leases allow.",
            mesh.agreeing, mesh.voters, mesh.majority
        ));
    } else if mesh.leader.is_none() {
        wrong.push(
            "No leader at present: wait a moment and ask again; if it stays so, check UDP 7832 between the nodes."
                .into(),
        );
    }
    wrong.extend(mesh.nodes.iter().filter_map(|node| node.cut_off.as_ref()).map(cut_off));
    let urgent = ["outbound-flood", "inbound-flood", "sensor-blind"];
    let about = |matter| mesh.incidents.iter().filter(move |incident| incident.matter == matter);
    wrong.extend(urgent.into_iter().flat_map(about).filter_map(alarm));
    wrong.extend(mesh.nodes.iter().filter_map(answer));
    wrong.extend(mesh.nodes.iter().flat_map(complaints));
    wrong.extend(mesh.services.iter().filter_map(failing));
    wrong.extend(mesh.endpoints.iter().flat_map(|endpoint| {
        let name = &endpoint.name;
        endpoint.troubles.iter().map(move |trouble| format!("{name} on {}: {}", trouble.node, trouble.text))
    }));
    let health = match (quorum, wrong.is_empty()) {
        (false, _) => Health::NoQuorum,
        (true, false) => Health::Degraded,
        (true, true) => Health::Ok,
    };
    // Who is cut off is silent or lost as well; what a machine cannot do, and what an operator ordered, is no
    // alarm either.
    let refused = mesh.nodes.iter().filter_map(|node| Some((node, node.refused.as_ref()?)));
    wrong.extend(refused.map(|(node, why)| format!("{}: {why}", node.name)));
    let shortfalls = mesh.nodes.iter().flat_map(|node| node.shortfalls.iter().map(move |what| (node, what)));
    wrong.extend(shortfalls.map(|(node, what)| format!("{} falls short: {what}", node.name)));
    let drained = mesh.nodes.iter().filter(|node| node.drained);
    wrong.extend(drained.map(|node| {
        format!("{} is drained and holds nothing: `stead undrain {}` lets it again.", node.name, node.name)
    }));
    let proving = mesh.nodes.iter().filter(|node| node.probation_until_unix_ms.is_some());
    wrong.extend(proving.map(|node| {
        format!("{} is on probation: it holds nothing and has no vote until that is over.", node.name)
    }));
    (health, wrong)
}

fn served(endpoint: &Endpoint, services: &[Service]) -> Option<String> {
    let Endpoint { name, state, serving, promises, voters, .. } = endpoint;
    match *state {
        "contested" => Some(format!(
            "{} say at the same time that they serve {name}: ask again at once; if it stays so, stop the agent on all \
             but one.",
            serving.join(" and ")
        )),
        "holding-page" => {
            let needed = services.iter().filter(|service| endpoint.services.contains(&service.name));
            let down: Vec<&str> = needed
                .filter(|service| service.nodes.iter().all(|at| at.state != "healthy"))
                .map(|service| service.name.as_str())
                .collect();
            Some(format!(
                "Visitors of {name} see the holding page: no node has {} healthy. Bring it back on any node \
                 (`stead services` says why it fails).",
                if down.is_empty() { "all its services".into() } else { down.join(", ") }
            ))
        }
        "vacant" => Some(format!("Nobody serves {name}: `stead why {name}` says what is missing.")),
        "unsure" => Some(format!(
            "{name}: only {promises} of {voters} voters confirm its holder: `stead why {name}` says more."
        )),
        _ => None,
    }
}

fn cut_off(cut_off: &CutOff) -> String {
    let CutOff { node, by, incident, .. } = cut_off;
    format!(
        "{node} was cut off by {} (incident {incident}): `stead cases` says why. Look at that server; then `stead remove {node}`, \
         and `stead admit` brings it back under a new key.",
        by.join(" and ")
    )
}

/// A flood, or a sensor that was lost.
fn alarm(incident: &Incident) -> Option<String> {
    let what = match incident.matter {
        "outbound-flood" => {
            "`stead syn` shows how much of it leaves, to whom, and which programs may be behind it. If none of them \
             is yours, do not trust that server any more."
        }
        "inbound-flood" => "it defends itself; `stead syn` shows how it bears it.",
        "sensor-blind" => "`stead doctor` says what it cannot see, and what to do.",
        _ => return None,
    };
    Some(format!("{} (incident {}): {what}", incident.title, incident.id))
}

/// A node that does not answer, or says something else than the rest.
pub(super) fn answer(node: &Node) -> Option<String> {
    if node.cut_off.is_some() {
        return None;
    }
    let (name, details) = (&node.name, node.details.join("; "));
    match (node.opinion, node.liveness) {
        ("silent", Some("up")) => Some(format!(
            "{name} answers the other nodes, but not you: check the way from here to it ({details})."
        )),
        ("silent", _) => Some(format!(
            "{name} does not answer ({details}): look at its machine, then at `systemctl status stead` there."
        )),
        ("differs", _) => Some(format!(
            "{name} disagrees: {details}. If it stays so, restart its agent; the others go on without it."
        )),
        _ => None,
    }
}

fn complaints(node: &Node) -> Vec<String> {
    if node.cut_off.is_some() {
        return Vec::new();
    }
    let name = &node.name;
    let waiting = node.waiting.iter().map(|what| format!("{name} takes no part yet: {what}"));
    let unwell = node.unwell.iter().map(|what| format!("{name} is unwell: {what}"));
    waiting.chain(unwell).collect()
}

fn failing(service: &Service) -> Option<String> {
    let bad = service.nodes.iter().filter(|at| matches!(at.state, "down" | "ailing"));
    let told: Vec<String> = bad
        .map(|at| match &at.reason {
            Some(reason) => format!("{} ({reason})", at.node),
            None => at.node.clone(),
        })
        .collect();
    (!told.is_empty()).then(|| format!("Service {} fails on {}.", service.name, told.join(", ")))
}
