//! Two network namespaces with a cable between them, for tests against the real kernel.
//!
//! "Here" is the thread that runs the test, "the peer" is a neighbour on the same wire. Both namespaces, and
//! the mount namespace with its own BPF file system, vanish with the threads and descriptors that use them:
//! nothing outside is touched, and nothing stays behind, not even after a panic.
#![allow(unsafe_code, dead_code, unreachable_pub, clippy::as_conversions)]

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use stead_node::sys::{now, packet_address};
use stead_node::vip::rtnl::{Link, Rtnl};
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
/// How long a frame may take longer through the kernel than one that was sent after it.
const STRAY: Duration = Duration::from_millis(50);
const MARK_WAIT: Duration = Duration::from_secs(10);

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
        let peer = peer_namespace();
        sysctl("net/ipv6/conf/default/accept_dad", "0");
        ip(&format!(
            "link add uplink address {} type veth peer name wire address {}",
            mac(HERE_MAC),
            mac(PEER_MAC)
        ));
        let handle = inheritable(&peer);
        ip(&format!("link set wire netns /proc/self/fd/{}", handle.as_raw_fd()));
        drop(handle);
        for command in [
            "link set lo up",
            "link set uplink up",
            "addr add 10.77.0.1/24 dev uplink",
            "addr add fd77::1/64 dev uplink nodad",
        ] {
            ip(command);
        }
        let bench = Self { uplink: link_named("uplink"), peer };
        bench.at_peer(|| {
            sysctl("net/ipv6/conf/default/accept_dad", "0");
            sysctl("net/ipv6/conf/wire/accept_dad", "0");
            for command in [
                "link set lo up",
                "link set wire up",
                "addr add 10.77.0.2/24 dev wire",
                "addr add fd77::2/64 dev wire nodad",
            ] {
                ip(command);
            }
        });
        // Resolving the peer would need frames that the gate may be holding back.
        for address in [IpAddr::V4(PEER4), IpAddr::V6(PEER6)] {
            ip(&format!("neigh replace {address} lladdr {} dev uplink nud permanent", mac(PEER_MAC)));
        }
        wait_for("the cable", || Rtnl::open().unwrap().link(bench.uplink.ifindex).unwrap().running);
        bench
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
        Tap(self.at_peer(|| packet_socket(&link_named("wire"), 3)))
    }

    /// Puts both addresses of the endpoint here, for a minute.
    pub fn hold_addresses(&self) {
        ip("addr add 10.77.0.100/32 dev uplink valid_lft 60 preferred_lft 0");
        ip("addr add fd77::100/128 dev uplink nodad valid_lft 60 preferred_lft 0");
    }
}

/// A packet socket; `ethertype` 3 hears everything.
pub fn packet_socket(link: &Link, ethertype: u16) -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20).unwrap();
    socket.bind(&packet_address(link.ifindex, ethertype)).unwrap();
    socket
}

/// Hears every frame on the wire.
pub struct Tap(pub Socket);

impl Tap {
    /// The next frame and when it was read; `None` after `wait` without one.
    pub fn next(&self, wait: Duration) -> Option<(Instant, Vec<u8>)> {
        self.0.set_read_timeout(Some(wait.max(Duration::from_micros(1)))).unwrap();
        let mut frame = [0; 2048];
        let length = (&self.0).read(&mut frame).ok()?;
        Some((now(), frame[..length].to_vec()))
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

/// A sender's datagram: its number, when it was sent, when it was read at the peer.
pub struct Datagram {
    pub number: u64,
    pub sent: Instant,
    pub read: Instant,
}

impl Tap {
    /// All datagrams of a [`Sender`] until [`Bench::mark_end`], and what strayed in shortly after it. That the
    /// mark is heard proves that the tap had room for everything before it.
    pub fn datagrams(&self) -> Vec<Datagram> {
        let mut all = Vec::new();
        let mut marked = false;
        let wanted = |frame: &[u8]| datagram(frame).is_some() || is_mark(frame);
        while let Some((read, frame)) = self.find(if marked { STRAY } else { MARK_WAIT }, wanted) {
            marked |= is_mark(&frame);
            all.extend(datagram(&frame).map(|(number, sent)| Datagram { number, sent, read }));
        }
        assert!(marked, "the tap overflowed, so nothing it heard proves anything");
        all
    }
}

impl Bench {
    /// Ends what [`Tap::datagrams`] listens to: a datagram from an address that nobody gates.
    pub fn mark_end(&self) {
        let socket = std::net::UdpSocket::bind((HERE4, 0)).unwrap();
        socket.send_to(b"end", (PEER4, MARK_PORT)).unwrap();
    }
}

fn is_mark(frame: &[u8]) -> bool {
    let to =
        frame.get(36..38).filter(|_| frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&17));
    to == Some(&MARK_PORT.to_be_bytes())
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

/// Runs `ip` in this thread's namespace; it has to succeed.
pub fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The interface of that name in this thread's namespace.
pub fn link_named(name: &str) -> Link {
    let links = Rtnl::open().unwrap().links().unwrap();
    links.into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no interface {name}"))
}

fn enter_fresh(flags: UnshareFlags) {
    // SAFETY: namespaces only; the descriptor table stays shared, as the function's contract asks.
    unsafe { unshare_unsafe(flags) }
        .expect("unshare needs CAP_SYS_ADMIN: run as root, in a container privileged");
}

/// A namespace that lives as long as the returned descriptor.
fn peer_namespace() -> File {
    thread::spawn(|| {
        enter_fresh(UnshareFlags::NEWNET);
        File::open(format!("/proc/self/task/{}/ns/net", gettid().as_raw_nonzero())).unwrap()
    })
    .join()
    .unwrap()
}

/// The same descriptor, for a child process.
fn inheritable(file: &File) -> std::os::fd::OwnedFd {
    let fd = rustix::io::dup(file).unwrap();
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Percentiles of measurements, for printing.
pub fn percentiles(mut values: Vec<i64>) -> String {
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() - 1) * percent / 100];
    format!("min {} p50 {} p99 {} max {} (n={})", at(0), at(50), at(99), at(100), values.len())
}
