//! Reads a testimony from its signed bytes, without the mesh's own code: a second path to the same answer.
//!
//! The format is that of `proto/src/codec.rs`, written down once more: a version byte, then fields in order; numbers of
//! several bytes in bincode's variable width (below 251 as they are; 251, 252, 253 before 2, 4, 8 bytes, little
//! endian); arrays as they are; lists after their length; variants by their number.

/// What one testimony says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) subject: u64,
    pub(super) subject_key: [u8; 32],
    /// Whether it asks for isolation.
    pub(super) isolates: bool,
    pub(super) electorate: u64,
    pub(super) by: u64,
    pub(super) grounds: Vec<Ground>,
    pub(super) unix_ms: u64,
    /// The last report of the accused that the witness had heard: its incarnation and its number.
    pub(super) heard: Option<(u64, u64)>,
}

/// One ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    Contradiction([u8; 32], [u8; 32]),
    Confession([u8; 32]),
    AtHome,
    Probed(u64),
    Flooded,
    Silence,
}

const GROUNDS_MAX: u64 = 9;

/// The testimony in these bytes, if that is all that is in them.
pub(super) fn testimony(bytes: &[u8]) -> Option<Said> {
    let mut reader = Reader(bytes);
    if reader.byte()? != 1 {
        return None;
    }
    let (subject, subject_key) = (reader.number()?, reader.array()?);
    let isolates = match reader.number()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (electorate, by) = (reader.number()?, reader.number()?);
    let count = reader.number().filter(|count| *count <= GROUNDS_MAX)?;
    let grounds = (0..count).map(|_| reader.ground()).collect::<Option<Vec<_>>>()?;
    let unix_ms = reader.number()?;
    let heard = match reader.byte()? {
        0 => None,
        1 => Some((reader.number()?, reader.number()?)),
        _ => return None,
    };
    let said = Said { subject, subject_key, isolates, electorate, by, grounds, unix_ms, heard };
    reader.0.is_empty().then_some(said)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn array(&mut self) -> Option<[u8; 32]> {
        let (array, rest) = self.0.split_first_chunk::<32>()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        let width = match self.byte()? {
            251 => 2,
            252 => 4,
            253 => 8,
            254.. => return None,
            small => return Some(small.into()),
        };
        let (little, rest) = self.0.split_at_checked(width)?;
        self.0 = rest;
        Some(little.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn ground(&mut self) -> Option<Ground> {
        Some(match self.number()? {
            0 => Ground::Contradiction(self.array()?, self.array()?),
            1 => Ground::Confession(self.array()?),
            2 => Ground::AtHome,
            3 => Ground::Probed(self.number().filter(|probe| *probe < 4)?),
            4 => {
                self.number()?;
                Ground::Flooded
            }
            5 => Ground::Silence,
            _ => return None,
        })
    }
}
