//! Samples of the site: services with every kind of check and restart, endpoints with every driver, the charter.

use std::collections::{BTreeMap, BTreeSet};

use stead_proto::fence::{FencePolicy, Fenced, Fencing};
use stead_proto::id::NodeId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::outside::Watch;
use stead_proto::service::{Check, Restart, RestartHow, Service, StatusRange};
use stead_proto::site::{Charter, Complaint, Driver, EndpointSpec, HoldingText, Site};

use crate::parts::{UNIX_MS, name};
use crate::sample::{Samples, every};
use crate::traffic;

fn checks() -> [(&'static str, Check); 3] {
    every!(Check:
        Http {
            port: 8_080,
            path: "/health?deep=1".into(),
            host: Some("www.example.org".into()),
            expect: StatusRange { from: 200, to: 299 },
        };
        Tcp { port: 5_432 };
        Exec { command: vec!["/usr/bin/pg_isready".into(), "-q".into()] };
    )
}

fn restarts() -> [(&'static str, RestartHow); 2] {
    every!(RestartHow:
        Unit("nginx.service".into());
        Command(vec!["/usr/local/bin/restart-db".into(), "--now".into()]);
    )
}

fn drivers() -> [(&'static str, Driver); 2] {
    every!(Driver:
        Vip;
        Exec(vec!["/usr/local/bin/move".into(), "dns".into()]);
    )
}

fn restart(how: RestartHow) -> Restart {
    Restart { how, patience_ms: 150, backoff_ms_min: 1_000, backoff_ms_max: 300_000 }
}

/// One with each check, in turn with a unit, a command and nothing to restart it.
fn services() -> Vec<Service> {
    let mut hows = restarts().into_iter().map(|(_, how)| restart(how));
    let service = |(kind, check): (&str, Check)| {
        let mut service = Service::new(name(&kind.to_lowercase()), check);
        service.restart = hows.next();
        service
    };
    checks().into_iter().map(service).collect()
}

/// One with each driver, the first with an IPv4 address, the others with IPv6 addresses.
fn endpoints() -> Vec<EndpointSpec> {
    let spec = |(place, (_, driver)): (usize, (&str, Driver))| EndpointSpec {
        address: if place == 0 { "192.0.2.10" } else { "2001:db8::10" }.parse().unwrap(),
        ports: vec![80, 443],
        services: BTreeSet::from([name("http"), name("tcp")]),
        driver,
        lease_ms: 350,
        prefer: vec![name("berlin-3"), name("berlin-1")],
        holding: HoldingText {
            title: "Gleich zurück".into(),
            message: "Nothing is lost.".into(),
            retry_after_s: 120,
        },
    };
    drivers().into_iter().enumerate().map(spec).collect()
}

fn charter() -> Charter {
    Charter { demote_after_ms: 600_000, promote_after_ms: 30_000, voters_min: 3, pair: true, isolate: true }
}

fn fence() -> FencePolicy {
    FencePolicy {
        command: vec!["/usr/local/bin/fence".into(), "now".into()],
        nodes_max: 2,
        until_unix_ms: UNIX_MS,
    }
}

pub(crate) const fn fenced() -> Fenced {
    Fenced { node: NodeId(300), epoch: 70_000, failed: None }
}

pub(crate) fn fencing() -> Fencing {
    let failed = Fenced { failed: Some("status 3".into()), ..fenced() };
    Fencing { attempt: 2, epoch: 70_000, by: NodeId(3), since_unix_ms: UNIX_MS, outcome: Some(failed) }
}

const fn watch() -> Watch {
    Watch { ssh_port: 2_222 }
}

/// One that can be served.
pub(crate) fn site() -> Site {
    Site {
        services: services().into_iter().map(|service| (service.name.clone(), service)).collect(),
        endpoints: BTreeMap::from_iter([name("www"), name("dns")].into_iter().zip(endpoints())),
        charter: charter(),
        guard: traffic::policy(),
        watch: watch(),
        fence: Some(fence()),
    }
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = COMMAND_FRAME_BYTES_MAX;
    samples.add_all("service::Check", checks(), limit);
    samples.add("service::StatusRange", StatusRange { from: 200, to: 399 }, limit);
    samples.add_all("service::RestartHow", restarts(), limit);
    for (how, value) in restarts() {
        samples.add(&format!("service::Restart::{how}"), restart(value), limit);
    }
    for service in services() {
        samples.add(&format!("service::Service::{}", service.name), service, limit);
    }
    samples.add_all("site::Driver", drivers(), limit);
    for ((driver, _), spec) in drivers().into_iter().zip(endpoints()) {
        samples.add(&format!("site::EndpointSpec::{driver}"), spec, limit);
    }
    samples.add("site::HoldingText", HoldingText::default(), limit);
    samples.add("site::Charter", charter(), limit);
    samples.add(
        "site::Complaint",
        Complaint { key: "endpoint.www.lease".into(), text: "5 ms".into() },
        limit,
    );
    samples.add("outside::Watch", watch(), limit);
    samples.add("fence::FencePolicy", fence(), limit);
    samples.add("fence::Fencing", fencing(), limit);
    samples.add("fence::Fenced", fenced(), limit);
    samples.add("site::Site", site(), limit);
    samples.add("site::Site::empty", Site::default(), limit);
}
