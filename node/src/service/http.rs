//! One GET over HTTP/1.1 on a fresh connection, of which only the status line is read.
//!
//! **Invariant.** What the application sends costs at most [`ANSWER_BYTES_MAX`] bytes and no parsing beyond
//! the first line. Time is bounded by the caller.

use std::io;
use stead_proto::health::Probed;
use stead_proto::service::StatusRange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Big enough for the whole of a usual answer, so that closing after it is no reset.
const ANSWER_BYTES_MAX: usize = 4_096;

/// The request for `path`. Both texts come from a checked service: no byte of them can end a line.
pub(crate) fn request(path: &str, host: Option<&str>) -> String {
    let host = host.unwrap_or("localhost");
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stead-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// Sends `request` and judges the status of the answer.
pub(super) async fn get(stream: &mut TcpStream, request: &str, expect: StatusRange) -> io::Result<Probed> {
    Ok(judge(&first_line(stream, request).await?, expect))
}

/// Sends `request` and reads the answer up to the end of its first line, or what there is of it.
pub(crate) async fn first_line(stream: &mut TcpStream, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let (read, room) = answer.split_at_mut(filled);
        if room.is_empty() || read.contains(&b'\n') {
            break;
        }
        match stream.read(room).await? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    answer.truncate(filled);
    Ok(answer)
}

/// What an answer is, by its first line.
pub(crate) fn judge(answer: &[u8], expect: StatusRange) -> Probed {
    if answer.is_empty() {
        return Probed::Bad("closed the connection without an answer".into());
    }
    match status(answer) {
        Some(status) if expect.contains(status) => Probed::Ok,
        Some(status) => Probed::Bad(format!("status {status}, expected {} to {}", expect.from, expect.to)),
        None => Probed::Bad("the answer is not HTTP: is this the right port?".into()),
    }
}

/// The status in `HTTP/1.x SSS …` (RFC 9112 §4).
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let ends = matches!(after.first(), None | Some(b' ' | b'\r'));
    let digits = std::str::from_utf8(digits).ok().filter(|d| ends && d.bytes().all(|b| b.is_ascii_digit()));
    digits?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_a_proxy_expects() {
        assert_eq!(
            request("/health?deep=1", Some("shop.example")),
            "GET /health?deep=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: stead-check\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn only_a_status_in_the_range_is_a_success() {
        let range = StatusRange::default();
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\n", range), Probed::Ok);
        assert_eq!(judge(b"HTTP/1.0 399\r\n", range), Probed::Ok);
        assert_eq!(judge(b"HTTP/1.1 204", range), Probed::Ok);
        let bad = |answer: &[u8], word: &str| {
            let judged = judge(answer, range);
            assert!(matches!(&judged, Probed::Bad(text) if text.contains(word)), "{judged:?}");
        };
        bad(b"HTTP/1.1 503 Service Unavailable\r\n", "status 503");
        bad(b"HTTP/1.1 2000 OK\r\n", "not HTTP");
        bad(b"SSH-2.0-OpenSSH\r\n", "not HTTP");
        bad(b"HTTP/1.1 +20 x\r\n", "not HTTP");
        bad(b"", "without an answer");
    }
}
