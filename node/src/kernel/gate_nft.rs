//! The gate without BPF: nft sets on the uplink's netdev hooks, whose elements time out in the kernel.
//!
//! An address is dropped when it is in `gated` and not in `live`; a renewal replaces its `live` element
//! with a new timeout in one transaction. A helper thread runs the `nft` program, so that a renewal never
//! waits.
//!
//! **Invariant.** A timeout is relative, so each one is computed in the moment before nft gets it, and if
//! nft took longer than [`Rung::slack_ms`] the element is replaced at once: an address is never open for
//! longer than its lease and the slack. (What is left: helper *and* nft frozen together in between.)

use super::gate::{ADDRESSES_MAX, GateConfig, GateError, Rung};
use crate::{sys::now, vip::rtnl::Link};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};
use stead_proto::time::{Instant, Span};

/// Renewals that may wait for the helper; it only ever works on the latest one per address.
const QUEUE_MAX: usize = 256;
/// How long a synchronous operation may take before the caller is told that it failed.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Priority of the hooks: before everybody else's.
const PRIORITY: i32 = -500;
/// Per rule: the sets it looks into, what it applies to, the field that is looked up.
type Field = (&'static str, &'static str, &'static str);
const EGRESS: [Field; 4] = [
    ("4", "meta protocol arp", "arp saddr ip"),
    ("4", "meta protocol ip", "ip saddr"),
    ("6", "meta protocol ip6", "@nh,64,128"),
    ("6", "icmpv6 type nd-neighbor-advert", "@th,64,128"),
];
const INGRESS: [Field; 4] = [
    ("4", "arp operation request", "arp daddr ip"),
    ("4", "meta protocol ip", "ip daddr"),
    ("6", "meta protocol ip6", "@nh,192,128"),
    ("6", "icmpv6 type nd-neighbor-solicit", "@th,64,128"),
];

#[derive(Debug)]
pub(super) struct NftGate {
    table: String,
    watched: BTreeSet<IpAddr>,
    helper: SyncSender<Order>,
}

enum Order {
    Open(IpAddr, Instant),
    /// Runs a script after everything that was ordered before it, forgetting what is open for an address.
    Run {
        address: IpAddr,
        script: String,
        answer: SyncSender<Result<(), String>>,
    },
}

impl NftGate {
    pub(super) fn open(config: &GateConfig, uplink: &Link) -> Result<Self, String> {
        let table = table(&config.instance, config.uplink_ifindex);
        let gated = config.addresses.iter().try_fold(String::new(), |mut text, address| {
            write!(text, "{}", add_gated(&table, *address)).map(|()| text)
        });
        let gated = gated.map_err(|error| error.to_string())?;
        // Sets and their live elements of an earlier run are kept; only the rules are written anew.
        let script = format!("{}{gated}", ruleset(&table, &uplink.name));
        if run(&script).is_err() {
            // An earlier table that cannot be updated (a renamed uplink): replace it, in one transaction.
            run(&format!("add table {table}\ndelete table {table}\n{script}"))?;
        }
        let (helper, orders) = sync_channel(QUEUE_MAX);
        let helped = table.clone();
        thread::Builder::new()
            .name("stead-nft-gate".into())
            .spawn(move || help(&helped, &orders))
            .map_err(|error| format!("no thread for nft ({error})"))?;
        Ok(Self { table, watched: config.addresses.iter().copied().collect(), helper })
    }

    pub(super) fn watch(&mut self, address: IpAddr) -> Result<(), GateError> {
        if self.watched.contains(&address) {
            return Ok(());
        }
        if self.watched.len() >= ADDRESSES_MAX {
            return Err(GateError::Full);
        }
        self.run_in_order(address, add_gated(&self.table, address))?;
        self.watched.insert(address);
        Ok(())
    }

    pub(super) fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError> {
        if !self.watched.contains(&address) {
            return Err(GateError::NotWatched(address));
        }
        self.order(Order::Open(address, until))
    }

    pub(super) fn close(&mut self, address: IpAddr) -> Result<(), GateError> {
        if !self.watched.contains(&address) {
            return Err(GateError::NotWatched(address));
        }
        self.run_in_order(address, close_script(&self.table, address))
    }

    pub(super) fn forget(&mut self, address: IpAddr) -> Result<(), GateError> {
        if !self.watched.contains(&address) {
            return Ok(());
        }
        let (table, set, element) = (&self.table, family(address), element(address));
        let close = close_script(table, address);
        self.run_in_order(address, format!("{close}delete element {table} gated{set} {{ {element} }}\n"))?;
        self.watched.remove(&address);
        Ok(())
    }

    pub(super) fn watched(&self) -> Vec<(IpAddr, Option<Instant>)> {
        self.watched.iter().map(|address| (*address, None)).collect()
    }

    /// Removes the table of one uplink; that there is none is fine.
    pub(super) fn remove(instance: &str, ifindex: u32) {
        let table = table(instance, ifindex);
        if let Err(why) = run(&format!("delete table {table}\n")) {
            tracing::debug!(why, "no nft gate to remove");
        }
    }

    /// Removes the tables of all uplinks.
    pub(super) fn remove_all(instance: &str) -> Result<(), String> {
        let Ok(tables) = output(&["list", "tables", "netdev"]) else { return Ok(()) };
        let ours = format!("{}_", prefix(instance));
        let named = |line: &str| line.trim().strip_prefix("table netdev ").map(str::to_owned);
        for name in tables.lines().filter_map(named).filter(|name| name.starts_with(&ours)) {
            run(&format!("delete table netdev {name}\n"))?;
        }
        Ok(())
    }

    fn run_in_order(&self, address: IpAddr, script: String) -> Result<(), GateError> {
        let (answer, answers) = sync_channel(1);
        self.order(Order::Run { address, script, answer })?;
        match answers.recv_timeout(ANSWER_WAIT) {
            Ok(result) => result.map_err(GateError::Nft),
            Err(_) => Err(GateError::Busy),
        }
    }

    fn order(&self, order: Order) -> Result<(), GateError> {
        self.helper.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => GateError::Busy,
            TrySendError::Disconnected(_) => GateError::Nft("the helper thread is gone".into()),
        })
    }
}

