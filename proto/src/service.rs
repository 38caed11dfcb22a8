//! What must run on the nodes, how it is probed, and how it is brought back.
//!
//! These are the values that the site carries and the agents act on. Reading them from a file, with its
//! defaults and file names, is done elsewhere; here is what makes them acceptable.
//!
//! **Invariant.** [`Service::validate`] finds nothing in a service that an agent acts on: no value can make
//! a probe unbounded, split an HTTP request, or be taken for an option by `systemctl`.

use crate::id::Name;
use crate::limits::{
    BACKOFF_MS_MAX, BACKOFF_MS_MIN, CHECK_EVERY_MS_MAX, CHECK_EVERY_MS_MIN, CHECK_HOST_BYTES_MAX,
    CHECK_PATH_BYTES_MAX, CHECK_STREAK_MAX, CHECK_TIMEOUT_MS_MAX, CHECK_TIMEOUT_MS_MIN, COMMAND_BYTES_MAX,
    COMMAND_WORDS_MAX, PATIENCE_MS_MAX, UNIT_BYTES_MAX,
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Display;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// How often http and tcp checks run: a dead application is noticed within this time.
pub const EVERY_MS: u32 = 100;
/// How long http and tcp checks wait for an answer.
///
/// A hung application is noticed after at most `every + fall · timeout` = 100 + 2 · 400 = 900 ms, since the
/// probe after a late one starts at once. A false alarm takes two probes in a row, on two fresh connections,
/// that both get no answer in 400 ms: a pause of garbage collection or a full run queue shorter than 800 ms
/// is no failure.
pub const TIMEOUT_MS: u32 = 400;
/// How often exec checks run: each one costs a process.
pub const EXEC_EVERY_MS: u32 = 1_000;
/// How long exec checks may take.
pub const EXEC_TIMEOUT_MS: u32 = 2_000;
/// Successes in a row that make a service healthy.
pub const RISE: u8 = 2;
/// Failures in a row that make a service unhealthy; a refused connection counts twice.
pub const FALL: u8 = 2;
/// How long the endpoint waits for a restart to help before it is given away.
pub const PATIENCE_MS: u32 = 150;
/// The first time between two restarts.
pub const BACKOFF_FIRST_MS: u32 = 1_000;
/// The longest time between two restarts.
pub const BACKOFF_LAST_MS: u32 = 300_000;

/// Something that must run on a node for the site to be served from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What the operator calls it.
    pub name: Name,
    /// How it is probed.
    pub check: Check,
    /// Time from the start of one probe to the start of the next, in milliseconds.
    pub every_ms: u32,
    /// How long one probe may take altogether, in milliseconds.
    pub timeout_ms: u32,
    /// Successes in a row that make it healthy.
    pub rise: u8,
    /// Failures in a row that make it unhealthy; a refused connection counts twice.
    pub fall: u8,
    /// How it is brought back, if the agent is to do that.
    pub restart: Option<Restart>,
}

/// One way to find out whether a service works. Probes go to 127.0.0.1, never to an endpoint's address:
/// the application has to listen there (or on all addresses) on every node, holder or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// `GET path` in clear text; the status decides. TLS is not spoken: probe the application behind it.
    Http {
        /// TCP port on 127.0.0.1.
        port: u16,
        /// Begins with `/`; may hold a query.
        path: String,
        /// The `Host` header; `localhost` when absent.
        host: Option<String>,
        /// The statuses that count as success.
        expect: StatusRange,
    },
    /// A connection is accepted.
    Tcp {
        /// TCP port on 127.0.0.1.
        port: u16,
    },
    /// A command ends with status 0. No shell is involved.
    Exec {
        /// The program's absolute path and its arguments.
        command: Vec<String>,
    },
}

/// HTTP statuses `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

/// How a service is brought back, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// What is done.
    pub how: RestartHow,
    /// How long the endpoint waits for it to help before it is given away, in milliseconds.
    pub patience_ms: u32,
    /// Time between the first two restarts; it doubles from restart to restart.
    pub backoff_ms_min: u32,
    /// The longest time between two restarts.
    pub backoff_ms_max: u32,
}

/// What brings a service back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartHow {
    /// `systemctl restart` of this unit. Prefer it: a unit outlives the agent.
    Unit(String),
    /// This command: either one that restarts the service and ends, or the service itself in the foreground.
    Command(Vec<String>),
}

