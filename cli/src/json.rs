//! What `--json` prints: one document per command, in a shape that stays.
//!
//! Every document has `schema` (this is version 1) and `kind`. Fields are only ever added within a schema
//! version; what is unknown is `null`, never left out. Times end in `_ms` (milliseconds, a duration), `_us`
//! (microseconds) or `_unix_ms` (milliseconds since 1970); nodes are called by name. The same values are rendered for people.
//!
//! A failed command prints [`Failed`] on standard output; the exit code says the same as without `--json`.

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
    Incident = "incident", Why = "why", Syn = "syn", Doctor = "doctor", Done = "done", Checked = "check", SiteVersion = "site",
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

/// `syn`: the SYNs of every node; a SYN opens a connection. With `--watch`, one document a line, as often as
/// everybody was asked: twice a second, less often while a node is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Syn {
    /// The nodes, by id.
    pub nodes: Vec<Traffic>,
}

/// One node's traffic, as it says itself. All rates are per second, over the last second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// What people call it.
    pub node: String,
    /// `agrees`, `behind`, `differs` or `silent`.
    pub opinion: &'static str,
    /// In which points it differs, or why it is silent.
    pub details: Vec<String>,
    /// How old this is, if the node did not answer itself: from the report that another one has of it. `null` if it
    /// answered, or if nothing is known.
    pub age_ms: Option<u64>,
    /// What it does with its own new connections: `free` (up to the ceiling), `throttled` (down to the limit and
    /// the allow-list), `no-limit` (its kernel has none), `unknown`.
    pub posture: &'static str,
    /// What goes out; `null` if nothing is known.
    pub out: Option<Outgoing>,
    /// What comes in; `null` if nothing is known.
    pub inbound: Option<Incoming>,
    /// The detectors that are not calm, by their codes.
    pub detectors: Vec<DetectorSays>,
    /// What was done to its sensors or rules within the last minute.
    pub meddled: Option<String>,
    /// The flood that leaves it, or did within the last minute.
    pub flood: Option<OutboundFlood>,
    /// The flood that arrives at it, or did within the last minute.
    pub attack: Option<InboundFlood>,
}

/// SYNs that go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outgoing {
    /// Sent by programs of the node, or forwarded by it, whether they left or not.
    pub syn: u32,
    /// Of these, cut off in its kernel.
    pub cut: u32,
    /// Of those that were not cut, made by hand: from raw or packet sockets.
    pub forged: u32,
    /// Of those that were not cut, without an answer.
    pub unanswered: u32,
    /// To how many addresses, estimated.
    pub destinations: u32,
    /// The address to which most of them went; `null` if there is none.
    pub top: Option<TopDestination>,
}

/// The most frequent destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopDestination {
    /// Its address.
    pub address: String,
    /// Its share, in thousandths.
    pub share_per_mille: u16,
}

/// SYNs that come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incoming {
    /// All of them.
    pub syn: u32,
    /// Of these, those that met a full queue.
    pub queue_full: u32,
    /// What its alarm says: `quiet`, `under-attack`, or `blind`.
    pub alarm: &'static str,
    /// Whether a SYN proxy stands in front of its endpoints.
    pub shielded: bool,
}

/// What a detector says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DetectorSays {
    /// Which: `D1` to `D8`, and `D4-slow`.
    pub code: &'static str,
    /// `suspect` (reason to throttle the node), `convict` (proof that it is hostile) or `blind` (it lacks its input).
    pub level: &'static str,
    /// Whether it saw before, and lost its input.
    pub lost: bool,
    /// What it finds, or would find if it saw, in words.
    pub finds: &'static str,
}

/// A flood that leaves a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutboundFlood {
    /// When it began, by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended; `null` if it goes on.
    pub ended_unix_ms: Option<u64>,
    /// Whether a detector proved it; else it is suspected.
    pub proven: bool,
    /// The codes of all detectors that spoke, in that order.
    pub detectors: Vec<&'static str>,
    /// The highest rate, per second.
    pub peak: u32,
    /// SYNs in all, those of honest programs of the same time among them.
    pub sent: u64,
    /// How many of them left the host.
    pub escaped: u64,
    /// Whom it goes to, as far as that stands out.
    pub targets: Vec<String>,
    /// The programs that had a raw or packet socket open meanwhile.
    pub programs: Vec<String>,
}

/// A flood that arrives at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundFlood {
    /// When it began, by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended; `null` if it goes on.
    pub ended_unix_ms: Option<u64>,
    /// The highest rate, per second.
    pub peak: u32,
    /// SYNs in all, those of visitors among them.
    pub received: u64,
    /// Of these, those that met a full queue.
    pub queue_full: u64,
}

/// `doctor`: what every node's machine lets it do, and what else is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// Whether all parts stand on their best rung, everybody answered, and there is nothing to do.
    pub sound: bool,
    /// The nodes, by id; only one if one was asked for.
    pub nodes: Vec<Checkup>,
    /// What to do, the most urgent first.
    pub todo: Vec<String>,
}

/// One node's parts, and what else is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// What people call it.
    pub node: String,
    /// `agrees`, `behind`, `differs` or `silent`.
    pub opinion: &'static str,
    /// Its parts; none if it did not answer.
    pub parts: Vec<Part>,
    /// What else is wrong with it, in sentences.
    pub wrong: Vec<String>,
}

/// A part of an agent that does what its machine allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which: `lease gate`, `SYN limit`, …
    pub part: String,
    /// The rung of its ladder on which it stands; `none` if it has none.
    pub rung: String,
    /// Whether that is the best there is.
    pub best: bool,
    /// What it therefore cannot see or do; `null` if nothing.
    pub cost: Option<String>,
    /// Why it stands no higher, and what would help; `null` if nothing would.
    pub remedy: Option<String>,
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
