//! What commands write, kept within bounds and harmless to a terminal.

use std::collections::VecDeque;
use stead_proto::id::Name;
use stead_proto::limits::TEXT_BYTES_MAX;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Duration, Instant};

/// Lines of a command's output that reach the log in one [`WINDOW`]; the others are counted.
const LINES_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 4_096;

/// The last bytes of an output.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(TEXT_BYTES_MAX);
        self.0.drain(..excess);
    }

    /// As one line of text of at most `bytes_max` bytes, the end of it if it is longer.
    pub(super) fn text(&self, bytes_max: usize) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = printable(&bytes);
        let text = text.trim();
        let start = text.ceil_char_boundary(text.len().saturating_sub(bytes_max));
        text.get(start..).unwrap_or_default().trim_start().to_owned()
    }
}

/// Carries lines of `output` to the log until all who could write to it are gone.
pub(super) async fn forward(service: Name, mut output: pipe::Receiver) {
    let mut lines = Lines::default();
    let mut chunk = [0; CHUNK_BYTES];
    let (mut window, mut spent, mut left_out) = (Instant::now(), 0, 0_u64);
    while let Ok(bytes @ 1..) = output.read(&mut chunk).await {
        for line in lines.split(chunk.get(..bytes).unwrap_or_default()) {
            if window.elapsed() > WINDOW {
                (window, spent) = (Instant::now(), 0);
            }
            if spent >= LINES_MAX {
                left_out += 1;
                continue;
            }
            if left_out > 0 {
                tracing::info!(%service, left_out, "lines of output were left out");
                left_out = 0;
            }
            spent += 1;
            tracing::info!(%service, line, "output");
        }
    }
    if left_out > 0 {
        tracing::info!(%service, left_out, "lines of output were left out");
    }
}

/// Cuts a stream into lines and each line to [`TEXT_BYTES_MAX`].
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                whole.push(printable(&self.0));
                self.0.clear();
            } else if self.0.len() < TEXT_BYTES_MAX {
                self.0.push(*byte);
            }
        }
        whole
    }
}

/// Text without control characters, which could forge log lines or steer a terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_end_and_is_one_harmless_line() {
        let mut tail = Tail::default();
        tail.push(&[b'x'; 10_000]);
        tail.push("\x1b[31mthe ünd\n".as_bytes());
        assert_eq!(tail.text(8), "the ünd");
        assert_eq!(tail.text(5), "ünd");
        assert!(tail.text(TEXT_BYTES_MAX).len() <= TEXT_BYTES_MAX);
        assert!(!tail.text(TEXT_BYTES_MAX).contains('\x1b'));
    }

    #[test]
    fn lines_survive_chunks_and_are_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.split(b"one\ntw"), ["one"]);
        assert_eq!(lines.split(b"o\n"), ["two"]);
        let long = lines.split(&[vec![b'x'; 10_000], vec![b'\n']].concat());
        assert_eq!(long[0].len(), TEXT_BYTES_MAX);
    }
}