/// What is wrong with a value, in the words of the file that it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {write}")]
pub struct Problem {
    /// The key, such as `restart.patience_ms`.
    pub key: &'static str,
    /// What to write instead.
    pub write: String,
}

impl Default for StatusRange {
    /// Every answer but an error.
    fn default() -> Self {
        Self { from: 200, to: 399 }
    }
}

impl StatusRange {
    /// Whether `status` counts as success.
    #[must_use]
    pub const fn contains(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }
}

impl Restart {
    /// `how`, with the default patience and back-off.
    #[must_use]
    pub const fn new(how: RestartHow) -> Self {
        Self {
            how,
            patience_ms: PATIENCE_MS,
            backoff_ms_min: BACKOFF_FIRST_MS,
            backoff_ms_max: BACKOFF_LAST_MS,
        }
    }
}

impl Service {
    /// A service with the defaults that suit its check, and no restart.
    #[must_use]
    pub const fn new(name: Name, check: Check) -> Self {
        let (every_ms, timeout_ms) = match check {
            Check::Http { .. } | Check::Tcp { .. } => (EVERY_MS, TIMEOUT_MS),
            Check::Exec { .. } => (EXEC_EVERY_MS, EXEC_TIMEOUT_MS),
        };
        Self { name, check, every_ms, timeout_ms, rise: RISE, fall: FALL, restart: None }
    }

    /// All that is wrong with it; nothing if an agent may act on it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.range("every_ms", self.every_ms, CHECK_EVERY_MS_MIN..=CHECK_EVERY_MS_MAX);
        problems.range("timeout_ms", self.timeout_ms, CHECK_TIMEOUT_MS_MIN..=CHECK_TIMEOUT_MS_MAX);
        problems.range("rise", self.rise, 1..=CHECK_STREAK_MAX);
        problems.range("fall", self.fall, 1..=CHECK_STREAK_MAX);
        self.check.find_problems(&mut problems);
        if let Some(restart) = &self.restart {
            restart.find_problems(&mut problems);
        }
        problems.0
    }
}

impl Check {
    /// A plain HTTP check of `path` on `port` of this machine.
    #[must_use]
    pub fn http(port: u16, path: &str) -> Self {
        Self::Http { port, path: path.into(), host: None, expect: StatusRange::default() }
    }

    fn find_problems(&self, problems: &mut Problems) {
        match self {
            Self::Http { port, path, host, expect } => {
                problems.range("check.port", *port, 1..=u16::MAX);
                let path_ok = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                problems.demand("check.path", path_ok && path.len() <= CHECK_PATH_BYTES_MAX, || {
                    format!(
                        "a path such as \"/health\": it begins with '/', has no blanks or letters outside ASCII \
                         (write them as %XX) and at most {CHECK_PATH_BYTES_MAX} bytes"
                    )
                });
                let host_byte =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
                let host_ok =
                    |h: &String| !h.is_empty() && h.len() <= CHECK_HOST_BYTES_MAX && h.bytes().all(host_byte);
                problems.demand("check.host", host.as_ref().is_none_or(host_ok), || {
                    "a host name such as \"www.example.org\", or leave it out".into()
                });
                let expect_ok = expect.from <= expect.to && expect.from >= 100 && expect.to <= 599;
                problems.demand("check.expect", expect_ok, || {
                    "two statuses from 100 to 599, the lower first, such as 200 and 399".into()
                });
            }
            Self::Tcp { port } => problems.range("check.port", *port, 1..=u16::MAX),
            Self::Exec { command } => problems.command("check.command", command),
        }
    }
}

