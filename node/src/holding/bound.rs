//! The page on the port itself: the rung below steering.
//!
//! A listener on `address:port` keeps the application from binding `0.0.0.0:port` (`EADDRINUSE`), and an
//! application that cannot bind never gets healthy. So the port is lent out again and again.
//!
//! **Invariant.** Of every [`SHOWN`] + [`LENT`] the port is free for [`LENT`], as long as the page is on.

use super::page::Page;
use super::{HoldingError, PortState, serve, socket};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long the page is shown before the application gets a chance.
const SHOWN: Duration = Duration::from_secs(8);
/// How long the port is left to the application: enough for one start by systemd or by stead.
const LENT: Duration = Duration::from_secs(2);
/// How often to look whether a taken port is free again.
const RETRY: Duration = Duration::from_millis(250);

/// Binds `at`; says what is to be done if that fails.
pub(super) fn listen(at: SocketAddr) -> Result<TcpListener, HoldingError> {
    socket::listen(at).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            HoldingError::PortTaken(at)
        } else {
            HoldingError::Listen { at, source }
        }
    })
}

/// Shows the page on `at` whenever the port can be had, until it is cancelled.
pub(super) async fn run(at: SocketAddr, page: Arc<Page>, state: watch::Sender<PortState>) {
    loop {
        match listen(at) {
            Ok(listener) => {
                state.send_replace(PortState::Bound);
                let _ = timeout(SHOWN, serve::serve(listener, page.clone())).await;
                state.send_replace(PortState::Lent);
                sleep(LENT).await;
            }
            Err(error) => {
                tell(&state, &error);
                sleep(RETRY).await;
            }
        }
    }
}

/// Once per failure, not once per attempt.
fn tell(state: &watch::Sender<PortState>, error: &HoldingError) {
    let next = match error {
        HoldingError::PortTaken(_) => PortState::PortTaken,
        HoldingError::Listen { .. } => PortState::Failed,
    };
    if state.send_if_modified(|now| std::mem::replace(now, next) != next) {
        tracing::warn!(%error, "the holding page cannot be shown");
    }
}
