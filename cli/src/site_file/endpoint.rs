//! `[endpoint.NAME]`.

use super::super::document::{Table, Value};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use stead_proto::id::Name;
use stead_proto::limits::{LEASE_MAX, LEASE_MIN};
use stead_proto::site::{Driver, EndpointSpec, HoldingText};

/// The leases of the two profiles, in milliseconds.
pub(super) const PROFILES: [(&str, u32); 2] = [("default", 350), ("lan", 80)];

/// Reads the one at `place` in the file; what is wrong with it is noted, and stood in for by something
/// harmless.
pub(super) fn read(place: usize, table: Table<'_>) -> EndpointSpec {
    let address = table.require("address", "\"192.0.2.10\"");
    let address = address.and_then(|value| value.parse::<IpAddr>("address", "\"192.0.2.10\""));
    let ports = table.require("ports", "[80, 443]").and_then(|value| ports(&value));
    let services = table.get("services").and_then(|value| value.parse_all::<Name>("name", "[\"web\"]"));
    let prefer = table.get("prefer").and_then(|value| value.parse_all::<Name>("name", "[\"a\"]"));
    let driver = driver(&table);
    let lease_ms = lease(&table);
    let holding = table.get("holding").and_then(|value| value.table()).map(holding);
    table.finish();
    EndpointSpec {
        address: address.unwrap_or_else(|| stand_in(place)),
        ports: ports.unwrap_or_else(|| vec![80]),
        services: services.map(BTreeSet::from_iter).unwrap_or_default(),
        driver: driver.unwrap_or(Driver::Vip),
        lease_ms,
        prefer: prefer.unwrap_or_default(),
        holding: holding.unwrap_or_default(),
    }
}

/// An address that nobody else has, so that one mistake does not look like two.
fn stand_in(place: usize) -> IpAddr {
    let place = u16::try_from(place).unwrap_or(u16::MAX);
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, place).into()
}

fn ports(value: &Value<'_>) -> Option<Vec<u16>> {
    let items = value.list("[80, 443]")?;
    let ports: Vec<Option<u16>> = items.iter().map(|item| item.number(1..=u16::MAX)).collect();
    if ports.is_empty() {
        value.complain("name the ports that visitors use, such as [80, 443]");
        return None;
    }
    ports.into_iter().collect()
}

fn driver(table: &Table<'_>) -> Option<Driver> {
    let named = table.get("driver").and_then(|value| Some((value.text()?, value)));
    let command = table.get("exec").and_then(|value| value.texts("[\"/usr/local/bin/move\"]"));
    match (named, command) {
        (None, None) | (Some(("vip", _)), None) => Some(Driver::Vip),
        (None | Some(("exec", _)), Some(command)) => Some(Driver::Exec(command)),
        (Some(("exec", value)), None) => {
            value.complain("needs its command beside it; write for example exec = [\"/usr/local/bin/move\"]");
            None
        }
        (Some(("vip", value)), Some(_)) => {
            value.complain("\"vip\" runs no command; leave out driver or exec");
            None
        }
        (Some((other, value)), _) => {
            value.complain(format!(
                "{other:?} is no driver; write \"vip\", or exec = [\"/usr/local/bin/move\"] instead"
            ));
            None
        }
    }
}

fn lease(table: &Table<'_>) -> u32 {
    let allowed = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
    let lease = table.get("lease");
    let profile = table.get("profile").and_then(|value| profile(&value));
    if let (Some(value), Some(_)) = (&lease, &profile) {
        value.complain("says the same as profile; leave one of them out");
    }
    lease
        .and_then(|value| value.ms(allowed(LEASE_MIN.as_ms())..=allowed(LEASE_MAX.as_ms()), "350ms"))
        .or(profile)
        .unwrap_or(PROFILES[0].1)
}

fn profile(value: &Value<'_>) -> Option<u32> {
    let text = value.text()?;
    let known = PROFILES.iter().find(|(name, _)| *name == text).map(|(_, ms)| *ms);
    if known.is_none() {
        value.complain(format!(
            "{text:?} is no profile; write \"default\" (350 ms), \"lan\" (80 ms), or lease = \"500ms\" instead"
        ));
    }
    known
}

fn holding(table: Table<'_>) -> HoldingText {
    let mut holding = HoldingText::default();
    if let Some(title) = table.get("title").and_then(|value| value.text()) {
        holding.title = title.into();
    }
    if let Some(message) = table.get("message").and_then(|value| value.text()) {
        holding.message = message.into();
    }
    if let Some(value) = table.get("retry_after")
        && let Some(ms) = value.ms(1_000..=86_400_000, "2m")
    {
        holding.retry_after_s = ms / 1_000;
        if ms % 1_000 != 0 {
            value.complain("Retry-After counts whole seconds; write for example \"2m\"");
        }
    }
    table.finish();
    holding
}
