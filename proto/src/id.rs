//! Identities: who somebody is. Addresses are hints and live elsewhere.

use crate::limits::NAME_BYTES_MAX;
use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A node's number in the roster. Never used twice in one mesh, not even for the same machine: a node
/// that lost its store comes back under a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The mesh: SHA-256 of its genesis. Part of every signed statement, so that nothing said in one mesh
/// can be replayed in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 32]);

/// An Ed25519 public key (RFC 8032, 32 bytes): what a node or an operator is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// Why a key or name could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 hexadecimal digits.
    #[error("{0:?} is not a key: write 64 hexadecimal digits")]
    Key(String),
    /// Not a name.
    #[error(
        "{0:?} is not a name: write 1 to {NAME_BYTES_MAX} of the letters a-z, digits, '-', '_' and '.', beginning with a letter or digit"
    )]
    Name(String),
}

macro_rules! hex_display {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("…")
            }
        }
        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self).ok_or_else(|| IdError::Key(text.into()))
            }
        }
    };
}

hex_display!(PublicKey);
hex_display!(ClusterId);

/// Reads exactly 32 bytes of hexadecimal digits.
#[must_use]
pub fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// A short, printable, case-less name of a node, service or endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = text.len() <= NAME_BYTES_MAX
            && text.starts_with(letter)
            && text.chars().all(|c| letter(c) || matches!(c, '-' | '_' | '.'));
        if ok { Ok(Self(text.into())) } else { Err(IdError::Name(text.chars().take(60).collect())) }
    }
}

impl TryFrom<String> for Name {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_key_survives_its_text_form() {
        let key = PublicKey(core::array::from_fn(|i| i as u8 * 7));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("12".parse::<PublicKey>().is_err());
        assert!("é".repeat(32).parse::<PublicKey>().is_err());
    }

    #[test]
    fn names_that_could_confuse_a_shell_or_a_reader_are_refused() {
        for bad in ["", "A", "-x", "a b", "a/b", "a\n", "ü", &"x".repeat(41)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert!("web-1.example_x".parse::<Name>().is_ok());
    }
}