impl Restart {
    fn find_problems(&self, problems: &mut Problems) {
        match &self.how {
            RestartHow::Unit(unit) => {
                let unit_byte = |b: u8| {
                    b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@')
                };
                let ok = !unit.is_empty()
                    && unit.len() <= UNIT_BYTES_MAX
                    && !unit.starts_with('-')
                    && unit.bytes().all(unit_byte);
                problems.demand("restart.unit", ok, || "a unit's name such as \"nginx.service\"".into());
            }
            RestartHow::Command(command) => problems.command("restart.command", command),
        }
        problems.range("restart.patience_ms", self.patience_ms, 0..=PATIENCE_MS_MAX);
        problems.range("restart.backoff_ms_min", self.backoff_ms_min, BACKOFF_MS_MIN..=BACKOFF_MS_MAX);
        let lowest = self.backoff_ms_min.clamp(BACKOFF_MS_MIN, BACKOFF_MS_MAX);
        problems.range("restart.backoff_ms_max", self.backoff_ms_max, lowest..=BACKOFF_MS_MAX);
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn demand(&mut self, key: &'static str, ok: bool, write: impl FnOnce() -> String) {
        if !ok {
            self.0.push(Problem { key, write: write() });
        }
    }

    fn range<T: PartialOrd + Display>(&mut self, key: &'static str, value: T, allowed: RangeInclusive<T>) {
        self.demand(key, allowed.contains(&value), || {
            format!("a number from {} to {}", allowed.start(), allowed.end())
        });
    }

    fn command(&mut self, key: &'static str, command: &[String]) {
        let bytes: usize = command.iter().map(String::len).sum();
        let ok = command.first().is_some_and(|program| program.starts_with('/'))
            && command.len() <= COMMAND_WORDS_MAX
            && bytes <= COMMAND_BYTES_MAX
            && command.iter().all(|word| !word.contains('\0'));
        self.demand(key, ok, || {
            format!(
                "a list of words such as [\"/usr/bin/pg_isready\", \"-q\"]: first the program with its whole path, \
                 at most {COMMAND_WORDS_MAX} words and {COMMAND_BYTES_MAX} bytes"
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use alloc::vec;

    fn http(path: &str, host: Option<&str>) -> Service {
        let expect = StatusRange::default();
        let check = Check::Http { port: 80, path: path.into(), host: host.map(Into::into), expect };
        Service::new("web".parse().unwrap(), check)
    }

    fn keys(service: &Service) -> Vec<&'static str> {
        service.validate().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_are_acceptable_for_every_kind_of_check() {
        let exec = Check::Exec { command: vec!["/bin/true".into()] };
        for check in [http("/", None).check, Check::Tcp { port: 5432 }, exec] {
            let mut service = Service::new("web".parse().unwrap(), check);
            service.restart = Some(Restart::new(RestartHow::Unit("web@1.service".into())));
            assert_eq!(service.validate(), []);
        }
    }

    #[test]
    fn the_default_timeout_finds_a_hang_within_a_second() {
        assert!(EVERY_MS + u32::from(FALL) * TIMEOUT_MS <= 1_000 - EVERY_MS);
    }

    #[test]
    fn all_problems_are_told_at_once_with_what_to_write() {
        let mut service = http("health", Some("a b"));
        service.every_ms = 1;
        service.fall = 0;
        service.restart = Some(Restart {
            how: RestartHow::Command(vec!["restart-web".into()]),
            patience_ms: 60_001,
            backoff_ms_min: 2_000,
            backoff_ms_max: 1_000,
        });
        let expected = [
            "every_ms",
            "fall",
            "check.path",
            "check.host",
            "restart.command",
            "restart.patience_ms",
            "restart.backoff_ms_max",
        ];
        assert_eq!(keys(&service), expected);
        let last = service.validate().pop().unwrap();
        assert_eq!(last.write, "a number from 2000 to 3600000");
    }

    #[test]
    fn nothing_can_split_a_request_or_pass_for_an_option() {
        for path in ["/a b", "/a\r\nX: y", "/ü", "", "a"] {
            assert_eq!(keys(&http(path, None)), ["check.path"], "{path:?}");
        }
        for host in ["", "a\r\nX: y", "a/b"] {
            assert_eq!(keys(&http("/", Some(host))), ["check.host"], "{host:?}");
        }
        let mut service = http("/", None);
        for unit in ["--force", "a b", "", "a;b"] {
            service.restart = Some(Restart::new(RestartHow::Unit(unit.into())));
            assert_eq!(keys(&service), ["restart.unit"], "{unit:?}");
        }
        for command in [vec![], vec!["/a\0".into()], vec!["/a".into(); 65]] {
            service.check = Check::Exec { command };
            assert_eq!(keys(&service), ["check.command", "restart.unit"]);
        }
    }

    #[test]
    fn the_bytes_of_a_service_stay_what_they_are() {
        let mut service = Service::new("db".parse().unwrap(), Check::Tcp { port: 5432 });
        service.restart = Some(Restart::new(RestartHow::Unit("db".into())));
        let frame = codec::encode(&service, 1_000).unwrap();
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0102646201fb381564fb9001020201000264\
             6296fbe803fce0930400"
        );
        assert_eq!(codec::decode(&frame, 1_000), Ok(service));
    }
}
