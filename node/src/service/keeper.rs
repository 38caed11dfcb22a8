//! Brings a service back: runs its restart command, and keeps it if it stays in the foreground.
//!
//! **Invariant.** At most one command runs: before the next one starts, the last one's process group was
//! asked to end and, [`GRACE`](super::process::GRACE) later, killed. A command that ended by itself is left
//! alone together with what it started: it may have been a starter of daemons.

use super::Children;
use super::output;
use super::process::{GRACE, Group, OnDrop};
use stead_proto::id::Name;
use stead_proto::service::RestartHow;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The way to a service's keeper. Dropping it leaves alone what runs.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Restart(RestartHow),
    Finish(Children),
}

struct Kept {
    service: Name,
    group: Option<Group>,
    /// Reads what the last command, or a daemon that it started, still says.
    output: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(service: Name) -> Self {
        let (orders, receiver) = mpsc::channel(1);
        let kept = Kept { service, group: None, output: None };
        Self { orders, task: tokio::spawn(kept.run(receiver)) }
    }

    /// Begins a restart; while one is beginning already, that one counts.
    pub(super) fn restart(&self, how: RestartHow) {
        let _ = self.orders.try_send(Order::Restart(how));
    }

    /// Ends the keeping, and what is kept if so asked.
    pub(super) async fn finish(self, children: Children) {
        let told = timeout(4 * GRACE, self.orders.send(Order::Finish(children))).await;
        if told.is_ok() {
            let _ = timeout(4 * GRACE, self.task).await;
        }
    }
}

impl Kept {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Restart(how)) => self.restart(&how).await,
                    Some(Order::Finish(Children::Stop)) => return self.stop().await,
                    Some(Order::Finish(Children::Leave)) | None => return,
                },
                () = ended(self.group.as_mut()) => self.reap().await,
            }
        }
    }

    async fn restart(&mut self, how: &RestartHow) {
        self.stop().await;
        let command = command(how);
        match Group::spawn(&command, OnDrop::Leave) {
            Ok((group, pipe)) => {
                tracing::info!(service = %self.service, ?command, "restarting");
                self.group = Some(group);
                let output = tokio::spawn(output::forward(self.service.clone(), pipe));
                if let Some(last) = self.output.replace(output) {
                    last.abort();
                }
            }
            Err(error) => {
                tracing::warn!(service = %self.service, ?command, %error, "cannot start the restart command");
            }
        }
    }

    async fn stop(&mut self) {
        if let Some(group) = self.group.take() {
            group.stop().await;
        }
    }

    async fn reap(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        match group.reap().await {
            Ok(status) if status.success() => tracing::debug!(service = %self.service, "command ended"),
            Ok(status) => tracing::warn!(service = %self.service, %status, "command failed"),
            Err(error) => tracing::warn!(service = %self.service, %error, "command lost"),
        }
    }
}

async fn ended(group: Option<&mut Group>) {
    match group {
        Some(group) => group.ended().await,
        None => std::future::pending().await,
    }
}

fn command(how: &RestartHow) -> Vec<&str> {
    match how {
        RestartHow::Unit(unit) => vec!["systemctl", "restart", "--no-block", "--", unit],
        RestartHow::Command(command) => command.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_restarted_without_waiting_for_it() {
        let unit = RestartHow::Unit("web.service".into());
        assert_eq!(command(&unit), ["systemctl", "restart", "--no-block", "--", "web.service"]);
    }
}
