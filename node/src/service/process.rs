//! A command in its own process group, with one pipe for all it says.
//!
//! **Invariant.** A group is signalled only while its leader is not yet reaped, so that its number cannot
//! belong to anybody else. Nothing is killed by dropping; whoever wants that says so.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::Interest;
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
    leader: Pid,
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
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let leader = leader.expect("a child that was just started and not awaited has an id");
        let exit = pidfd_open(leader, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE));
        match exit {
            Ok(exit) => Ok((Self { child, leader, exit }, output)),
            Err(error) => {
                signal(leader, Signal::KILL);
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
        signal(self.leader, Signal::KILL);
    }

    /// Takes the status of a command that ended. From here on the group must not be signalled.
    pub(super) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the group to end, kills what is left after [`GRACE`].
    pub(super) async fn stop(self) {
        signal(self.leader, Signal::TERM);
        let _ = timeout(GRACE, self.ended()).await;
        self.kill();
        let _ = timeout(GRACE, self.reap()).await;
    }
}

fn signal(leader: Pid, signal: Signal) {
    // ESRCH: all of them have ended already, which is what was wanted.
    let _ = kill_process_group(leader, signal);
}
