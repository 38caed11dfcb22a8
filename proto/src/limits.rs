//! Every bound in one place: what a peer, an operator or a disk can make this node hold, send or wait for.

use crate::time::Span;

/// Nodes in one roster.
pub const NODES_MAX: usize = 32;
/// How far above the highest id so far a new node's may be, so that nobody can use them all up.
pub const NODE_ID_JUMP_MAX: u64 = 1_000;
/// The highest serial number of an order: far above every clock, and far below the end of numbers.
pub const SERIAL_MAX: u64 = 1 << 62;
/// Keys of removed nodes that the roster remembers, to refuse them for ever.
pub const FORMER_KEYS_MAX: usize = 256;
/// Nodes that vote.
pub const VOTERS_MAX: usize = 9;
/// Grants of one election: while one set of voters replaces another, both vote.
pub const GRANTS_MAX: usize = 2 * VOTERS_MAX;
/// Bytes of one grant.
pub const GRANT_BYTES_MAX: usize = 80;
/// No mesh ever comes to this term; it keeps arithmetic on terms far from its end.
pub const TERM_MAX: u64 = u64::MAX / 4;
/// Operators of one mesh.
pub const OPERATORS_MAX: usize = 32;
/// Services of one site.
pub const SERVICES_MAX: usize = 32;
/// Endpoints of one site.
pub const ENDPOINTS_MAX: usize = 16;
/// Addresses under which one node may be reached.
pub const ADDRESSES_MAX: usize = 8;
/// Versions of the site that are kept for `site history` and `site rollback`.
pub const SITE_HISTORY_MAX: usize = 16;
/// Complaints about one site that an order's outcome tells.
pub const COMPLAINTS_MAX: usize = 64;
/// Incidents that the replicated state keeps; the oldest closed one goes first.
pub const INCIDENTS_MAX: usize = 256;
/// Lines in one incident.
pub const INCIDENT_LINES_MAX: usize = 32;

/// Ended fence commands in one report.
pub const FENCED_TOLD_MAX: usize = 2;
/// Grounds of one testimony.
pub const GROUNDS_MAX: usize = 9;
/// Bytes of one testimony; signed, it has to fit a datagram.
pub const TESTIMONY_BYTES_MAX: usize = LEASE_FRAME_BYTES_MAX - 200;
/// Testimonies of one session that a node verifies in a second: each costs a signature.
pub const TESTIMONIES_PER_SECOND_MAX: u32 = 40;

/// Bytes of a name (node, service, endpoint).
pub const NAME_BYTES_MAX: usize = 40;
/// Bytes of a free text (a reason, an incident's line).
pub const TEXT_BYTES_MAX: usize = 300;
/// Bytes of a command line in the site or the configuration.
pub const COMMAND_BYTES_MAX: usize = 1_000;

/// How often a check may run, in milliseconds: more often would cost more than it tells.
pub const CHECK_EVERY_MS_MIN: u32 = 20;
/// How seldom a check may run, in milliseconds.
pub const CHECK_EVERY_MS_MAX: u32 = 60_000;
/// The shortest time in which a check may be expected to answer, in milliseconds.
pub const CHECK_TIMEOUT_MS_MIN: u32 = 10;
/// The longest time that a check may take, in milliseconds.
pub const CHECK_TIMEOUT_MS_MAX: u32 = 60_000;
/// Successes or failures in a row that a service may ask for before its state changes.
pub const CHECK_STREAK_MAX: u8 = 20;
/// Bytes of the path of an http check.
pub const CHECK_PATH_BYTES_MAX: usize = 1_000;
/// Bytes of the host name of an http check (RFC 1035).
pub const CHECK_HOST_BYTES_MAX: usize = 253;
/// Arguments of a command, the program among them.
pub const COMMAND_WORDS_MAX: usize = 64;
/// Bytes of the name of a systemd unit (`systemd.unit(5)`).
pub const UNIT_BYTES_MAX: usize = 255;
/// How long an endpoint may wait for a restart before it is given away, in milliseconds.
pub const PATIENCE_MS_MAX: u32 = 60_000;
/// The shortest time between two restarts of a service, in milliseconds.
pub const BACKOFF_MS_MIN: u32 = 100;
/// The longest time between two restarts of a service, in milliseconds.
pub const BACKOFF_MS_MAX: u32 = 3_600_000;
/// A service that was healthy for this long has earned a quick restart again.
pub const STABLE_AFTER: Span = Span::from_ms(60_000);

/// Bytes of one replicated command.
pub const COMMAND_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one report.
pub const REPORT_FRAME_BYTES_MAX: usize = 24 * 1024;
/// Bytes of one lease message; it has to fit a datagram.
pub const LEASE_FRAME_BYTES_MAX: usize = 1_000;
/// Bytes of one Raft message other than a snapshot.
pub const RAFT_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one admin request or answer; a status holds the whole state.
pub const ADMIN_FRAME_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX + 256 * 1024;
/// Bytes of a snapshot: the history of the site and the incidents at their limits fit.
pub const SNAPSHOT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of one frame on the Raft plane: a snapshot and what says that it is consensus.
pub const RAFT_PLANE_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX + 1;

/// How far the rates of two nodes' clocks may differ from true time, in parts per million (1 %).
pub const CLOCK_DRIFT_PPM: u64 = 10_000;
/// The longest lease that any site may ask for. A restarted voter stays silent for this long (DESIGN P7).
pub const LEASE_MAX: Span = Span::from_ms(3_000);
/// The shortest lease that any site may ask for.
pub const LEASE_MIN: Span = Span::from_ms(60);
/// The most that a gate may need to close after the lease ran out (address lifetimes count in seconds).
pub const GATE_SLACK_MAX: Span = Span::from_ms(2_500);
/// The time between an old lease's end and a new holder's first announcement, for frames under way.
pub const HANDOVER_GUARD: Span = Span::from_ms(20);
/// How far a term may jump without an election certificate.
pub const TERM_JUMP_MAX: u64 = 64;
/// Commands that a leader proposes at once.
pub const PROPOSALS_MAX: usize = 8;
/// For how long a successor has to be unable before another one is put in its place.
pub const REORDER_AFTER: Span = Span::from_ms(3_000);
/// How long something has to last before an incident is opened for it.
pub const NOTE_AFTER: Span = Span::from_ms(2_000);
/// How often a node reports when nothing changes.
pub const REPORT_EVERY: Span = Span::from_ms(500);
/// The least time between two reports.
pub const REPORT_GAP_MIN: Span = Span::from_ms(20);
/// How long a sign of life counts.
pub const PATIENCE: Span = Span::from_ms(1_600);
/// How often a node asks again what the others remember of it.
pub const RECALL_EVERY: Span = Span::from_ms(200);
/// How often a leader looks at everything when nothing seems to change.
pub const DUTIES_EVERY: Span = Span::from_ms(500);
/// The least time between two such looks.
pub const DUTIES_GAP_MIN: Span = Span::from_ms(10);
/// How long a leader waits after a proposal that failed.
pub const RETRY_AFTER: Span = Span::from_ms(300);
/// By how much a timer may be late before a node calls itself stalled.
pub const STALL_MIN: Span = Span::from_ms(200);
/// How many entries a node may lack and still count as caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 1_000;
