//! Signed statements: bytes that one key answers for.
//!
//! A signature covers a *context* (what kind of statement it is), the mesh, and the encoded statement, so
//! that no statement can pass for another kind, or be carried into another mesh.
//!
//! **Invariant.** A [`Signed`] value's content is out of reach until its signature was verified.

use crate::codec::{self, CodecError};
use crate::id::{ClusterId, PublicKey};
use alloc::vec::Vec;
use core::{fmt, marker::PhantomData};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// A kind of statement that can be signed.
pub trait Statement: Serialize + DeserializeOwned {
    /// Tells this kind of statement from all others, for ever.
    const CONTEXT: &'static str;
    /// The largest encoded statement.
    const BYTES_MAX: usize;
}

/// A statement, the key that signed it, and the signature (Ed25519, RFC 8032, verified strictly).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signed<T> {
    by: PublicKey,
    statement: Vec<u8>,
    signature: Vec<u8>,
    #[serde(skip)]
    kind: PhantomData<T>,
}

/// Why a signed statement was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not a point on the curve.
    #[error("not a public key")]
    Key,
    /// Forged, altered, of another kind or of another mesh.
    #[error("the signature does not cover this statement")]
    Signature,
    /// Signed, but unreadable.
    #[error("unreadable statement: {0}")]
    Statement(#[from] CodecError),
}

/// A private key. Erased from memory when dropped; never printed, never serialised.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key that grows from `seed` (RFC 8032, 32 bytes).
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `statement` for one mesh.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] if the statement exceeds its limit.
    pub fn sign<T: Statement>(&self, cluster: ClusterId, statement: &T) -> Result<Signed<T>, CodecError> {
        let statement = codec::encode(statement, T::BYTES_MAX)?;
        let signature = self.0.sign(&covered::<T>(cluster, &statement)).to_bytes().to_vec();
        Ok(Signed { by: self.public(), statement, signature, kind: PhantomData })
    }
}

/// Whether signatures can be made under a key at all: a point on the curve, and none that anybody can sign for.
#[must_use]
pub fn is_key(key: &PublicKey) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak())
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

impl<T: Statement> Signed<T> {
    /// Who claims to have signed; nothing is proven before [`Signed::verify`].
    #[must_use]
    pub const fn claimed_signer(&self) -> PublicKey {
        self.by
    }

    /// The signed bytes, for hashing a chain of statements.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.statement
    }

    /// The signature, for whoever verifies it by himself.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Verifies signature and size, and gives out the statement.
    ///
    /// # Errors
    /// [`SignError`], which says whether key, signature or content is wrong.
    pub fn verify(&self, cluster: ClusterId) -> Result<T, SignError> {
        if self.statement.len() > T::BYTES_MAX {
            let (bytes, bytes_max) = (self.statement.len(), T::BYTES_MAX);
            return Err(CodecError::TooLong { bytes, bytes_max }.into());
        }
        let key = VerifyingKey::from_bytes(&self.by.0).map_err(|_| SignError::Key)?;
        let signature =
            ed25519_dalek::Signature::from_slice(&self.signature).map_err(|_| SignError::Signature)?;
        key.verify_strict(&covered::<T>(cluster, &self.statement), &signature)
            .map_err(|_| SignError::Signature)?;
        Ok(codec::decode(&self.statement, T::BYTES_MAX)?)
    }
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed(by {:?}, {} bytes)", self.by, self.statement.len())
    }
}

/// The bytes under a signature: each part is preceded by its length or has a fixed one.
fn covered<T: Statement>(cluster: ClusterId, statement: &[u8]) -> Vec<u8> {
    let context = T::CONTEXT.as_bytes();
    let context_length = u8::try_from(context.len()).expect("contexts are short literals");
    let mut bytes = alloc::vec![context_length];
    bytes.extend(context);
    bytes.extend(cluster.0);
    bytes.extend(statement);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Promise(u32);
    impl Statement for Promise {
        const CONTEXT: &'static str = "test promise";
        const BYTES_MAX: usize = 100;
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Threat(u32);
    impl Statement for Threat {
        const CONTEXT: &'static str = "test threat";
        const BYTES_MAX: usize = 100;
    }

    const HERE: ClusterId = ClusterId([1; 32]);

    fn key() -> SecretKey {
        SecretKey::from_seed(&Zeroizing::new([7; 32]))
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let signed = key().sign(HERE, &Promise(5)).unwrap();
        assert_eq!(signed.verify(HERE), Ok(Promise(5)));
    }

    #[test]
    fn a_statement_counts_in_its_own_mesh_and_as_its_own_kind_only() {
        let signed = key().sign(HERE, &Promise(5)).unwrap();
        assert_eq!(signed.verify(ClusterId([2; 32])), Err(SignError::Signature));
        let Signed { by, statement, signature, .. } = signed;
        let recast = Signed::<Threat> { by, statement, signature, kind: PhantomData };
        assert_eq!(recast.verify(HERE), Err(SignError::Signature));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let signed = key().sign(HERE, &Promise(5)).unwrap();
        let frame = codec::encode(&signed, 1_000).unwrap();
        for bit in 0..frame.len() * 8 {
            let mut broken = frame.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let believed =
                codec::decode::<Signed<Promise>>(&broken, 1_000).is_ok_and(|s| s.verify(HERE).is_ok());
            assert!(!believed, "bit {bit}");
        }
    }
}
