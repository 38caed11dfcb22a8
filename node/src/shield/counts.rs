//! What the kernel's proxy tells of itself: its statistics, and listings of our table.
//!
//! **Invariant.** Text that is not as expected gives nothing, never a wrong number.

use std::{fs, net::SocketAddr};

/// What the proxy has done lies here, in the network namespace of the thread that reads it.
const COUNTS: &str = "/proc/thread-self/net/stat/synproxy";

/// What the proxy has done since the network namespace exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// SYNs that it answered with a cookie.
    pub syns: u64,
    /// Right cookies that came back: handshakes.
    pub handshakes: u64,
    /// ACKs without a right cookie, which it dropped.
    pub refused: u64,
}

/// What the proxy has done; `None` where the kernel has none.
#[must_use]
pub fn counts() -> Option<Counts> {
    let text = fs::read_to_string(COUNTS).ok()?;
    let mut counts = Counts::default();
    // A line for each processor, in hexadecimal: entries, SYNs, wrong cookies, right ones, …
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut next = || u64::from_str_radix(words.next()?, 16).ok();
        counts.syns += next()?;
        counts.refused += next()?;
        counts.handshakes += next()?;
    }
    Some(counts)
}

/// The packets of a named counter in a listing.
pub(super) fn packets(listed: &str, counter: &str) -> Option<u64> {
    let (_, behind) = listed.split_once(&format!("counter {counter} {{"))?;
    behind.split_once("packets ")?.1.split_ascii_whitespace().next()?.parse().ok()
}

/// The elements `address . port` of a listed set.
pub(super) fn places(text: &str) -> Vec<SocketAddr> {
    let Some((_, elements)) = text.split_once("elements = {") else { return Vec::new() };
    let elements = elements.split('}').next().unwrap_or_default();
    let parse = |element: &str| {
        let (address, port) = element.trim().split_once(" . ")?;
        Some(SocketAddr::new(address.parse().ok()?, port.trim().parse().ok()?))
    };
    elements.split(',').filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_set_is_read_over_any_number_of_lines() {
        let text = "table inet stead_shield {\n\tset guarded4 {\n\t\ttype ipv4_addr . inet_service\n\t\telements = \
                    { 192.0.2.1 . 80,\n\t\t\t     192.0.2.1 . 443 }\n\t}\n}\n";
        assert_eq!(places(text), ["192.0.2.1:80".parse().unwrap(), "192.0.2.1:443".parse().unwrap()]);
        assert_eq!(places("elements = { 2001:db8::1 . 443 }"), ["[2001:db8::1]:443".parse().unwrap()]);
        assert_eq!(places("table inet stead_shield { set guarded6 { } }"), []);
        assert_eq!(places("elements = { nonsense, 1.2.3 . 4 }"), []);
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "table inet stead_shield {\n\tcounter asked4 {\n\t\tpackets 7 bytes 420\n\t}\n\tcounter asked {\n\t\tpackets \
                    9 bytes 1\n\t}\n}\n";
        assert_eq!(
            [packets(text, "asked4"), packets(text, "asked"), packets(text, "ask")],
            [Some(7), Some(9), None]
        );
    }
}
