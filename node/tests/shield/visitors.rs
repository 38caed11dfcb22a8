//! A small web server behind the endpoint's addresses, and visitors who come and stay.
#![allow(unreachable_pub)]

use super::common::{Bench, VIP4, VIP6};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub const PORT: u16 = 8080;
pub const BACKLOG: i32 = 128;
/// After this a visitor gives up.
const PATIENCE: Duration = Duration::from_secs(3);
const PAGE_BYTES: usize = 4_096;
const VISITORS: usize = 4;
/// Between two visits: no port comes back within a test, because a server prefers visitors that it knows.
const PAUSE: Duration = Duration::from_millis(5);
const CHUNK_BYTES: usize = 16 * 1024;
const CHUNK_PAUSE: Duration = Duration::from_millis(5);

pub fn vip(ipv6: bool) -> SocketAddr {
    let address: IpAddr = if ipv6 { VIP6.into() } else { VIP4.into() };
    SocketAddr::new(address, PORT)
}

/// Listens on both addresses, for as long as the test's namespace lives.
///
/// `page\n` is answered with a page; `download\n` with numbered bytes without an end; `echo\n` with every byte
/// that follows.
pub fn serve() {
    for ipv6 in [false, true] {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let listener = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        listener.bind(&vip(ipv6).into()).unwrap();
        listener.listen(BACKLOG).unwrap();
        thread::spawn(move || {
            while let Ok((visitor, _)) = listener.accept() {
                thread::spawn(move || answer(visitor.into()));
            }
        });
    }
}

fn answer(mut visitor: TcpStream) -> io::Result<()> {
    let mut wish = Vec::new();
    while wish.last() != Some(&b'\n') {
        let mut byte = [0];
        visitor.read_exact(&mut byte)?;
        wish.push(byte[0]);
    }
    match wish.as_slice() {
        b"page\n" => {
            visitor.write_all(&[b'.'; PAGE_BYTES])?;
            // The visitor leaves first.
            visitor.read(&mut [0]).map(drop)
        }
        b"download\n" => {
            let mut at = 0;
            loop {
                visitor.write_all(&numbered(at, CHUNK_BYTES))?;
                at += CHUNK_BYTES;
                thread::sleep(CHUNK_PAUSE);
            }
        }
        _ => {
            let mut buffer = [0; CHUNK_BYTES];
            loop {
                let count = visitor.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                visitor.write_all(&buffer[..count])?;
            }
        }
    }
}

/// Bytes that tell where in the stream they are, with a period that divides no window.
fn numbered(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// What visitors have met.
#[derive(Default)]
pub struct Goodput {
    pub served_us: Vec<u64>,
    pub failures: Vec<String>,
    pub lasted: Duration,
}

impl Goodput {
    pub fn per_second(&self) -> f64 {
        u32::try_from(self.served_us.len()).map_or(f64::MAX, f64::from) / self.lasted.as_secs_f64()
    }

    pub fn told(&self) -> String {
        let mut sorted = self.served_us.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            sorted
                .get((sorted.len().max(1) - 1) * percent / 100)
                .map_or("-".into(), |us| format!("{}.{:02}", us / 1_000, us % 1_000 / 10))
        };
        format!(
            "{:7.1} requests/s, {:3} failures, p50 {} ms, p99 {} ms, max {} ms",
            self.per_second(),
            self.failures.len(),
            at(50),
            at(99),
            at(100)
        )
    }
}

/// Visitors at the peer who come, ask for a page and leave, one after the other.
pub struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Goodput>>,
}

impl Visitors {
    pub fn start(bench: &Bench, ipv6: bool) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let come = || {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                let (start, mut met) = (Instant::now(), Goodput::default());
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    match visit(vip(ipv6)) {
                        Ok(()) => {
                            met.served_us.push(u64::try_from(asked.elapsed().as_micros()).unwrap());
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => met.failures.push(format!(
                            "{error} after {:?}, {:?} from the start",
                            asked.elapsed(),
                            start.elapsed()
                        )),
                    }
                    thread::sleep(PAUSE);
                }
                met.lasted = start.elapsed();
                met
            })
        };
        let threads = bench.at_peer(|| (0..VISITORS).map(|_| come()).collect());
        Self { stop, served, threads }
    }

    /// How many were served so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> Goodput {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Goodput::default();
        for thread in self.threads {
            let met = thread.join().unwrap();
            all.served_us.extend(met.served_us);
            all.failures.extend(met.failures);
            all.lasted = all.lasted.max(met.lasted);
        }
        all
    }
}

/// One visit, in the namespace of this thread.
pub fn visit(to: SocketAddr) -> io::Result<()> {
    let mut stream = dial(to, "page\n")?;
    let mut page = [0; PAGE_BYTES];
    stream.read_exact(&mut page)?;
    if page == [b'.'; PAGE_BYTES] { Ok(()) } else { Err(io::Error::other("a wrong page")) }
}

fn dial(to: SocketAddr, wish: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(wish.as_bytes())?;
    Ok(stream)
}

/// A visitor at the peer with a long download, each byte of which is compared.
pub struct Download {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<u64, String>>>,
}

impl Download {
    pub fn start(bench: &Bench, ipv6: bool) -> Self {
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), received.clone());
        let stream = bench.at_peer(|| dial(vip(ipv6), "download\n").unwrap());
        let thread = Some(thread::spawn(move || download(stream, &stopped, &counted)));
        Self { stop, received, thread }
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends it; how many bytes came, or what went wrong.
    pub fn stop(mut self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn download(mut stream: TcpStream, stop: &AtomicBool, received: &AtomicU64) -> Result<u64, String> {
    let (mut at, mut buffer) = (0, vec![0; CHUNK_BYTES]);
    while !stop.load(Ordering::Relaxed) {
        let count = stream.read(&mut buffer).map_err(|error| format!("after {at} bytes: {error}"))?;
        if count == 0 || buffer[..count] != numbered(at, count) {
            return Err(format!("after {at} bytes: an end, or wrong bytes"));
        }
        at += count;
        received.store(u64::try_from(at).unwrap(), Ordering::Relaxed);
    }
    Ok(u64::try_from(at).unwrap())
}

/// A visitor at the peer who is connected and says nothing until asked to.
pub struct Idler(TcpStream);

impl Idler {
    pub fn start(bench: &Bench, ipv6: bool) -> Self {
        let mut idler = Self(bench.at_peer(|| dial(vip(ipv6), "echo\n").unwrap()));
        idler.speak().unwrap();
        idler
    }

    /// Says something, both ways.
    pub fn speak(&mut self) -> io::Result<()> {
        self.0.write_all(b"hello")?;
        let mut heard = [0; 5];
        self.0.read_exact(&mut heard)?;
        if &heard == b"hello" { Ok(()) } else { Err(io::Error::other("wrong words")) }
    }
}
