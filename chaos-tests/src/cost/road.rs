//! Three hosts in a row: a sender, a router with its uplink, a sink that swallows what it gets.
//!
//! **Invariant.** All of it is anonymous namespaces of this process: nothing outlives it. Nobody answers what goes to
//! [`NOBODY`], and no kernel talks by itself, so that what is counted is what was sent, one way through the router.

use super::frames::Path;
use anyhow::{Context as _, ensure};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use stead_deploy::lab::namespace::Namespace;

/// The router's interface that the sensors watch.
pub(super) const UPLINK: &str = "uplink";
/// Behind the uplink; the router sends to the sink what is for it.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 200);
/// The sink's own address.
pub(super) const SINK: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 2);
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0x91, 2];
const DOOR_MAC: [u8; 6] = [2, 0, 0, 0, 0x91, 1];

pub(super) struct Road {
    pub(super) sender: Namespace,
    pub(super) router: Namespace,
    pub(super) sink: Namespace,
    /// The index of [`UPLINK`].
    pub(super) uplink: u32,
    /// The index of the sender's interface.
    pub(super) way_out: u32,
}

impl Road {
    pub(super) fn build() -> anyhow::Result<Self> {
        let (sender, router, sink) = (Namespace::create()?, Namespace::create()?, Namespace::create()?);
        for namespace in [&sender, &router, &sink] {
            namespace.run(without_ipv6)??;
        }
        let of = |namespace: &Namespace| format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        let (to_sender, to_sink) = (of(&sender), of(&sink));
        router.run(|| {
            ip("link set lo up")?;
            ip("link add door address 02:00:00:00:91:01 type veth peer name out address 02:00:00:00:91:02")?;
            ip("link add uplink address 02:00:00:00:92:01 type veth peer name in address 02:00:00:00:92:02")?;
            ip(&format!("link set out netns {to_sender}"))?;
            ip(&format!("link set in netns {to_sink}"))?;
            ip("addr add 10.91.0.1/24 dev door")?;
            ip("addr add 10.92.0.1/24 dev uplink")?;
            ip("link set door up")?;
            ip("link set uplink up")?;
            ip("neigh add 10.92.0.200 lladdr 02:00:00:00:92:02 dev uplink nud permanent")?;
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the router forward")
        })??;
        sender.run(|| {
            ip("addr add 10.91.0.2/24 dev out")?;
            ip("link set out up")
        })??;
        sink.run(|| {
            ip("addr add 10.92.0.2/24 dev in")?;
            ip("link set in up")
        })??;
        let uplink = router.run(|| index_of(UPLINK))??;
        let way_out = sender.run(|| index_of("out"))??;
        Ok(Self { sender, router, sink, uplink, way_out })
    }

    /// From the sender to nobody.
    pub(super) const fn path(&self) -> Path {
        Path {
            from_mac: SENDER_MAC,
            to_mac: DOOR_MAC,
            from: std::net::IpAddr::V4(SENDER),
            to: std::net::IpAddr::V4(NOBODY),
            ports: (40_000, 7),
        }
    }

    /// Packets that the sink's interface has received.
    pub(super) fn arrived(&self) -> anyhow::Result<u64> {
        self.sink.run(|| {
            let devices = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let line = devices.lines().find_map(|line| line.trim().strip_prefix("in:"));
            let packets = line.and_then(|line| line.split_whitespace().nth(1));
            packets.context("no counter of the sink's interface")?.parse().context("not a number")
        })?
    }
}

/// It solicits routers and reports groups.
fn without_ipv6() -> anyhow::Result<()> {
    for links in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{links}/disable_ipv6");
        if std::fs::exists(&file)? {
            std::fs::write(&file, "1").with_context(|| format!("write {file}"))?;
        }
    }
    Ok(())
}

/// Runs `ip` in this thread's namespace.
pub(super) fn ip(arguments: &str) -> anyhow::Result<()> {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().context("run ip: install iproute2")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn index_of(name: &str) -> anyhow::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?,
        name,
    )?)
}
