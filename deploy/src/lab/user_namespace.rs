//! Being root enough: as root, or as root of a user namespace of one's own.
//!
//! **Invariant.** Outside its namespaces an enclosed process has exactly the rights of the user who
//! started it.

use super::error::LabError;
use crate::sys;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, io};

/// Which kind of root this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Root of the machine: eBPF and real-time priorities are possible.
    Root,
    /// Root of a user namespace: interfaces, addresses and classic filters are possible; eBPF is not.
    UserNamespace,
}

/// Whether this process may already build a lab, and as what.
///
/// # Errors
/// [`LabError::System`] if the capabilities cannot be read.
pub fn privilege() -> Result<Option<Privilege>, LabError> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    let sets = rustix::thread::capabilities(None).map_err(LabError::system("read own capabilities"))?;
    if !sets.effective.contains(needed) {
        return Ok(None);
    }
    let map =
        fs::read_to_string("/proc/self/uid_map").map_err(LabError::system("read /proc/self/uid_map"))?;
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(Some(if whole { Privilege::Root } else { Privilege::UserNamespace }))
}

/// Returns at once where the privilege is there; otherwise starts this program anew, same arguments, same
/// process id, as root of a user namespace with a network and a mount namespace of its own.
///
/// Call it first in `main`: a process with a second thread cannot enter a user namespace.
///
/// # Errors
/// [`LabError::UserNamespaceForbidden`] says what to change; [`LabError::ThreadsRunning`] if called late.
pub fn enter_if_needed() -> Result<Privilege, LabError> {
    if let Some(privilege) = privilege()? {
        return Ok(privilege);
    }
    let program = env::current_exe().map_err(LabError::system("find the path of this program"))?;
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1));
    enclose(&mut command);
    Err(refusal(command.exec()))
}

/// Makes `command` start as root of a user namespace of its own; for callers that already have threads.
pub fn enclose(command: &mut Command) {
    sys::start_enclosed(command);
}

/// What a failed start of an enclosed command means.
#[must_use]
pub fn refusal(source: io::Error) -> LabError {
    match Errno::from_io_error(&source) {
        Some(Errno::INVAL) => LabError::ThreadsRunning,
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::NOSYS) => {
            LabError::UserNamespaceForbidden { source }
        }
        _ => LabError::System { step: "start this program anew in a user namespace", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_user_namespace_says_what_to_do() {
        let text = refusal(Errno::PERM.into()).to_string();
        assert!(text.contains("sudo") && text.contains("unprivileged_userns_clone"), "{text}");
        assert!(matches!(refusal(Errno::INVAL.into()), LabError::ThreadsRunning));
    }
}
