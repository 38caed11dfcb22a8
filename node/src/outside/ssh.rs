//! The host key of an SSH server, as any client gets to know it: one key exchange, and good-bye.
//!
//! curve25519-sha256 (RFC 8731) over RFC 4253, for Ed25519 host keys (RFC 8709), which every OpenSSH since 6.5 makes at
//! installation. The server has to sign the exchange, so it cannot show a key whose private half it does not have.
//!
//! Deliberately absent: everything after that. No cipher, no user, no channel; a whole SSH client would bring a second
//! set of ciphers and a hundred crates to a program that never logs in anywhere.

use std::io;
use std::net::SocketAddr;

use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{self, ED25519};
use stead_proto::outside::HostKey;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader,
};
use tokio::net::TcpStream;

use super::packet::{Fields, malformed, put, put_number, read, send};

/// How this client introduces itself.
const CLIENT: &str = concat!("SSH-2.0-stead_", env!("CARGO_PKG_VERSION"));
/// The longest line before the first packet (RFC 4253 §4.2), with its end.
const LINE_MAX: u64 = 255;
/// Lines that a server may say before it introduces itself.
const LINES_MAX: usize = 32;
/// Messages that say nothing, before the one that is waited for.
const CHATTER_MAX: usize = 8;

const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const DEBUG: u8 = 4;
const KEXINIT: u8 = 20;
const ECDH_INIT: u8 = 30;
const ECDH_REPLY: u8 = 31;
/// `SSH_DISCONNECT_BY_APPLICATION`.
const BY_APPLICATION: u32 = 11;

const HOST_KEY: &str = "ssh-ed25519";
const EXCHANGES: [&str; 2] = ["curve25519-sha256", "curve25519-sha256@libssh.org"];
/// Named because a server refuses who has none in common with it; none is ever used.
const CIPHERS: &str =
    "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes128-ctr";
const MACS: &str = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";

/// The host key of the server at `at`. Takes as long as the server likes: the caller sets the deadline.
///
/// # Errors
/// That nothing answers, or nothing that has an Ed25519 host key and proves it.
pub(super) async fn host_key(at: SocketAddr) -> io::Result<HostKey> {
    let mut stream = BufReader::new(TcpStream::connect(at).await?);
    let key = exchange(&mut stream).await?;
    // For whoever reads that server's log; what becomes of it does not matter.
    let _ = send(&mut stream, &farewell()).await;
    Ok(key)
}

async fn exchange(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> io::Result<HostKey> {
    stream.write_all(format!("{CLIENT}\r\n").as_bytes()).await?;
    let server = introduction(stream).await?;
    let random = SystemRandom::new();
    let ours = offer(&random)?;
    send(stream, &ours).await?;
    let theirs = read(stream).await?;
    let guesses =
        accepts(&theirs).ok_or_else(|| malformed("no Ed25519 host key and curve25519-sha256 there"))?;

    let secret =
        EphemeralPrivateKey::generate(&X25519, &random).map_err(|_| io::Error::other("no randomness"))?;
    let public = secret.compute_public_key().map_err(|_| io::Error::other("no key"))?;
    let mut first = vec![ECDH_INIT];
    put(&mut first, public.as_ref());
    send(stream, &first).await?;
    if guesses {
        read(stream).await?;
    }
    let reply = reply(stream).await?;
    let Reply { key, public: their_public, signature } =
        Reply::read(&reply).ok_or_else(|| malformed("a key exchange that cannot be read"))?;

    let mut covered = Vec::new();
    for part in [CLIENT.as_bytes(), &server, &ours, &theirs, key, public.as_ref(), their_public] {
        put(&mut covered, part);
    }
    let agreed = agree_ephemeral(secret, &UnparsedPublicKey::new(&X25519, their_public), |agreed| {
        put_number(&mut covered, agreed);
    });
    agreed.map_err(|_| malformed("a key that agrees with none"))?;
    let exchange = digest(&SHA256, &covered);
    let verified = ed25519(key, 32).zip(ed25519(signature, 64)).is_some_and(|(key, signature)| {
        signature::UnparsedPublicKey::new(&ED25519, key).verify(exchange.as_ref(), signature).is_ok()
    });
    if !verified {
        return Err(malformed("a host key that it does not have"));
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, key).as_ref());
    Ok(HostKey(fingerprint))
}

/// The server's own line, without its end; it may say others before.
async fn introduction(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    for _ in 0..LINES_MAX {
        let mut line = Vec::new();
        (&mut *stream).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        let text = line.strip_suffix(b"\n").ok_or_else(|| malformed("a line without an end"))?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.starts_with(b"SSH-2.0-") || text.starts_with(b"SSH-1.99-") {
            return Ok(text.to_vec());
        }
    }
    Err(malformed("no SSH server"))
}

/// What this client can do (RFC 4253 §7.1).
fn offer(random: &SystemRandom) -> io::Result<Vec<u8>> {
    let mut cookie = [0; 16];
    random.fill(&mut cookie).map_err(|_| io::Error::other("no randomness"))?;
    let mut offer = vec![KEXINIT];
    offer.extend(cookie);
    for names in [&EXCHANGES.join(","), HOST_KEY, CIPHERS, CIPHERS, MACS, MACS, "none", "none", "", ""] {
        put(&mut offer, names.as_bytes());
    }
    offer.extend([0; 5]);
    Ok(offer)
}

