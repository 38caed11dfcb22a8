//! The mesh's name in the handshake, so that a node of another mesh is turned away before it says anything, even
//! if it shows a key that is known here: a server that was given another genesis, or a cloned one.
//!
//! It travels as the server name of TLS (RFC 6066), which everybody on the way can read; it is a part of a hash and
//! tells nothing.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt::Write as _;
use std::sync::Arc;
use stead_proto::id::ClusterId;

/// How much of the mesh's identity is in its name.
const BYTES: usize = 16;

/// The name under which a mesh answers.
pub(super) fn mesh_name(cluster: ClusterId) -> String {
    let mut name = String::with_capacity(2 * BYTES + ".stead".len());
    for byte in cluster.0.iter().take(BYTES) {
        // Into a string, which takes everything.
        let _ = write!(name, "{byte:02x}");
    }
    name + ".stead"
}

/// Shows this node's key to whoever asks for its mesh, and nothing to others.
#[derive(Debug)]
pub(super) struct OnlyForMesh {
    key: Arc<CertifiedKey>,
    name: String,
}

impl OnlyForMesh {
    pub(super) const fn new(key: Arc<CertifiedKey>, name: String) -> Self {
        Self { key, name }
    }
}

impl ResolvesServerCert for OnlyForMesh {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some(self.name.as_str())).then(|| self.key.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;

    #[test]
    fn a_mesh_name_is_a_host_name_and_differs_from_mesh_to_mesh() {
        let (one, other) = (mesh_name(ClusterId([0xa5; 32])), mesh_name(ClusterId([0xa6; 32])));
        assert_eq!(one, "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5.stead");
        assert!(one != other && ServerName::try_from(one).is_ok());
    }
}
