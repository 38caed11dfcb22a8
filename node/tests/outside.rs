//! Looks from outside, at a real sshd and a real web server, and at what only pretends to be one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stead_node::outside::look;
use stead_proto::id::NodeId;
use stead_proto::outside::{HostKey, Look, Page, Sight};
use stead_proto::plan::Epoch;
use stead_proto::service::StatusRange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SSHD: &str = "/usr/sbin/sshd";
const NODE: NodeId = NodeId(2);

/// A real sshd of the test's own, on loopback. It ends with the test.
struct Sshd {
    process: Child,
    at: SocketAddr,
    fingerprint: String,
    _files: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts one whose host key is of `kind`; nothing if this machine has no sshd, which `.ci/run` does not let pass.
fn sshd(kind: &str, options: &[&str]) -> Option<Sshd> {
    if !Path::new(SSHD).exists() {
        eprintln!("NOT TESTED against a real sshd: there is none here (apt install openssh-server)");
        return None;
    }
    let files = tempfile::tempdir().unwrap();
    let key = files.path().join("host_key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let listed = Command::new("ssh-keygen").args(["-lf"]).arg(key.with_extension("pub")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let fingerprint = listed.split(' ').nth(1).unwrap().to_owned();
    let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    // As root, Debian's sshd wants a directory in /run, which systemd makes for it: here it gets a /run of its own.
    let script = "mount -t tmpfs none /run && mkdir /run/sshd && exec \"$0\" \"$@\"";
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if root { "unshare" } else { SSHD });
    if root {
        command.args(["--mount", "/bin/sh", "-c", script, SSHD]);
    }
    command.args(["-D", "-e", "-f", "/dev/null", "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none"]);
    command.arg("-o").arg(format!("HostKey={}", key.display())).args(["-p", &at.port().to_string()]);
    for option in options {
        command.arg("-o").arg(option);
    }
    let process = command.stderr(Stdio::null()).spawn().unwrap();
    let sshd = Sshd { process, at, fingerprint, _files: files };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(at).is_err() {
        assert!(std::time::Instant::now() < deadline, "sshd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(sshd)
}

async fn host_key(at: &[SocketAddr]) -> Option<HostKey> {
    match look(Look::HostKey { node: NODE, at: at.to_vec() }).await {
        Sight::HostKey { node, key } if node == NODE => key,
        other @ (Sight::HostKey { .. } | Sight::Page { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_host_key_of_a_real_sshd_is_what_ssh_keygen_says() {
    let Some(sshd) = sshd("ed25519", &[]) else { return };
    assert_eq!(host_key(&[sshd.at]).await.unwrap().to_string(), sshd.fingerprint);
    // One that is not there before it costs nothing but the try.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    assert_eq!(host_key(&[nobody, sshd.at]).await.unwrap().to_string(), sshd.fingerprint);
    assert_eq!(host_key(&[nobody]).await, None);
    assert_eq!(host_key(&[]).await, None);
}

#[tokio::test]
async fn a_real_sshd_with_nothing_in_common_shows_nothing() {
    let Some(rsa) = sshd("rsa", &[]) else { return };
    assert_eq!(host_key(&[rsa.at]).await, None);
    let other = sshd("ed25519", &["KexAlgorithms=ecdh-sha2-nistp256"]).unwrap();
    assert_eq!(host_key(&[other.at]).await, None);
    let narrow = sshd("ed25519", &["Ciphers=aes256-ctr", "MACs=hmac-sha2-512"]).unwrap();
    assert_eq!(host_key(&[narrow.at]).await.unwrap().to_string(), narrow.fingerprint);
}

/// A server that says one thing to everybody and then waits.
async fn saying(bytes: Vec<u8>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let _ = stream.write_all(&bytes).await;
                let mut sink = vec![0; 4_096];
                while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    at
}

#[tokio::test]
async fn whoever_says_nothing_or_too_much_shows_nothing_within_the_deadline() {
    let begun = tokio::time::Instant::now();
    for bytes in [
        Vec::new(),
        b"SSH-2.0-x\r\n".to_vec(),
        vec![b'x'; 1 << 20],
        b"hello\r\n".repeat(10_000),
        [&b"SSH-2.0-x\r\n"[..], &[0xff; 64]].concat(),
        [&b"SSH-2.0-x\r\n"[..], &[0, 0, 0, 12, 4, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    ] {
        assert_eq!(host_key(&[saying(bytes).await]).await, None);
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

async fn page(at: SocketAddr) -> Page {
    let endpoint: stead_proto::id::Name = "www".parse().unwrap();
    let holder = (NODE, Epoch { plan: 3, rank: 1 });
    let (expect, path) = (StatusRange { from: 200, to: 299 }, "/".to_owned());
    match look(Look::Page { endpoint, holder, at, path, host: None, expect }).await {
        Sight::Page { holder: seen, page, .. } if seen == holder => page,
        other @ (Sight::HostKey { .. } | Sight::Page { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_a_whole_status_line_can_be_the_wrong_answer() {
    for (said, seen) in [
        (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], Page::AsExpected),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Page::Other("status 404, expected 200 to 299".into())),
        (b"HTTP/1.1 50", Page::Nothing),
        (b"", Page::Nothing),
        (b"mine!\n", Page::Other("the answer is not HTTP: is this the right port?".into())),
    ] {
        assert_eq!(page(saying(said.to_vec()).await).await, seen, "{}", String::from_utf8_lossy(said));
    }
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    assert_eq!(page(nobody).await, Page::Nothing);
}
