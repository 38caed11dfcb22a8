//! SYNs at the nft netdev egress hook: the counter that raw and packet sockets do not get around.
//!
//! A table of our own with a chain on the uplink's egress hook counts every SYN that leaves, another one those
//! that were forwarded. They are made with the `nft` program and read over netlink (nfnetlink), which takes
//! microseconds instead of a process. Both chains only count; nothing is dropped or changed.
//!
//! **Invariant.** Both counters exist or neither is used: without the one for forwarded SYNs, those of a
//! container would be taken for forged ones. Only tables of this name are touched. SYNs inside VLAN tags that
//! a packet socket wrote by hand are not counted: nft does not look behind them, [`super::egress`] does.

use crate::{
    nfnetlink::{Family, Nfnetlink},
    nft::run,
};
use std::io;

const COUNTER: &str = "syn";

/// SYNs that left and, of these, SYNs that were forwarded.
pub(super) type Totals = [u64; 2];

#[derive(Debug)]
pub(super) struct NetdevCounters {
    table: String,
    kernel: Nfnetlink,
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
        let mut counters = Self { table, kernel: Nfnetlink::open().map_err(|error| error.to_string())? };
        counters.read().map_err(|error| format!("its counters cannot be read ({error})"))?;
        Ok(counters)
    }

    pub(super) fn read(&mut self) -> io::Result<Totals> {
        let mut read = |family| self.kernel.counter(family, &self.table, COUNTER);
        Ok([read(Family::Netdev)?, read(Family::Inet)?])
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
