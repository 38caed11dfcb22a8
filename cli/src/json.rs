//! What `--json` prints: one document per command, in a shape that stays.
//!
//! Every document has `schema` (this is version 1) and `kind`. Fields are only ever added within a schema
//! version; what is unknown is `null`, never left out. Times end in `_ms` (milliseconds, a duration), `_us`
//! (microseconds) or `_unix_ms` (milliseconds since 1970); nodes are called by name. The same values are rendered for people.
//!
//! A failed command prints [`Failed`] on standard output; the exit code says the same as without `--json`.

mod cases;
mod doctor;
mod traffic;

pub use cases::{Accused, Cases, CutOff, Evidence, Fence, Testimony, Witness};
pub use doctor::{Checkup, Doctor, Part};
pub use traffic::{
    DetectorSays, InboundFlood, Incoming, OutboundFlood, Outgoing, Syn, TopDestination, Traffic,
};

use serde::Serialize;
use serde_json::Value;

/// The version of these shapes.
pub const SCHEMA: u32 = 1;

/// A document of one kind.
pub trait Document: Serialize {
    /// The word in its `kind`.
    const KIND: &'static str;

    /// The document as JSON, with `schema` and `kind` in it.
    fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("schema".into(), SCHEMA.into());
            fields.insert("kind".into(), Self::KIND.into());
        }
        value
    }
}

macro_rules! documents {
    ($($type:ident = $kind:literal),* $(,)?) => {
        $(impl Document for $type { const KIND: &'static str = $kind; })*
    };
}

documents! {
    Mesh = "status", Nodes = "nodes", Endpoints = "endpoints", Services = "services", Incidents = "incidents",
    Incident = "incident", Why = "why", Syn = "syn", Doctor = "doctor", Cases = "cases", Evidence = "evidence", Done = "done", Checked = "check", SiteVersion = "site",
    SiteHistory = "site-history", Made = "init", Admitted = "admitted", Change = "change", Failed = "error",
}

/// `status`: the mesh as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mesh {
    /// The mesh's identity, 64 hexadecimal digits.
    pub cluster: Option<String>,
    /// `ok`, `degraded`, or `no-quorum`.
    pub health: Health,
    /// How many voters there are.
    pub voters: usize,
    /// How many of them make a majority.
    pub majority: usize,
    /// How many voters' answers agree.
    pub agreeing: usize,
    /// The leader that a majority follows.
    pub leader: Option<String>,
    /// Its term.
    pub term: Option<u64>,
    /// The newest version of the site.
    pub site_version: Option<u64>,
    /// The log entry up to which the shown state goes.
    pub applied: Option<u64>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The services.
    pub services: Vec<Service>,
    /// The open incidents, the newest first.
    pub incidents: Vec<Incident>,
    /// What is wrong and what to do about it, the most urgent first.
    pub advice: Vec<String>,
}

/// The mesh in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Everybody agrees and everything is served.
    Ok,
    /// A majority agrees, but something is wrong.
    Degraded,
    /// No majority agrees: nothing can be changed.
    NoQuorum,
}

/// `nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nodes {
    /// The nodes, by id.
    pub nodes: Vec<Node>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What people call it.
    pub name: String,
    /// Its number in the roster.
    pub id: u64,
    /// `voter`, `learner` or `witness`, as the operator made it; `null` if no roster is known.
    pub role: Option<&'static str>,
    /// Whether it votes at present.
    pub votes: bool,
    /// Whether an operator drained it.
    pub drained: bool,
    /// Until when it is on probation, in milliseconds since 1970; `null` if it is not.
    pub probation_until_unix_ms: Option<u64>,
    /// On whose word it was cut off, if it was.
    pub cut_off: Option<CutOff>,
    /// `agrees`, `behind`, `differs` or `silent`.
    pub opinion: &'static str,
    /// In which points it differs, or why it is silent.
    pub details: Vec<String>,
    /// The node that passed its answer on, if it was not reached directly.
    pub via: Option<String>,
    /// What the others together make of it: `up`, `cut` (some reach it) or `lost`.
    pub liveness: Option<&'static str>,
    /// For how long they have.
    pub liveness_since_ms: Option<u64>,
    /// Whether it leads.
    pub leads: bool,
    /// Whom it follows.
    pub follows: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
    /// For how long its agent has been running.
    pub uptime_ms: Option<u64>,
    /// The log entry up to which it has applied.
    pub applied: Option<u64>,
    /// The endpoints that it serves.
    pub serves: Vec<String>,
    /// What keeps it from taking part.
    pub waiting: Option<String>,
    /// What it says is wrong with it.
    pub unwell: Vec<String>,
    /// Whom it hears, by id.
    pub reach: Vec<Reach>,
    /// Why its peers refuse its connections at present, and what to do about it.
    pub refused: Option<String>,
    /// What its connections came to, since its agent was started.
    pub transport: Option<Transport>,
    /// How its kernel ends a lease: the rung of the ladder.
    pub gate: Option<String>,
    /// What it cannot do, and what that costs.
    pub shortfalls: Vec<String>,
    /// The SSH host key that the mesh knows it by, as `ssh-keygen -l` writes it.
    pub host_key: Option<String>,
    /// Other host keys that other nodes saw there lately.
    pub other_host_keys: Vec<String>,
    /// Where it may be found.
    pub addresses: Vec<String>,
    /// Its public key, 64 hexadecimal digits.
    pub key: Option<String>,
}

