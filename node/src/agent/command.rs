//! The operator's own command that moves an endpoint: `COMMAND… claim|release ENDPOINT ADDRESS EPOCH`.
//!
//! **Invariant.** It ends, by itself or by us: a command that hangs costs its own endpoint, no other.

use std::process::{Command, Stdio};
use std::time::Duration;

use stead_proto::id::Name;
use stead_proto::mesh::Serving;
use stead_proto::time::Span;

use crate::clock;

/// How long it may take.
const WITHIN: Span = Span::from_ms(10_000);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Runs it to its end, doing what else has to be done `meanwhile`.
pub(super) fn run(
    command: &[String],
    verb: &str,
    endpoint: &Name,
    serving: &Serving,
    mut meanwhile: impl FnMut(),
) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("an empty command".into()) };
    let failed = |error: std::io::Error| format!("{program} {verb}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .args([verb, endpoint.as_str(), &serving.spec.address.to_string(), &serving.epoch.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let end = clock::now().after(WITHIN);
    while clock::now() < end {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{program} {verb}: {status}")),
            None => {}
        }
        meanwhile();
        std::thread::sleep(POLL);
    }
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    Err(format!("{program} {verb}: ended after {WITHIN}; let it do what takes longer in the background"))
}
