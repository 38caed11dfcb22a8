//! What nodes can see of one another from outside, like any visitor: SSH host keys, and the page that an endpoint serves.
//!
//! The agent of a server says what it likes when its host is in strange hands; what the host shows to everybody is
//! harder to keep as it was. Looking is cheap, needs no right on the other host, and anybody can do it again.

use crate::id::{Name, NodeId};
use crate::plan::Epoch;
use crate::service::StatusRange;
use alloc::{string::String, vec::Vec};
use base64ct::{Base64Unpadded, Encoding as _};
use core::{fmt, net::SocketAddr, str::FromStr};
use serde::{Deserialize, Serialize};

/// An SSH host key, by the SHA-256 of its public half as SSH sends it (RFC 4253 §6.6): what `ssh-keygen -l` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostKey(pub [u8; 32]);

/// Why a text names no host key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fingerprint of a host key: write it as `ssh-keygen -l` shows it, such as SHA256:…")]
pub struct HostKeyError;

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 43];
        let text = Base64Unpadded::encode(&self.0, &mut digits).map_err(|_| fmt::Error)?;
        write!(f, "SHA256:{text}")
    }
}

impl FromStr for HostKey {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        let digits = text.strip_prefix("SHA256:").ok_or(HostKeyError)?;
        let mut key = [0; 32];
        let decoded = Base64Unpadded::decode(digits, &mut key).map_err(|_| HostKeyError)?;
        if decoded.len() == 32 { Ok(Self(key)) } else { Err(HostKeyError) }
    }
}

/// What the nodes look at. Operator-signed, like all of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Where the servers' SSH listens; 0 = nobody looks.
    pub ssh_port: u16,
}

impl Default for Watch {
    fn default() -> Self {
        Self { ssh_port: 22 }
    }
}

/// Something to look at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The host key of a node's SSH server.
    HostKey {
        /// Whose.
        node: NodeId,
        /// Where it may be found; the first that answers counts.
        at: Vec<SocketAddr>,
    },
    /// A page that an endpoint's holder calls healthy.
    Page {
        /// Of which endpoint.
        endpoint: Name,
        /// Who holds it, under which epoch.
        holder: (NodeId, Epoch),
        /// Where visitors find it.
        at: SocketAddr,
        /// The path, and the `Host` header.
        path: String,
        /// The `Host` header; `localhost` when absent.
        host: Option<String>,
        /// The statuses that count as success.
        expect: StatusRange,
    },
}

/// What a look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The host key of a node's SSH server.
    HostKey {
        /// Whose.
        node: NodeId,
        /// What it proved to have the private half of; nothing if no SSH server answered.
        key: Option<HostKey>,
    },
    /// A page.
    Page {
        /// Of which endpoint.
        endpoint: Name,
        /// Who held it when the look began.
        holder: (NodeId, Epoch),
        /// What came.
        page: Page,
    },
}

/// What a visitor got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// What the site's check expects.
    AsExpected,
    /// Another answer: which.
    Other(String),
    /// No answer: the way there may be to blame.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    /// Of `ssh-keygen -lf` for a key whose blob hashes to these bytes.
    #[test]
    fn a_fingerprint_is_written_as_ssh_keygen_does_and_read_back() {
        let key = HostKey(core::array::from_fn(|i| u8::try_from(i).unwrap()));
        let text = key.to_string();
        assert_eq!(text, "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        assert_eq!(text.parse(), Ok(key));
        for wrong in ["", "SHA256:", "MD5:00", &text[..49], &format!("{text}="), &format!("{text}AAAA")] {
            assert_eq!(wrong.parse::<HostKey>(), Err(HostKeyError), "{wrong}");
        }
    }

    use alloc::format;
}
