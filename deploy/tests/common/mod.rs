//! What the lab's tests share; each of them uses a part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use futures_util::TryStreamExt;
use rtnetlink::{LinkUnspec, LinkVeth};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use stead_deploy::lab::namespace::Namespace;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::user_namespace::{enclose, privilege, refusal};
use stead_deploy::lab::{Lab, Place};

/// The program that the tests start inside the lab.
pub const CHILD: &str = env!("CARGO_BIN_EXE_lab-child");

/// Labs measure time: one at a time, or they measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test's body, where necessary in a new process that is root of a user namespace.
pub fn in_lab(test: &str, body: impl FnOnce()) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if privilege().unwrap().is_some() {
        return body();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    enclose(&mut command);
    let output = command.output().unwrap_or_else(|error| panic!("{}", refusal(error)));
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(text.contains("1 passed"), "{test}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until `done`, at most `seconds`.
pub fn eventually(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A UDP socket of a place.
pub fn udp(lab: &Lab, place: Place, ip: IpAddr) -> UdpSocket {
    let socket = lab.namespace(place).unwrap().run(|| UdpSocket::bind((ip, 7_000))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    socket
}

/// Whether a datagram sent now from one socket arrives at the other.
pub fn passes(from: &UdpSocket, to: &UdpSocket) -> bool {
    thread_local!(static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    let number = COUNT.replace(COUNT.get() + 1);
    let word = number.to_ne_bytes();
    // A cable that is out or a neighbour that does not answer is told as an error.
    if from.send_to(&word, to.local_addr().unwrap()).is_err() {
        return false;
    }
    let mut buffer = [0; 8];
    while to.recv(&mut buffer).is_ok() {
        if buffer == word {
            return true;
        }
    }
    false
}

/// A site on port 80 of a node, that hangs while the file exists; answers when this returns.
pub fn site(lab: &Lab, node: u8, directory: &tempfile::TempDir) -> Process {
    let hang = directory.path().join(format!("hang-{node}"));
    let (name, hang) = (format!("web-{node}"), hang.to_str().unwrap().to_owned());
    let log = directory.path().join(format!("site-{node}.log"));
    let namespace = lab.namespace(Place::Node(node)).unwrap();
    let mut site = Process::start(namespace, &[CHILD, "serve", "80", &name, &hang], &[], &log).unwrap();
    eventually("the site listens", 5, || {
        assert!(site.is_running().unwrap(), "{}", site.log_tail());
        // 00000000:0050 in state LISTEN, or the same over IPv6.
        let sockets =
            |file: &str| fs::read_to_string(format!("/proc/{}/net/{file}", site.pid())).unwrap_or_default();
        [sockets("tcp"), sockets("tcp6")].iter().any(|text| text.contains(":0050 "))
    });
    site
}

/// One end of a cable in a namespace of our own, the other in the watched one: it vanishes when, and only
/// when, the kernel has removed the watched namespace.
pub struct Canary(Namespace);

impl Canary {
    pub fn in_namespace(watched: &Namespace) -> Self {
        let own = Namespace::create().unwrap();
        own.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                handle.link().add(LinkVeth::new("canary", "far").build()).execute().await.unwrap();
                let mut far = handle.link().get().match_name("far").execute();
                let index = far.try_next().await.unwrap().unwrap().header.index;
                let moved = LinkUnspec::new_with_index(index).setns_by_fd(watched.as_raw_fd()).build();
                handle.link().set(moved).execute().await.unwrap();
            });
        })
        .unwrap();
        let canary = Self(own);
        assert!(canary.sings(), "the cable to the watched namespace is there");
        canary
    }

    pub fn sings(&self) -> bool {
        let devices = self.0.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        devices.contains("canary:")
    }
}

/// Whether a process with this number exists and is no zombie.
pub fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
