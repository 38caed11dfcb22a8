//! Two network namespaces with a cable between them, for tests against the real kernel.
//!
//! "Here" is the thread that runs the test, "the peer" is a neighbour on the same wire. Both namespaces, and
//! the mount namespace with its own BPF file system, vanish with the threads and descriptors that use them:
//! nothing outside is touched, and nothing stays behind, not even after a panic.
//!
//! One bench at a time in each test binary: they measure time, and a machine may have only two cores.
#![allow(unsafe_code, dead_code, unreachable_pub)]

use futures_util::TryStreamExt as _;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe},
    time::{ClockId, clock_gettime},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use stead_node::{
    clock::now,
    sys::packet_address,
    vip::{
        Vip,
        rtnl::{Link, Rtnl},
    },
};
use stead_proto::time::{Instant, Span};

pub const HERE4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PEER4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
pub const HERE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);
pub const HERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const UDP_PORT: u16 = 7000;
const MARK_PORT: u16 = 7001;

/// How much longer a frame may be under way than one that was sent after it.
const STRAY: Duration = Duration::from_millis(50);
const MARK_WAIT: Duration = Duration::from_secs(10);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The wire and the two hosts on it.
pub struct Bench {
    /// This host's end of the cable.
    pub uplink: Link,
    peer: File,
}

/// Runs `test` on a thread of its own, in fresh namespaces.
pub fn bench(test: impl FnOnce(&Bench) + Send + 'static) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test talks to the real kernel in network namespaces of its own: run it as root"
    );
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = thread::Builder::new().name("here".into()).spawn(|| test(&Bench::set_up())).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Bench {
    fn set_up() -> Self {
        enter_fresh(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None).unwrap();
        let peer = namespace();
        add_cable(("uplink", HERE_MAC, None), ("wire", PEER_MAC));
        netlink(async |handle| {
            let moved = LinkUnspec::new_with_name("wire").setns_by_fd(peer.as_raw_fd()).build();
            handle.link().set(moved).execute().await.unwrap();
        });
        configure("uplink", HERE4, HERE6);
        let bench = Self { uplink: link_named("uplink"), peer };
        bench.at_peer(|| configure("wire", PEER4, PEER6));
        wait_for("the cable", || {
            link_named("uplink").running && bench.at_peer(|| link_named("wire").running)
        });
        // Resolving the peer would take frames that the gate may be holding back.
        for address in [IpAddr::V4(PEER4), IpAddr::V6(PEER6)] {
            neighbour_put("uplink", address, PEER_MAC, NeighbourState::Permanent);
        }
        Self { uplink: link_named("uplink"), ..bench }
    }

    /// Runs `work` on a thread at the peer and waits for it.
    pub fn at_peer<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.peer.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A socket at the peer that hears every frame.
    pub fn tap(&self) -> Tap {
        self.at_peer(|| Tap::on("wire"))
    }

    /// Puts both addresses of the endpoint here, for a minute.
    pub fn hold_addresses(&self) {
        let mut vip = Vip::open().unwrap();
        for address in [IpAddr::V4(VIP4), IpAddr::V6(VIP6)] {
            vip.claim(address, self.uplink.ifindex, now(), in_ms(60_000)).unwrap();
        }
    }
}

/// Hears every frame on the wire.
pub struct Tap {
    socket: Socket,
    /// What to subtract from a wall clock reading, in nanoseconds.
    wall_ahead_ns: u64,
}

