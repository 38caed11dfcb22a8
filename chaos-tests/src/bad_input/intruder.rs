//! A QUIC client of its own: any key, any plane, any bytes. What a modified agent could do.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{default_provider, sign::any_eddsa_type};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme, sign::CertifiedKey};
use stead_deploy::lab::{Lab, Place};
use stead_proto::id::ClusterId;

/// An Ed25519 private key up to its seed (RFC 8410 §7).
const PKCS8_PREFIX: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// How long a handshake may take.
const SOON: Duration = Duration::from_secs(5);
/// How long silence or a welcome has to last to be one.
const A_MOMENT: Duration = Duration::from_secs(2);

/// Somebody with a key at a place of the lab.
pub struct Intruder {
    seed: [u8; 32],
    mesh: String,
    endpoint: quinn::Endpoint,
}

impl Intruder {
    /// Somebody with the key that grows from `seed`, who asks for the mesh. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(lab: &Lab, place: Place, seed: [u8; 32], mesh: ClusterId) -> anyhow::Result<Self> {
        let socket = lab.namespace(place)?.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let config = quinn::EndpointConfig::default();
        let endpoint = quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))?;
        let name: String = mesh.0.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { seed, mesh: name + ".stead", endpoint })
    }

    /// Connects, speaking `alpn`.
    ///
    /// # Errors
    /// That the other side refuses, or is silent.
    pub async fn connect(&self, to: SocketAddr, alpn: &[u8]) -> anyhow::Result<quinn::Connection> {
        let connecting = self.endpoint.connect_with(client_config(&self.seed, alpn)?, to, &self.mesh)?;
        Ok(tokio::time::timeout(SOON, connecting).await.context("no answer to a handshake")??)
    }

    /// Connects, speaking `alpn`, and waits until the other side has closed the connection or refused it.
    ///
    /// # Errors
    /// That it is welcome.
    pub async fn refused(&self, to: SocketAddr, alpn: &[u8]) -> anyhow::Result<quinn::ConnectionError> {
        let connecting = self.endpoint.connect_with(client_config(&self.seed, alpn)?, to, &self.mesh)?;
        let connection = match tokio::time::timeout(SOON, connecting).await.context("silence")? {
            Ok(connection) => connection,
            Err(error) => return Ok(error),
        };
        // A TLS client learns only now what the other side makes of its key.
        tokio::time::timeout(SOON, connection.closed()).await.map_err(|_| anyhow!("it was let in"))
    }
}

impl Intruder {
    /// Whether the other side lets this key in and keeps it: no refusal within a moment.
    pub async fn is_let_in(&self, to: SocketAddr, alpn: &[u8]) -> bool {
        let Ok(Ok(connecting)) =
            client_config(&self.seed, alpn).map(|config| self.endpoint.connect_with(config, to, &self.mesh))
        else {
            return false;
        };
        let Ok(Ok(connection)) = tokio::time::timeout(A_MOMENT, connecting).await else { return false };
        tokio::time::timeout(A_MOMENT, connection.closed()).await.is_err()
    }
}

/// The seed in a key file.
///
/// # Errors
/// That there is none.
pub fn seed_in(file: &Path) -> anyhow::Result<[u8; 32]> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let digits = text.trim().rsplit(':').next().context("no key")?;
    let byte = |i: usize| {
        let pair = digits.get(2 * i..2 * i + 2).context("a short key")?;
        Ok(u8::from_str_radix(pair, 16)?)
    };
    let bytes = (0..32).map(byte).collect::<anyhow::Result<Vec<u8>>>()?;
    bytes.try_into().map_err(|_| anyhow!("a short key"))
}

fn client_config(seed: &[u8; 32], alpn: &[u8]) -> anyhow::Result<quinn::ClientConfig> {
    let pkcs8 = [PKCS8_PREFIX, seed].concat();
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
    let spki = key.public_key().context("a key without a public half")?.to_vec();
    let shown = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown)));
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)))
}

/// Believes everybody: it is the agent that has to be careful.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
