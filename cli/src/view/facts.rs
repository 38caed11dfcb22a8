//! A mesh as a flat list of facts, and what changed between two of them.

use crate::json::{Change, Mesh};
use std::collections::{BTreeMap, BTreeSet};

/// What `watch` compares: stable keys, short values; nothing that changes by itself, such as ages.
pub(crate) fn facts(mesh: &Mesh) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut say = |key: String, value: &dyn ToString| drop(facts.insert(key, value.to_string()));
    say("mesh.health".into(), &crate::render::health_word(mesh.health));
    say("mesh.leader".into(), &mesh.leader.as_deref().unwrap_or("nobody"));
    if let Some(version) = mesh.site_version {
        say("site.version".into(), &version);
    }
    for node in &mesh.nodes {
        say(format!("node.{}.opinion", node.name), &node.opinion);
        if let Some(liveness) = node.liveness {
            say(format!("node.{}.liveness", node.name), &liveness);
        }
        say(format!("node.{}.standing", node.name), &if node.drained { "drained" } else { "active" });
    }
    for endpoint in &mesh.endpoints {
        say(format!("endpoint.{}.state", endpoint.name), &endpoint.state);
        say(format!("endpoint.{}.holder", endpoint.name), &endpoint.holder.as_deref().unwrap_or("nobody"));
    }
    for service in &mesh.services {
        for at in &service.nodes {
            say(format!("service.{}.{}", service.name, at.node), &at.state);
        }
    }
    for incident in &mesh.incidents {
        let last = incident.lines.last().map(|line| line.text.as_str()).unwrap_or_default();
        say(format!("incident.{}", incident.id), &format!("{}: {last}", incident.title));
    }
    facts
}

/// What became different, by key.
pub(crate) fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    unix_ms: u64,
) -> Vec<Change> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed
        .map(|key| Change {
            unix_ms,
            fact: key.clone(),
            from: before.get(key).cloned(),
            to: after.get(key).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Agreement;
    use crate::sample;

    #[test]
    fn only_what_changed_is_a_change() {
        let of = |answers| facts(&super::super::mesh(&Agreement::of(&answers)));
        let (healthy, silent) = (of(sample::healthy()), of(sample::silent(&[2])));
        assert_eq!(changes(&healthy, &healthy, 0), []);
        let told: Vec<String> = changes(&healthy, &silent, 0).into_iter().map(|c| c.fact).collect();
        assert_eq!(told, ["mesh.health", "node.b.liveness", "node.b.opinion", "service.web.b"]);
    }
}
