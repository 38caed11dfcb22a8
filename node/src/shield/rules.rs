//! The ruleset as text, a pure function of what is guarded and of the connections that are there already.
//!
//! | packet to a guarded address and port | chain | then |
//! |---|---|---|
//! | SYN of a new connection | `syn`, *after* everybody's filters | the proxy answers with a cookie; it goes no further |
//! | ACK of no known connection | `ack`, *before* everybody's filters | right cookie: the proxy dials the listener; else dropped |
//! | of a connection that conntrack knows | – | goes its way |
//! | of a connection that was there before (`bypass`) | – | goes its way |
//!
//! Who may not come in by the host's own firewall gets no cookie, because its filters see the SYN first; and who has
//! a cookie passed them, so that `ct state invalid drop` and "new but not SYN" rules need not see the ACK.
//!
//! SYNs are *not* marked `notrack`, as manuals for routers say: an untracked SYN dies in every firewall that
//! says `ct state new accept`. A packet that the proxy takes is never confirmed, so it has no entry in the
//! table either way. For the same reason `nf_conntrack_tcp_loose` stays as it is: both states of an unknown ACK
//! (`new` and `invalid`) go to the proxy.
//!
//! When a cookie came back, the kernel's proxy dials the listener from the visitor's address, over loopback. Two of
//! these packets need help, in `dialled` and `tracked`:
//! - Its ACK carries a timestamp that is already the listener's, and then has it translated once more. Since
//!   Linux 6.15 listeners refuse that (`TcpExt:TSEcrRejected`), and handshakes stall for seconds: 1 of 250, of those
//!   that meet a full queue most. What conntrack does not see is not translated.
//! - Conntrack then has no ACK of the visitor's until the first data, and would forget a quiet visitor after a minute.
//!   With a timeout of its own it is `QUIET_S` seconds.
//!
//! The proxy opens no window before the listener answered, so a visitor whose ACK was lost, or whose dial was, can
//! only probe; Linux does so with an ACK one short of the right number. A probe is known by its having come before
//! (`again`) or by the dial that conntrack knows, and gets the number it should have (`probe`). What remains is the
//! kernel's: if the ACK was lost and the visitor's MSS is not the largest that a cookie knows (1460; 8940 over IPv6),
//! its first probe fits the cookie of the next larger MSS, and the connection hangs, one byte short.
//!
//! What the proxy is asked and what it answers is counted for each family, because the kernel's proxy drops IPv6 SYNs
//! whose checksum the NIC did not verify (it takes them for IPv4), without counting them anywhere.
//!
//! **Invariant.** Each script is one transaction, and only ever about the table `TABLE`. While a connection lives
//! that the proxy let in, the chain `proxy` stands, reachable or not: with it go the kernel's hooks that
//! translate sequence numbers and timestamps.

use super::diag::Flow;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Our table.
pub(super) const TABLE: &str = "inet stead_shield";
/// Connections that may be there when the shield is raised: about 10 MB of kernel memory.
pub const BYPASS_MAX: usize = 1 << 16;
/// Those that the kernel may add by itself while handshakes straddle the raising.
const BYPASS_SPARE: usize = 1 << 12;
/// How long a handshake may straddle the raising or lowering.
pub(super) const GRACE: Duration = Duration::from_secs(4);
/// The timestamps that the proxy may have given to who answers within the grace, around the moment of raising.
const CLOCK_BEFORE_MS: u32 = 1_000;
const CLOCK_AFTER_MS: u32 = 20_000;
/// A visitor who is let in and neither says nor hears anything for so long is forgotten.
const QUIET_S: u32 = 300;
/// How long a flow is remembered whose ACK came and did not make it known, and how many of them.
const AGAIN_S: u32 = 15;
const AGAIN_MAX: usize = 1 << 16;
/// Bits over which a probe's number may carry; one of 2^16 carries further and waits for the next.
const CARRY_BITS: u32 = 16;
/// Before conntrack (-200), and before whoever marks packets in its place (-300).
const DIALLED_PRIORITY: i32 = -310;
/// Before mangle (-150) and all filters, after conntrack.
const ACK_PRIORITY: i32 = -180;
/// After filters (0), firewalld (10), security (50) and NAT (100); before conntrack's end.
const SYN_PRIORITY: i32 = 200;

