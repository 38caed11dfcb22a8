//! SYNs at the nft netdev egress hook: the counter that raw and packet sockets do not get around.
//!
//! A table of our own with a chain on the uplink's egress hook counts every SYN that leaves, another one those
//! that were forwarded. They are made with the `nft` program and read over netlink (nfnetlink), which takes
//! microseconds instead of a process. Both chains only count; nothing is dropped or changed.
//!
//! **Invariant.** Both counters exist or neither is used: without the one for forwarded SYNs, those of a
//! container would be taken for forged ones. Only tables of this name are touched. SYNs inside VLAN tags that
//! a packet socket wrote by hand are not counted: nft does not look behind them, [`super::egress`] does.

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    time::Duration,
};

/// An answer of the kernel is there at once; this only bounds the case that it never comes.
const ANSWER_WAIT: Duration = Duration::from_millis(200);
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const COUNTER: &str = "syn";

/// Numbers of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NFT_MSG_NEWOBJ: u16 = (10 << 8) | 18;
const NFT_MSG_GETOBJ: u16 = (10 << 8) | 19;
const NFPROTO_INET: u8 = 1;
const NFPROTO_NETDEV: u8 = 5;
const NFTA_OBJ_TABLE: u16 = 1;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_OBJ_DATA: u16 = 4;
const NFTA_COUNTER_PACKETS: u16 = 2;
const NFT_OBJECT_COUNTER: u32 = 1;
const HEADER_BYTES: usize = 16;
const NFGENMSG_BYTES: usize = 4;

/// SYNs that left and, of these, SYNs that were forwarded.
pub(super) type Totals = [u64; 2];

#[derive(Debug)]
pub(super) struct NetdevCounters {
    table: String,
    socket: Socket,
    sequence: u32,
}

impl NetdevCounters {
    /// Makes the tables, or adopts those of an earlier run with what they have counted.
    pub(super) fn open(uplink: &str, ifindex: u32) -> Result<Self, String> {
        let table = format!("stead_sensor_{ifindex}");
        let script = ruleset(&table, uplink);
        if run(&script).is_err() {
            // An earlier table that cannot be updated (its interface was renamed or replaced): a new one.
            run(&format!("{}{script}", removal(&table)))?;
        }
        let mut counters = Self { table, socket: socket().map_err(|error| error.to_string())?, sequence: 0 };
        counters.read().map_err(|error| format!("its counters cannot be read ({error})"))?;
        Ok(counters)
    }

    pub(super) fn read(&mut self) -> io::Result<Totals> {
        Ok([self.counter(NFPROTO_NETDEV)?, self.counter(NFPROTO_INET)?])
    }

    fn counter(&mut self, family: u8) -> io::Result<u64> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence, family, &self.table);
        self.socket.send(&request, 0)?;
        loop {
            let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
            self.socket.recv(&mut answer, 0)?;
            // What an earlier request was answered too late.
            if number(&answer, 8) == Some(self.sequence) {
                return packets(&answer);
            }
        }
    }
}

impl Drop for NetdevCounters {
    fn drop(&mut self) {
        if let Err(why) = run(&removal(&self.table)) {
            tracing::debug!(why, "no nft counters to remove");
        }
    }
}

fn ruleset(table: &str, uplink: &str) -> String {
    let syn = "tcp flags & (syn | ack) == syn";
    format!(
        "add table netdev {table}
add counter netdev {table} {COUNTER}
add chain netdev {table} egress {{ type filter hook egress device \"{uplink}\" priority 0; policy accept; }}
flush chain netdev {table} egress
add rule netdev {table} egress {syn} counter name {COUNTER}
add table inet {table}
add counter inet {table} {COUNTER}
add chain inet {table} forward {{ type filter hook forward priority 300; policy accept; }}
flush chain inet {table} forward
add rule inet {table} forward oifname \"{uplink}\" {syn} counter name {COUNTER}
"
    )
}

/// Deletes both tables whether they exist or not: adding an existing one changes nothing.
fn removal(table: &str) -> String {
    ["netdev", "inet"]
        .map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

fn socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let wait = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(socket.as_fd(), wait, Some(ANSWER_WAIT))?;
    Ok(socket)
}

fn request(sequence: u32, family: u8, table: &str) -> Vec<u8> {
    let text = |text: &str| [text.as_bytes(), &[0]].concat();
    let attributes = [
        attribute(NFTA_OBJ_TABLE, &text(table)),
        attribute(NFTA_OBJ_NAME, &text(COUNTER)),
        attribute(NFTA_OBJ_TYPE, &NFT_OBJECT_COUNTER.to_be_bytes()),
    ]
    .concat();
    let length = u32::try_from(HEADER_BYTES + NFGENMSG_BYTES + attributes.len()).expect("names are short");
    [
        &length.to_ne_bytes()[..],
        &NFT_MSG_GETOBJ.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[family, 0, 0, 0],
        &attributes,
    ]
    .concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("names are short");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The packets of the counter in an answer, or the error that it is.
fn packets(answer: &[u8]) -> io::Result<u64> {
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
    match kind {
        Some(NLMSG_ERROR) => {
            let code = number(answer, HEADER_BYTES).map_or(0, u32::cast_signed);
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        Some(NFT_MSG_NEWOBJ) => answer
            .get(HEADER_BYTES + NFGENMSG_BYTES..)
            .and_then(|attributes| find(attributes, NFTA_OBJ_DATA))
            .and_then(|data| find(data, NFTA_COUNTER_PACKETS)?.first_chunk())
            .map(|bytes| u64::from_be_bytes(*bytes))
            .ok_or_else(|| io::Error::other("an answer without a counter")),
        _ => Err(io::Error::other("an answer to another question")),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind & !FLAGS == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn run(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the program nft cannot be started ({error})"))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return written.map_err(|error| error.to_string());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or("it failed without a word");
    Err(format!("nft refuses the table: {}", line.chars().take(100).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_from_nested_attributes() {
        let counter = [attribute(1, &1_000u64.to_be_bytes()), attribute(2, &17u64.to_be_bytes())].concat();
        let attributes =
            [attribute(1, b"t\0"), attribute(2, b"syn\0"), attribute(0x8000 | 4, &counter)].concat();
        let header = [&[0; 4][..], &NFT_MSG_NEWOBJ.to_ne_bytes(), &[0; 10], &[5, 0, 0, 0]].concat();
        let answer = [header, attributes].concat();
        assert_eq!(packets(&answer).unwrap(), 17);
        for length in 0..answer.len() - 8 {
            assert!(packets(&answer[..length]).is_err(), "cut off after {length} bytes");
        }
    }

    #[test]
    fn an_error_of_the_kernel_is_told_as_one() {
        let answer =
            [&[0; 4][..], &NLMSG_ERROR.to_ne_bytes(), &[0; 10], &(-2i32).to_ne_bytes(), &[0; 16]].concat();
        assert_eq!(packets(&answer).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request(7, NFPROTO_NETDEV, "stead_sensor_3");
        assert_eq!(number(&request, 0), u32::try_from(request.len()).ok());
        assert_eq!(number(&request, 8), Some(7));
    }
}
