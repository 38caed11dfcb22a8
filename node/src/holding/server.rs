//! Answers every HTTP request on one listening socket with the same bytes.
//!
//! **Invariant.** A client costs one task, one kibibyte and [`CLIENT_TIME_MAX`]. When [`CLIENTS_MAX`] are
//! connected, the one that is there longest gives way to the next: somebody who wants the page sends a
//! request at once, so the longest is the least honest.
//!
//! Deliberately absent: keep-alive, parsing of the request beyond its method, and TLS.

use super::page::Answer;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Clients that are connected at the same time.
pub const CLIENTS_MAX: usize = 256;
/// Bytes of a request's head that are read before it is answered anyway.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long one client may take altogether.
pub const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long and how much is read after the answer, so that closing does not reset the connection and take
/// the answer back while it is under way.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Wait after accepting failed (no descriptors are left), or it would be tried in a busy loop.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
const CHUNK_BYTES: usize = 1_024;

/// A socket that stops listening when it is dropped. Closing it is not enough: a process that is just being
/// started has a copy of its descriptor for a moment, and would keep the port.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

impl Listener {
    /// `socket` listens and does not block.
    pub(super) fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(socket).map(Self)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = SockRef::from(&self.0).shutdown(Shutdown::Both) {
            tracing::debug!(%error, "cannot shut the listening socket down before closing it");
        }
    }
}

/// Serves until it is dropped, which also ends every connection.
pub(super) async fn serve(listener: Listener, answer: Arc<Answer>, served: Arc<AtomicU64>) {
    let mut clients = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.0.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a visitor");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while clients.try_join_next().is_some() {}
        by_age.retain(|client| !client.is_finished());
        if by_age.len() >= CLIENTS_MAX {
            by_age.pop_front().inspect(AbortHandle::abort);
        }
        let (answer, served) = (answer.clone(), served.clone());
        by_age.push_back(clients.spawn(async move {
            if let Ok(Ok(true)) = timeout(CLIENT_TIME_MAX, converse(stream, &answer)).await {
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
}

/// Whether the answer was sent.
async fn converse(mut stream: TcpStream, answer: &Answer) -> io::Result<bool> {
    let mut chunk = [0; CHUNK_BYTES];
    let mut head = Head::default();
    while !head.complete {
        let bytes = stream.read(&mut chunk).await?;
        head.take(chunk.get(..bytes).unwrap_or_default());
        if bytes == 0 || head.not_http() {
            return Ok(false);
        }
    }
    stream.write_all(if head.is_head() { answer.head() } else { answer.whole() }).await?;
    stream.shutdown().await?;
    let _ = timeout(DRAIN_TIME_MAX, drain(&mut stream, &mut chunk)).await;
    Ok(true)
}

async fn drain(stream: &mut TcpStream, chunk: &mut [u8]) -> io::Result<()> {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        match stream.read(chunk).await? {
            0 => return Ok(()),
            bytes => drained += bytes,
        }
    }
    Ok(())
}

/// What must be known of a request: its method, and whether its head has ended.
#[derive(Debug, Default)]
struct Head {
    start: Vec<u8>,
    bytes: usize,
    newlines: u8,
    complete: bool,
}

impl Head {
    const START_BYTES: usize = 5;

    fn take(&mut self, bytes: &[u8]) {
        let wanted = Self::START_BYTES.saturating_sub(self.start.len());
        self.start.extend(bytes.iter().take(wanted));
        self.bytes += bytes.len();
        for byte in bytes {
            self.newlines = match byte {
                b'\n' => self.newlines + 1,
                b'\r' => self.newlines,
                _ => 0,
            };
            if self.newlines == 2 {
                self.complete = true;
                return;
            }
        }
        self.complete = self.bytes >= HEAD_BYTES_MAX;
    }

    fn is_head(&self) -> bool {
        self.start == b"HEAD "
    }

    /// A method is a word of letters; a TLS handshake, for one, begins with 0x16.
    fn not_http(&self) -> bool {
        self.start.first().is_some_and(|byte| !byte.is_ascii_alphabetic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(chunks: &[&[u8]]) -> Head {
        let mut head = Head::default();
        for chunk in chunks {
            assert!(!head.complete);
            head.take(chunk);
        }
        head
    }

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        assert!(head(&[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]).complete);
        assert!(head(&[b"GET / HTTP/1.1\r\nHost: a\r", b"\n\r", b"\n"]).complete);
        assert!(head(&[b"GET /\n\n"]).complete);
        assert!(!head(&[b"GET / HTTP/1.1\r\nHost: a\r\n"]).complete);
        assert!(head(&[b"GET /", &[b'x'; HEAD_BYTES_MAX]]).complete);
    }

    #[test]
    fn methods_are_told_apart_however_they_are_cut() {
        assert!(head(&[b"HE", b"AD", b" / HTTP/1.1\r\n\r\n"]).is_head());
        assert!(!head(&[b"GET / HTTP/1.1\r\n\r\n"]).is_head());
        assert!(head(&[b"\x16\x03\x01"]).not_http());
        assert!(!head(&[b"P"]).not_http());
    }
}
