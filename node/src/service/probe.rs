//! One probe of one service, within its time.
//!
//! **Invariant.** What this node cannot do is no evidence against the application: a lack of its own ports,
//! descriptors or memory, or a timer that fired late because the node itself stood still, is
//! [`Outcome::Inconclusive`].

use super::{exec, http};
use rustix::io::Errno;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use stead_proto::health::Probed;
use stead_proto::service::{Check, Service};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A timer that is later than this means that the node stood still, not the application.
const TIMER_LATE_MAX: Duration = Duration::from_millis(50);

/// What came of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Something about the application.
    Found(Probed),
    /// Something about this node.
    Inconclusive(String),
}

/// Probes `service` once; takes `timeout_ms` at most, if the node keeps time.
pub(super) async fn probe(service: &Service) -> Outcome {
    let limit = Duration::from_millis(service.timeout_ms.into());
    let started = Instant::now();
    let Ok(result) = timeout(limit, run(&service.check)).await else {
        let late = started.elapsed().saturating_sub(limit);
        return if late > TIMER_LATE_MAX {
            Outcome::Inconclusive(format!("this node stood still for {} ms", late.as_millis()))
        } else {
            Outcome::Found(Probed::Timeout)
        };
    };
    match result {
        Ok(probed) => Outcome::Found(probed),
        Err(error) => judge(&error),
    }
}

async fn run(check: &Check) -> io::Result<Probed> {
    match check {
        Check::Http { port, path, host, expect } => {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
            http::get(&mut stream, &http::request(path, host.as_deref()), *expect).await
        }
        Check::Tcp { port } => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.map(|_| Probed::Ok),
        Check::Exec { command } => exec::run(command).await,
    }
}

fn judge(error: &io::Error) -> Outcome {
    const OURS: [Errno; 6] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Outcome::Found(Probed::Refused),
        Some(errno) if OURS.contains(&errno) => Outcome::Inconclusive(error.to_string()),
        Some(_) | None => Outcome::Found(Probed::Bad(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_our_own_is_no_evidence_against_the_application() {
        for errno in [Errno::MFILE, Errno::ADDRNOTAVAIL, Errno::AGAIN] {
            assert!(matches!(judge(&errno.into()), Outcome::Inconclusive(_)), "{errno}");
        }
        assert_eq!(judge(&Errno::CONNREFUSED.into()), Outcome::Found(Probed::Refused));
        assert!(matches!(judge(&Errno::CONNRESET.into()), Outcome::Found(Probed::Bad(_))));
    }
}
