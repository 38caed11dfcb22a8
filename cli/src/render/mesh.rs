//! The mesh, its nodes, endpoints, services and incidents.

use super::paint::{Paint, tone};
use super::table::Table;
use crate::json::{Endpoint, Health, Incident, Mesh, Node, Service};
use crate::words::{ago, date, span};
use std::fmt::Write;

/// The word for how a mesh is.
pub(crate) const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::NoQuorum => "no quorum",
    }
}

/// `stead status`.
pub(crate) fn status(mesh: &Mesh, paint: Paint, now_unix_ms: u64) -> String {
    let word = health_word(mesh.health);
    let mut text = format!("mesh {}", paint.word(tone(word), word));
    if mesh.voters > 0 {
        let _ = write!(text, ", {} of {} voters agree", mesh.agreeing, mesh.voters);
        match (&mesh.leader, mesh.term) {
            (Some(leader), Some(term)) => drop(write!(text, ", {leader} leads (term {term})")),
            (Some(leader), None) => drop(write!(text, ", {leader} leads")),
            (None, _) => text.push_str(", no leader"),
        }
    }
    if let Some(version) = mesh.site_version {
        let _ = write!(text, ", site version {version}");
    }
    text.push_str("\n\n");
    text.push_str(&short_nodes(&mesh.nodes, paint));
    if !mesh.endpoints.is_empty() {
        text.push('\n');
        text.push_str(&endpoints(&mesh.endpoints, paint));
    } else if mesh.cluster.is_some() {
        text.push_str(
            "\nThe site has no endpoints yet: write a site.toml and run `stead apply site.toml`.\n",
        );
    }
    if !mesh.incidents.is_empty() {
        text.push('\n');
        text.push_str(&incidents(&mesh.incidents, paint, now_unix_ms));
    }
    text.push_str(&advice(&mesh.advice));
    text
}

/// What to do, one matter a line.
pub(super) fn advice(advice: &[String]) -> String {
    let lines: Vec<String> = advice.iter().map(|line| format!("- {line}\n")).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

fn short_nodes(nodes: &[Node], paint: Paint) -> String {
    let mut table = Table::new(["node", "role", "state", "answer", "serves", "gate", "up for"]);
    for node in nodes {
        table.row([
            node.name.clone(),
            role(node),
            state(node),
            answer(node),
            node.serves.join(", "),
            node.gate.clone().unwrap_or_default(),
            node.uptime_ms.map(span).unwrap_or_default(),
        ]);
    }
    table.render(paint)
}

/// `stead nodes`.
pub(crate) fn nodes(nodes: &[Node], paint: Paint) -> String {
    let mut table = Table::new([
        "node", "id", "role", "state", "answer", "follows", "entry", "serves", "gate", "rtt", "version",
        "up for", "address",
    ]);
    for node in nodes {
        table.row([
            node.name.clone(),
            node.id.to_string(),
            role(node),
            state(node),
            answer(node),
            if node.leads { "leads".into() } else { node.follows.clone().unwrap_or_default() },
            node.applied.map(|applied| applied.to_string()).unwrap_or_default(),
            node.serves.join(", "),
            node.gate.clone().unwrap_or_default(),
            rtt(node),
            node.version.clone().unwrap_or_default(),
            node.uptime_ms.map(span).unwrap_or_default(),
            node.addresses.join(", "),
        ]);
    }
    let notes = nodes.iter().flat_map(|node| {
        let troubles = node.details.iter().chain(&node.waiting).chain(&node.unwell);
        let all = troubles.chain(&node.refused).chain(&node.shortfalls);
        all.map(|note| format!("{}: {note}", node.name))
    });
    table.render(paint) + &advice(&notes.collect::<Vec<_>>())
}

/// The longest round trip to a peer: that is the one which a lease has to bear.
fn rtt(node: &Node) -> String {
    let longest = node.reach.iter().filter_map(|reach| reach.rtt_us).max();
    longest.map(|us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100)).unwrap_or_default()
}

