//! The sensor's egress link in the BPF file system: it outlives an agent that is killed, and with it the cut of SYNs
//! made by hand. Malware kills the guard first and floods then.
//!
//! **Invariant.** One link per instance and uplink: a successor attaches its own before its predecessor's goes, so at
//! no moment is there none. An agent that ends in good order leaves nothing here.

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
        Ok(Outliving { place: self, link: Some(link) })
    }
}

/// The kept link; dropping it takes it out of the kernel.
pub(super) struct Outliving {
    place: Place,
    link: Option<PinnedLink>,
}

impl Drop for Outliving {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.link.take().map(PinnedLink::unpin) {
            tracing::debug!(%error, "the sensor's link was removed by somebody else");
        }
        let _ = std::fs::remove_dir(&self.place.directory);
        bpffs::sweep(&self.place.instance);
    }
}
