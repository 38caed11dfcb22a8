//! The kernel's own TCP counters of one network namespace, from `/proc/net/snmp` and `/proc/net/netstat`.
//!
//! **Invariant.** The files are opened once, by a thread that is inside the namespace, and show that namespace
//! whoever reads them later. Counters are found by name; a kernel that does not know one makes the whole
//! sensor blind, because a missing counter must not look like zero.

use super::difference;
use std::{fs::File, io, os::unix::fs::FileExt as _};
use stead_proto::telemetry::KernelTcp;

/// More than either file has on any kernel.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Where each counter is: the line's first word and the name.
const NAMES: [(&str, &str); 8] = [
    ("Tcp:", "ActiveOpens"),
    ("TcpExt:", "TCPSynRetrans"),
    ("TcpExt:", "TCPReqQFullDoCookies"),
    ("TcpExt:", "TCPReqQFullDrop"),
    ("TcpExt:", "SyncookiesSent"),
    ("TcpExt:", "SyncookiesRecv"),
    ("TcpExt:", "ListenOverflows"),
    ("TcpExt:", "ListenDrops"),
];

/// The counters, in the order of [`NAMES`].
pub(super) type Totals = [u64; NAMES.len()];

#[derive(Debug)]
pub(super) struct KernelCounters {
    files: [File; 2],
    text: Vec<u8>,
}

impl KernelCounters {
    /// Opens the files of this thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/thread-self/net/{name}"));
        let mut counters = Self { files: [open("snmp")?, open("netstat")?], text: Vec::new() };
        counters.read().map(|_| counters)
    }

    pub(super) fn read(&mut self) -> io::Result<Totals> {
        self.text.clear();
        for file in &self.files {
            append(file, &mut self.text)?;
        }
        let text = str::from_utf8(&self.text).map_err(io::Error::other)?;
        parse(text).map_err(|missing| io::Error::other(format!("this kernel does not count {missing}")))
    }
}

/// What was counted between two readings.
pub(super) fn since(now: &Totals, then: &Totals, forwarded_syn: u64) -> KernelTcp {
    let [
        active_opens,
        syn_retransmits,
        queue_full_cookies,
        queue_full_drops,
        cookies_sent,
        cookies_received,
        listen_overflows,
        listen_drops,
    ] = difference(now, then);
    KernelTcp {
        active_opens,
        syn_retransmits,
        queue_full_cookies,
        queue_full_drops,
        cookies_sent,
        cookies_received,
        listen_overflows,
        listen_drops,
        forwarded_syn,
    }
}

/// The whole of a file of procfs, from its beginning.
pub(super) fn append(file: &File, to: &mut Vec<u8>) -> io::Result<()> {
    let start = to.len();
    loop {
        let end = to.len();
        if end - start > FILE_BYTES_MAX {
            return Err(io::Error::other("a file of /proc/net is larger than it can be"));
        }
        to.resize(end + 8_192, 0);
        let offset = u64::try_from(end - start).map_err(io::Error::other)?;
        let count = file.read_at(to.get_mut(end..).unwrap_or_default(), offset)?;
        to.truncate(end + count);
        if count == 0 {
            return Ok(());
        }
    }
}

/// Finds every counter, or says which one is missing. Lines come in pairs: names, then values.
fn parse(text: &str) -> Result<Totals, &'static str> {
    let mut found = [None; NAMES.len()];
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (mut names, mut values) = (names.split_ascii_whitespace(), values.split_ascii_whitespace());
        let head = names.next();
        if head != values.next() || !NAMES.iter().any(|(line, _)| Some(*line) == head) {
            continue;
        }
        for (name, value) in names.zip(values) {
            let wanted = NAMES.iter().position(|(line, wanted)| Some(*line) == head && *wanted == name);
            if let Some(slot) = wanted.and_then(|at| found.get_mut(at)) {
                *slot = value.parse().ok();
            }
        }
    }
    let mut totals = [0; NAMES.len()];
    for ((slot, value), (_, name)) in totals.iter_mut().zip(found).zip(NAMES) {
        *slot = value.ok_or(name)?;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Ip: Forwarding InReceives
Ip: 1 4
Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens
Tcp: 1 -1 11 5
TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops TCPReqQFullDoCookies TCPReqQFullDrop NewInLinux TCPSynRetrans
TcpExt: 21 22 23 24 25 26 99 27
IpExt: InNoRoutes
IpExt: 0
";

    #[test]
    fn counters_are_found_by_name_wherever_they_stand() {
        assert_eq!(parse(TEXT), Ok([11, 27, 25, 26, 21, 22, 23, 24]));
        let told = since(&parse(TEXT).unwrap(), &[1, 20, 0, 0, 0, 0, 0, 0], 3);
        assert_eq!((told.active_opens, told.syn_retransmits, told.forwarded_syn), (10, 7, 3));
        assert_eq!((told.queue_full_cookies, told.queue_full_drops), (25, 26));
        assert_eq!((told.cookies_sent, told.cookies_received), (21, 22));
        assert_eq!((told.listen_overflows, told.listen_drops), (23, 24));
    }

    #[test]
    fn a_counter_that_the_kernel_does_not_know_is_named_and_not_taken_for_zero() {
        assert_eq!(parse(&TEXT.replace("TCPSynRetrans", "Other")), Err("TCPSynRetrans"));
        assert_eq!(parse(""), Err("ActiveOpens"));
        // A line of values that is not there.
        assert_eq!(parse("Tcp: ActiveOpens\n"), Err("ActiveOpens"));
    }
}
