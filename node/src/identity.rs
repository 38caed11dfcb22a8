//! A node's or operator's secret key: where it lives and what grows from it.
//!
//! The file holds one line, `stead-secret-key-v1:` and the 32-byte Ed25519 seed in hexadecimal digits.
//!
//! **Invariant.** A seed is on disk only in a file that nobody else may read, in memory only in buffers
//! that are erased when dropped, and nowhere in a log.
//!
//! Deliberately absent: pass phrases. A server has to start while its operator is away.

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stead_proto::id::PublicKey;
use stead_proto::sign::SecretKey;
use zeroize::Zeroizing;

const PREFIX: &str = "stead-secret-key-v1:";
const HEX_DIGITS: usize = 64;
/// A line end is allowed; anything longer is not a key file.
const FILE_BYTES_MAX: usize = PREFIX.len() + HEX_DIGITS + 2;

/// Why a key could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel: {0}")]
    Random(#[source] io::Error),
    /// The file could not be created; an existing one is never overwritten.
    #[error("cannot create the key file {path}: {source}; to make a new key, move the old file away first")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read the key file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error(
        "others may read the key file {path} (mode {mode:03o}): run `chmod 600 {path}`, and replace the key if anybody else had access"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file.
    #[error("{path} is not a key file: one line `{PREFIX}` and {HEX_DIGITS} hexadecimal digits is expected")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// A private key together with the seed that it and its sub-keys grow from.
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    key: SecretKey,
}

impl Identity {
    /// The identity that grows from `seed`.
    #[must_use]
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let key = SecretKey::from_seed(&seed);
        Self { seed, key }
    }

    /// A new identity from the kernel's random source.
    ///
    /// # Errors
    /// [`IdentityError::Random`].
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        let filled = getrandom(seed.as_mut_slice(), GetRandomFlags::empty())
            .map_err(|e| IdentityError::Random(e.into()))?;
        assert_eq!(filled, seed.len(), "getrandom gives up to 256 bytes at once (getrandom(2))");
        Ok(Self::from_seed(seed))
    }

    /// Makes a new identity and writes it to a new file that only its owner may read. Durable on return.
    ///
    /// # Errors
    /// [`IdentityError::Create`] if the file exists or cannot be written.
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::generate()?;
        identity.write_new(path).map_err(|source| IdentityError::Create { path: path.into(), source })?;
        Ok(identity)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`IdentityError::Exposed`] if group or others have any right to it; see also the other variants.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let read_error = |source| IdentityError::Read { path: path.into(), source };
        let file = File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.into(), mode });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        let bytes_max = u64::try_from(FILE_BYTES_MAX + 1).expect("a small constant");
        file.take(bytes_max).read_to_end(&mut text).map_err(read_error)?;
        let seed = parse(&text).ok_or_else(|| IdentityError::Format { path: path.into() })?;
        Ok(Self::from_seed(seed))
    }

    /// What others know this identity by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The key that signs statements, for whoever signs from now on; the seed is erased.
    #[must_use]
    pub fn into_key(self) -> SecretKey {
        SecretKey::from_seed(&self.seed)
    }

    /// The key that signs statements.
    #[must_use]
    pub const fn key(&self) -> &SecretKey {
        &self.key
    }

    /// A secret for one `purpose`, the same at each start; says nothing about the seed or other purposes.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(b"stead sub-key v1\0");
        hash.update(self.seed.as_slice());
        hash.update(purpose.as_bytes());
        Zeroizing::new(hash.finalize().into())
    }

    /// For key formats that other libraries read.
    pub(crate) const fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&render(&self.seed))?;
        file.sync_all()?;
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.public())
    }
}

fn render(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    // The full capacity from the start: a buffer that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
    line.extend_from_slice(PREFIX.as_bytes());
    for byte in seed {
        for digit in [byte >> 4, byte & 15] {
            line.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
    line.push(b'\n');
    line
}

/// `id::parse_hex` would do, but it collects the digits into vectors that nobody erases.
fn parse(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.strip_prefix(PREFIX.as_bytes())?.trim_ascii_end();
    if digits.len() != HEX_DIGITS || text.len() > FILE_BYTES_MAX {
        return None;
    }
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = value(high)? * 16 + value(low)?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn new_file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        (directory, path)
    }

    #[test]
    fn a_created_key_loads_again_and_is_for_its_owner_only() {
        let (_directory, path) = new_file();
        let created = Identity::create(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().public(), created.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(PREFIX) && text.len() == PREFIX.len() + 65, "one line");
    }

    #[test]
    fn an_existing_key_is_never_overwritten() {
        let (_directory, path) = new_file();
        let first = Identity::create(&path).unwrap();
        assert!(matches!(Identity::create(&path), Err(IdentityError::Create { .. })));
        assert_eq!(Identity::load(&path).unwrap().public(), first.public());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let (_directory, path) = new_file();
        Identity::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn whatever_is_not_exactly_a_key_is_refused() {
        let good = render(&[0xa5; 32]);
        assert_eq!(parse(&good).unwrap().as_slice(), [0xa5; 32]);
        let good = String::from_utf8(good.to_vec()).unwrap();
        let bad =
            ["", "a5", &good[..83], &good.replace("v1", "v2"), &good.replace('a', "g"), &format!("{good} x")];
        for text in bad {
            assert!(parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn sub_keys_differ_by_purpose_and_by_seed() {
        let identity = |n| Identity::from_seed(Zeroizing::new([n; 32]));
        assert_eq!(identity(1).derive("a"), identity(1).derive("a"));
        assert_ne!(identity(1).derive("a"), identity(1).derive("b"));
        assert_ne!(identity(1).derive("a"), identity(2).derive("a"));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", Identity::from_seed(Zeroizing::new([0xa5; 32])));
        assert!(!text.contains("a5a5") && !text.contains("165"), "{text}");
    }
}
