//! How a value lies in the engine: in parts, each sealed with a checksum over its place and its bytes.
//!
//! sled puts a page that outgrows a quarter of a segment into a file of its own and never syncs that file
//! (`pagecache/blob_io.rs` of 0.34.7, `write_blob`). A page holds about twenty items, so no item may be
//! long: values are cut into parts of [`PART_BYTES_MAX`].
//!
//! **Invariant.** Part 0, the head, carries the length of the whole. It is written last and removed first,
//! so that a head whose parts are missing is damage, while parts without a head are only litter.

use super::{KEY_BYTES_MAX, StoreError, Tree};
use sha2::{Digest, Sha256};

/// Bytes of one part.
pub(super) const PART_BYTES_MAX: usize = 2_000;
const CHECKSUM_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// A sealed part: the engine's key and value.
pub(super) type Sealed = (Vec<u8>, Vec<u8>);

const fn tag(tree: Tree) -> u8 {
    match tree {
        Tree::Log => b'l',
        Tree::Raft => b'r',
        Tree::Meta => b'm',
        Tree::Store => b's',
    }
}

/// The engine's key of one part: tree, length of the key, key, number of the part.
pub(super) fn place(tree: Tree, key: &[u8], part: u16) -> Result<Vec<u8>, StoreError> {
    let length = u8::try_from(key.len()).ok().filter(|length| usize::from(*length) <= KEY_BYTES_MAX);
    let Some(length) = length else {
        return Err(StoreError::TooLong { what: "a key", bytes: key.len(), bytes_max: KEY_BYTES_MAX });
    };
    let mut place = vec![tag(tree), length];
    place.extend_from_slice(key);
    place.extend(part.to_be_bytes());
    Ok(place)
}

/// The first and the one-past-last place that a tree may use.
pub(super) fn bounds(tree: Tree) -> (Vec<u8>, Vec<u8>) {
    (vec![tag(tree)], vec![tag(tree) + 1])
}

/// Takes a place apart again: key and number of the part.
pub(super) fn parse_place(place: &[u8]) -> Option<(&[u8], u16)> {
    let (rest, part) = place.split_last_chunk::<2>()?;
    let key = rest.get(2..)?;
    Some((key, u16::from_be_bytes(*part)))
}

/// The parts of a value in the order in which they have to be written: the head comes last.
pub(super) fn seal(tree: Tree, key: &[u8], value: &[u8]) -> Result<Vec<Sealed>, StoreError> {
    let too_long =
        || StoreError::TooLong { what: "a value", bytes: value.len(), bytes_max: PART_BYTES_MAX * 65_535 };
    let length = u32::try_from(value.len()).map_err(|_| too_long())?;
    let head_bytes = value.len().min(PART_BYTES_MAX);
    let (first, rest) = value.split_at(head_bytes);
    let mut parts = Vec::new();
    for (number, bytes) in (1_usize..).zip(rest.chunks(PART_BYTES_MAX)) {
        let place = place(tree, key, u16::try_from(number).map_err(|_| too_long())?)?;
        let sealed = with_checksum(&place, bytes);
        parts.push((place, sealed));
    }
    let head_place = place(tree, key, 0)?;
    let mut head = length.to_le_bytes().to_vec();
    head.extend_from_slice(first);
    let sealed = with_checksum(&head_place, &head);
    parts.push((head_place, sealed));
    Ok(parts)
}

fn with_checksum(place: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut sealed = checksum(place, bytes).to_vec();
    sealed.extend_from_slice(bytes);
    sealed
}

fn checksum(place: &[u8], bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(place).chain_update(bytes).finalize();
    *digest.first_chunk().expect("SHA-256 is longer than that")
}

/// A value that is being put together from its parts.
#[derive(Debug)]
pub(super) struct Assembly {
    key: Vec<u8>,
    length: usize,
    value: Vec<u8>,
    next_part: u16,
}

/// A stored part or value is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record at {place} {why}")]
pub(super) struct Damage {
    place: String,
    why: &'static str,
}

impl Damage {
    fn at(place: &[u8], why: &'static str) -> Self {
        let place = place.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { place, why }
    }
}

impl Assembly {
    /// Begins with the head.
    pub(super) fn begin(place: &[u8], sealed: &[u8]) -> Result<Self, Damage> {
        let head = verified(place, sealed)?;
        let (key, _) = parse_place(place).ok_or_else(|| Damage::at(place, "has no readable key"))?;
        let (length, first) =
            head.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| Damage::at(place, "is too short"))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        Ok(Self { key: key.to_vec(), length, value: first.to_vec(), next_part: 1 })
    }

    /// Whether more parts belong to it.
    pub(super) fn wants_more(&self) -> bool {
        self.value.len() < self.length
    }

    /// The number of the part that comes next.
    pub(super) const fn next_part(&self) -> u16 {
        self.next_part
    }

    /// Whether a part belongs to this value.
    pub(super) fn owns(&self, key: &[u8], part: u16) -> bool {
        self.key == key && self.next_part == part && self.wants_more()
    }

    /// Adds the next part.
    pub(super) fn add(&mut self, place: &[u8], sealed: &[u8]) -> Result<(), Damage> {
        self.value.extend_from_slice(verified(place, sealed)?);
        self.next_part = self.next_part.wrapping_add(1);
        Ok(())
    }

    /// The key and the whole value.
    pub(super) fn finish(self) -> Result<(Vec<u8>, Vec<u8>), Damage> {
        if self.value.len() == self.length {
            Ok((self.key, self.value))
        } else {
            Err(Damage::at(&self.key, "misses a part"))
        }
    }
}

fn verified<'a>(place: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (expected, bytes) =
        sealed.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(|| Damage::at(place, "is too short"))?;
    if *expected == checksum(place, bytes) {
        Ok(bytes)
    } else {
        Err(Damage::at(place, "does not match its checksum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(parts: &[Sealed]) -> Result<(Vec<u8>, Vec<u8>), Damage> {
        let (head, rest) = parts.split_last().unwrap();
        let mut assembly = Assembly::begin(&head.0, &head.1)?;
        for (place, sealed) in rest {
            assembly.add(place, sealed)?;
        }
        assembly.finish()
    }

    #[test]
    fn a_value_of_any_length_comes_back_whole() {
        for length in [0, 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX, 262_144] {
            let value: Vec<u8> = (0..=250).cycle().take(length).collect();
            let parts = seal(Tree::Log, b"key", &value).unwrap();
            assert!(parts.iter().all(|(_, sealed)| sealed.len() <= PART_BYTES_MAX + 12));
            assert_eq!(open(&parts), Ok((b"key".to_vec(), value)), "{length} bytes");
        }
    }

    #[test]
    fn one_flipped_bit_in_any_part_is_noticed() {
        let parts = seal(Tree::Log, b"key", &vec![7; PART_BYTES_MAX + 100]).unwrap();
        for part in 0..parts.len() {
            for bit in 0..parts[part].1.len() * 8 {
                let mut broken = parts.clone();
                broken[part].1[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&broken).is_err(), "part {part}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_value_under_another_key_or_without_a_part_is_noticed() {
        let parts = seal(Tree::Log, b"key", &vec![7; 2 * PART_BYTES_MAX]).unwrap();
        let elsewhere = place(Tree::Log, b"kez", 0).unwrap();
        assert!(Assembly::begin(&elsewhere, &parts[1].1).is_err());
        assert!(open(&parts[1..]).is_err());
    }
}
