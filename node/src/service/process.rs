//! A command in its own process group, with one pipe for all it says.
//!
//! **Invariant.** A group is signalled only while its leader is not yet reaped, so that its number cannot
//! belong to anybody else; afterwards signalling does nothing. Nothing is killed by dropping; whoever wants
//! that says so.

use super::sys;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a command has to end by itself after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A running command and whatever it started without leaving its process group.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    exit: AsyncFd<OwnedFd>,
}

impl Group {
    /// Starts `command` without a shell, with nothing to read, and one pipe for what it writes.
    pub(super) fn spawn<S: AsRef<str>>(command: &[S]) -> io::Result<(Self, pipe::Receiver)> {
        let mut words = command.iter().map(AsRef::as_ref);
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let (reader, writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let child = command.spawn()?;
        let leader = leader(&child).expect("a child that was just started and not awaited has an id");
        match sys::watch(leader) {
            Ok(exit) => Ok((Self { child, exit }, output)),
            Err(error) => {
                signal(&child, Signal::KILL);
                Err(error)
            }
        }
    }

    /// Waits for the command itself to end, without reaping it. May be cancelled.
    pub(super) async fn ended(&self) {
        // The only error is that the runtime is going away, and then nobody waits any more.
        let _ = self.exit.readable().await;
    }

    /// Kills what is left of the group, at once.
    pub(super) fn kill(&self) {
        signal(&self.child, Signal::KILL);
    }

    /// Takes the status of a command that ended. From here on the group is not signalled any more.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the group to end, kills what is left after [`GRACE`].
    pub(super) async fn stop(mut self) {
        signal(&self.child, Signal::TERM);
        let _ = timeout(GRACE, self.ended()).await;
        self.kill();
        let _ = timeout(GRACE, self.reap()).await;
    }
}

/// The number of the process and of its group, until it is reaped.
fn leader(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id()?.try_into().ok()?)
}

fn signal(child: &Child, signal: Signal) {
    if let Some(leader) = leader(child) {
        // ESRCH: all of them have ended already, which is what was wanted.
        let _ = kill_process_group(leader, signal);
    }
}