fn role(node: &Node) -> String {
    match node.role {
        None => String::new(),
        Some(role @ ("voter" | "witness")) if !node.votes => format!("{role}, no vote now"),
        Some("learner") if node.votes => "learner, votes still".into(),
        Some(role) => role.into(),
    }
}

fn state(node: &Node) -> String {
    if node.cut_off.is_some() {
        return "cut off".into();
    }
    if node.probation_until_unix_ms.is_some() && node.liveness != Some("lost") {
        return "probation".into();
    }
    match (node.drained, node.liveness) {
        (true, Some("up") | None) => "drained".into(),
        (_, Some(liveness)) => liveness.into(),
        (false, None) => String::new(),
    }
}

fn answer(node: &Node) -> String {
    match &node.via {
        Some(via) => format!("{} (through {via})", node.opinion),
        None => node.opinion.into(),
    }
}

/// `stead endpoints`.
pub(crate) fn endpoints(endpoints: &[Endpoint], paint: Paint) -> String {
    let mut table =
        Table::new(["endpoint", "address", "state", "holder", "promises", "epoch", "next", "needs"]);
    for endpoint in endpoints {
        let next = endpoint.next.as_ref();
        table.row([
            endpoint.name.clone(),
            endpoint.address.clone(),
            endpoint.state.replace('-', " "),
            endpoint.holder.clone().unwrap_or_else(|| "nobody".into()),
            format!("{} of {}", endpoint.promises, endpoint.voters),
            endpoint.epoch.clone().unwrap_or_default(),
            next.cloned().unwrap_or_default(),
            endpoint.services.join(", "),
        ]);
    }
    table.render(paint)
}

/// `stead services`.
pub(crate) fn services(services: &[Service], paint: Paint) -> String {
    if services.is_empty() {
        return "The site has no services yet: add [service.NAME] to site.toml and run `stead apply site.toml`.\n".into();
    }
    let mut table = Table::new(["service", "node", "state", "check", "restart", "reason"]);
    for service in services {
        for at in &service.nodes {
            let reason = at.reason.clone().unwrap_or_default();
            let age = at.age_ms.map(|ms| format!(" (as of {} ago)", span(ms))).unwrap_or_default();
            table.row([
                service.name.clone(),
                at.node.clone(),
                at.state.into(),
                service.check.clone(),
                service.restart.clone().unwrap_or_default(),
                format!("{reason}{age}").trim().into(),
            ]);
        }
    }
    table.render(paint)
}

/// `stead incidents`.
pub(crate) fn incidents(incidents: &[Incident], paint: Paint, now_unix_ms: u64) -> String {
    if incidents.is_empty() {
        return "No incidents on record.\n".into();
    }
    let mut table = Table::new(["incident", "when", "state", "matter", "last line"]);
    for incident in incidents {
        let when = incident.lines.iter().map(|line| line.unix_ms).find(|ms| *ms > 0);
        table.row([
            incident.id.to_string(),
            when.map(|ms| ago(ms, now_unix_ms)).unwrap_or_default(),
            if incident.open { "open".into() } else { "over".into() },
            incident.title.clone(),
            incident.lines.last().map(|line| line.text.clone()).unwrap_or_default(),
        ]);
    }
    table.render(paint)
}

/// `stead incidents ID`.
pub(crate) fn incident(incident: &Incident, paint: Paint, now_unix_ms: u64) -> String {
    let word = if incident.open { "open" } else { "over" };
    let mut text =
        format!("incident {}: {} ({})\n\n", incident.id, incident.title, paint.word(tone(word), word));
    for line in &incident.lines {
        match line.unix_ms {
            0 => drop(writeln!(text, "{:20}  {}", "", line.text)),
            ms => drop(writeln!(text, "{}  {}  ({})", date(ms), line.text, ago(ms, now_unix_ms))),
        }
    }
    if incident.lines_dropped > 0 {
        let _ = writeln!(text, "… and {} more lines that were not kept", incident.lines_dropped);
    }
    text
}
