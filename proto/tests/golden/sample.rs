//! A sample: one value, its bytes, and what a test may ask of it without knowing its type.
//!
//! **Invariant.** [`every`] takes one pattern and one value for each variant and matches without `_`: a new
//! variant without a sample does not compile.

use std::fmt::Debug;
use std::fmt::Write as _;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use stead_proto::codec::{self, CodecError};

/// What is longer is shown by its length, its SHA-256 and as many bytes from its beginning.
const SHOWN_BYTES_MAX: usize = 64;

/// Reads a frame of at most that many bytes; gives back what it is written as, and whether it equals the sample.
type Reread = Box<dyn Fn(&[u8], usize) -> Result<Reading, CodecError>>;

/// Whether a frame can be read.
type IsRead = Box<dyn Fn(&[u8]) -> bool>;

pub(crate) struct Sample {
    /// `module::Type` or `module::Type::Variant`.
    pub(crate) name: String,
    pub(crate) frame: Vec<u8>,
    pub(crate) bytes_max: usize,
    pub(crate) reread: Reread,
}

pub(crate) struct Reading {
    pub(crate) frame: Vec<u8>,
    pub(crate) is_the_sample: bool,
}

impl Sample {
    /// A name and bytes, for people and for the comparison.
    pub(crate) fn line(&self) -> String {
        let (name, length) = (&self.name, self.frame.len());
        if length <= SHOWN_BYTES_MAX {
            return format!("{name} {}", hex(&self.frame));
        }
        let digest = hex(&Sha256::digest(&self.frame));
        format!("{name} {length} bytes, sha256 {digest}, {}…", hex(&self.frame[..SHOWN_BYTES_MAX]))
    }

    pub(crate) fn read(&self, frame: &[u8]) -> Result<Reading, CodecError> {
        (self.reread)(frame, self.bytes_max)
    }
}

/// An enum, of which each variant has its sample.
pub(crate) struct Variants {
    pub(crate) name: String,
    /// How many there are.
    pub(crate) count: u8,
    pub(crate) is_read: IsRead,
}

#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) all: Vec<Sample>,
    pub(crate) enums: Vec<Variants>,
}

impl Samples {
    pub(crate) fn add<T>(&mut self, name: &str, value: T, bytes_max: usize)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let frame = codec::encode(&value, bytes_max).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reread = move |frame: &[u8], bytes_max: usize| {
            let read: T = codec::decode(frame, bytes_max)?;
            // What was read from a frame may take more bytes than the frame: all that counts is what it means.
            let frame = codec::encode(&read, 2 * bytes_max)?;
            Ok(Reading { frame, is_the_sample: read == value })
        };
        self.all.push(Sample { name: name.into(), frame, bytes_max, reread: Box::new(reread) });
    }

    /// One sample for each variant of an enum, as [`every`] gives them.
    pub(crate) fn add_all<T, const N: usize>(&mut self, name: &str, all: [(&str, T); N], bytes_max: usize)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let count = u8::try_from(N).expect("enums are small");
        let is_read = move |frame: &[u8]| codec::decode::<T>(frame, bytes_max).is_ok();
        self.enums.push(Variants { name: name.into(), count, is_read: Box::new(is_read) });
        for (place, (variant, value)) in all.into_iter().enumerate() {
            self.add(&format!("{name}::{variant}"), value, bytes_max);
            let tag = self.all.last().map(|sample| usize::from(sample.frame[1]));
            assert_eq!(tag, Some(place), "{name}::{variant} moved: a new variant goes to the end");
        }
    }
}

/// `[(variant, value), …]` of an enum, in the order of its variants.
macro_rules! every {
    ($type:ident: $($variant:ident $({ $($inner:tt)* })? $(( $($tuple:tt)* ))?;)+) => {{
        // Not called: it compiles only if no variant is left out.
        let _complete = |value: &$type| match value {
            $($type::$variant { .. } => {})+
        };
        [$((stringify!($variant), $type::$variant $({ $($inner)* })? $(( $($tuple)* ))?)),+]
    }};
}
pub(crate) use every;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