/// The helper thread: takes what is waiting, keeps the latest expiry of each address, applies it.
fn help(table: &str, orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut opens = BTreeMap::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Open(address, until) => {
                    opens.insert(address, until);
                }
                Order::Run { address, script, answer } => {
                    opens.remove(&address);
                    // Nobody may be waiting any more; the script counts all the same.
                    let _ = answer.send(run(&script));
                }
            }
            next = orders.try_recv().ok();
        }
        for (address, until) in opens {
            if let Err(why) = open_until(table, address, until) {
                tracing::warn!(%address, why, "the nft gate was not renewed; it closes at its last expiry");
            }
        }
    }
}

/// Replaces the live element, again if nft was so slow that the address would stay open too long.
fn open_until(table: &str, address: IpAddr, until: Instant) -> Result<(), String> {
    let slack = Span::from_ms(Rung::Nft.slack_ms());
    for _ in 0..3 {
        let start = now();
        let left = until.since(start);
        run(&open_script(table, address, left))?;
        if now().since(start) <= slack || left.as_ms() == 0 {
            return Ok(());
        }
    }
    // nft is too slow here to say how long: better closed than open too long.
    run(&close_script(table, address))
}

fn open_script(table: &str, address: IpAddr, left: Span) -> String {
    let (close, set, element) = (close_script(table, address), family(address), element(address));
    let ms = left.as_ms();
    // A timeout of zero would mean for ever.
    if ms == 0 {
        close
    } else {
        format!("{close}add element {table} live{set} {{ {element} timeout {ms}ms }}\n")
    }
}

/// Deletes the live element whether it exists or not: adding an existing one changes nothing.
fn close_script(table: &str, address: IpAddr) -> String {
    let (set, element) = (family(address), element(address));
    let live = format!("element {table} live{set} {{ {element}");
    format!("add {live} timeout 1s }}\ndelete {live} }}\n")
}

fn add_gated(table: &str, address: IpAddr) -> String {
    format!("add element {table} gated{} {{ {} }}\n", family(address), element(address))
}

/// The same rules as `bpf/gate.bpf.c`, except that VLAN tags are not looked into and an announcement by
/// ARP request is dropped like any other request (ours are sent as replies, too).
///
/// IPv6 addresses are compared as raw bits of the network header (`nh`), because nft before 1.0.8 has no
/// word for the target of a neighbour message (`th`) and a set has one type.
fn ruleset(table: &str, uplink: &str) -> String {
    let mut text = format!("add table {table}\n");
    for (set, kind) in [("4", "type ipv4_addr"), ("6", "typeof @nh,64,128")] {
        let _ = writeln!(text, "add set {table} gated{set} {{ {kind}; }}");
        let _ = writeln!(text, "add set {table} live{set} {{ {kind}; flags timeout; }}");
    }
    for (hook, fields) in [("egress", EGRESS), ("ingress", INGRESS)] {
        let place = format!("hook {hook} device \"{uplink}\" priority {PRIORITY}");
        let _ = writeln!(text, "add chain {table} {hook} {{ type filter {place}; policy accept; }}");
        let _ = writeln!(text, "flush chain {table} {hook}");
        for (set, guard, field) in fields {
            let _ = writeln!(
                text,
                "add rule {table} {hook} {guard} {field} @gated{set} {field} != @live{set} drop"
            );
        }
    }
    text
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "4" } else { "6" }
}

/// An address as an element of its set.
fn element(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:#034x}", u128::from(address)),
    }
}

fn table(instance: &str, ifindex: u32) -> String {
    format!("netdev {}_{ifindex}", prefix(instance))
}

fn prefix(instance: &str) -> String {
    format!("stead_gate_{}", instance.replace('-', "_"))
}

fn run(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("the program nft cannot be started ({error}); install the package nftables")
        })?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return written.map_err(|error| error.to_string());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("it failed without a word").chars().take(200).collect())
}

fn output(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("nft").args(arguments).output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_without_a_millisecond_left_is_closed_not_opened_for_ever() {
        let script = open_script("netdev t", "192.0.2.1".parse().unwrap(), Span::from_ns(999_999));
        assert!(script.ends_with("delete element netdev t live4 { 192.0.2.1 }\n"), "{script}");
    }

    #[test]
    fn each_rule_tests_the_same_field_against_both_sets() {
        let rules = ruleset("netdev t", "eth0");
        assert!(rules.contains("arp saddr ip @gated4 arp saddr ip != @live4 drop"), "{rules}");
        assert!(
            rules.contains("nd-neighbor-solicit @th,64,128 @gated6 @th,64,128 != @live6 drop"),
            "{rules}"
        );
    }

    #[test]
    fn an_ipv6_element_is_written_as_all_its_bits() {
        let element = element("fd77::100".parse().unwrap());
        assert_eq!(element, "0xfd770000000000000000000000000100");
    }
}
