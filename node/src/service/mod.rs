//! What must run on this node: probes it, brings it back, and tells what is to be thought of it.
//!
//! One task per service runs its probes, feeds [`stead_proto::health`] and carries out its advice. A second
//! one, started with the first restart, keeps the command that was started.
//!
//! **Invariant.** Nothing here waits for the receiver of the events: when it is slow, it gets the latest
//! verdict of each service instead of all of them. At most one restart of a service is under way.
//!
//! Deliberately absent: a decision about endpoints, a pooled connection (it would hide a dead application),
//! a shell, and the adoption of a command that an earlier agent started: what must outlive the agent
//! belongs into a systemd unit.

mod exec;
pub(crate) mod http;
mod keeper;
mod output;
mod probe;
mod process;
mod runner;

use runner::{Order, Runner};
use std::collections::BTreeMap;
use std::time::Duration;
use stead_proto::health::{Probed, Verdict};
use stead_proto::id::Name;
use stead_proto::limits::SERVICES_MAX;
use stead_proto::service::{Problem, Service};
use stead_proto::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Events that wait for a slow receiver; beyond them it gets each service's latest one.
const EVENTS_MAX: usize = 2 * SERVICES_MAX;
/// Orders that wait for one service's task.
const ORDERS_MAX: usize = 4;

/// A service's verdict changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEvent {
    /// Which service.
    pub name: Name,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// Since when, on this node's clock.
    pub at: Instant,
}

/// What becomes of commands that this agent started and that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// They go on, without the agent. Their output pipe breaks when the agent's process ends.
    Leave,
    /// They are asked to end (SIGTERM to their process group) and killed a second later.
    Stop,
}

/// Why a set of services was refused; the old set runs on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// One of them is not acceptable.
    #[error("service {name}: {}", list(.problems))]
    Invalid {
        /// Which one.
        name: Name,
        /// All that is wrong with it.
        problems: Vec<Problem>,
    },
    /// Two have the same name.
    #[error("service {0} is there twice: give one of them another name")]
    Twice(Name),
    /// Too many for one site.
    #[error("{0} services, where at most {SERVICES_MAX} are allowed: merge some of their checks")]
    TooMany(usize),
}

/// The services of this node, each probed by its own task.
#[derive(Debug)]
pub struct Services {
    running: BTreeMap<Name, Running>,
    events: mpsc::Sender<ServiceEvent>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    orders: mpsc::Sender<Order>,
    latest: watch::Receiver<ServiceEvent>,
    task: JoinHandle<()>,
}

impl Services {
    /// No services yet, and where their events will come from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ServiceEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        (Self { running: BTreeMap::new(), events }, receiver)
    }

    /// Makes `services` the set that runs. Unchanged ones keep their state; changed ones start unknown, with
    /// the command that brought them back still running; the commands of removed ones are stopped.
    ///
    /// # Errors
    /// [`ServiceError`], and nothing was changed.
    pub async fn replace(&mut self, services: Vec<Service>) -> Result<(), ServiceError> {
        let mut wanted = accept(services)?;
        let gone: Vec<Name> =
            self.running.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for running in gone.iter().filter_map(|name| self.running.remove(name)) {
            // Its task ends by itself, within the time that its command has for ending.
            let _ = running.orders.send(Order::Finish(Children::Stop)).await;
        }
        for (name, running) in &mut self.running {
            let Some(service) = wanted.remove(name).filter(|service| *service != running.service) else {
                continue;
            };
            running.service = service.clone();
            // A task ends only when it is told to, so it is there to receive this.
            let _ = running.orders.send(Order::Replace(Box::new(service))).await;
        }
        for (name, service) in wanted {
            if !self.running.contains_key(&name) {
                self.running.insert(name, self.start(service));
            }
        }
        Ok(())
    }

    /// The latest verdict of each service, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ServiceEvent> {
        self.running.values().map(|running| running.latest.borrow().clone()).collect()
    }

    /// Ends all probing, and the commands that still run if so asked. Takes about two seconds at most.
    pub async fn shutdown(self, children: Children) {
        for running in self.running.values() {
            let _ = running.orders.send(Order::Finish(children)).await;
        }
        for running in self.running.into_values() {
            // A panic of the task was already reported by the panic hook.
            let _ = running.task.await;
        }
    }

    fn start(&self, service: Service) -> Running {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let first = ServiceEvent { name: service.name.clone(), verdict: Verdict::Unknown, at: now() };
        let (sender, latest) = watch::channel(first);
        let runner = Runner::new(service.clone(), sender, self.events.clone());
        Running { service, orders, latest, task: tokio::spawn(runner.run(receiver)) }
    }
}

fn accept(services: Vec<Service>) -> Result<BTreeMap<Name, Service>, ServiceError> {
    if services.len() > SERVICES_MAX {
        return Err(ServiceError::TooMany(services.len()));
    }
    let mut accepted = BTreeMap::new();
    for service in services {
        let (name, problems) = (service.name.clone(), service.validate());
        if !problems.is_empty() {
            return Err(ServiceError::Invalid { name, problems });
        }
        if accepted.insert(name.clone(), service).is_some() {
            return Err(ServiceError::Twice(name));
        }
    }
    Ok(accepted)
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// This node's clock (`CLOCK_BOOTTIME`).
fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).expect("time since boot is not negative");
    Instant::from_ns(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
}
/// Runs `command` without a shell to its end, and ends it and all that it started after `within`.
///
/// # Errors
/// Why it did not end with status 0, with the last that it said.
pub(crate) async fn run_to_end(command: &[String], within: Duration) -> Result<(), String> {
    match tokio::time::timeout(within, exec::run(command)).await {
        Ok(Ok(Probed::Ok)) => Ok(()),
        Ok(Ok(Probed::Bad(why))) => Err(why),
        Ok(Ok(Probed::Refused | Probed::Timeout)) => Err("it did not run".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("ended after {} s", within.as_secs())),
    }
}
