//! Says what is being waited for, once that takes longer than a second.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

const AFTER: Duration = Duration::from_secs(1);

/// Waits for `work`; meanwhile, on a terminal, a line counts the seconds and vanishes at the end.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let mut line = Shown(false);
    let begun = Instant::now();
    let mut ticks = interval_at(begun + AFTER, AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => line.show(what, begun.elapsed().as_secs()),
        }
    }
}

/// A line that is wiped when dropped, also on Ctrl-C.
struct Shown(bool);

impl Shown {
    fn show(&mut self, what: &str, seconds: u64) {
        let _ = write!(io::stderr().lock(), "\r{what} … {seconds} s\x1b[K");
        self.0 = true;
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