/// SYNs that came to the proxy, and SYN-ACKs that left it or a listener behind it.
pub(super) const COUNTERS: [&str; 4] = ["asked4", "asked6", "answered4", "answered6"];
const FLAGS: &str = "tcp flags & (fin | syn | rst | ack)";

/// What the proxy offers in the listener's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// Largest segment that we take, in bytes.
    pub mss: u16,
    /// Shift of our window: it must be what the listener itself will choose. `None`: no scaling.
    pub wscale: Option<u8>,
    /// Whether timestamps are answered; without them a cookie cannot carry scaling and SACK.
    pub timestamps: bool,
    /// Whether selective acknowledgements are permitted.
    pub sack: bool,
}

/// An address and port before which the proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guarded {
    /// The endpoint's address and a port of it.
    pub to: SocketAddr,
    /// What to offer there.
    pub offer: Offer,
}

/// Replaces whatever was there: the proxy before `guarded`, around `bypass`.
///
/// `clock_ms` is `CLOCK_MONOTONIC` in milliseconds, modulo 2³²: the proxy's timestamps. The kernel's own have a
/// random offset (but with `tcp_timestamps=2`, where the proxy reads them right), which tells whose cookie an ACK brings.
#[must_use]
pub fn raised(guarded: &[Guarded], bypass: &BTreeSet<Flow>, clock_ms: u32) -> String {
    let mut text = removal();
    let _ = writeln!(text, "add table {TABLE}");
    for (family, kind) in [("4", "ipv4_addr"), ("6", "ipv6_addr")] {
        let _ = writeln!(text, "add set {TABLE} guarded{family} {{ type {kind} . inet_service; }}");
        let _ = writeln!(
            text,
            "add set {TABLE} bypass{family} {{ type {kind} . inet_service . {kind} . inet_service; flags dynamic; \
             size {}; }}",
            BYPASS_MAX + BYPASS_SPARE
        );
        let _ = writeln!(
            text,
            "add set {TABLE} again{family} {{ type {kind} . inet_service . {kind} . inet_service; flags dynamic,timeout; \
             timeout {AGAIN_S}s; size {AGAIN_MAX}; }}"
        );
    }
    for counter in COUNTERS {
        let _ = writeln!(text, "add counter {TABLE} {counter}");
    }
    let _ = writeln!(text, "add set {TABLE} grace {{ type inet_service; flags timeout; }}");
    for chain in ["proxy", "probe", "answer"] {
        let _ = writeln!(text, "add chain {TABLE} {chain}");
    }
    for (family, protocol) in [("4", "ip"), ("6", "ip6")] {
        let _ = writeln!(
            text,
            "add ct timeout {TABLE} quiet{family} {{ protocol tcp; l3proto {protocol}; policy = {{ syn_recv : {QUIET_S} }}; }}"
        );
    }
    for (chain, hook, priority) in [
        ("ack", "input", ACK_PRIORITY),
        ("syn", "input", SYN_PRIORITY),
        ("dialled", "output", DIALLED_PRIORITY),
        ("tracked", "output", SYN_PRIORITY),
    ] {
        let place = format!("type filter hook {hook} priority {priority}; policy accept;");
        let _ = writeln!(text, "add chain {TABLE} {chain} {{ {place} }}");
    }
    for address in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let of_family = guarded.iter().map(|guarded| guarded.to).filter(|to| address(&to.ip()));
        let elements: Vec<_> = of_family.clone().map(place).collect();
        let Some(first) = of_family.clone().next() else { continue };
        let set = family(first.ip());
        let _ = writeln!(text, "add element {TABLE} guarded{set} {{ {} }}", elements.join(", "));
    }
    text += &grace(guarded.iter().map(|guarded| guarded.to.port()));
    text += &more_bypass(bypass);
    for Guarded { to, offer } in guarded {
        let (word, address) = (word(to.ip()), to.ip());
        let _ = writeln!(
            text,
            "add rule {TABLE} proxy {word} daddr {address} tcp dport {} {}",
            to.port(),
            synproxy(*offer)
        );
    }
    let ours = clock(clock_ms);
    let mut ack = ack_of_nobody();
    for (word, set) in [("ip", "4"), ("ip6", "6")] {
        let flow = flow_words(word);
        ack.push(format!(
            "{word} daddr . tcp dport @guarded{set} tcp dport @grace tcp option timestamp tsecr != {ours} add @bypass{set} {{ {flow} }} \
             return"
        ));
    }
    ack.push("jump answer".into());
    let syn = [
        "iif lo return".into(),
        format!("{FLAGS} != syn return"),
        "ct state != new return".into(),
        bypassed("ip", "4"),
        bypassed("ip6", "6"),
        "ip daddr . tcp dport @guarded4 counter name asked4".into(),
        "ip6 daddr . tcp dport @guarded6 counter name asked6".into(),
        "jump proxy".into(),
    ];
    text += &rules("ack", &ack);
    text += &rules("answer", &answer());
    text += &rules("probe", &probe());
    text += &rules("syn", &syn);
    for (word, set) in [("ip", "4"), ("ip6", "6")] {
        // Whose source is somebody else's address is the proxy's; others are this host's own visits.
        let to = format!("{word} daddr . tcp dport @guarded{set} fib saddr type != local");
        let dialled = format!("oif lo {FLAGS} == ack {to} notrack");
        let tracked = format!("oif lo {FLAGS} == syn ct state new {to} ct timeout set \"quiet{set}\"");
        // Of what conntrack knows only the proxy's answers are, and those of listeners that it dialled.
        let from = format!("{word} saddr . tcp sport @guarded{set}");
        let answered = format!("{FLAGS} == syn | ack ct state established {from} counter name answered{set}");
        text += &rules("dialled", &[dialled]);
        text += &rules("tracked", &[tracked, answered]);
    }
    text
}

