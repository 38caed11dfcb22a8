//! TLS 1.3 with raw Ed25519 public keys (RFC 7250, RFC 8410): both sides show a key, no certificate.
//!
//! **Invariant.** A handshake succeeds only with a key that [`Accept`] names, and only if the peer proved
//! that it holds the private half. Nothing is resumed and nothing is sent early (no tickets, no 0-RTT), so
//! every connection is judged anew.
//!
//! Deliberately absent: X.509, authorities, names of nodes, expiry, TLS 1.2.

use super::directory::{Directory, Standing, Who};
use super::mesh_name::OnlyForMesh;
use super::plane::Plane;
use crate::identity::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use std::sync::Arc;
use stead_proto::id::{NodeId, PublicKey};
use zeroize::Zeroizing;

/// An Ed25519 SubjectPublicKeyInfo up to its 32 key bytes (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// A PKCS#8 Ed25519 private key up to its 32 seed bytes (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Whose key is good enough.
#[derive(Clone, Debug)]
pub(super) enum Accept {
    /// Anybody in the directory.
    Listed(Directory),
    /// This node as the directory knows it.
    Node(Directory, NodeId),
    /// The holder of this key.
    Key(PublicKey),
}

/// The key that this side shows, ready for signing handshakes.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<CertifiedKey>);

impl Shown {
    pub(super) fn new(identity: &Identity) -> Result<Self, Error> {
        let mut private = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + 32));
        private.extend_from_slice(&PKCS8_PREFIX);
        private.extend_from_slice(identity.seed().as_slice());
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(private.as_slice()))?;
        let spki = [SPKI_PREFIX.as_slice(), &identity.public().0].concat();
        Ok(Self(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key))))
    }
}

/// Judges the key of the other side, in both directions.
#[derive(Debug)]
struct Pinned {
    accept: Accept,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What the dialling side presents and expects.
pub(super) fn client_config(shown: &Shown, accept: Accept, plane: Plane) -> Result<QuicClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = shown.0.clone();
    let pinned = Arc::new(Pinned::new(accept, &provider));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown)));
    config.alpn_protocols = vec![plane.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|e| Error::General(e.to_string()))
}

/// What the accepting side presents and expects, on all planes.
pub(super) fn server_config(
    identity: &Identity,
    mesh_name: String,
    directory: Directory,
) -> Result<QuicServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = Shown::new(identity)?.0;
    let pinned = Arc::new(Pinned::new(Accept::Listed(directory), &provider));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(pinned)
        .with_cert_resolver(Arc::new(OnlyForMesh::new(shown, mesh_name)));
    config.alpn_protocols = Plane::all_alpn();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|e| Error::General(e.to_string()))
}

/// The key that the other side of `connection` proved to hold.
pub(super) fn peer_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_of(shown.first()?)
}

/// The plane that both sides agreed on.
pub(super) fn plane(connection: &quinn::Connection) -> Option<Plane> {
    let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    Plane::from_alpn(&data.protocol?)
}

fn key_of(spki: &CertificateDer<'_>) -> Option<PublicKey> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PublicKey)
}

impl Pinned {
    const fn new(accept: Accept, provider: &CryptoProvider) -> Self {
        Self { accept, algorithms: provider.signature_verification_algorithms }
    }

    /// The errors are chosen for the TLS alerts that they become: the other side is told why.
    fn judge(&self, spki: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), CertificateError> {
        if !more.is_empty() {
            return Err(CertificateError::BadEncoding);
        }
        let key = key_of(spki).ok_or(CertificateError::BadEncoding)?;
        let (directory, expected) = match &self.accept {
            Accept::Key(expected) if key == *expected => return Ok(()),
            Accept::Key(_) => return Err(CertificateError::ApplicationVerificationFailure),
            Accept::Listed(directory) => (directory, None),
            Accept::Node(directory, id) => (directory, Some(Who::Node(*id))),
        };
        match directory.standing(&key) {
            Standing::Accepted(who) if expected.is_none_or(|e| e == who) => Ok(()),
            Standing::Accepted(_) => Err(CertificateError::ApplicationVerificationFailure),
            Standing::Evicted => Err(CertificateError::Revoked),
            Standing::Unknown => Err(CertificateError::UnknownIssuer),
        }
    }

    fn signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn identity(n: u8) -> Identity {
        Identity::from_seed(Zeroizing::new([n; 32]))
    }

    fn spki(n: u8) -> CertificateDer<'static> {
        Shown::new(&identity(n)).unwrap().0.cert[0].clone()
    }

    fn judge(accept: Accept, shown: &[CertificateDer<'_>]) -> Result<(), CertificateError> {
        Pinned::new(accept, &rustls::crypto::ring::default_provider()).judge(&shown[0], &shown[1..])
    }

    #[test]
    fn each_key_is_judged_by_what_the_directory_says_now() {
        let node = |n: u8| (identity(n).public(), Who::Node(NodeId(n.into())));
        let directory = Directory::new([node(1), node(2), node(3)].into());
        directory.replace([node(1), node(2)].into_iter().collect::<BTreeMap<_, _>>());
        let listed = |n| judge(Accept::Listed(directory.clone()), &[spki(n)]);
        assert_eq!(listed(1), Ok(()));
        assert_eq!(listed(3), Err(CertificateError::Revoked));
        assert_eq!(listed(4), Err(CertificateError::UnknownIssuer));
        let second = |n| judge(Accept::Node(directory.clone(), NodeId(2)), &[spki(n)]);
        assert_eq!(second(2), Ok(()));
        assert_eq!(second(1), Err(CertificateError::ApplicationVerificationFailure));
        let pinned = |n| judge(Accept::Key(identity(9).public()), &[spki(n)]);
        assert_eq!(pinned(9), Ok(()));
        assert_eq!(pinned(1), Err(CertificateError::ApplicationVerificationFailure));
    }

    #[test]
    fn whatever_is_not_one_ed25519_key_is_refused() {
        let anybody = || Accept::Key(identity(1).public());
        let good = spki(1).to_vec();
        assert_eq!(good.len(), 44);
        let mut other_algorithm = good.clone();
        other_algorithm[8] = 0x71; // Ed448
        for bad in [vec![], good[..43].to_vec(), [&good[..], &[0]].concat(), other_algorithm] {
            assert_eq!(judge(anybody(), &[bad.into()]), Err(CertificateError::BadEncoding));
        }
        assert_eq!(judge(anybody(), &[spki(1), spki(1)]), Err(CertificateError::BadEncoding));
    }
}
