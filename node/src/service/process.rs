//! A command in its own process group, with one pipe for all it says.
//!
//! **Invariant.** A group is signalled only while its leader is not yet reaped, so that its number cannot
//! belong to anybody else.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;

/// How long a command has to end by itself after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A running command and whatever it started without leaving its process group.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    leader: Pid,
    /// Any child of this process ended.
    some_ended: unix::Signal,
    on_drop: OnDrop,
    reaped: bool,
}

/// What dropping a [`Group`] does to it, if it still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDrop {
    Kill,
    Leave,
}

impl Group {
    /// Starts `command` without a shell, with nothing to read, and one pipe for what it writes.
    pub(super) fn spawn<S: AsRef<str>>(command: &[S], on_drop: OnDrop) -> io::Result<(Self, pipe::Receiver)> {
        let mut words = command.iter().map(AsRef::as_ref);
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let (reader, writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        // Listening begins before the command does: its end cannot be missed.
        let some_ended = unix::signal(SignalKind::child())?;
        let child = command.spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let leader = leader.expect("a child that was just started and not awaited has an id");
        Ok((Self { child, leader, some_ended, on_drop, reaped: false }, output))
    }

    /// Waits for the command itself to end, without reaping it. May be cancelled.
    pub(super) async fn ended(&mut self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while let Ok(None) = waitid(WaitId::Pid(self.leader), look) {
            if self.some_ended.recv().await.is_none() {
                return;
            }
        }
    }

    /// Takes the status of a command that ended.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.reaped = true;
        status
    }

    /// Kills what is left of the group, at once.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks the group to end, kills what is left after [`GRACE`].
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let _ = timeout(GRACE, self.ended()).await;
        self.kill();
        let _ = timeout(GRACE, self.reap()).await;
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped {
            send(self.leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Kill {
            self.kill();
        }
    }
}

fn send(leader: Pid, signal: Signal) {
    // ESRCH: all of them have ended already, which is what was wanted.
    let _ = kill_process_group(leader, signal);
}
