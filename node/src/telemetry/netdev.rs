//! SYNs at the nft netdev egress hook: the counter that raw and packet sockets do not get around.
//!
//! A table of our own with a chain on the uplink's egress hook counts every SYN that leaves, and apart those that
//! leave without a socket of this namespace: the forwarded ones. It is made with the `nft` program and read over
//! netlink (nfnetlink), which takes microseconds instead of a process. It only counts; nothing is dropped or changed.
//!
//! The forward hook would tell the same of a routed packet, but with `br_netfilter` it is also shown what a bridge
//! hands from one of its ports to another. That never leaves by the uplink, and subtracting it would hide as much of
//! this host's own. A socket of the kernel itself (NFS) has no owner and is taken for forwarded.
//!
//! **Invariant.** Both counters exist or neither is used: without the one for forwarded SYNs, those of a
//! container would be taken for forged ones. Only the table of this name is touched. SYNs inside VLAN tags that
//! a packet socket wrote by hand are not counted: nft does not look behind them, [`super::egress`] does.

use crate::{
    nfnetlink::{Family, Nfnetlink},
    nft::run,
};
use std::io;

const ALL: &str = "syn";
const FORWARDED: &str = "forwarded";
const CHAIN: &str = "egress";
const RULES: u32 = 3;

/// SYNs that left and, of these, SYNs that were forwarded.
pub(super) type Totals = [u64; 2];

#[derive(Debug)]
pub(super) struct NetdevCounters {
    table: String,
    kernel: Nfnetlink,
}

impl NetdevCounters {
    /// Makes the table, or adopts that of an earlier run with what it has counted.
    pub(super) fn open(uplink: &str, ifindex: u32) -> Result<Self, String> {
        let table = format!("stead_sensor_{ifindex}");
        let script = ruleset(&table, uplink);
        if run(&script).is_err() {
            // An earlier table that cannot be updated (its interface was renamed or replaced): a new one.
            run(&format!("{}{script}", removal(&table)))?;
        }
        let mut counters = Self { table, kernel: Nfnetlink::open().map_err(|error| error.to_string())? };
        counters.read().map_err(|error| format!("its counters cannot be read ({error})"))?;
        Ok(counters)
    }

    pub(super) fn read(&mut self) -> io::Result<Totals> {
        let mut read = |name| self.kernel.counter(Family::Netdev, &self.table, name);
        Ok([read(ALL)?, read(FORWARDED)?])
    }

    /// Whether the rules still stand at the hook. Somebody may have flushed them, or the uplink may have taken them
    /// along; the counters stay, and what they would tell is zero, which is not what it means.
    pub(super) fn is_attached(&mut self) -> bool {
        self.kernel.hooked_rules(Family::Netdev, &self.table, CHAIN).is_ok_and(|rules| rules == RULES)
    }
}

impl Drop for NetdevCounters {
    fn drop(&mut self) {
        if let Err(why) = run(&removal(&self.table)) {
            tracing::debug!(why, "no nft counters to remove");
        }
    }
}

/// A SYN of a socket ends at the second rule, whoever owns it: who has no socket has no owner to compare.
fn ruleset(table: &str, uplink: &str) -> String {
    let syn = "tcp flags & (syn | ack) == syn";
    format!(
        "add table netdev {table}
add counter netdev {table} {ALL}
add counter netdev {table} {FORWARDED}
add chain netdev {table} {CHAIN} {{ type filter hook egress device \"{uplink}\" priority 0; policy accept; }}
flush chain netdev {table} {CHAIN}
add rule netdev {table} {CHAIN} {syn} counter name {ALL}
add rule netdev {table} {CHAIN} {syn} meta skuid >= 0 accept
add rule netdev {table} {CHAIN} {syn} counter name {FORWARDED}
"
    )
}

/// Deletes the table whether it exists or not: adding an existing one changes nothing.
fn removal(table: &str) -> String {
    format!("add table netdev {table}\ndelete table netdev {table}\n")
}
