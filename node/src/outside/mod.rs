//! Looks at other nodes from outside, as the core wants it: one connection, one answer, within a deadline.
//!
//! **Invariant.** What is looked at cannot make a look last longer than five seconds or cost more than a few kilobytes.
//!
//! Deliberately absent: what to look at, how often, and what it means (`proto/src/mesh/outside.rs`).

mod packet;
mod ssh;

use std::net::SocketAddr;
use std::time::Duration;

use stead_proto::health::Probed;
use stead_proto::outside::{HostKey, Look, Page, Sight};
use stead_proto::service::StatusRange;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::service::http;

/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Looks once.
pub async fn look(look: Look) -> Sight {
    match look {
        Look::HostKey { node, at } => Sight::HostKey { node, key: host_key(&at).await },
        Look::Page { endpoint, holder, at, path, host, expect } => {
            let page = timeout(LOOK_MAX, page(at, &path, host.as_deref(), expect)).await;
            Sight::Page { endpoint, holder, page: page.unwrap_or(Page::Nothing) }
        }
    }
}

/// The first that answers.
async fn host_key(at: &[SocketAddr]) -> Option<HostKey> {
    for at in at {
        match timeout(LOOK_MAX, ssh::host_key(*at)).await {
            Ok(Ok(key)) => return Some(key),
            Ok(Err(error)) => tracing::debug!(%at, %error, "no host key seen"),
            Err(_) => tracing::debug!(%at, "no host key seen in time"),
        }
    }
    None
}

/// An answer that stops before the end of its first line says nothing.
async fn page(at: SocketAddr, path: &str, host: Option<&str>, expect: StatusRange) -> Page {
    let Ok(mut stream) = TcpStream::connect(at).await else { return Page::Nothing };
    let Ok(answer) = http::first_line(&mut stream, &http::request(path, host)).await else {
        return Page::Nothing;
    };
    if !answer.contains(&b'\n') {
        return Page::Nothing;
    }
    match http::judge(&answer, expect) {
        Probed::Ok => Page::AsExpected,
        Probed::Bad(what) => Page::Other(what),
        Probed::Refused | Probed::Timeout => Page::Nothing,
    }
}
