//! A process of a node in the lab: start, pause, kill, read its log.
//!
//! **Invariant.** A process that we started ends with its [`Process`], and with the lab's own process however
//! that ends. Signals go to its whole process group, as a failing host takes all of its processes with it.
//! What leaves that group by itself and is then orphaned is out of reach here.

use super::error::LabError;
use super::namespace::Namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

/// How much of a log's end [`Process::log_tail`] reads.
const LOG_TAIL_BYTES: u64 = 16 << 10;
/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A process inside a namespace of the lab.
pub struct Process {
    program: String,
    log: PathBuf,
    child: Child,
    group: Pid,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `argv` inside `namespace` with `env` added to this process's environment; what it prints is
    /// appended to `log`.
    ///
    /// # Errors
    /// [`LabError::Start`] if the log cannot be opened or the program cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        namespace: &Namespace,
        argv: &[A],
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, LabError> {
        let (program, rest) =
            argv.split_first().map_or((OsStr::new(""), argv), |(p, rest)| (p.as_ref(), rest));
        let failed = |source| LabError::Start {
            program: program.to_string_lossy().into_owned(),
            log: log.into(),
            source,
        };
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(rest).envs(env.iter().copied()).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?).stderr(output);
        let mut child = namespace.spawn(command).map_err(failed)?;
        match handles(&child) {
            Ok((group, pidfd)) => {
                let program = program.to_string_lossy().into_owned();
                Ok(Self { program, log: log.into(), child, group, pidfd, ended: None })
            }
            Err(source) => {
                let _gone = child.kill().and_then(|()| child.wait());
                Err(failed(source))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// [`LabError`] if the kernel refuses, or it is not gone after seconds.
    pub fn kill_9(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::KILL)?;
        self.wait(KILLED_WITHIN)
    }

    /// SIGSTOP: it keeps its addresses and connections and does nothing.
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel refuses.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on as if nothing had happened.
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel refuses.
    pub fn cont(&mut self) -> Result<(), LabError> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM: asks it to end; follow with [`Process::wait`].
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel refuses.
    pub fn terminate(&mut self) -> Result<(), LabError> {
        self.signal(Signal::TERM)
    }

    /// SIGHUP: asks an agent to read its configuration again.
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel refuses.
    pub fn hang_up(&mut self) -> Result<(), LabError> {
        self.signal(Signal::HUP)
    }

    /// Waits for its end, at most for `patience`. What is left of its process group is killed then.
    ///
    /// # Errors
    /// [`LabError::StillRuns`].
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, LabError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if !ended_within(&self.pidfd, patience)? {
            let (program, waited_ms) = (self.program.clone(), patience.as_millis());
            return Err(LabError::StillRuns { program, waited_ms });
        }
        // The group's number stays taken until its leader is reaped below, so this hits nobody else.
        let _nobody_left = kill_process_group(self.group, Signal::KILL);
        let status = self.child.wait().map_err(LabError::system("reap a process"))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether it has not ended yet; a stopped one runs.
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel does not tell.
    pub fn is_running(&mut self) -> Result<bool, LabError> {
        match self.wait(Duration::ZERO) {
            Ok(_) => Ok(false),
            Err(LabError::StillRuns { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The end of its log, for the report of a failure.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("({} is unreadable: {error})", self.log.display()))
    }

    fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        if self.ended.is_some() {
            return Ok(());
        }
        // Not reaped yet, so the number cannot have passed to another process.
        kill_process_group(self.group, signal).map_err(LabError::system("send a signal to a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill_9() {
            tracing::warn!(program = %self.program, %error, "a process of the lab did not end");
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.program, self.pid())
    }
}

fn handles(child: &Child) -> io::Result<(Pid, OwnedFd)> {
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

fn ended_within(pidfd: &OwnedFd, patience: Duration) -> Result<bool, LabError> {
    let began = Instant::now();
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let left = Timespec::try_from(left)
            .map_err(|_| LabError::system("wait that long")(io::Error::from(io::ErrorKind::InvalidInput)))?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(LabError::system("wait for a process")(errno)),
        }
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
