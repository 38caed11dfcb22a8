//! The thread that owns the lease path: its runtime, and its place before everybody else.

use std::io;
use std::thread::JoinHandle;

use crate::sys;

/// Above every ordinary thread, below the kernel's own.
const PRIORITY: u8 = 20;

/// Starts the thread and runs `work` on a single-threaded runtime in it, with real-time priority if that
/// is asked for and permitted.
///
/// # Errors
/// What the system says about a new thread.
pub(super) fn spawn<F, W>(wanted: bool, work: W) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()>,
    W: FnOnce() -> F + Send + 'static,
{
    std::thread::Builder::new().name("stead-lease".into()).spawn(move || {
        if wanted && let Err(error) = sys::become_realtime(PRIORITY) {
            tracing::info!(
                %error,
                "no real-time priority: on a busy machine leases may lapse sooner (CAP_SYS_NICE is missing)"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(work()),
            Err(error) => tracing::error!(%error, "cannot start the lease thread"),
        }
    })
}