impl Tap {
    /// On an interface of this thread's namespace.
    pub fn on(name: &str) -> Self {
        const ETH_P_ALL: u16 = 3;
        let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20).unwrap();
        socket.bind(&packet_address(link_named(name).ifindex, ETH_P_ALL)).unwrap();
        let tap = Self { socket, wall_ahead_ns: wall_ahead_ns() };
        // The first question makes the kernel stamp frames from now on.
        tap.stamp();
        tap
    }

    /// The next frame and when the kernel received it; `None` after `wait` without one.
    pub fn next(&self, wait: Duration) -> Option<(Instant, Vec<u8>)> {
        self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(1)))).unwrap();
        let mut frame = [0; 2048];
        let length = (&self.socket).read(&mut frame).ok()?;
        Some((self.stamp().unwrap_or_else(now), frame[..length].to_vec()))
    }

    /// The first frame that `wanted` accepts, within `wait`.
    pub fn find(&self, wait: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<(Instant, Vec<u8>)> {
        let deadline = std::time::Instant::now() + wait;
        loop {
            let left = deadline.checked_duration_since(std::time::Instant::now())?;
            let (at, frame) = self.next(left)?;
            if wanted(&frame) {
                return Some((at, frame));
            }
        }
    }

    /// Throws away what was heard so far.
    pub fn drain(&self) {
        while self.next(Duration::from_micros(1)).is_some() {}
    }

    /// All datagrams of a [`Sender`] until [`mark_end`], and what strayed in shortly after it. That the mark
    /// is heard proves that the tap had room for everything before it.
    pub fn datagrams(&self) -> Vec<Datagram> {
        let (mut all, mut marked) = (Vec::new(), false);
        let wanted = |frame: &[u8]| datagram(frame).is_some() || is_mark(frame);
        while let Some((heard, frame)) = self.find(if marked { STRAY } else { MARK_WAIT }, wanted) {
            marked |= is_mark(&frame);
            all.extend(datagram(&frame).map(|(number, sent)| Datagram { number, sent, heard }));
        }
        assert!(marked, "the tap overflowed, so nothing it heard proves anything");
        all
    }

    /// When the kernel received the frame that was read last, on the clock of leases.
    fn stamp(&self) -> Option<Instant> {
        const SIOCGSTAMPNS: libc::c_ulong = 0x8907;
        let mut wall = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one `timespec` through the pointer, which lives until the call returns.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCGSTAMPNS as _, &raw mut wall) };
        let ns = u64::try_from(wall.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(wall.tv_nsec).unwrap();
        (result == 0).then(|| Instant::from_ns(ns - self.wall_ahead_ns))
    }
}

/// How far the wall clock is ahead of the clock of leases, taken where the two readings lay closest together.
fn wall_ahead_ns() -> u64 {
    let reading = || {
        let (before, wall, after) = (now(), clock_gettime(ClockId::Realtime), now());
        let wall_ns = u64::try_from(wall.tv_sec * 1_000_000_000 + wall.tv_nsec).unwrap();
        (after.since(before), wall_ns - before.as_ns() - after.since(before).as_ns() / 2)
    };
    (0..64).map(|_| reading()).min().unwrap().1
}

/// An application that sends datagrams from an address to the peer as fast as it can. Each one carries its
/// number and the time just before it was sent, so that what arrives tells exactly what was let out.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Sender {
    /// Starts in this thread's namespace, waiting `pause` between datagrams.
    pub fn start(from: IpAddr, pause: Duration) -> Self {
        let to: IpAddr = if from.is_ipv4() { PEER4.into() } else { PEER6.into() };
        let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut number = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let mut datagram = number.to_be_bytes().to_vec();
                datagram.extend(now().as_ns().to_be_bytes());
                // A closed gate may or may not show as an error; the tap is the judge.
                let _ = socket.send_to(&datagram, (to, UDP_PORT));
                number += 1;
                let next = std::time::Instant::now() + pause;
                while std::time::Instant::now() < next {
                    std::hint::spin_loop();
                }
            }
            number
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops it; says how many datagrams it tried to send.
    pub fn stop(mut self) -> u64 {
        self.halt()
    }

    fn halt(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A sender's datagram: its number, just before it was sent, when the peer's kernel received it.
pub struct Datagram {
    pub number: u64,
    pub sent: Instant,
    pub heard: Instant,
}

/// Ends what [`Tap::datagrams`] listens to: a datagram from an address that nobody gates.
pub fn mark_end() {
    let socket = std::net::UdpSocket::bind((HERE4, 0)).unwrap();
    socket.send_to(b"end", (PEER4, MARK_PORT)).unwrap();
}

fn is_mark(frame: &[u8]) -> bool {
    let udp4 = frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&17);
    udp4 && frame.get(36..38) == Some(&MARK_PORT.to_be_bytes())
}

/// A sender's number and time, if this is one of its frames.
pub fn datagram(frame: &[u8]) -> Option<(u64, Instant)> {
    let udp = match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23) == Some(&17) => frame.get(34..)?,
        [0x86, 0xdd] if frame.get(20) == Some(&17) => frame.get(54..)?,
        _ => return None,
    };
    (udp.get(2..4)? == UDP_PORT.to_be_bytes()).then_some(())?;
    let number = u64::from_be_bytes(udp.get(8..16)?.try_into().ok()?);
    let sent = Instant::from_ns(u64::from_be_bytes(udp.get(16..24)?.try_into().ok()?));
    Some((number, sent))
}

