//! The uplink's own packet counters, the last rung: nothing that leaves a host escapes them.
//!
//! From `/proc/net/dev`, because what `/sys/class/net` shows depends on who mounted it.
//!
//! **Invariant.** As for [`super::kernel_tcp`]: opened once, inside the namespace.

use super::kernel_tcp::append;
use std::{fs::File, io};

/// Packets received and sent.
pub(super) type Totals = [u64; 2];

#[derive(Debug)]
pub(super) struct UplinkCounters {
    file: File,
    text: Vec<u8>,
}

impl UplinkCounters {
    /// Opens the file of this thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/thread-self/net/dev")?, text: Vec::new() })
    }

    /// The counters of one interface; `None` if it is not there.
    pub(super) fn read(&mut self, name: &str) -> io::Result<Option<Totals>> {
        self.text.clear();
        append(&self.file, &mut self.text)?;
        Ok(parse(&String::from_utf8_lossy(&self.text), name))
    }
}

fn parse(text: &str, name: &str) -> Option<Totals> {
    let values = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut values = values.split_ascii_whitespace();
    let received = values.nth(1)?.parse().ok()?;
    let sent = values.nth(7)?.parse().ok()?;
    Some([received, sent])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100      1    0    0    0     0          0         0      100      1    0    0    0     0       0          0
  eth0: 1306 12345 0 0 0 0 0 0 18446744073709551615 67890 0 0 0 0 0 0
eth0.7: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
";

    #[test]
    fn an_interface_is_found_by_its_whole_name() {
        assert_eq!(parse(TEXT, "eth0"), Some([12_345, 67_890]));
        assert_eq!(parse(TEXT, "eth0.7"), Some([2, 10]));
        assert_eq!(parse(TEXT, "eth"), None);
    }
}
