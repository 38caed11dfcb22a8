//! Samples of what goes into the log and what comes of it: orders, commands, outcomes, incidents.

use stead_proto::command::{Command, Ground, Outcome, Refusal};
use stead_proto::id::NodeId;
use stead_proto::incident::{Incident, Incidents, Line, Matter};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use stead_proto::order::{Act, Order};
use stead_proto::outside::HostKey;
use stead_proto::roster::Role;
use stead_proto::sign::{Signed, Statement};

use crate::parts::{self, CLUSTER, UNIX_MS, key, made_of, member, name, public, seats};
use crate::sample::{Samples, every};
use crate::{reports, sites, tribunal};

fn acts() -> [(&'static str, Act); 10] {
    every!(Act:
        Apply { base: 1, site: Box::new(sites::site()), text: "[service.http]\nport = 8080\n".into() };
        Rollback { base: 300, to: 2 };
        Move { endpoint: name("www"), to: NodeId(300) };
        Drain { node: NodeId(300), drained: true };
        Admit(Box::new(member()));
        Readmit { old: NodeId(300), member: Box::new(parts::proving()) };
        SetRole { node: NodeId(300), role: Role::Witness };
        Remove(NodeId(300));
        Isolate { node: NodeId(300), reason: "it mines coins".into() };
        AcceptHostKey { node: NodeId(300), key: HostKey([8; 32]) };
    )
}

fn order(act: Act) -> Order {
    Order { serial: 1_794_528_000_000_001, act }
}

fn signed(act: Act) -> Signed<Order> {
    key(99).sign(CLUSTER, &order(act)).unwrap()
}

/// A short one.
pub(crate) fn signed_order() -> Signed<Order> {
    signed(Act::Remove(NodeId(300)))
}

fn matters() -> [(&'static str, Matter); 14] {
    every!(Matter:
        Move(name("www"));
        Vacant(name("www"));
        NodeLost(NodeId(300));
        ServiceDown(NodeId(300), name("http"));
        NodeUnwell(NodeId(300));
        Voters;
        OrderRefused(public(98));
        Roster;
        OutboundFlood(NodeId(300));
        InboundFlood(NodeId(300));
        SensorBlind(NodeId(300));
        Isolated(NodeId(300));
        HostKey(NodeId(300));
        Demoted(NodeId(300));
    )
}

fn grounds() -> [(&'static str, Ground); 3] {
    every!(Ground:
        First;
        Refresh;
        Witnessed { reports: reports::signed(), because: "its holder was lost".into() };
    )
}

fn plan(ground: Ground) -> Command {
    Command::Plan { endpoint: name("www"), parent: 251, seats: seats(), ground, unix_ms: UNIX_MS }
}

fn note(matter: Matter) -> Command {
    Command::Note { matter, text: "nobody reaches it".into(), closes: true, unix_ms: UNIX_MS }
}

fn commands() -> [(&'static str, Command); 10] {
    let [.., (_, change)] = parts::changes();
    every!(Command:
        Order(signed_order());
        Plan {
            endpoint: name("www"),
            parent: 0,
            seats: seats(),
            ground: Ground::First,
            unix_ms: UNIX_MS,
        };
        Voters { change, reports: reports::signed(), reason: "lost for 10 min".into(), unix_ms: UNIX_MS };
        Note { matter: Matter::Voters, text: "two voters".into(), closes: false, unix_ms: UNIX_MS };
        Probe;
        Isolate { certificate: tribunal::certificate(), unix_ms: UNIX_MS };
        Fence { node: NodeId(300), reports: reports::signed(), unix_ms: UNIX_MS };
        Fenced { node: NodeId(300), report: reports::signed().remove(0), unix_ms: UNIX_MS };
        EndProbation { node: NodeId(300), reports: reports::signed(), unix_ms: UNIX_MS };
        HostKey { node: NodeId(300), key: HostKey([8; 32]), reports: reports::signed() };
    )
}

fn refusals() -> [(&'static str, Refusal); 9] {
    every!(Refusal:
        Unreadable;
        Signature;
        UnknownOperator;
        Role { name: name("bob"), has: "viewer".into(), needed: "admin".into() };
        Replayed;
        Stale { base: 1, newest: 300 };
        Site(vec!["endpoint.www.lease: 5 ms".into(), "service.db: twice".into()]);
        Unknown("node #7".into());
        Forbidden("it is the only voter".into());
    )
}

pub(crate) fn refusal() -> Refusal {
    Refusal::Stale { base: 1, newest: 300 }
}

fn outcomes() -> [(&'static str, Outcome); 3] {
    every!(Outcome: Done; Site(300); Refused(refusal());)
}

fn incident(id: u64, matter: Matter) -> Incident {
    let line = |text: &str| Line { unix_ms: UNIX_MS, text: text.into() };
    Incident {
        id,
        matter,
        opened_unix_ms: UNIX_MS,
        closed_unix_ms: id.is_multiple_of(2).then_some(UNIX_MS + 1),
        lines: vec![line("lost"), line("back")],
        lines_dropped: 251,
    }
}

/// One about each matter, every other one closed.
pub(crate) fn incidents() -> Incidents {
    let all = (250_u64..).zip(matters()).map(|(id, (_, matter))| (id, incident(id, matter)));
    made_of(&all.collect::<std::collections::BTreeMap<_, _>>())
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = COMMAND_FRAME_BYTES_MAX;
    samples.add_all("order::Act", acts(), Order::BYTES_MAX);
    samples.add(
        "order::Act::Drain undone",
        Act::Drain { node: NodeId(300), drained: false },
        Order::BYTES_MAX,
    );
    for (word, act) in acts() {
        samples.add(&format!("order::Order::{word}"), order(act.clone()), Order::BYTES_MAX);
        samples.add(&format!("sign::Signed<Order>::{word}"), signed(act), limit);
    }
    samples.add_all("command::Command", commands(), limit);
    for (word, act) in acts() {
        samples.add(&format!("command::Command::Order {word}"), Command::Order(signed(act)), limit);
    }
    for (word, ground) in grounds() {
        samples.add(&format!("command::Command::Plan {word}"), plan(ground), limit);
    }
    for (word, change) in parts::changes() {
        let reports = reports::signed();
        let voters = Command::Voters { change, reports, reason: String::new(), unix_ms: UNIX_MS };
        samples.add(&format!("command::Command::Voters {word}"), voters, limit);
    }
    for (word, matter) in matters() {
        samples.add(&format!("command::Command::Note {word}"), note(matter), limit);
    }
    samples.add_all("command::Ground", grounds(), limit);
    samples.add_all("command::Outcome", outcomes(), limit);
    samples.add_all("command::Refusal", refusals(), limit);
    samples.add_all("incident::Matter", matters(), limit);
    for (id, (word, matter)) in (250..).zip(matters()) {
        samples.add(&format!("incident::Incident::{word}"), incident(id, matter), SNAPSHOT_BYTES_MAX);
    }
    samples.add("incident::Line", Line { unix_ms: UNIX_MS, text: "lost".into() }, SNAPSHOT_BYTES_MAX);
    samples.add("incident::Incidents", incidents(), SNAPSHOT_BYTES_MAX);
}