/// `ms` milliseconds from now.
pub fn in_ms(ms: u64) -> Instant {
    now().after(Span::from_ms(ms))
}

/// Waits until `done`, at most five seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sleeps until the clock shows `at`.
pub fn wait_until(at: Instant) {
    thread::sleep(Duration::from_nanos(at.since(now()).as_ns()));
}

/// Percentiles of measurements, for printing.
pub fn percentiles(mut values: Vec<i64>) -> String {
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() - 1) * percent / 100];
    format!("min {} p50 {} p99 {} max {} (n={})", at(0), at(50), at(99), at(100), values.len())
}

/// The interface of that name in this thread's namespace.
pub fn link_named(name: &str) -> Link {
    let links = Rtnl::open().unwrap().links().unwrap();
    links.into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no interface {name}"))
}

/// Talks to the kernel's tables in this thread's namespace.
pub fn netlink<T>(work: impl AsyncFnOnce(Handle) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        work(handle).await
    })
}

/// Adds a cable with both ends here, one of them with the given index.
pub fn add_cable(near: (&str, [u8; 6], Option<u32>), far: (&str, [u8; 6])) {
    netlink(async |handle| {
        let mut cable = LinkVeth::new(near.0, far.0).address(near.1.to_vec());
        if let Some(index) = near.2 {
            cable = cable.index(index);
        }
        handle.link().add(cable.build()).execute().await.unwrap();
        let address = LinkUnspec::new_with_name(far.0).address(far.1.to_vec()).build();
        handle.link().set(address).execute().await.unwrap();
    });
}

pub fn link_up(name: &str) {
    netlink(async |handle| {
        handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute().await.unwrap();
    });
}

pub fn link_down(name: &str) {
    netlink(async |handle| {
        handle.link().set(LinkUnspec::new_with_name(name).down().build()).execute().await.unwrap();
    });
}

pub fn link_delete(name: &str) {
    let index = link_named(name).ifindex;
    netlink(async |handle| handle.link().del(index).execute().await.unwrap());
}

/// Makes a neighbour believe that `address` is at `mac`.
pub fn neighbour_put(name: &str, address: IpAddr, mac: [u8; 6], state: NeighbourState) {
    let index = link_named(name).ifindex;
    netlink(async |handle| {
        let entry = handle.neighbours().add(index, address).link_layer_address(&mac).state(state).replace();
        entry.execute().await.unwrap();
    });
}

/// Makes this namespace forget a neighbour.
pub fn neighbour_forget(name: &str, address: IpAddr) {
    let index = link_named(name).ifindex;
    netlink(async |handle| {
        let mut entry = handle.neighbours().add(index, address);
        let message = entry.message_mut().clone();
        handle.neighbours().del(message).execute().await.unwrap();
    });
}

/// What this namespace knows about its neighbours.
pub fn neighbours() -> Vec<(IpAddr, Vec<u8>)> {
    let entries: Vec<_> =
        netlink(async |handle| handle.neighbours().get().execute().try_collect().await.unwrap());
    let known = entries.into_iter().filter_map(|entry| {
        let (mut address, mut mac) = (None, None);
        for attribute in entry.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(v4.into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(v6.into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(bytes),
                _ => {}
            }
        }
        Some((address?, mac?))
    });
    known.collect()
}

pub fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Gives an interface an address of its own, with the network around it.
pub fn address_put(name: &str, address: IpAddr) {
    let index = link_named(name).ifindex;
    let bits = if address.is_ipv4() { 24 } else { 64 };
    netlink(async |handle| handle.address().add(index, address, bits).execute().await.unwrap());
}

/// Brings an interface up and gives it addresses.
pub fn configure(name: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
    sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
    link_up("lo");
    link_up(name);
    address_put(name, v4.into());
    address_put(name, v6.into());
}

fn enter_fresh(flags: UnshareFlags) {
    // SAFETY: namespaces only; the descriptor table stays shared, as the function's contract asks.
    unsafe { unshare_unsafe(flags) }
        .expect("unshare needs CAP_SYS_ADMIN: run as root, in a container privileged");
}

/// A namespace that lives as long as the returned descriptor.
fn namespace() -> File {
    thread::spawn(|| {
        enter_fresh(UnshareFlags::NEWNET);
        File::open(format!("/proc/self/task/{}/ns/net", gettid().as_raw_nonzero())).unwrap()
    })
    .join()
    .unwrap()
}
