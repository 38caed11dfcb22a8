//! Ctrl-C and SIGTERM during the demo: the files go, and with this process everything in the lab.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use tokio::signal::unix::{SignalKind, signal};

/// What a shell expects of a program that was interrupted.
const EXIT_CODE: i32 = 130;

/// Waits for an interruption beside the play.
pub(super) struct Interrupt {
    awaited: Arc<AtomicBool>,
    happened: Receiver<()>,
}

impl Interrupt {
    /// From now on an interruption removes `directory` and ends this process, unless it is waited for.
    pub(super) fn watch(directory: PathBuf) -> std::io::Result<Self> {
        let awaited = Arc::new(AtomicBool::new(false));
        let (sender, happened) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let is_awaited = awaited.clone();
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            if runtime.block_on(interrupted()).is_err() {
                return;
            }
            if is_awaited.load(Ordering::Acquire) {
                let _ = sender.send(());
                return;
            }
            let _ = std::fs::remove_dir_all(&directory);
            // Nodes and sites die with this process; namespaces, links and mounts with them.
            std::process::exit(EXIT_CODE);
        })?;
        Ok(Self { awaited, happened })
    }

    /// Waits for the interruption, which then ends nothing.
    pub(super) fn wait(&self) {
        self.awaited.store(true, Ordering::Release);
        let _ = self.happened.recv();
    }
}

async fn interrupted() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
