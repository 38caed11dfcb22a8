//! Raw and packet sockets and who holds them: which program forges packets.
//!
//! `/proc/net/raw`, `raw6` and `packet` list the sockets by inode, `/proc/<pid>/fd` tells who has one open.
//!
//! **Invariant.** Bounded: so many sockets, so many descriptors looked at. A process that hides from procfs, or
//! lives in another process namespace, leaves its socket without an owner; the socket is listed all the same.

use std::{fs, io, path::Path};

/// Sockets that are listed; whoever opens more is conspicuous enough.
const SOCKETS_MAX: usize = 64;
/// Descriptors that are looked at before the search ends.
const DESCRIPTORS_MAX: usize = 200_000;

/// The kinds of socket that can forge a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketKind {
    /// IPv4, `raw(7)`.
    Raw4,
    /// IPv6, `raw(7)`.
    Raw6,
    /// Whole frames, `packet(7)`.
    Packet,
}

/// A raw or packet socket of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    /// Its kind.
    pub kind: SocketKind,
    /// The IP protocol of a raw socket (255 is any, with headers of its own), the ethertype of a packet socket
    /// (3 is all, 0 is none: it only sends).
    pub protocol: u16,
    /// Its inode.
    pub inode: u64,
    /// Who has it open, if that can be seen.
    pub owner: Option<Owner>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// The name that it gave itself (`comm`), at most 15 bytes. Malware lies here.
    pub command: String,
    /// Its program file, as far as this process may see it.
    pub program: Option<String>,
}

/// The raw and packet sockets of the calling thread's network namespace, at most 64 of them.
///
/// # Errors
/// What procfs said. A kernel without one of the kinds has no such file, which is fine.
pub fn open_sockets() -> io::Result<Vec<OpenSocket>> {
    let mut found = Vec::new();
    for (kind, file) in
        [(SocketKind::Raw4, "raw"), (SocketKind::Raw6, "raw6"), (SocketKind::Packet, "packet")]
    {
        match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => found.extend(text.lines().skip(1).filter_map(|line| parse(kind, line))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.truncate(SOCKETS_MAX);
    find_owners(&mut found)?;
    Ok(found)
}

fn parse(kind: SocketKind, line: &str) -> Option<OpenSocket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (protocol, inode) = match kind {
        // sl local_address rem_address st queues tr:when retrnsmt uid timeout inode …
        SocketKind::Raw4 | SocketKind::Raw6 => (words.get(1)?.rsplit(':').next()?, words.get(9)?),
        // sk RefCnt Type Proto Iface R Rmem User Inode
        SocketKind::Packet => (*words.get(3)?, words.get(8)?),
    };
    let protocol = u16::from_str_radix(protocol, 16).ok()?;
    Some(OpenSocket { kind, protocol, inode: inode.parse().ok()?, owner: None })
}

fn find_owners(sockets: &mut [OpenSocket]) -> io::Result<()> {
    let mut descriptors_left = DESCRIPTORS_MAX;
    let mut missing = sockets.len();
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended meanwhile, or not be ours to look at.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            if missing == 0 || descriptors_left == 0 {
                return Ok(());
            }
            descriptors_left -= 1;
            let Some(inode) = socket_inode(&descriptor.path()) else { continue };
            let held = sockets.iter_mut().find(|socket| socket.inode == inode && socket.owner.is_none());
            if let Some(socket) = held {
                socket.owner = Some(owner(pid, &process.path()));
                missing -= 1;
            }
        }
    }
    Ok(())
}

/// The inode of a socket, from the text of the link: to follow the link of a file may wait for a dead server.
fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn owner(pid: u32, process: &Path) -> Owner {
    let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let program = fs::read_link(process.join("exe")).ok();
    Owner {
        pid,
        command: command.trim_end().to_owned(),
        program: program.map(|path| path.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_procfs_are_read_by_their_columns() {
        let raw = " 1255: 00000000:00FF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0";
        let socket = parse(SocketKind::Raw4, raw).unwrap();
        assert_eq!((socket.protocol, socket.inode), (255, 4711));
        let packet = "0000000000000000 3      3    0003   2     1 0      0      4712";
        let socket = parse(SocketKind::Packet, packet).unwrap();
        assert_eq!((socket.protocol, socket.inode), (3, 4712));
        assert_eq!(parse(SocketKind::Packet, "nonsense"), None);
    }
}
