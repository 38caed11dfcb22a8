//! The task of one service: probe, judge, tell, bring back.

use super::keeper::Keeper;
use super::probe::{Outcome, probe};
use super::{Children, ServiceEvent, now};
use std::pin::pin;
use std::time::Duration;
use stead_proto::health::{Advice, Health, Probed, Verdict};
use stead_proto::limits::CHECK_EVERY_MS_MIN;
use stead_proto::service::Service;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Inconclusive probes in a row after which the next one counts as a failure: a node that cannot even
/// probe shall not serve for ever on the strength of an old success.
const INCONCLUSIVE_MAX: u8 = 3;

/// What a service's task may be told.
#[derive(Debug)]
pub(super) enum Order {
    /// Forget what you know and go on with this.
    Replace(Box<Service>),
    /// End.
    Finish(Children),
}

/// One service and all that its task knows of it.
#[derive(Debug)]
pub(super) struct Runner {
    service: Service,
    health: Health,
    keeper: Option<Keeper>,
    latest: watch::Sender<ServiceEvent>,
    events: mpsc::Sender<ServiceEvent>,
    told: bool,
    inconclusive: u8,
}

impl Runner {
    pub(super) fn new(
        service: Service,
        latest: watch::Sender<ServiceEvent>,
        events: mpsc::Sender<ServiceEvent>,
    ) -> Self {
        let health = Health::new(&service);
        Self { service, health, keeper: None, latest, events, told: true, inconclusive: 0 }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut next = Instant::now();
        loop {
            let order = match self.step(next, &mut orders).await {
                Step::Probed { started, outcome } => {
                    self.take(outcome);
                    next = Instant::now().max(started + self.interval());
                    continue;
                }
                Step::Ordered(order) => order,
            };
            match order {
                Some(Order::Replace(service)) => {
                    self.health = Health::new(&service);
                    (self.service, self.inconclusive, next) = (*service, 0, Instant::now());
                    self.tell();
                }
                Some(Order::Finish(children)) => return self.finish(children).await,
                None => return,
            }
        }
    }

    /// One probe at `next`, or an order that comes before it ends. The end of the patience is told on the way.
    async fn step(&mut self, next: Instant, orders: &mut mpsc::Receiver<Order>) -> Step {
        let service = self.service.clone();
        let mut probing = pin!(async {
            sleep_until(next).await;
            let started = Instant::now();
            Step::Probed { started, outcome: probe(&service).await }
        });
        loop {
            let at = now();
            let patience = self.health.deadline(at).map(|deadline| deadline.since(at).as_ns());
            tokio::select! {
                biased;
                order = orders.recv() => return Step::Ordered(order),
                step = &mut probing => return step,
                () = sleep_for(patience) => self.tell(),
            }
        }
    }

    fn take(&mut self, outcome: Outcome) {
        let probed = match outcome {
            Outcome::Found(probed) => probed,
            Outcome::Inconclusive(why) => {
                tracing::warn!(service = %self.service.name, why, "a probe says nothing about the application");
                self.inconclusive += 1;
                if self.inconclusive <= INCONCLUSIVE_MAX {
                    return;
                }
                Probed::Bad(why)
            }
        };
        self.inconclusive = 0;
        let advice = self.health.observe(probed, now());
        self.tell();
        if let (Advice::Restart { attempt }, Some(restart)) = (advice, &self.service.restart) {
            tracing::info!(service = %self.service.name, attempt, "bringing the service back");
            let keeper = self.keeper.get_or_insert_with(|| Keeper::start(self.service.name.clone()));
            keeper.restart(restart.how.clone());
        }
    }

    /// Publishes a changed verdict, and one that a slow receiver still has to get.
    fn tell(&mut self) {
        let at = now();
        let verdict = self.health.verdict(at);
        if self.latest.borrow().verdict != verdict {
            match &verdict {
                Verdict::Unknown | Verdict::Healthy => tracing::info!(service = %self.service.name, %verdict),
                Verdict::Ailing { .. } | Verdict::Down { .. } => {
                    tracing::warn!(service = %self.service.name, %verdict);
                }
            }
            self.latest.send_replace(ServiceEvent { name: self.service.name.clone(), verdict, at });
            self.told = false;
        }
        if !self.told {
            let event = self.latest.borrow().clone();
            self.told = !matches!(self.events.try_send(event), Err(TrySendError::Full(_)));
        }
    }

    /// While an endpoint waits for a restart, each probe counts: four times as many.
    fn interval(&self) -> Duration {
        let every_ms = match self.health.verdict(now()) {
            Verdict::Ailing { .. } => (self.service.every_ms / 4).max(CHECK_EVERY_MS_MIN),
            Verdict::Unknown | Verdict::Healthy | Verdict::Down { .. } => self.service.every_ms,
        };
        Duration::from_millis(every_ms.into())
    }

    async fn finish(self, children: Children) {
        if let Some(keeper) = self.keeper {
            keeper.finish(children).await;
        }
    }
}

enum Step {
    Probed { started: Instant, outcome: Outcome },
    Ordered(Option<Order>),
}

async fn sleep_for(ns: Option<u64>) {
    match ns {
        Some(ns) => sleep(Duration::from_nanos(ns)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::service::Check;

    #[test]
    fn a_slow_receiver_gets_the_latest_verdict_and_holds_nothing_up() {
        let mut service = Service::new("web".parse().unwrap(), Check::Tcp { port: 80 });
        (service.rise, service.fall) = (1, 1);
        let first = ServiceEvent { name: service.name.clone(), verdict: Verdict::Unknown, at: now() };
        let ((latest, _keep), (events, mut receiver)) = (watch::channel(first), mpsc::channel(1));
        let mut runner = Runner::new(service, latest, events);
        for probed in [Probed::Ok, Probed::Refused, Probed::Ok, Probed::Refused, Probed::Refused] {
            runner.take(Outcome::Found(probed));
        }
        assert_eq!(receiver.try_recv().unwrap().verdict, Verdict::Healthy);
        assert!(receiver.try_recv().is_err());
        runner.take(Outcome::Found(Probed::Refused));
        assert_eq!(receiver.try_recv().unwrap(), *runner.latest.borrow());
    }

    #[test]
    fn a_node_that_cannot_probe_is_believed_three_times_only() {
        let mut service = Service::new("web".parse().unwrap(), Check::Tcp { port: 80 });
        (service.rise, service.fall) = (1, 1);
        let first = ServiceEvent { name: service.name.clone(), verdict: Verdict::Unknown, at: now() };
        let ((latest, _keep), (events, _receiver)) = (watch::channel(first), mpsc::channel(1));
        let mut runner = Runner::new(service, latest, events);
        runner.take(Outcome::Found(Probed::Ok));
        for _ in 0..3 {
            runner.take(Outcome::Inconclusive("no descriptors".into()));
            assert_eq!(runner.latest.borrow().verdict, Verdict::Healthy);
        }
        runner.take(Outcome::Inconclusive("no descriptors".into()));
        assert_eq!(runner.latest.borrow().verdict.word(), "down");
    }
}
