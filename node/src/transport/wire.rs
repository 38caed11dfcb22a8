//! One frame per stream: the end of the stream is the end of the frame. Portable.
//!
//! **Invariant.** A frame that was not sent whole never looks whole: quinn finishes a stream that is
//! dropped, so an unfinished one is reset first.

use super::error::Cut;
use bytes::Bytes;
use quinn::{ReadToEndError, RecvStream, SendStream, WriteError};

/// Says that the accepting side lists the connection: a TLS client cannot know otherwise.
const WELCOME: &[u8] = b"w";

/// Sends `frame` and ends the stream. If this fails or is cancelled, the stream is reset.
pub(super) async fn send_frame(stream: &mut SendStream, frame: Bytes) -> Result<(), WriteError> {
    let mut unfinished = Unfinished(Some(stream));
    if let Some(stream) = &mut unfinished.0 {
        stream.write_chunk(frame).await?;
        stream.finish().map_err(|_| WriteError::ClosedStream)?;
    }
    unfinished.0 = None;
    Ok(())
}

/// Reads up to the end of the stream, at most `bytes_max`.
pub(super) async fn read_frame(stream: &mut RecvStream, bytes_max: usize) -> Result<Vec<u8>, ReadToEndError> {
    stream.read_to_end(bytes_max).await
}

/// Tells the dialling side that it is welcome.
pub(super) async fn welcome(connection: &quinn::Connection) -> bool {
    let Ok(mut stream) = connection.open_uni().await else { return false };
    send_frame(&mut stream, Bytes::from_static(WELCOME)).await.is_ok()
}

/// Waits until the accepting side says that we are welcome.
pub(super) async fn welcomed(connection: &quinn::Connection) -> Result<(), quinn::ConnectionError> {
    let mut stream = connection.accept_uni().await?;
    match read_frame(&mut stream, WELCOME.len()).await {
        Ok(frame) if frame == WELCOME => Ok(()),
        Ok(_) | Err(_) => Err(connection.close_reason().unwrap_or(quinn::ConnectionError::LocallyClosed)),
    }
}

struct Unfinished<'a>(Option<&'a mut SendStream>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            // An error means that the stream is gone already.
            let _ = stream.reset(Cut::Cancelled.code());
        }
    }
}
