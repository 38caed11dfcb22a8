//! The operator's own command that moves an endpoint: `COMMAND… claim|release ENDPOINT ADDRESS EPOCH`.
//!
//! It has no gate. The lease of the endpoint is over, and the other nodes are told so, when `release` *begins*;
//! the next holder's `claim` may run at the same time, or before it, and a node that lost its power or its
//! network runs no `release` at all. A command may also be run again with the same arguments. So it has to
//! be idempotent, and whoever it talks to (the provider) has to refuse an epoch lower than the highest
//! that it was shown: epochs grow with each change of holder, and compare as two numbers, `PLAN.RANK`.
//!
//! Deliberately absent: waiting for `release` before the lease is given back. It would bound nothing: the
//! lease ends by itself without any command, whenever a holder falls silent.
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
