//! The binary packets of SSH before any key is agreed on (RFC 4253 §6), and the fields in them (RFC 4251 §5).
//!
//! **Invariant.** Nothing is allocated for a length that was only claimed: a packet has at most [`PACKET_MAX`] bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest packet that every implementation has to take (RFC 4253 §6.1); no first message comes near it.
const PACKET_MAX: u32 = 35_000;
/// Packets are padded to a multiple of this, without a cipher.
const BLOCK: usize = 8;
const PADDING_MIN: usize = 4;

/// Sends one payload.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> io::Result<()> {
    let unpadded = 4 + 1 + payload.len() + PADDING_MIN;
    let padding = PADDING_MIN + (BLOCK - unpadded % BLOCK) % BLOCK;
    let length = u32::try_from(1 + payload.len() + padding).map_err(io::Error::other)?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).map_err(io::Error::other)?);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    stream.write_all(&packet).await
}

/// Reads the payload of one packet.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    if !(12..=PACKET_MAX).contains(&length) {
        return Err(malformed("a packet of an impossible length"));
    }
    let mut packet = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut packet).await?;
    let padding = packet.first().copied().map_or(0, usize::from);
    let end = packet.len().checked_sub(padding).filter(|end| padding >= PADDING_MIN && *end > 1);
    let payload = end.and_then(|end| packet.get(1..end));
    payload.map(<[u8]>::to_vec).ok_or_else(|| malformed("a packet of padding"))
}

/// Something that no SSH server says.
pub(super) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The fields of a payload, one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A `string`: its length, then its bytes.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (string, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(string)
    }

    /// A `name-list` that has to be ASCII.
    pub(super) fn names(&mut self) -> Option<Vec<&'a str>> {
        let text = std::str::from_utf8(self.string()?).ok()?;
        Some(text.split(',').collect())
    }
}

/// Appends a `string`.
pub(super) fn put(to: &mut Vec<u8>, string: &[u8]) {
    let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
    to.extend(length.to_be_bytes());
    to.extend(string);
}

/// Appends a positive number (`mpint`) from its big-endian bytes.
pub(super) fn put_number(to: &mut Vec<u8>, bytes: &[u8]) {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(start..).unwrap_or_default();
    let sign = digits.first().is_some_and(|first| *first >= 0x80);
    let number: Vec<u8> = sign.then_some(0).into_iter().chain(digits.iter().copied()).collect();
    put(to, &number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_read_and_padded_to_blocks() {
        for length in 1..70 {
            let payload = vec![7; length];
            let mut wire = Vec::new();
            send(&mut wire, &payload).await.unwrap();
            assert_eq!(wire.len() % BLOCK, 0);
            assert!(wire.len() >= 16);
            assert_eq!(read(&mut &wire[..]).await.unwrap(), payload);
        }
    }

    #[tokio::test]
    async fn what_no_server_says_is_refused_before_anything_is_allocated() {
        let cases: [&[u8]; 6] = [
            &[0xff, 0xff, 0xff, 0xff, 4],
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 12, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 12, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 12, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 12, 4, 0],
        ];
        for case in cases {
            assert!(read(&mut &case[..]).await.is_err(), "{case:?}");
        }
    }

    /// The examples of RFC 4251 §5.
    #[test]
    fn numbers_are_written_as_the_rfc_shows() {
        let number = |bytes: &[u8]| {
            let mut to = Vec::new();
            put_number(&mut to, bytes);
            to
        };
        assert_eq!(number(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(number(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
        let long = [0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7];
        assert_eq!(number(&long), [&[0, 0, 0, 8][..], &long].concat());
        assert_eq!(number(&[&[0][..], &long].concat()), [&[0, 0, 0, 8][..], &long].concat());
    }

    #[test]
    fn a_field_that_claims_more_than_there_is_is_none() {
        assert_eq!(Fields(&[0, 0, 0, 5, 1, 2]).string(), None);
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff]).string(), None);
        assert_eq!(Fields(&[0, 0, 0, 1, 0xff]).names(), None);
    }
}
