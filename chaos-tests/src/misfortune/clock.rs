//! A wall clock that jumps, for one agent of the lab: a shim of 20 lines of C before libc, and a file with the offset.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

const SOURCE: &str = include_str!("clock.c");

/// Writes a program that is `program`, but for the wall clock of its agents: off by what the file `clock` beside an
/// agent's configuration says.
///
/// # Errors
/// That there is no C compiler, or no room.
pub fn with_clock(program: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let (source, shim) = (directory.join("clock.c"), directory.join("clock.so"));
    std::fs::write(&source, SOURCE)?;
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).output();
    let compiled = compiled.context("run cc")?;
    ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let wrapper = directory.join("stead-with-clock");
    let (shim, program) = (shim.display(), program.display());
    let agent = format!("CLOCK_FILE=\"${{3%/*}}/clock\" LD_PRELOAD='{shim}' exec '{program}' \"$@\"");
    std::fs::write(&wrapper, format!("#!/bin/sh\n[ \"$1\" = agent ] && {agent}\nexec '{program}' \"$@\"\n"))?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
}

/// Puts the wall clock of the agent with this directory off by so many seconds.
///
/// # Errors
/// That the file cannot be written.
pub fn jump(agent: &Path, seconds: i64) -> anyhow::Result<()> {
    // As one step: whoever reads meanwhile sees the old file or the new one.
    let new = agent.join("clock.new");
    std::fs::write(&new, seconds.to_string())?;
    Ok(std::fs::rename(new, agent.join("clock"))?)
}
