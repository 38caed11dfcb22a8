//! Takes an address's ports away from whoever listens on them, by the kernel's socket lookup
//! (`steer.bpf.c`, Linux 5.9).
//!
//! **Invariant.** Dropping a [`Steering`] gives the ports back at once, by forgetting them in the map: the
//! attachment lives until the last copy of its descriptor is closed, and a process that is just being started
//! has one for a moment. The death of the agent ends the attachment.

use aya::EbpfLoader;
use aya::maps::{HashMap, SockMap};
use aya::programs::SkLookup;
use std::error::Error;
use std::fs::File;
use std::net::{IpAddr, TcpListener};

/// The compiled `steer.bpf.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("steer.bpf.o");

/// What `steer.bpf.c` does with a port.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Steer,
    Refuse,
}

/// The program in the kernel, and all that it needs to stay there.
#[derive(Debug)]
pub(super) struct Steering {
    object: aya::Ebpf,
    ports: Vec<u16>,
}

impl Drop for Steering {
    fn drop(&mut self) {
        let Some(Ok(mut fates)) = self.object.map_mut("PORTS").map(HashMap::<_, u32, u32>::try_from) else {
            return;
        };
        for port in &self.ports {
            if let Err(error) = fates.remove(&u32::from(*port)) {
                tracing::warn!(port, %error, "the kernel steers a port for as long as the agent runs");
            }
        }
    }
}

impl Steering {
    /// Steers new connections to `address` in `namespace` to `listener`, of the same family, or refuses them.
    /// What could not be done comes back as text: the caller has another way.
    pub(super) fn attach(
        address: IpAddr,
        ports: &[(u16, Fate)],
        listener: &TcpListener,
        namespace: &File,
    ) -> Result<Self, String> {
        match load(address, ports, listener, namespace) {
            Ok(object) => Ok(Self { object, ports: ports.iter().map(|(port, _)| *port).collect() }),
            Err(error) => Err(chain(error.as_ref())),
        }
    }
}

fn load(
    address: IpAddr,
    ports: &[(u16, Fate)],
    listener: &TcpListener,
    namespace: &File,
) -> Result<aya::Ebpf, Box<dyn Error>> {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mut object = EbpfLoader::new().override_global("ADDRESS", &address, true).load(OBJECT)?;
    let mut sockets: SockMap<_> = object.map_mut("LISTENER").ok_or("no map LISTENER")?.try_into()?;
    sockets.set(0, listener, 0)?;
    let mut fates: HashMap<_, u32, u32> = object.map_mut("PORTS").ok_or("no map PORTS")?.try_into()?;
    for (port, fate) in ports {
        let fate = match fate {
            Fate::Steer => 1_u32,
            Fate::Refuse => 2,
        };
        fates.insert(u32::from(*port), fate, 0)?;
    }
    let program: &mut SkLookup = object.program_mut("steer").ok_or("no program steer")?.try_into()?;
    program.load()?;
    program.attach(namespace)?;
    Ok(object)
}

/// An error with its causes: the last one is often the one that tells.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_committed_object_is_what_the_source_compiles_to() {
        let directory = tempfile::tempdir().unwrap();
        let rebuilt = directory.path().join("steer.bpf.o");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/holding/build");
        let status = Command::new(script).arg(&rebuilt).status().unwrap();
        assert!(status.success(), "{script} needs clang-14, llvm-14 and libbpf-dev");
        assert!(
            std::fs::read(&rebuilt).unwrap() == OBJECT,
            "run node/src/holding/build and commit its object"
        );
    }
}
