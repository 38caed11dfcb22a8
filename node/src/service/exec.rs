//! A check that is a command: success is status 0.
//!
//! **Invariant.** When the probe is over, in whatever way, nothing of the command's process group is left.

use super::output::Tail;
use super::process::{Group, OnDrop};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use stead_proto::health::Probed;
use stead_proto::limits::TEXT_BYTES_MAX;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

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
    let tail = read_until_ended(&mut group, &mut output).await;
    group.kill();
    Ok(judge(group.reap().await?, &tail))
}

async fn read_until_ended(group: &mut Group, output: &mut pipe::Receiver) -> Tail {
    let (mut tail, mut chunk, mut open) = (Tail::default(), [0; 4_096], true);
    loop {
        tokio::select! {
            read = output.read(&mut chunk), if open => match read {
                Ok(bytes @ 1..) => tail.push(chunk.get(..bytes).unwrap_or_default()),
                Ok(0) | Err(_) => open = false,
            },
            () = group.ended() => break,
        }
    }
    while let Ok(bytes @ 1..) = output.try_read(&mut chunk) {
        tail.push(chunk.get(..bytes).unwrap_or_default());
    }
    tail
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
