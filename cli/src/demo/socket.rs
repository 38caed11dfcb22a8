//! Asks an agent on this machine over its local socket, blocking.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use stead_proto::admin::{Answer, Request};
use stead_proto::codec;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX};

/// Longer than an order may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// One question, one answer.
///
/// # Errors
/// That nobody answers there, or not in time.
pub fn ask(socket: &Path, request: &Request) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let frame = codec::encode(request, COMMAND_FRAME_BYTES_MAX)?;
    stream.write_all(&u32::try_from(frame.len())?.to_le_bytes())?;
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length))?;
    if length > ADMIN_FRAME_BYTES_MAX {
        bail!("an answer of {length} bytes");
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(codec::decode(&frame, ADMIN_FRAME_BYTES_MAX)?)
}
