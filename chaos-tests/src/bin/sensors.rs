//! The visibility matrix: what each sensor sees of each way to send SYNs. And what looking costs.
//!
//!     cargo run --release -p chaos-tests --bin sensors [-- --count 5000] [--json]
//!     cargo run --release -p chaos-tests --bin sensors -- --cost [--no-matrix] [--json]
//!
//! As root. Two hosts on a wire, in network namespaces that end with this program. The senders are those of
//! `node/tests/telemetry.rs`, which asserts what is only shown here. The costs are `chaos_tests::cost`.

use chaos_tests::cost::{Costs, Plan};
use clap::Parser;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use stead_node::telemetry::Sensors;
use stead_proto::telemetry::Sample;

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "shared with tests, where a failure is a panic"
)]
#[path = "../../../node/tests/common/mod.rs"]
mod common;
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "shared with tests, where a failure is a panic"
)]
#[path = "../../../node/tests/telemetry/senders.rs"]
mod senders;
#[allow(clippy::unwrap_used, clippy::panic, reason = "shared with tests, where a failure is a panic")]
#[path = "../../../node/tests/telemetry/xdp.rs"]
mod xdp;

use common::Bench;
use senders::{CLOSED, Inner, Syn};

/// What the sensors see of each way to send, and what they cost.
#[derive(Parser)]
#[command(after_help = "Example, three quarters of a minute, on a machine that does nothing else:\n  \
    cargo run --release -p chaos-tests --bin sensors -- --cost --no-matrix")]
struct Arguments {
    /// SYNs per way, 100 µs apart.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    count: u16,
    /// JSON instead of tables: a document each.
    #[arg(long)]
    json: bool,
    /// Measure, too, what the sensors and the limit cost a packet, a stream and the agent.
    #[arg(long)]
    cost: bool,
    /// Leave the matrix away.
    #[arg(long, requires = "cost")]
    no_matrix: bool,
}

#[derive(Clone, Copy)]
enum Way {
    Connect,
    Raw,
    RawWithPayload,
    Packet,
    PacketBypass,
    Xdp,
    Forwarded,
}

impl Way {
    const ALL: [(Self, &str); 7] = [
        (Self::Connect, "connect()"),
        (Self::Raw, "raw"),
        (Self::RawWithPayload, "raw with payload"),
        (Self::Packet, "AF_PACKET"),
        (Self::PacketBypass, "AF_PACKET, qdisc bypass"),
        (Self::Xdp, "AF_XDP"),
        (Self::Forwarded, "forwarded"),
    ];

    fn send(self, scene: &Scene<'_>, ipv6: bool, count: u16) {
        let uplink = scene.bench.uplink.ifindex;
        let to = if ipv6 { IpAddr::V6(common::PEER6) } else { IpAddr::V4(common::PEER4) };
        let syn = |number| Syn::new(ipv6, 20_000 + number);
        match self {
            Self::Connect => senders::connect(SocketAddr::new(to, CLOSED), count),
            Self::Raw => senders::send_raw(|number| (to, syn(number).packet()), count),
            Self::RawWithPayload => {
                let loaded = |number| Syn { payload: vec![7; 896], ..syn(number) };
                senders::send_raw(|number| (to, loaded(number).packet()), count);
            }
            Self::Packet => senders::send_frames(uplink, false, |number| syn(number).frame(), count),
            Self::PacketBypass => senders::send_frames(uplink, true, |number| syn(number).frame(), count),
            Self::Xdp => (0..count).for_each(|number| scene.around_all.send(&syn(number).frame())),
            Self::Forwarded => scene.container.run(|| senders::connect(SocketAddr::new(to, CLOSED), count)),
        }
    }
}