/// Whether the server has sent a wrong guess of the next message behind its offer; nothing if there is nothing in common.
fn accepts(offer: &[u8]) -> Option<bool> {
    let mut fields = Fields(offer);
    if fields.byte()? != KEXINIT {
        return None;
    }
    fields.skip(16)?;
    let (exchanges, host_keys) = (fields.names()?, fields.names()?);
    for _ in 0..8 {
        fields.string()?;
    }
    let guesses = fields.byte()? != 0;
    let common = EXCHANGES.iter().any(|ours| exchanges.contains(ours)) && host_keys.contains(&HOST_KEY);
    let right = exchanges.first() == EXCHANGES.first() && host_keys.first() == Some(&HOST_KEY);
    common.then_some(guesses && !right)
}

async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    for _ in 0..CHATTER_MAX {
        let payload = read(stream).await?;
        match payload.first() {
            Some(&ECDH_REPLY) => return Ok(payload),
            Some(&(IGNORE | DEBUG)) => {}
            Some(&DISCONNECT) => return Err(malformed("the server ended the exchange")),
            _ => return Err(malformed("a message out of order")),
        }
    }
    Err(malformed("nothing but chatter"))
}

/// Host key, ephemeral key, signature (RFC 5656 §4).
struct Reply<'a> {
    key: &'a [u8],
    public: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Reply<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        fields.skip(1)?;
        let (key, public, signature) = (fields.string()?, fields.string()?, fields.string()?);
        fields.0.is_empty().then_some(Self { key, public, signature })
    }
}

/// What an Ed25519 key or signature holds, of so many bytes.
fn ed25519(blob: &[u8], bytes: usize) -> Option<&[u8]> {
    let mut fields = Fields(blob);
    let named = fields.string()? == HOST_KEY.as_bytes();
    let held = fields.string()?;
    (named && fields.0.is_empty() && held.len() == bytes).then_some(held)
}

fn farewell() -> Vec<u8> {
    let mut payload = vec![DISCONNECT];
    payload.extend(BY_APPLICATION.to_be_bytes());
    put(&mut payload, b"stead has seen the host key");
    put(&mut payload, b"");
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use tokio::io::DuplexStream;

    /// A server in 30 lines, with the same words as the client; `sign` is what it does with the exchange hash.
    async fn serve(wire: DuplexStream, shown: &Ed25519KeyPair, signer: &Ed25519KeyPair) -> io::Result<()> {
        let mut wire = BufReader::new(wire);
        let random = SystemRandom::new();
        wire.write_all(b"a banner\r\nSSH-2.0-test\r\n").await?;
        let client = introduction(&mut wire).await?;
        let ours = offer(&random)?;
        send(&mut wire, &ours).await?;
        let theirs = read(&mut wire).await?;
        let first = read(&mut wire).await?;
        let their_public = Fields(first.get(1..).unwrap()).string().unwrap();
        let secret = EphemeralPrivateKey::generate(&X25519, &random).unwrap();
        let public = secret.compute_public_key().unwrap();
        let blob = |bytes: &[u8]| {
            let mut blob = Vec::new();
            put(&mut blob, HOST_KEY.as_bytes());
            put(&mut blob, bytes);
            blob
        };
        let key = blob(shown.public_key().as_ref());
        let mut covered = Vec::new();
        for part in [&client[..], b"SSH-2.0-test", &theirs, &ours, &key, their_public, public.as_ref()] {
            put(&mut covered, part);
        }
        agree_ephemeral(secret, &UnparsedPublicKey::new(&X25519, their_public), |agreed| {
            put_number(&mut covered, agreed);
        })
        .unwrap();
        let signature = signer.sign(digest(&SHA256, &covered).as_ref());
        send(&mut wire, &[IGNORE, 0, 0, 0, 0]).await?;
        let mut reply = vec![ECDH_REPLY];
        for part in [&key[..], public.as_ref(), &blob(signature.as_ref())] {
            put(&mut reply, part);
        }
        send(&mut wire, &reply).await
    }

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    async fn seen(shown: u8, signer: u8) -> io::Result<HostKey> {
        let (here, there) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move { serve(there, &pair(shown), &pair(signer)).await });
        let seen = exchange(&mut BufReader::new(here)).await;
        server.await.unwrap().unwrap();
        seen
    }

    #[tokio::test]
    async fn a_key_counts_only_for_whoever_has_its_private_half() {
        let honest = seen(1, 1).await.unwrap();
        assert_eq!(honest, seen(1, 1).await.unwrap());
        assert_ne!(honest, seen(2, 2).await.unwrap());
        assert!(seen(1, 2).await.unwrap_err().to_string().contains("does not have"));
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_server_make_a_key_or_a_panic(packets in prop::collection::vec(any::<Vec<u8>>(), 0..4), raw in any::<Vec<u8>>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let seen = runtime.block_on(async {
                let mut said = b"SSH-2.0-x\r\n".to_vec();
                let mut offer = offer(&SystemRandom::new()).unwrap();
                send(&mut said, &offer).await.unwrap();
                offer.truncate(raw.len());
                for payload in packets.iter().chain([&offer]) {
                    send(&mut said, &[&[ECDH_REPLY], &payload[..]].concat()).await.unwrap();
                }
                said.extend(&raw);
                let (here, mut there) = tokio::io::duplex(1 << 20);
                there.write_all(&said).await.unwrap();
                there.shutdown().await.unwrap();
                let seen = exchange(&mut BufReader::new(here)).await;
                drop(there);
                seen
            });
            prop_assert!(seen.is_err());
        }
    }
}
