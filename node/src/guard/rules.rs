//! The ruleset as text, a pure function of rung, uplink and policy.
//!
//! **Invariant.** Each script is one nft transaction that adds what is missing and rewrites the chains: named
//! counters and the licence survive it, and at no moment are the old rules gone and the new ones not there.
//!
//! Only a SYN without ACK is looked at, so answers (the web site) pass untouched. The netdev hook also judges
//! frames whose kernel protocol is not what their header says, and tags in the frame (IPv4 without options):
//! AF_PACKET lets a sender choose both. Not judged: fragments that split the TCP header, and double tags.

use std::fmt::{self, Write as _};
use stead_proto::guard::{GuardPolicy, Prefix, Rate};

/// Where in the kernel the limit stands, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The netdev egress hook (Linux 5.16): each path but AF_XDP.
    NetdevEgress,
    /// The inet output hook: AF_PACKET and forwarded traffic escape it.
    InetOutput,
    /// No limit at all.
    None,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetdevEgress => "nft netdev egress",
            Self::InetOutput => "nft inet output",
            Self::None => "none",
        })
    }
}

impl Rung {
    /// What it costs to stand here.
    #[must_use]
    pub const fn cost(self) -> &'static str {
        match self {
            Self::NetdevEgress => "AF_XDP escapes the limit",
            Self::InetOutput => "packet sockets and forwarded traffic escape the limit; Linux 5.16 sees them",
            Self::None => "nothing limits what this host sends; install nftables",
        }
    }

    /// Our table, with its family; none where there is none.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::NetdevEgress => "netdev stead_guard",
            Self::InetOutput | Self::None => "inet stead_guard",
        }
    }
}

/// The named counters, in the order of [`super::limiter::Counters`].
pub(super) const COUNTERS: [&str; 5] = ["licensed", "allowed", "limited", "dropped", "refused"];
const SYN: &str = "tcp flags & (syn | ack) == syn";
/// Where AF_PACKET hides a SYN: another kernel protocol, or a tag in the frame. Bits from the frame's start.
const HIDDEN: [&str; 2] = [
    "meta protocol != { ip, ip6, arp } @ll,96,16 0x0800 @ll,184,8 6 @ll,376,8 & 0x12 == 0x02",
    "@ll,96,16 0x8100 @ll,128,16 0x0800 @ll,216,8 6 @ll,408,8 & 0x12 == 0x02",
];
const PRIORITY: i32 = -400;
const MESH_PORT: u16 = 7832;