/// SYNs go to the listeners again. The proxy only ends the handshakes that it began, for `GRACE`; then nothing
/// is dropped any more, and the table waits for [`removal`].
#[must_use]
pub fn lowered(ports: &BTreeSet<u16>) -> String {
    let mut ack = ack_of_nobody();
    ack.push("tcp dport @grace jump answer".into());
    format!(
        "flush chain {TABLE} syn\nflush chain {TABLE} ack\nflush set {TABLE} grace\n{}{}",
        grace(ports.iter().copied()),
        rules("ack", &ack)
    )
}

/// Lets more connections pass the proxy by.
#[must_use]
pub fn more_bypass(flows: &BTreeSet<Flow>) -> String {
    let mut text = String::new();
    for address in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let elements: Vec<_> = flows
            .iter()
            .filter(|flow| address(&flow.local.ip()))
            .map(|flow| format!("{} . {}", place(flow.remote), place(flow.local)))
            .collect();
        if let Some(flow) = flows.iter().find(|flow| address(&flow.local.ip())) {
            let set = family(flow.local.ip());
            let _ = writeln!(text, "add element {TABLE} bypass{set} {{ {} }}", elements.join(", "));
        }
    }
    text
}

/// Deletes the table whether it exists or not: adding an existing one changes nothing.
#[must_use]
pub fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// What of the ACKs is none of the proxy's business.
fn ack_of_nobody() -> Vec<String> {
    vec![
        "iif lo return".into(),
        "tcp flags & (syn | rst | ack) != ack return".into(),
        "ct state established,related,untracked return".into(),
        bypassed("ip", "4"),
        bypassed("ip6", "6"),
    ]
}

/// What an ACK of no known connection is: a handshake's end, or a probe after that was lost.
fn answer() -> Vec<String> {
    let mut rules = vec!["ct state new ct status confirmed goto probe".into()];
    // Without payload, with and without timestamps: others than Linux probe with a byte and the right number.
    for (word, set, lengths) in [("ip", "4", "40, 52"), ("ip6", "6", "20, 32")] {
        let flow = flow_words(word);
        rules.push(format!("{word} length {{ {lengths} }} {flow} @again{set} goto probe"));
        rules.push(format!("{word} daddr . tcp dport @guarded{set} add @again{set} {{ {flow} }}"));
    }
    rules.push("goto proxy".into());
    rules
}

/// Adds one to a sequence number, which nft can only do bit by bit: the trailing ones, and the zero before them.
fn probe() -> Vec<String> {
    let carry = |bit: u32| {
        let (ones, flip) = ((1u32 << bit) - 1, (2u32 << bit) - 1);
        format!("tcp sequence & {flip:#x} == {ones:#x} tcp sequence set tcp sequence ^ {flip:#x} goto proxy")
    };
    (0..CARRY_BITS).map(carry).collect()
}

