//! `[service.NAME]`.

use super::super::document::{Table, Value};
use stead_proto::id::Name;
use stead_proto::limits::{
    BACKOFF_MS_MAX, BACKOFF_MS_MIN, CHECK_EVERY_MS_MAX, CHECK_EVERY_MS_MIN, CHECK_STREAK_MAX,
    CHECK_TIMEOUT_MS_MAX, CHECK_TIMEOUT_MS_MIN, PATIENCE_MS_MAX,
};
use stead_proto::service::{Check, Restart, RestartHow, Service, StatusRange};

const CHECK_EXAMPLE: &str = "{ http = \"http://127.0.0.1:8080/health\" }";
const COMMAND_EXAMPLE: &str = "[\"/usr/local/bin/check\", \"--quick\"]";

/// Reads one; what is wrong with it is noted, and stood in for by something harmless.
pub(super) fn read(name: Name, table: Table<'_>) -> Service {
    let check = table.require("check", CHECK_EXAMPLE).and_then(|value| check(&value));
    let mut service = Service::new(name, check.unwrap_or(Check::Tcp { port: 1 }));
    if let Some(ms) = ms(&table, "every", CHECK_EVERY_MS_MIN..=CHECK_EVERY_MS_MAX, "100ms") {
        service.every_ms = ms;
    }
    if let Some(ms) = ms(&table, "timeout", CHECK_TIMEOUT_MS_MIN..=CHECK_TIMEOUT_MS_MAX, "500ms") {
        service.timeout_ms = ms;
    }
    if let Some(rise) = table.get("rise").and_then(|value| value.number(1..=CHECK_STREAK_MAX)) {
        service.rise = rise;
    }
    if let Some(fall) = table.get("fall").and_then(|value| value.number(1..=CHECK_STREAK_MAX)) {
        service.fall = fall;
    }
    service.restart = table.get("restart").and_then(|value| restart(value.table()?));
    table.finish();
    service
}

fn ms(
    table: &Table<'_>,
    key: &'static str,
    allowed: std::ops::RangeInclusive<u32>,
    example: &str,
) -> Option<u32> {
    table.get(key).and_then(|value| value.ms(allowed, example))
}

fn check(value: &Value<'_>) -> Option<Check> {
    let table = value.table()?;
    let (http, tcp, exec) = (table.get("http"), table.get("tcp"), table.get("exec"));
    let ways = usize::from(http.is_some()) + usize::from(tcp.is_some()) + usize::from(exec.is_some());
    if ways != 1 {
        value.complain(format!("takes exactly one of http, tcp and exec; write for example {CHECK_EXAMPLE}"));
    }
    let host = table.get("host").and_then(|value| value.text().map(String::from));
    let expect = table.get("expect").and_then(|value| statuses(&value));
    if http.is_none() && (host.is_some() || expect.is_some()) {
        value.complain("host and expect go with http; leave them out");
    }
    let read = match (http, tcp, exec) {
        (Some(url), _, _) => {
            let (port, path) = target(&url).unzip();
            let expect = expect.unwrap_or_default();
            port.zip(path).map(|(port, path)| Check::Http { port, path, host, expect })
        }
        (None, Some(port), _) => port.number(1..=u16::MAX).map(|port| Check::Tcp { port }),
        (None, None, Some(command)) => command.texts(COMMAND_EXAMPLE).map(|command| Check::Exec { command }),
        (None, None, None) => None,
    };
    table.finish();
    read
}

/// The port and path of `http://127.0.0.1:8080/health`. Probes go to the node itself and nowhere else.
fn target(url: &Value<'_>) -> Option<(u16, String)> {
    let text = url.text()?;
    let read = text.strip_prefix("http://").and_then(|rest| {
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash)?,
            None => (rest, "/"),
        };
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let here = matches!(host, "127.0.0.1" | "localhost");
        here.then_some((port.parse::<u16>().ok().filter(|port| *port > 0)?, path.to_string()))
    });
    if read.is_none() {
        url.complain(format!(
            "{text:?} cannot be probed: each node asks itself, in clear text; write for example \
             \"http://127.0.0.1:8080/health\" (and host = \"…\" beside it for a Host header)"
        ));
    }
    read
}

fn statuses(value: &Value<'_>) -> Option<StatusRange> {
    if value.is_number() {
        let status = value.number(100..=599_u16)?;
        return Some(StatusRange { from: status, to: status });
    }
    let items = value.list("[200, 399]")?;
    let numbers: Vec<u16> = items.iter().filter_map(|item| item.number(100..=599_u16)).collect();
    match (items.as_slice(), numbers.as_slice()) {
        ([_, _], [from, to]) => Some(StatusRange { from: *from, to: *to }),
        ([_, _], _) => None,
        _ => {
            value.complain("write one status such as 200, or the lowest and the highest, such as [200, 399]");
            None
        }
    }
}

fn restart(table: Table<'_>) -> Option<Restart> {
    let (unit, command) = (table.get("unit"), table.get("command"));
    let how = match (unit, command) {
        (Some(unit), None) => unit.text().map(|unit| RestartHow::Unit(unit.into())),
        (None, Some(command)) => command.texts("[\"/usr/bin/myapp\"]").map(RestartHow::Command),
        (Some(_), Some(_)) | (None, None) => {
            table
                .complain("", "takes either unit or command; write for example { unit = \"nginx.service\" }");
            None
        }
    };
    let patience = ms(&table, "patience", 0..=PATIENCE_MS_MAX, "150ms");
    let backoff_min = ms(&table, "backoff_min", BACKOFF_MS_MIN..=BACKOFF_MS_MAX, "1s");
    let backoff_max = ms(&table, "backoff_max", BACKOFF_MS_MIN..=BACKOFF_MS_MAX, "5m");
    table.finish();
    let mut restart = Restart::new(how?);
    restart.patience_ms = patience.unwrap_or(restart.patience_ms);
    restart.backoff_ms_min = backoff_min.unwrap_or(restart.backoff_ms_min);
    restart.backoff_ms_max = backoff_max.unwrap_or(restart.backoff_ms_max.max(restart.backoff_ms_min));
    Some(restart)
}
