//! nfnetlink: reading counters and replacing set elements of nftables in microseconds, without a process.
//!
//! Rulesets are loaded with the program `nft`; this is for what happens several times a second.
//!
//! **Invariant.** No call waits for longer than [`ANSWER_WAIT`]. A batch is one transaction: all of it or nothing.
//!
//! Source: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`.

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::{io, os::fd::AsFd as _, time::Duration};

/// An answer of the kernel is there at once; this only bounds the case that it never comes.
const ANSWER_WAIT: Duration = Duration::from_millis(200);
const ANSWER_BYTES_MAX: usize = 16 * 1024;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_NEWCHAIN: u16 = (10 << 8) | 3;
const NFT_MSG_GETCHAIN: u16 = (10 << 8) | 4;
const NFT_MSG_NEWSETELEM: u16 = (10 << 8) | 12;
const NFT_MSG_DELSETELEM: u16 = (10 << 8) | 14;
const NFT_MSG_NEWGEN: u16 = (10 << 8) | 15;
const NFT_MSG_GETGEN: u16 = (10 << 8) | 16;
const NFT_MSG_NEWOBJ: u16 = (10 << 8) | 18;
const NFT_MSG_GETOBJ: u16 = (10 << 8) | 19;
const NFTA_GEN_ID: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_OBJ_TABLE: u16 = 1;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_OBJ_DATA: u16 = 4;
const NFTA_COUNTER_PACKETS: u16 = 2;
const NFT_OBJECT_COUNTER: u32 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_DATA_VALUE: u16 = 1;
const NESTED: u16 = 0x8000;
const HEADER_BYTES: usize = 16;
const NFGENMSG_BYTES: usize = 4;

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `inet`.
    Inet,
    /// `netdev`.
    Netdev,
}

impl Family {
    const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Netdev => 5,
        }
    }
}

/// A set of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<'a> {
    pub(crate) family: Family,
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
}

/// What happens to one element.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// It is there from now on, for so many milliseconds; 0 is for ever.
    Put(u64),
    /// It is not there any more.
    Take,
}

/// A connection to the kernel's nftables.
#[derive(Debug)]
pub(crate) struct Nfnetlink {
    socket: Socket,
    sequence: u32,
}

impl Nfnetlink {
    /// # Errors
    /// What the system says.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let wait = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(socket.as_fd(), wait, Some(ANSWER_WAIT))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The packets of a named counter.
    ///
    /// # Errors
    /// What the kernel says: `NotFound` if somebody removed it.
    pub(crate) fn counter(&mut self, family: Family, table: &str, name: &str) -> io::Result<u64> {
        let attributes = [
            attribute(NFTA_OBJ_TABLE, &text(table)),
            attribute(NFTA_OBJ_NAME, &text(name)),
            attribute(NFTA_OBJ_TYPE, &NFT_OBJECT_COUNTER.to_be_bytes()),
        ];
        let number = self.next();
        let request =
            message(NFT_MSG_GETOBJ, NLM_F_REQUEST, number, [family.number(), 0, 0, 0], &attributes.concat());
        self.socket.send(&request, 0)?;
        loop {
            let answer = self.receive()?;
            // What an earlier request was answered too late.
            if word(&answer, 8) == Some(number) {
                return packets(&answer);
            }
        }
    }

    /// How many rules a chain has that stands at a hook.
    ///
    /// # Errors
    /// What the kernel says: `NotFound` if somebody removed it.
    pub(crate) fn hooked_rules(&mut self, family: Family, table: &str, chain: &str) -> io::Result<u32> {
        let attributes =
            [attribute(NFTA_CHAIN_TABLE, &text(table)), attribute(NFTA_CHAIN_NAME, &text(chain))].concat();
        let number = self.next();
        let head = [family.number(), 0, 0, 0];
        self.socket.send(&message(NFT_MSG_GETCHAIN, NLM_F_REQUEST, number, head, &attributes), 0)?;
        loop {
            let answer = self.receive()?;
            if word(&answer, 8) == Some(number) {
                return rules(&answer);
            }
        }
    }

