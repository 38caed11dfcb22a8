//! Anonymous network namespaces.
//!
//! **Invariant.** A namespace is held by open descriptors and running processes only, never by a file, so
//! that the kernel removes it, its interfaces and its sockets when the last of them is gone.

use super::error::LabError;
use crate::sys;
use rustix::thread::LinkNameSpaceType;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Once, OnceLock};
use std::{io, panic, thread};

/// Starts that may wait for the spawner at once.
const STARTS_WAITING_MAX: usize = 16;

/// A network namespace without a name.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new namespace with nothing but a loopback interface that is down.
    ///
    /// # Errors
    /// [`LabError::System`]; without privilege the kernel answers EPERM.
    pub fn create() -> Result<Self, LabError> {
        keep_event_loops_outside();
        let made = thread::spawn(|| {
            sys::unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| LabError::Panicked("namespace"))?;
        Ok(Self(file.map_err(LabError::system("make a network namespace"))?.into()))
    }

    /// The namespace that a process lives in.
    ///
    /// # Errors
    /// [`LabError::System`] if the process is gone or not ours to look at.
    pub fn of_process(pid: u32) -> Result<Self, LabError> {
        let file = File::open(format!("/proc/{pid}/ns/net"));
        Ok(Self(file.map_err(LabError::system("open the network namespace of a process"))?.into()))
    }

    /// A second handle to the same namespace.
    ///
    /// # Errors
    /// [`LabError::System`] when out of descriptors.
    pub fn try_clone(&self) -> Result<Self, LabError> {
        self.0.try_clone().map(Self).map_err(LabError::system("duplicate a namespace descriptor"))
    }

    /// Runs `work` on a thread inside and waits for it. A panic in `work` goes on in the caller.
    ///
    /// # Errors
    /// [`LabError::System`] if the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let inside = || self.enter().map(|()| work());
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Starts a thread inside that goes on by itself.
    ///
    /// # Errors
    /// [`LabError::System`] if no thread can be started.
    pub(crate) fn start_thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, LabError>>, LabError> {
        let inside = self.try_clone()?;
        let body = move || inside.enter().map(|()| drop(inside)).map(|()| work());
        thread::Builder::new().name(name.into()).spawn(body).map_err(LabError::system("start a thread"))
    }

    /// Starts `command` inside. It dies when this process dies, whichever way, leads a process group of its
    /// own, and sees an empty `/run` where the kernel permits that.
    ///
    /// # Errors
    /// The error of [`Command::spawn`].
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        sys::start_inside(&mut command, self.0.try_clone()?);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let gone = || io::Error::other("the thread that starts processes is gone");
        let (answer, answered) = sync_channel(1);
        spawner().send(Start { command, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }

    fn enter(&self) -> Result<(), LabError> {
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(LabError::system("enter a network namespace"))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// tokio keeps one socket pair for signals for the life of the process, made with its first event loop. Made
/// on a thread inside a namespace, it would keep that namespace alive as long.
fn keep_event_loops_outside() {
    static MADE: Once = Once::new();
    MADE.call_once(|| drop(tokio::runtime::Builder::new_current_thread().enable_all().build()));
}

struct Start {
    command: Command,
    answer: SyncSender<io::Result<Child>>,
}

/// One thread for the life of this process starts all others: the kernel sends the parent-death signal when
/// the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG), which must not be a test's or a task's.
fn spawner() -> &'static SyncSender<Start> {
    static SPAWNER: OnceLock<SyncSender<Start>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (starts, queue): (_, Receiver<Start>) = sync_channel(STARTS_WAITING_MAX);
        thread::spawn(move || {
            for Start { mut command, answer } in queue {
                // The asker may have given up; then the child must not be left to itself.
                if let Err(lost) = answer.send(command.spawn())
                    && let Ok(mut child) = lost.0
                {
                    let _gone = child.kill().and_then(|()| child.wait());
                }
            }
        });
        starts
    })
}
