//! The one place where values become bytes and bytes become values.
//!
//! A frame is one version byte followed by bincode (variable-width integers, little endian). Nothing is
//! self-describing: a new field is a new version of the type that carries it, told apart by an enum
//! variant at the top of each message.
//!
//! **Invariant.** A limit is checked before anything is allocated, when writing as well as when reading;
//! left-over bytes are refused; an unknown version is refused, never guessed.

use alloc::vec::Vec;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// The version that this build writes. It reads this one and, once there is one, the one before.
pub const VERSION: u8 = 1;

/// Why a value could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than its kind of frame may be.
    #[error("{bytes} bytes, where at most {bytes_max} are allowed")]
    TooLong {
        /// The size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Another protocol version, or not a frame at all.
    #[error("protocol version {0}, where this build speaks {VERSION}: upgrade the older node")]
    Version(u8),
    /// Truncated, padded, or not what was expected.
    #[error("malformed")]
    Malformed,
}

/// The hard ceiling for any frame; each kind has its own, lower limit beside it.
const ANY_BYTES_MAX: usize = 64 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<ANY_BYTES_MAX>> =
    bincode::config::standard().with_limit::<ANY_BYTES_MAX>();

/// Up to here a body is read under [`SMALL`]: datagrams, reports and most commands.
const SMALL_BYTES_MAX: usize = 32 * 1024;

/// A text claims its whole length before it is read, so the limit of a datagram may not be that of a snapshot.
/// A number counts with its width in memory, which is at most eight times the byte that it is written as.
const SMALL: Configuration<LittleEndian, Varint, Limit<{ 8 * SMALL_BYTES_MAX }>> =
    bincode::config::standard().with_limit::<{ 8 * SMALL_BYTES_MAX }>();

/// The bytes of `value` for a hash that has to outlive versions of the wire: those of its frame, under version 1 for
/// ever.
///
/// # Errors
/// [`CodecError::TooLong`] if its frame would be.
pub fn encode_for_hash<T: Serialize>(value: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = encode(value, bytes_max)?;
    if let Some(version) = frame.first_mut() {
        *version = 1;
    }
    Ok(frame)
}

/// Writes `value` as a frame of at most `bytes_max` bytes.
///
/// # Errors
/// [`CodecError::TooLong`] if it does not fit.
pub fn encode<T: Serialize>(value: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = alloc::vec![VERSION];
    frame.extend(bincode::serde::encode_to_vec(value, CONFIG).map_err(|_| CodecError::Malformed)?);
    check_length(frame.len(), bytes_max)?;
    Ok(frame)
}

/// Reads a frame of at most `bytes_max` bytes, all of it.
///
/// # Errors
/// [`CodecError`] for whatever a peer or a disk may have done to it.
pub fn decode<T: DeserializeOwned>(frame: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    check_length(frame.len(), bytes_max)?;
    let (&version, body) = frame.split_first().ok_or(CodecError::Malformed)?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let (value, read) = read(body).map_err(|_| CodecError::Malformed)?;
    if read == body.len() { Ok(value) } else { Err(CodecError::Malformed) }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<(T, usize), DecodeError> {
    if body.len() <= SMALL_BYTES_MAX {
        bincode::serde::decode_from_slice(body, SMALL)
    } else {
        bincode::serde::decode_from_slice(body, CONFIG)
    }
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), CodecError> {
    if bytes <= bytes_max { Ok(()) } else { Err(CodecError::TooLong { bytes, bytes_max }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_a_version_byte_and_variable_width_fields() {
        assert_eq!(encode(&(7_u16, 1_u8), 100), Ok(alloc::vec![1, 7, 1]));
        assert_eq!(encode(&(700_u16, 1_u8), 100), Ok(alloc::vec![1, 251, 188, 2, 1]));
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides() {
        let long = CodecError::TooLong { bytes: 3, bytes_max: 2 };
        assert_eq!(encode(&(7_u16, 1_u8), 2), Err(long));
        assert_eq!(decode::<(u16, u8)>(&[1, 7, 1], 2), Err(long));
    }

    #[test]
    fn left_over_bytes_and_other_versions_are_refused() {
        assert_eq!(decode::<(u16, u8)>(&[1, 7, 1, 0], 100), Err(CodecError::Malformed));
        assert_eq!(decode::<(u16, u8)>(&[2, 7, 1], 100), Err(CodecError::Version(2)));
        assert_eq!(decode::<()>(&[], 100), Err(CodecError::Malformed));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut frame = alloc::vec![1, 253];
        frame.extend(u64::MAX.to_le_bytes());
        assert_eq!(decode::<Vec<u64>>(&frame, 100), Err(CodecError::Malformed));
    }

    #[test]
    fn a_small_frame_cannot_claim_the_room_of_a_large_one() {
        let text = |length: u32| [&[252][..], &length.to_le_bytes()].concat();
        for length in [60 << 20, 1 << 20, 1 << 18] {
            let refused = read::<String>(&text(length)).map_err(|error| error.to_string());
            assert_eq!(refused, Err(DecodeError::LimitExceeded.to_string()), "{length} bytes");
        }
    }

    #[test]
    fn the_densest_frames_on_both_sides_of_small_are_read() {
        for numbers in [SMALL_BYTES_MAX - 3, SMALL_BYTES_MAX - 2] {
            let dense = alloc::vec![7_u64; numbers];
            let frame = encode(&dense, usize::MAX).unwrap();
            assert_eq!(frame.len(), 1 + 3 + numbers);
            assert_eq!(decode(&frame, usize::MAX), Ok(dense));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<(String, Vec<u32>, Option<bool>)>(&bytes, 1_000);
        }
    }
}
