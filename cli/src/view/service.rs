//! One service on all nodes that may serve.

use crate::agreement::Agreement;
use crate::json::{Service, ServiceAt};
use stead_proto::id::Name;
use stead_proto::limits::PATIENCE;
use stead_proto::report::ServiceSeen;
use stead_proto::roster::Member;
use stead_proto::service::{self, Check, RestartHow};

pub(super) fn service(agreement: &Agreement<'_>, service: &service::Service) -> Service {
    let state = agreement.state();
    let members = state.into_iter().flat_map(|state| state.members.values()).filter(|m| m.role.serves());
    let endpoints = state.into_iter().flat_map(|state| &state.site.endpoints);
    let needing = endpoints.filter(|(_, spec)| spec.services.contains(&service.name));
    Service {
        name: service.name.to_string(),
        check: match &service.check {
            Check::Http { port, path, .. } => format!("http :{port}{path}"),
            Check::Tcp { port } => format!("tcp :{port}"),
            Check::Exec { command } => format!("exec {}", command.join(" ")),
        },
        restart: service.restart.as_ref().map(|restart| match &restart.how {
            RestartHow::Unit(unit) => format!("unit {unit}"),
            RestartHow::Command(command) => format!("command {}", command.join(" ")),
        }),
        endpoints: needing.map(|(name, _)| name.to_string()).collect(),
        nodes: members.map(|member| at(agreement, member, &service.name)).collect(),
    }
}

fn at(agreement: &Agreement<'_>, member: &Member, service: &Name) -> ServiceAt {
    let report = agreement.report_of(member.id);
    let seen = report.and_then(|(_, report)| report.services.iter().find(|(name, _)| name == service));
    let (state, reason) = match seen.map(|(_, seen)| seen) {
        Some(ServiceSeen::Healthy) => ("healthy", None),
        Some(ServiceSeen::Ailing(why)) => ("ailing", Some(why.clone())),
        Some(ServiceSeen::Down(why)) => ("down", Some(why.clone())),
        Some(ServiceSeen::Unknown) => ("unknown", Some("not probed long enough yet".into())),
        None if report.is_some() => ("unknown", Some("its node does not report on it".into())),
        None => ("unknown", Some("its node does not answer".into())),
    };
    let age_ms = report.map(|(age, _)| age).filter(|age| *age > 0);
    // Old news say how it was, not how it is.
    let (state, reason) = match age_ms {
        Some(age) if age > PATIENCE.as_ms() => {
            ("unknown", Some(format!("its node is silent; it was {state}")))
        }
        Some(_) | None => (state, reason),
    };
    ServiceAt { node: member.name.to_string(), state, reason, age_ms }
}
