//! The local socket: the admin plane for root on this machine, who needs no key to look.
//!
//! A frame is a little-endian `u32` length and that many bytes of codec; one answer for one request. The
//! file is made for its owner alone, and orders need their operator's signature here as everywhere.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_proto::admin::{Answer, Request};
use stead_proto::codec;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::admin::{Admin, Asker};

/// Its name in the run directory.
pub const SOCKET_NAME: &str = "agent.sock";
/// Requests under way at once.
const CLIENTS_MAX: usize = 16;
/// How long a client may take to say what it wants, and to take the answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// Makes the socket; one that an earlier agent left behind is replaced, one that is answered is not.
///
/// # Errors
/// What the system says, with the path; `AddrInUse` if another agent answers there.
pub(super) fn bind(run_dir: &Path) -> Result<UnixListener, (PathBuf, io::Error)> {
    let path = run_dir.join(SOCKET_NAME);
    let make = || {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            let why = "another agent answers there: stop it first, or give this one its own `run` directory";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    make().map_err(|error| (path.clone(), error))
}

/// Serves until the agent ends.
pub(super) async fn serve(listener: UnixListener, admin: Admin) {
    let room = std::sync::Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &admin).await {
                        tracing::debug!(%error, "local client");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the local socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, admin: &Admin) -> io::Result<()> {
    loop {
        let Some(request) = patiently(read_frame(&mut stream)).await? else { return Ok(()) };
        let answer = match codec::decode::<Request>(&request, COMMAND_FRAME_BYTES_MAX) {
            Ok(request) => admin.answer(Asker::Operator, request).await,
            Err(error) => Answer::Unavailable { why: format!("unreadable request: {error}"), unknown: false },
        };
        let bytes = codec::encode(&answer, ADMIN_FRAME_BYTES_MAX).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        patiently(async {
            stream.write_all(&length.to_le_bytes()).await?;
            stream.write_all(&bytes).await
        })
        .await?;
    }
}

async fn read_frame(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > COMMAND_FRAME_BYTES_MAX {
        return Err(io::Error::other("a request is never that long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CLIENT_PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
