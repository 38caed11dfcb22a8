//! A check that is a command: success is status 0.
//!
//! **Invariant.** When the probe is over, in whatever way, nothing of the command's process group is left.

use super::output::Tail;
use super::process::{Group, OnDrop};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use stead_proto::health::Probed;
use stead_proto::limits::TEXT_BYTES_MAX;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// How long a command that failed has for its last words to be read.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(50);

/// Runs `command` to its end. Cancelling kills it and all that it started.
pub(super) async fn run(command: &[String]) -> io::Result<Probed> {
    let (mut group, mut output) = match Group::spawn(command, OnDrop::Kill) {
        Ok(started) => started,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            let program = command.first().map_or("", String::as_str);
            return Ok(Probed::Bad(format!("cannot start {program}: {error}")));
        }
        Err(error) => return Err(error),
    };
    let mut tail = Tail::default();
    let reading = async {
        read(&mut output, &mut tail).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = group.ended() => {}
        () = reading => {}
    }
    group.kill();
    let status = group.reap().await?;
    if !status.success() {
        // What was written last may still be in the pipe. Its end comes at once, unless a daemon has it.
        let _ = timeout(LAST_WORDS_TIME_MAX, read(&mut output, &mut tail)).await;
    }
    Ok(judge(status, &tail))
}

/// Reads to the end of the output.
async fn read(output: &mut pipe::Receiver, tail: &mut Tail) {
    let mut chunk = [0; 4_096];
    while let Ok(bytes @ 1..) = output.read(&mut chunk).await {
        tail.push(chunk.get(..bytes).unwrap_or_default());
    }
}

fn judge(status: ExitStatus, tail: &Tail) -> Probed {
    if status.success() {
        return Probed::Ok;
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}: "),
        (None, Some(signal)) => format!("killed by signal {signal}: "),
        (None, None) => "failed: ".to_owned(),
    };
    let said = tail.text(TEXT_BYTES_MAX.saturating_sub(how.len()));
    Probed::Bad(if said.is_empty() { format!("{how}it said nothing") } else { how + &said })
}