/// How one node hears another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Which other node.
    pub node: String,
    /// How long ago it heard it.
    pub heard_ms_ago: u32,
    /// The round-trip time, in microseconds; `null` if it is not known.
    pub rtt_us: Option<u32>,
}

/// What a node's connections came to: counters that begin anew with its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transport {
    /// Handshakes that it refused; strangers who knock are among them.
    pub refused: Refusals,
    /// Its own handshakes that other nodes refused.
    pub refused_by_peers: Refusals,
    /// Connections that it closed because their key was not in the roster any more.
    pub evicted: u64,
    /// Connections that it closed because the same peer had a better one.
    pub duplicates: u64,
    /// Connections that it closed because calls on them timed out.
    pub stale: u64,
    /// Lease messages that were dropped because too many waited.
    pub datagrams_dropped: u64,
    /// Messages that were longer than allowed.
    pub oversize: u64,
    /// Reports that were replaced by a newer one before they were sent.
    pub reports_dropped: u64,
    /// Messages that were refused because too many waited.
    pub busy: u64,
    /// Its own requests to peers that timed out.
    pub calls_timed_out: u64,
}

/// Refused handshakes, per cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// A key that was never in the roster.
    pub unknown_key: u64,
    /// A key that is not in the roster any more.
    pub evicted_key: u64,
    /// Another node than the one that was looked for.
    pub wrong_node: u64,
    /// Another mesh.
    pub wrong_mesh: u64,
    /// Another protocol version, or a part of it that is not for this peer.
    pub wrong_plane: u64,
    /// Anything else.
    pub malformed: u64,
    /// Too many at once.
    pub crowded: u64,
}

/// `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The endpoints, by name.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// What the site calls it.
    pub name: String,
    /// The public address.
    pub address: String,
    /// The ports that visitors use.
    pub ports: Vec<u16>,
    /// `vip` or `exec`.
    pub driver: &'static str,
    /// The services that have to be healthy on its holder.
    pub services: Vec<String>,
    /// How long a holder may serve without renewing.
    pub lease_ms: u32,
    /// `served`, `holding-page`, `contested`, `unsure` or `vacant`.
    pub state: &'static str,
    /// Who holds it.
    pub holder: Option<String>,
    /// Under which epoch: `plan.rank`.
    pub epoch: Option<String>,
    /// How many voters have promised it to the holder.
    pub promises: usize,
    /// How many voters there are.
    pub voters: usize,
    /// Who says that it serves it; more than one is an emergency.
    pub serving: Vec<String>,
    /// The nodes of the plan, the wanted holder first.
    pub plan: Vec<String>,
    /// Who would serve it if its holder fell silent now; nothing if nobody could.
    pub next: Option<String>,
    /// What its drivers complain of, by node.
    pub troubles: Vec<Trouble>,
}

/// A complaint of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Whose.
    pub node: String,
    /// What.
    pub text: String,
}

/// `services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Services {
    /// The services, by name.
    pub services: Vec<Service>,
}

/// One service on all nodes that may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// What the site calls it.
    pub name: String,
    /// How it is probed, in words.
    pub check: String,
    /// How it is brought back, in words.
    pub restart: Option<String>,
    /// The endpoints that need it.
    pub endpoints: Vec<String>,
    /// How it is, by node.
    pub nodes: Vec<ServiceAt>,
}

/// A service on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceAt {
    /// Where.
    pub node: String,
    /// `healthy`, `ailing`, `down` or `unknown`.
    pub state: &'static str,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// How old this news is, if the node did not answer itself.
    pub age_ms: Option<u64>,
}

/// `incidents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incidents {
    /// The newest first.
    pub incidents: Vec<Incident>,
}

