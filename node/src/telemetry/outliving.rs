//! The sensor's egress link in the BPF file system: it outlives an agent that is killed, and with it the cut of SYNs
//! made by hand. Malware kills the guard first and floods then.
//!
//! **Invariant.** One link per instance: a successor attaches its own before its predecessor's goes, so at no moment is
//! there none, and what was left on another interface goes with it. Dropping it removes it, unless it is [left](Outliving::leave).

use crate::kernel::bpffs;
use aya::programs::links::{FdLink, PinnedLink};
use std::path::PathBuf;

const NAME: &str = "sensor_egress";

/// A place in the BPF file system, made ready.
pub(super) struct Place {
    instance: String,
    directory: PathBuf,
}

impl Place {
    /// Fails where there is no BPF file system that outlives this process.
    pub(super) fn of(instance: &str, ifindex: u32) -> Result<Self, String> {
        let instance = format!("{instance}-sensor");
        let directory = bpffs::directory(&instance, ifindex)
            .map_err(|error| format!("/sys/fs/bpf cannot be used ({error})"))?;
        Ok(Self { instance, directory })
    }

    /// Keeps `link`, which is attached already, in place of what an earlier agent left here.
    pub(super) fn keep(self, link: FdLink) -> Result<Outliving, String> {
        let path = self.directory.join(NAME);
        bpffs::unpin(&path).map_err(|error| error.to_string())?;
        let link = link.pin(&path).map_err(|error| super::chain(&error))?;
        self.sweep_others();
        Ok(Outliving { place: self, link: Some(link) })
    }

    /// Removes what earlier agents left on interfaces that are gone, or are not the uplink any more.
    fn sweep_others(&self) {
        for ifindex in bpffs::interfaces(&self.instance) {
            let other = bpffs::path(&self.instance, ifindex);
            if other != self.directory
                && let Err(error) = bpffs::unpin(&other.join(NAME)).and_then(|()| std::fs::remove_dir(&other))
            {
                tracing::debug!(%error, "an earlier sensor's link stays");
            }
        }
    }
}

/// The kept link; dropping it takes it out of the kernel.
pub(super) struct Outliving {
    place: Place,
    link: Option<PinnedLink>,
}

impl Outliving {
    /// Leaves the link in the kernel, for whoever comes next.
    pub(super) fn leave(mut self) {
        self.link = None;
    }
}

/// Removes what agents of `instance` left, and did not take over again.
pub(crate) fn remove(instance: &str) -> Result<(), String> {
    let instance = format!("{instance}-sensor");
    for ifindex in bpffs::interfaces(&instance) {
        let directory = bpffs::path(&instance, ifindex);
        bpffs::unpin(&directory.join(NAME))
            .and_then(|()| std::fs::remove_dir(&directory))
            .map_err(|error| format!("removing {}: {error}", directory.display()))?;
    }
    bpffs::sweep(&instance);
    Ok(())
}

impl Drop for Outliving {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        if let Err(error) = link.unpin() {
            tracing::debug!(%error, "the sensor's link was removed by somebody else");
        }
        let _ = std::fs::remove_dir(&self.place.directory);
        bpffs::sweep(&self.place.instance);
    }
}