/// Where it is sent from.
struct Scene<'a> {
    bench: &'a Bench,
    around_all: xdp::Xdp,
    container: Inner,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (cost, json) = (arguments.cost, arguments.json);
    if !arguments.no_matrix {
        common::bench(move |bench| show(bench, &arguments));
    }
    if cost {
        let costs = Costs::measure(Plan::full())?;
        if json {
            println!("{}", serde_json::to_string_pretty(&costs)?);
        } else {
            println!("\n{costs}");
        }
    }
    Ok(())
}

fn show(bench: &Bench, arguments: &Arguments) {
    let (mut sensors, missing) = Sensors::open(&bench.uplink.name);
    for missing in &missing {
        eprintln!("{missing}");
    }
    let around_all = xdp::Xdp::open(bench.uplink.ifindex);
    let scene = Scene { bench, around_all, container: Inner::behind(bench) };
    let mut rows = Vec::new();
    for ipv6 in [false, true] {
        for (way, name) in Way::ALL {
            sensors.read();
            way.send(&scene, ipv6, arguments.count);
            let told = until_quiet(&mut sensors);
            rows.push(row(&format!("{name}, {}", if ipv6 { "IPv6" } else { "IPv4" }), &told));
        }
    }
    if arguments.json {
        println!("{:#}", json!({ "syns_sent": arguments.count, "rows": rows, "missing": missing.len() }));
    } else {
        println!("{} SYNs sent in each way\n", arguments.count);
        print_table(&rows);
    }
}

/// The sum of all readings until nothing more left for a fifth of a second, five seconds at most.
fn until_quiet(sensors: &mut Sensors) -> Vec<Sample> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut told = vec![sensors.read()];
    let mut quiet = 0;
    while quiet < 4 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        let sample = sensors.read();
        quiet = if sample.uplink.is_some_and(|uplink| uplink.sent > 0) { 0 } else { quiet + 1 };
        told.push(sample);
    }
    told
}

const COLUMNS: [&str; 11] = [
    "ActiveOpens",
    "nft netdev",
    "nft forward",
    "tc: tcp",
    "tc: raw",
    "tc: packet",
    "tc: forward",
    "tc: payload",
    "RST matched",
    "tc segments",
    "uplink sent",
];

fn row(name: &str, told: &[Sample]) -> Value {
    let sum = |part: &dyn Fn(&Sample) -> Option<u64>| told.iter().map(part).sum::<Option<u64>>();
    let egress = |part: &dyn Fn(&stead_proto::telemetry::Egress) -> u64| {
        sum(&|sample| sample.egress.as_ref().map(part))
    };
    let values = [
        sum(&|sample| sample.kernel.map(|kernel| kernel.active_opens)),
        sum(&|sample| sample.netdev_syn),
        sum(&|sample| sample.kernel.map(|kernel| kernel.forwarded_syn)),
        egress(&|egress| egress.syn.tcp),
        egress(&|egress| egress.syn.raw),
        egress(&|egress| egress.syn.packet),
        egress(&|egress| egress.syn.forwarded),
        egress(&|egress| egress.syn_with_payload),
        egress(&|egress| egress.rst_matched),
        egress(&|egress| egress.segments),
        sum(&|sample| sample.uplink.map(|uplink| uplink.sent)),
    ];
    let mut row = serde_json::Map::from_iter([("sent_by".to_owned(), json!(name))]);
    row.extend(COLUMNS.iter().zip(values).map(|(column, value)| ((*column).to_owned(), json!(value))));
    Value::Object(row)
}

fn print_table(rows: &[Value]) {
    let head: String = COLUMNS.iter().map(|column| format!(" {column:>11}")).collect();
    println!("{:30}{head}", "SYNs by");
    for row in rows {
        let text = |column: &str| {
            row.get(column).map_or_else(String::new, |value| match value {
                Value::Null => "blind".to_owned(),
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
            })
        };
        let values: String = COLUMNS.iter().map(|column| format!(" {:>11}", text(column))).collect();
        println!("{:30}{values}", text("sent_by"));
    }
}
