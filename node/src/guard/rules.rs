//! The ruleset as text, a pure function of rung, uplink and policy.
//!
//! **Invariant.** Each script is one nft transaction that adds what is missing and rewrites the chains: named
//! counters and the licence survive it, and at no moment are the old rules gone and the new ones not there.
//!
//! Only a SYN without ACK is looked at, so answers (the web site) pass untouched. The netdev hook also judges
//! frames whose kernel protocol is not what their header says, and tags in the frame (IPv4 without options):
//! AF_PACKET lets a sender choose both. Not judged: fragments that split the TCP header, and double tags.

use crate::nfnetlink::Family;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use stead_proto::guard::{GuardPolicy, Prefix, Rate};

/// Where in the kernel the limit stands, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// The family of our table.
    pub(super) const fn family(self) -> Family {
        match self {
            Self::NetdevEgress => Family::Netdev,
            Self::InetOutput | Self::None => Family::Inet,
        }
    }
}

/// Our table on one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rung: Rung,
    pub(super) name: String,
}

impl Table {
    pub(super) fn of(rung: Rung, ifindex: u32) -> Self {
        Self { rung, name: format!("{PREFIX}{ifindex}") }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.rung.family() {
            Family::Netdev => "netdev",
            Family::Inet => "inet",
        };
        write!(f, "{family} {}", self.name)
    }
}

const PREFIX: &str = "stead_guard_";

/// The tables of ours in `nft list tables` whose interfaces are no more.
pub(super) fn orphans(listed: &str, living: &BTreeSet<u32>) -> Vec<Table> {
    let table = |line: &str| {
        let (family, name) = line.trim().strip_prefix("table ")?.split_once(' ')?;
        let rung = match family {
            "netdev" => Rung::NetdevEgress,
            "inet" => Rung::InetOutput,
            _ => return None,
        };
        let ifindex = name.strip_prefix(PREFIX)?.parse().ok()?;
        let ours = Table::of(rung, ifindex);
        (ours.name == name && !living.contains(&ifindex)).then_some(ours)
    };
    listed.lines().filter_map(table).collect()
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
pub(super) fn ruleset(table: &Table, uplink: &str, policy: &GuardPolicy) -> String {
    let rung = table.rung;
    let mut text = format!("add table {table}\n");
    for set in ["licence", "throttle", "quarantine"] {
        let _ = writeln!(text, "add set {table} {set} {{ type iface_index; flags timeout; }}");
    }
    for (set, kind) in [("friends4", "ipv4_addr"), ("friends6", "ipv6_addr")] {
        let _ = writeln!(text, "add set {table} {set} {{ type {kind}; flags interval; auto-merge; }}");
    }
    text += &friends(table, &policy.friends);
    for counter in COUNTERS {
        let _ = writeln!(text, "add counter {table} {counter}");
    }
    let (hook, only) = match rung {
        Rung::NetdevEgress => (format!("hook egress device \"{uplink}\""), String::new()),
        Rung::InetOutput | Rung::None => ("hook output".into(), format!("oifname \"{uplink}\" ")),
    };
    for chain in ["limited", "contained", "syn"] {
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
    for entry in &policy.allowed {
        let family = if entry.to.address.is_ipv4() { "ip" } else { "ip6" };
        let port = entry.port.map_or(String::new(), |port| format!("tcp dport {port} "));
        let to = prefix(entry.to);
        let within = rate(entry.rate);
        rule("syn", &format!("{family} daddr {to} {port}limit rate {within} counter name allowed accept"));
    }
    rule("syn", "meta oif @throttle goto limited");
    rule("syn", "meta oif != @licence goto limited");
    if let Some(ceiling) = policy.ceiling {
        rule("syn", &format!("limit rate over {} counter name dropped drop", rate(ceiling)));
    }
    rule("syn", "counter name licensed accept");
    rule("limited", &format!("limit rate {} counter name limited accept", rate(policy.limit)));
    rule("limited", "counter name dropped drop");
    rule("contained", &format!("udp dport {MESH_PORT} accept"));
    rule("contained", &format!("udp sport {MESH_PORT} accept"));
    rule("contained", "ip daddr @friends4 accept");
    rule("contained", "ip6 daddr @friends6 accept");
    // What the site answers (HTTP/3) comes from a port that only a service has.
    rule("contained", "udp sport < 1024 accept");
    rule("contained", "counter name refused drop");
    text
}

/// Deletes the table whether it exists or not: adding an existing one changes nothing.
pub(super) fn removal(table: &Table) -> String {
    format!("add table {table}\ndelete table {table}\n")
}

/// Replaces what a quarantined host may reach.
pub(super) fn friends(table: &Table, friends: &[Prefix]) -> String {
    let mut text = format!("flush set {table} friends4\nflush set {table} friends6\n");
    for friend in friends {
        let family = if friend.address.is_ipv4() { 4 } else { 6 };
        let _ = writeln!(text, "add element {table} friends{family} {{ {} }}", prefix(*friend));
    }
    text
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
    use stead_proto::guard::Allowed;

    #[test]
    fn an_orphan_is_a_table_of_ours_without_an_interface() {
        let listed = "table netdev stead_guard_2\ntable inet stead_guard_3\ntable netdev stead_guard_4\n\
                      table ip stead_guard_5\ntable netdev stead_guard_06\ntable netdev stead_guard_mine\n\
                      table netdev stead_sensor_7\ntable inet filter\n";
        let found: Vec<String> = orphans(listed, &[2].into()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["inet stead_guard_3", "netdev stead_guard_4"]);
    }

    #[test]
    fn the_ruleset_is_what_was_reviewed() {
        let to = Prefix { address: "192.0.2.0".parse().unwrap(), bits: 24 };
        let friend = Prefix::host("2001:db8::7".parse().unwrap());
        let policy = GuardPolicy {
            allowed: vec![Allowed { to, port: Some(443), rate: Rate { per_second: 50, burst: 100 } }],
            friends: vec![friend],
            ..GuardPolicy::default()
        };
        let written = [Rung::NetdevEgress, Rung::InetOutput]
            .map(|rung| ruleset(&Table::of(rung, 2), "eth0", &policy))
            .join("\n");
        insta::assert_snapshot!(written);
    }
}
