//! A site in the form of a file, for versions that no file was kept of.
//!
//! **Invariant.** What is written reads back as the same site.

use super::super::document::ms_text;
use super::fence::day_text;
use super::guard::{prefix_text, rate_text};
use std::fmt::Write;
use stead_proto::fence::FencePolicy;
use stead_proto::guard::{Allowed, GuardPolicy};
use stead_proto::id::Name;
use stead_proto::service::{Check, Restart, RestartHow, Service};
use stead_proto::site::{Driver, EndpointSpec, Site};

/// The text of a `site.toml` that says exactly `site`.
#[must_use]
pub fn write(site: &Site) -> String {
    let mut sections: Vec<String> = site.services.values().map(service).collect();
    sections.extend(site.endpoints.iter().map(|(name, spec)| endpoint(name, spec)));
    let charter = &site.charter;
    let mut lines = Lines::under("[charter]");
    lines.say("demote_after", quoted(&ms_text(charter.demote_after_ms)));
    lines.say("promote_after", quoted(&ms_text(charter.promote_after_ms)));
    lines.say("voters_min", charter.voters_min);
    lines.say("pair", charter.pair);
    lines.say("isolate", charter.isolate);
    sections.push(lines.0);
    sections.push(guard(&site.guard));
    let mut lines = Lines::under("[watch]");
    lines.say("ssh_port", site.watch.ssh_port);
    sections.push(lines.0);
    sections.extend(site.fence.as_ref().map(fence));
    sections.join("\n")
}

struct Lines(String);

impl Lines {
    fn under(heading: &str) -> Self {
        Self(format!("{heading}\n"))
    }

    fn say(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }
}

fn service(service: &Service) -> String {
    let mut lines = Lines::under(&format!("[service.{}]", key(&service.name)));
    let check = match &service.check {
        Check::Http { port, path, host, expect } => {
            let host = host.as_ref().map(|host| format!(", host = {}", quoted(host))).unwrap_or_default();
            let url = quoted(&format!("http://127.0.0.1:{port}{path}"));
            format!("{{ http = {url}{host}, expect = [{}, {}] }}", expect.from, expect.to)
        }
        Check::Tcp { port } => format!("{{ tcp = {port} }}"),
        Check::Exec { command } => format!("{{ exec = {} }}", list(command)),
    };
    lines.say("check", check);
    lines.say("every", quoted(&ms_text(service.every_ms)));
    lines.say("timeout", quoted(&ms_text(service.timeout_ms)));
    lines.say("rise", service.rise);
    lines.say("fall", service.fall);
    if let Some(Restart { how, patience_ms, backoff_ms_min, backoff_ms_max }) = &service.restart {
        let how = match how {
            RestartHow::Unit(unit) => format!("unit = {}", quoted(unit)),
            RestartHow::Command(command) => format!("command = {}", list(command)),
        };
        let [patience, min, max] =
            [patience_ms, backoff_ms_min, backoff_ms_max].map(|ms| quoted(&ms_text(*ms)));
        let value = format!("{{ {how}, patience = {patience}, backoff_min = {min}, backoff_max = {max} }}");
        lines.say("restart", value);
    }
    lines.0
}

fn endpoint(name: &Name, spec: &EndpointSpec) -> String {
    let mut lines = Lines::under(&format!("[endpoint.{}]", key(name)));
    lines.say("address", quoted(&spec.address.to_string()));
    let ports: Vec<String> = spec.ports.iter().map(u16::to_string).collect();
    lines.say("ports", format!("[{}]", ports.join(", ")));
    lines.say("services", names(spec.services.iter()));
    match &spec.driver {
        Driver::Vip => lines.say("driver", quoted("vip")),
        Driver::Exec(command) => lines.say("exec", list(command)),
    }
    lines.say("lease", quoted(&ms_text(spec.lease_ms)));
    lines.say("prefer", names(spec.prefer.iter()));
    lines.0.push_str(&format!("\n[endpoint.{}.holding]\n", key(name)));
    lines.say("title", quoted(&spec.holding.title));
    lines.say("message", quoted(&spec.holding.message));
    lines.say("retry_after", quoted(&format!("{}s", spec.holding.retry_after_s)));
    lines.0
}

fn fence(policy: &FencePolicy) -> String {
    let mut lines = Lines::under("[fence]");
    lines.say("exec", list(&policy.command));
    lines.say("nodes", policy.nodes_max);
    lines.say("until", quoted(&day_text(policy.until_unix_ms)));
    lines.0
}

fn guard(policy: &GuardPolicy) -> String {
    let mut lines = Lines::under("[guard]");
    let rate = |rate| quoted(&rate_text(rate));
    lines.say("limit", rate(policy.limit));
    lines.say("ceiling", policy.ceiling.map_or_else(|| quoted("none"), rate));
    lines.say("licence", quoted(&ms_text(policy.licence_ms)));
    lines.say("renew", quoted(&ms_text(policy.renew_every_ms)));
    let entry = |allowed: &Allowed| {
        let port = allowed.port.map(|port| format!(", port = {port}")).unwrap_or_default();
        let to = quoted(&prefix_text(allowed.to));
        format!("\n  {{ to = {to}{port}, rate = {} }},", rate(allowed.rate))
    };
    let entries: String = policy.allowed.iter().map(entry).collect();
    lines.say("allow", if entries.is_empty() { "[]".into() } else { format!("[{entries}\n]") });
    let friends: Vec<String> = policy.friends.iter().map(|friend| prefix_text(*friend)).collect();
    lines.say("friends", list(&friends));
    lines.0
}

fn names<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    list(&names.map(ToString::to_string).collect::<Vec<_>>())
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A name as a key: dots would make it several.
fn key(name: &Name) -> String {
    if name.as_str().contains('.') { quoted(name.as_str()) } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::SiteFile;
    use super::*;

    #[test]
    fn what_is_written_reads_back_as_the_same_site() {
        let example = include_str!("example.toml").replace("[service.queue]", "[service.\"queue.v2\"]");
        let example = example.replace("[\"queue\"]", "[\"queue.v2\"]");
        let site = SiteFile::parse("site.toml", &example).unwrap().site;
        assert_eq!(SiteFile::parse("again.toml", &write(&site)).unwrap().site, site);
        assert_eq!(SiteFile::parse("again.toml", &write(&Site::default())).unwrap().site, Site::default());
    }
}