fn bypassed(word: &str, set: &str) -> String {
    format!("{} @bypass{set} return", flow_words(word))
}

fn flow_words(word: &str) -> String {
    format!("{word} saddr . tcp sport . {word} daddr . tcp dport")
}

fn rules(chain: &str, bodies: &[String]) -> String {
    bodies.iter().map(|body| format!("add rule {TABLE} {chain} {body}\n")).collect()
}

fn grace(ports: impl Iterator<Item = u16>) -> String {
    let elements: BTreeSet<_> = ports.collect();
    if elements.is_empty() {
        return String::new();
    }
    let elements: Vec<_> =
        elements.iter().map(|port| format!("{port} timeout {}s", GRACE.as_secs())).collect();
    format!("add element {TABLE} grace {{ {} }}\n", elements.join(", "))
}

fn synproxy(offer: Offer) -> String {
    let mut text = format!("synproxy mss {}", offer.mss);
    if let Some(wscale) = offer.wscale {
        let _ = write!(text, " wscale {wscale}");
    }
    for (word, wanted) in [(" timestamp", offer.timestamps), (" sack-perm", offer.sack)] {
        text += if wanted { word } else { "" };
    }
    text
}

/// The proxy's timestamps around a moment, as a set; the clock starts again at zero every 49 days.
fn clock(now_ms: u32) -> String {
    let (from, to) = (now_ms.wrapping_sub(CLOCK_BEFORE_MS), now_ms.wrapping_add(CLOCK_AFTER_MS));
    if from <= to { format!("{{ {from}-{to} }}") } else { format!("{{ 0-{to}, {from}-{} }}", u32::MAX) }
}

fn place(to: SocketAddr) -> String {
    format!("{} . {}", to.ip(), to.port())
}

fn word(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "4" } else { "6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> Vec<Guarded> {
        let full = Offer { mss: 1_460, wscale: Some(7), timestamps: true, sack: true };
        let bare = Offer { mss: 1_440, wscale: None, timestamps: false, sack: false };
        [("192.0.2.1:80", full), ("192.0.2.1:443", full), ("[2001:db8::1]:443", bare)]
            .map(|(to, offer)| Guarded { to: to.parse().unwrap(), offer })
            .to_vec()
    }

    fn flow(remote: &str, local: &str) -> Flow {
        Flow { remote: remote.parse().unwrap(), local: local.parse().unwrap() }
    }

    #[test]
    fn the_ruleset_is_exactly_this_text() {
        let bypass = BTreeSet::from([
            flow("198.51.100.7:50000", "192.0.2.1:443"),
            flow("198.51.100.8:50001", "192.0.2.1:443"),
            flow("[2001:db8::7]:50000", "[2001:db8::1]:443"),
        ]);
        insta::assert_snapshot!("raised", raised(&guarded(), &bypass, 5_000_000));
        insta::assert_snapshot!("lowered", lowered(&BTreeSet::from([80, 443])));
    }

    #[test]
    fn one_family_alone_leaves_the_sets_of_the_other_empty() {
        let text = raised(&guarded()[..1], &BTreeSet::new(), 0);
        assert!(!text.contains("add element inet stead_shield guarded6"), "{text}");
        assert!(!text.contains("add element inet stead_shield bypass"), "{text}");
    }

    #[test]
    fn the_clock_may_start_again_within_the_grace() {
        assert_eq!(clock(5_000), "{ 4000-25000 }");
        assert_eq!(clock(500), "{ 0-20500, 4294966796-4294967295 }");
        assert_eq!(clock(u32::MAX), "{ 0-19999, 4294966295-4294967295 }");
    }

    #[test]
    fn no_script_names_a_table_that_is_not_ours() {
        let scripts =
            [raised(&guarded(), &BTreeSet::new(), 1), lowered(&BTreeSet::from([80])), removal()].concat();
        for line in scripts.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let at = if line.starts_with("add ct timeout") { 3 } else { 2 };
            assert_eq!(words[at..at + 2], ["inet", "stead_shield"], "{line}");
        }
    }
}
