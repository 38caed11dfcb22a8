//! Answers everybody who connects, whatever they ask, and closes.
//!
//! **Invariant.** One listener has at most [`VISITS_MAX`] connections, each for at most [`VISIT_TIME_MAX`] and
//! with at most [`HEAD_BYTES_MAX`] bytes held. When one too many comes, the oldest goes: visitors who just
//! want the page are gone long before they are the oldest, those who only hold the line are not.

use super::page::Page;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

const VISITS_MAX: usize = 256;
const VISIT_TIME_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 8 * 1_024;
/// What a visitor may still be sending after the answer; closing before would reset the connection and
/// the answer with it.
const REST_BYTES_MAX: usize = 64 * 1_024;
/// How long to wait when this node has no descriptor left for another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves until it is cancelled, which closes the listener and all connections.
pub(super) async fn serve(listener: TcpListener, page: Arc<Page>) {
    let mut visits = Visits::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => visits.begin(stream, page.clone()),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a visitor");
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = visits.running.join_next() => {}
        }
    }
}

#[derive(Default)]
struct Visits {
    running: JoinSet<()>,
    /// Those that still run, the oldest first.
    begun: VecDeque<AbortHandle>,
}

impl Visits {
    fn begin(&mut self, stream: TcpStream, page: Arc<Page>) {
        self.begun.retain(|visit| !visit.is_finished());
        if self.begun.len() >= VISITS_MAX
            && let Some(oldest) = self.begun.pop_front()
        {
            oldest.abort();
        }
        let visit = self.running.spawn(async move {
            // A visitor who takes too long or resets the connection gets nothing; there is nothing to do.
            let _ = timeout(VISIT_TIME_MAX, answer(stream, &page)).await;
        });
        self.begun.push_back(visit);
    }
}

async fn answer(mut stream: TcpStream, page: &Page) -> io::Result<()> {
    let Some(asked) = read_head(&mut stream).await? else { return Ok(()) };
    stream.write_all(if asked.starts_with(b"HEAD ") { page.head() } else { page.whole() }).await?;
    stream.shutdown().await?;
    let (mut rest, mut chunk) = (0, [0; 1_024]);
    while rest < REST_BYTES_MAX {
        match stream.read(&mut chunk).await? {
            0 => break,
            bytes => rest += bytes,
        }
    }
    Ok(())
}

/// The request up to the empty line, or as much of it as is ever read; none if the visitor left before.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1_024];
    while head.len() < HEAD_BYTES_MAX && !is_whole(&head) {
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            bytes => head.extend_from_slice(chunk.get(..bytes).unwrap_or_default()),
        }
    }
    Ok(Some(head))
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}