/// Everything: table, sets, counters, chains.
#[must_use]
pub fn ruleset(rung: Rung, uplink: &str, policy: &GuardPolicy) -> String {
    let table = rung.table();
    let mut text = format!("add table {table}\n");
    for set in ["licence", "quarantine"] {
        let _ = writeln!(text, "add set {table} {set} {{ type iface_index; flags timeout; }}");
    }
    for (set, kind) in [("friends4", "ipv4_addr"), ("friends6", "ipv6_addr")] {
        let _ = writeln!(text, "add set {table} {set} {{ type {kind}; flags interval; auto-merge; }}");
    }
    text += &friends(rung, &policy.friends);
    for counter in COUNTERS {
        let _ = writeln!(text, "add counter {table} {counter}");
    }
    let (hook, only) = match rung {
        Rung::NetdevEgress => (format!("hook egress device \"{uplink}\""), String::new()),
        Rung::InetOutput | Rung::None => ("hook output".into(), format!("oifname \"{uplink}\" ")),
    };
    for chain in ["unlicensed", "contained", "syn"] {
        let _ = writeln!(text, "add chain {table} {chain}\nflush chain {table} {chain}");
    }
    let _ = writeln!(
        text,
        "add chain {table} guard {{ type filter {hook} priority {PRIORITY}; policy accept; }}\nflush chain {table} guard"
    );
    let mut rule = |chain: &str, body: &str| {
        let _ = writeln!(text, "add rule {table} {chain} {body}");
    };
    rule("guard", &format!("{only}{SYN} goto syn"));
    if rung == Rung::NetdevEgress {
        for hidden in HIDDEN {
            rule("guard", &format!("{hidden} goto syn"));
        }
    }
    rule("guard", &format!("{only}meta oif @quarantine meta l4proto udp goto contained"));
    rule("syn", "meta oif @quarantine goto contained");
    rule("syn", "meta oif != @licence goto unlicensed");
    if let Some(ceiling) = policy.ceiling {
        rule("syn", &format!("limit rate over {} counter name dropped drop", rate(ceiling)));
    }
    rule("syn", "counter name licensed accept");
    for entry in &policy.allowed {
        let family = if entry.to.address.is_ipv4() { "ip" } else { "ip6" };
        let port = entry.port.map_or(String::new(), |port| format!("tcp dport {port} "));
        let to = prefix(entry.to);
        rule(
            "unlicensed",
            &format!("{family} daddr {to} {port}limit rate {} counter name allowed accept", rate(entry.rate)),
        );
    }
    rule("unlicensed", &format!("limit rate {} counter name limited accept", rate(policy.limit)));
    rule("unlicensed", "counter name dropped drop");
    rule("contained", &format!("udp dport {MESH_PORT} accept"));
    rule("contained", &format!("udp sport {MESH_PORT} accept"));
    rule("contained", "ip daddr @friends4 accept");
    rule("contained", "ip6 daddr @friends6 accept");
    // What the site answers (HTTP/3) comes from a port that only a service has.
    rule("contained", "udp sport < 1024 accept");
    rule("contained", "counter name refused drop");
    text
}

/// Replaces what a quarantined host may reach.
pub(super) fn friends(rung: Rung, friends: &[Prefix]) -> String {
    let table = rung.table();
    let mut text = format!("flush set {table} friends4\nflush set {table} friends6\n");
    for friend in friends {
        let family = if friend.address.is_ipv4() { 4 } else { 6 };
        let _ = writeln!(text, "add element {table} friends{family} {{ {} }}", prefix(*friend));
    }
    text
}

/// Puts an element into a set with a new timeout (0 = for ever), whether it was there or not.
pub(super) fn put(rung: Rung, set: &str, ifindex: u32, timeout_ms: u32) -> String {
    let take = take(rung, set, ifindex);
    let timeout = if timeout_ms == 0 { String::new() } else { format!(" timeout {timeout_ms}ms") };
    format!("{take}add element {} {set} {{ {ifindex}{timeout} }}\n", rung.table())
}

/// Takes an element out of a set, whether it is there or not.
pub(super) fn take(rung: Rung, set: &str, ifindex: u32) -> String {
    let element = format!("element {} {set} {{ {ifindex}", rung.table());
    format!("add {element} }}\ndelete {element} }}\n")
}

fn rate(rate: Rate) -> String {
    format!("{}/second burst {} packets", rate.per_second, rate.burst)
}

fn prefix(prefix: Prefix) -> String {
    format!("{}/{}", prefix.address, prefix.bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_without_licence_meets_the_limit_and_then_a_drop() {
        let rules = ruleset(Rung::NetdevEgress, "eth0", &GuardPolicy::default());
        let unlicensed: Vec<_> =
            rules.lines().filter(|line| line.contains("rule netdev stead_guard unlicensed")).collect();
        assert_eq!(
            unlicensed,
            [
                "add rule netdev stead_guard unlicensed limit rate 10/second burst 10 packets counter name limited accept",
                "add rule netdev stead_guard unlicensed counter name dropped drop",
            ]
        );
    }

    #[test]
    fn a_withdrawal_works_whether_or_not_the_licence_lives() {
        assert_eq!(
            take(Rung::NetdevEgress, "licence", 3),
            "add element netdev stead_guard licence { 3 }\ndelete element netdev stead_guard licence { 3 }\n"
        );
    }
}