    /// The generation of this network namespace's rules: it counts every transaction, whoever made it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn generation(&mut self) -> io::Result<u32> {
        let number = self.next();
        self.socket.send(&message(NFT_MSG_GETGEN, NLM_F_REQUEST, number, [0; 4], &[]), 0)?;
        loop {
            let answer = self.receive()?;
            if word(&answer, 8) == Some(number) {
                let attributes = answer.get(HEADER_BYTES + NFGENMSG_BYTES..).unwrap_or_default();
                let found = find(attributes, NFTA_GEN_ID).and_then(|value| value.first_chunk());
                return match (half(&answer, 4), found) {
                    (Some(NFT_MSG_NEWGEN), Some(bytes)) => Ok(u32::from_be_bytes(*bytes)),
                    _ => Err(io::Error::other("an answer without a generation")),
                };
            }
        }
    }

    /// Changes the element `key` of each set, all in one transaction.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    pub(crate) fn change(&mut self, key: &[u8], changes: &[(Set<'_>, Change)]) -> io::Result<()> {
        let subsystem = [0, 0, 0, NFNL_SUBSYS_NFTABLES];
        let mut batch = message(BATCH_BEGIN, NLM_F_REQUEST, self.next(), subsystem, &[]);
        for (set, change) in changes {
            // Added first, so that deleting it cannot fail, whether it was there or not.
            batch.extend(self.element(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, key, 0));
            batch.extend(self.element(NFT_MSG_DELSETELEM, NLM_F_ACK, set, key, 0));
            if let Change::Put(timeout_ms) = change {
                batch.extend(self.element(
                    NFT_MSG_NEWSETELEM,
                    NLM_F_CREATE | NLM_F_ACK,
                    set,
                    key,
                    *timeout_ms,
                ));
            }
        }
        let last = self.sequence;
        batch.extend(message(BATCH_END, NLM_F_REQUEST, self.next(), subsystem, &[]));
        self.socket.send(&batch, 0)?;
        self.acknowledged(last)
    }

    fn element(&mut self, kind: u16, flags: u16, set: &Set<'_>, key: &[u8], timeout_ms: u64) -> Vec<u8> {
        let mut element = attribute(NFTA_SET_ELEM_KEY | NESTED, &attribute(NFTA_DATA_VALUE, key));
        if timeout_ms > 0 {
            element.extend(attribute(NFTA_SET_ELEM_TIMEOUT, &timeout_ms.to_be_bytes()));
        }
        let list = attribute(NFTA_LIST_ELEM | NESTED, &element);
        let attributes = [
            attribute(NFTA_SET_ELEM_LIST_TABLE, &text(set.table)),
            attribute(NFTA_SET_ELEM_LIST_SET, &text(set.name)),
            attribute(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, &list),
        ];
        let number = self.next();
        message(kind, NLM_F_REQUEST | flags, number, [set.family.number(), 0, 0, 0], &attributes.concat())
    }

    /// Waits for the answer to message `last`; the first error among the answers is that of the batch.
    fn acknowledged(&mut self, last: u32) -> io::Result<()> {
        let first = last.saturating_sub(64);
        let mut failed = None;
        loop {
            let answer = self.receive()?;
            let mut rest = answer.as_slice();
            while let Some(length) = word(rest, 0).and_then(|length| usize::try_from(length).ok()) {
                let (Some(kind), Some(number)) = (half(rest, 4), word(rest, 8)) else { break };
                if kind == NLMSG_ERROR && (first..=last).contains(&number) {
                    let code = word(rest, HEADER_BYTES).map_or(0, u32::cast_signed);
                    if code != 0 && failed.is_none() {
                        failed = Some(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    if number == last {
                        return failed.map_or(Ok(()), Err);
                    }
                }
                rest = rest.get(length.max(HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
        self.socket.recv(&mut answer, 0)?;
        Ok(answer)
    }

    const fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn message(kind: u16, flags: u16, sequence: u32, head: [u8; NFGENMSG_BYTES], attributes: &[u8]) -> Vec<u8> {
    let length =
        u32::try_from(HEADER_BYTES + NFGENMSG_BYTES + attributes.len()).expect("names and keys are short");
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &head,
        attributes,
    ]
    .concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("names and keys are short");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The packets of the counter in an answer, or the error that it is.
fn packets(answer: &[u8]) -> io::Result<u64> {
    match half(answer, 4) {
        Some(NLMSG_ERROR) => Err(told_error(answer)),
        Some(NFT_MSG_NEWOBJ) => answer
            .get(HEADER_BYTES + NFGENMSG_BYTES..)
            .and_then(|attributes| find(attributes, NFTA_OBJ_DATA))
            .and_then(|data| find(data, NFTA_COUNTER_PACKETS)?.first_chunk())
            .map(|bytes| u64::from_be_bytes(*bytes))
            .ok_or_else(|| io::Error::other("an answer without a counter")),
        _ => Err(io::Error::other("an answer to another question")),
    }
}

/// The rules of the chain in an answer, or the error that it is.
fn rules(answer: &[u8]) -> io::Result<u32> {
    match half(answer, 4) {
        Some(NLMSG_ERROR) => Err(told_error(answer)),
        Some(NFT_MSG_NEWCHAIN) => answer
            .get(HEADER_BYTES + NFGENMSG_BYTES..)
            .filter(|attributes| find(attributes, NFTA_CHAIN_HOOK).is_some())
            .and_then(|attributes| find(attributes, NFTA_CHAIN_USE)?.first_chunk())
            .map(|bytes| u32::from_be_bytes(*bytes))
            .ok_or_else(|| io::Error::other("a chain without a hook")),
        _ => Err(io::Error::other("an answer to another question")),
    }
}

fn told_error(answer: &[u8]) -> io::Error {
    let code = word(answer, HEADER_BYTES).map_or(0, u32::cast_signed);
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_from_nested_attributes() {
        let counter = [attribute(1, &1_000u64.to_be_bytes()), attribute(2, &17u64.to_be_bytes())].concat();
        let attributes =
            [attribute(1, b"t\0"), attribute(2, b"syn\0"), attribute(NESTED | 4, &counter)].concat();
        let answer = message(NFT_MSG_NEWOBJ, 0, 1, [5, 0, 0, 0], &attributes);
        assert_eq!(packets(&answer).unwrap(), 17);
        for length in 0..answer.len() - 8 {
            assert!(packets(&answer[..length]).is_err(), "cut off after {length} bytes");
        }
    }

    #[test]
    fn a_chain_tells_its_rules_if_it_stands_at_a_hook() {
        let parts = [attribute(1, b"t\0"), attribute(NESTED | 4, &[]), attribute(6, &3u32.to_be_bytes())];
        let chain = |parts: &[Vec<u8>]| message(NFT_MSG_NEWCHAIN, 0, 1, [5, 0, 0, 0], &parts.concat());
        assert_eq!(rules(&chain(&parts)).unwrap(), 3);
        assert!(rules(&chain(&parts[2..])).is_err(), "no hook");
        assert!(rules(&chain(&parts[..2])).is_err(), "no rules");
    }

    #[test]
    fn an_error_of_the_kernel_is_told_as_one() {
        let answer = message(NLMSG_ERROR, 0, 1, (-2i32).to_ne_bytes(), &[0; 16]);
        assert_eq!(packets(&answer).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(rules(&answer).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let request = message(NFT_MSG_GETOBJ, NLM_F_REQUEST, 7, [5, 0, 0, 0], &attribute(1, b"table\0"));
        assert_eq!(word(&request, 0), u32::try_from(request.len()).ok());
        assert_eq!(word(&request, 8), Some(7));
    }
}