/// `incidents ID`: one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// Its number.
    pub id: u64,
    /// `move`, `vacant`, `node-lost`, `service-down`, `node-unwell`, `voters` or `order-refused`.
    pub matter: &'static str,
    /// The same in words, with names.
    pub title: String,
    /// Whether it goes on.
    pub open: bool,
    /// When it was opened.
    pub opened_unix_ms: u64,
    /// When it ended.
    pub closed_unix_ms: Option<u64>,
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// How many lines did not fit any more.
    pub lines_dropped: u32,
}

/// One line of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When; 0 if that was not recorded.
    pub unix_ms: u64,
    /// What.
    pub text: String,
}

/// `why ENDPOINT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The endpoint as it is.
    pub endpoint: Endpoint,
    /// Since when its holder has it, if a move is on record.
    pub since_unix_ms: Option<u64>,
    /// The log entry of its plan.
    pub plan_index: Option<u64>,
    /// Its last moves, the newest first.
    pub moves: Vec<Incident>,
    /// Every node, in the order of succession, and whether it would be next.
    pub candidates: Vec<Candidate>,
    /// To whom each voter has promised the endpoint.
    pub promises: Vec<Promise>,
    /// What to do, if something is wrong.
    pub advice: Vec<String>,
}

/// What speaks for or against a node as the next holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Which node.
    pub node: String,
    /// `holds`, `next`, `able` (after the next) or `unable`.
    pub verdict: &'static str,
    /// Why.
    pub reasons: Vec<String>,
}

/// A voter's promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Whose.
    pub voter: String,
    /// To whom; `null` if to nobody or unknown.
    pub to: Option<String>,
    /// Under which epoch.
    pub epoch: Option<String>,
    /// Whether the voter answered.
    pub known: bool,
}

/// `move`, `drain`, `undrain`, `role`, `remove`, `apply`, `site rollback`: what was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The word of the order.
    pub act: String,
    /// The same in a sentence.
    pub text: String,
    /// The log entry; `null` if it was found to be committed after the answer had got lost.
    pub index: Option<u64>,
    /// The new version of the site, if there is one.
    pub site_version: Option<u64>,
    /// How long it took until it was committed.
    pub took_ms: u64,
    /// Whether the mesh has carried it out already, where that can be seen.
    pub carried_out: Option<bool>,
}

/// `apply --check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The newest version of the site; `null` if no node answered.
    pub newest: Option<u64>,
    /// Whether applying the file would change anything; `null` if no node answered.
    pub changes: Option<bool>,
    /// The difference to it, as a unified diff.
    pub diff: String,
}

/// `site show`: one version of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteVersion {
    /// Its number.
    pub version: u64,
    /// Whether it is the newest.
    pub newest: bool,
    /// Who signed it.
    pub by: String,
    /// When; `null` for the first one.
    pub unix_ms: Option<u64>,
    /// The file as it was applied, or as it would be written, if it never was a file of its own.
    pub text: String,
}

/// `site history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteHistory {
    /// The newest first.
    pub versions: Vec<SiteVersion>,
}

/// `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The new mesh, 64 hexadecimal digits.
    pub cluster: String,
    /// The directory of each node.
    pub nodes: Vec<MadeNode>,
    /// The operator's context file.
    pub context: String,
}

/// A node of a new mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MadeNode {
    /// What people call it.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Where the others find it: `host:port`.
    pub address: String,
    /// Its directory.
    pub directory: String,
}

/// `admit`: a node that belongs to the mesh now, and what its server needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admitted {
    /// What people call it.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// What it is there for.
    pub role: String,
    /// Where the others find it: `host:port`.
    pub address: String,
    /// Its public key, 64 hexadecimal digits.
    pub key: String,
    /// Where its files are; `null` if none were wanted.
    pub directory: Option<String>,
    /// Whether its secret key is among them.
    pub has_secret: bool,
    /// The log entry; `null` if it had been admitted before.
    pub index: Option<u64>,
    /// For how long it has to be up and caught up before it votes; `null` if it is not to vote.
    pub promote_after_ms: Option<u64>,
    /// Until when it is on probation, in milliseconds since 1970; `null` if it is not.
    pub probation_until_unix_ms: Option<u64>,
}

/// `watch`: one thing that changed, one document a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When it was noticed, by this machine's clock.
    pub unix_ms: u64,
    /// What: `endpoint.www.holder`, `node.a.opinion`, `service.web.a`, `incident.17`, `mesh.leader` …
    pub fact: String,
    /// What it was; `null` if it is new.
    pub from: Option<String>,
    /// What it is; `null` if it is gone.
    pub to: Option<String>,
}

/// Any command that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// What went wrong and what to do.
    pub error: String,
    /// The exit code.
    pub exit_code: u8,
    /// What is wrong with files, if that is it.
    pub problems: Vec<FileProblem>,
}

/// One problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to write.
    pub text: String,
}
