//! Hands a signed order to the mesh, and finds out what became of it.
//!
//! **Invariant.** An order is sent again only while it is certain that it was not taken. Once it may have been,
//! it is looked for in the replicated state instead, by the serial number that only this order has. One that was
//! overtaken by a later order of the same key can never be carried out any more, and is signed anew.

use crate::agreement::Agreement;
use crate::ask::{self, Answers, Link, Way, everybody, roster};
use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stead_node::identity::Identity;
use stead_proto::admin::{Answer, Request};
use stead_proto::codec::CodecError;
use stead_proto::command::{Outcome, Refusal};
use stead_proto::id::{ClusterId, NodeId};
use stead_proto::order::{Act, Order};
use stead_proto::sign::Signed;
use tokio::time::{Instant, sleep};

/// How long one node may take to answer before the next one is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// How long an order that got lost is looked for, at least.
const LOOK_AT_LEAST: Duration = Duration::from_secs(2);

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Its log entry; nothing if the answer got lost, and it was found in the state.
    pub(crate) index: Option<u64>,
    /// What it came to, if that is known.
    pub(crate) outcome: Option<Outcome>,
}

/// Why an order was not carried out, as far as one knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// The mesh said no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Nobody could take it.
    #[error("no node could take the order: {0}; `stead status` says how the mesh is")]
    Unavailable(String),
    /// It may or may not be carried out.
    #[error(
        "nobody knows yet whether the order is carried out ({0}): look with `stead status` before trying again"
    )]
    Unknown(String),
    /// Too large.
    #[error("the order is too large: {0}; shorten the file")]
    Size(#[from] CodecError),
}

/// Who orders.
pub(crate) struct Orderer<'a> {
    /// How the mesh is reached.
    pub(crate) way: &'a Way,
    /// Which mesh.
    pub(crate) cluster: ClusterId,
    /// Whose key signs.
    pub(crate) operator: &'a Identity,
    /// Set while an order is on its way, so that an interruption can say so.
    pub(crate) under_way: &'a AtomicBool,
}

enum Attempt {
    Done(Committed),
    Refused(Refusal),
    NotTaken(String),
    MaybeTaken(String),
}

impl Orderer<'_> {
    /// Signs and submits; `answers` say whom to turn to.
    pub(crate) async fn submit(
        &self,
        act: Act,
        answers: &Answers,
        now_unix_ms: u64,
        deadline: Duration,
    ) -> Result<Committed, SubmitError> {
        let mut order = Order { serial: self.serial(answers, now_unix_ms), act };
        let mut signed = self.operator.key().sign(self.cluster, &order)?;
        let end = Instant::now() + deadline;
        let mut last = "no node answered".to_string();
        let mut doubtful = false;
        while Instant::now() < end {
            for node in takers(answers) {
                match self.attempt(node, &signed, answers, end).await {
                    Attempt::Done(committed) => return Ok(committed),
                    Attempt::Refused(Refusal::Replayed) => {
                        // One node's word is not enough: it may have been carried out by now, or never.
                        last = Refusal::Replayed.to_string();
                        let now = everybody(self.way, LOOK_AT_LEAST / 2).await;
                        match self.serial_seen(&now).cmp(&order.serial) {
                            Less => doubtful = true,
                            Equal => return Ok(self.found()),
                            Greater => {
                                // Another command of the same operator overtook it: under this number it never
                                // counts.
                                order.serial = self.serial(&now, now_unix_ms);
                                signed = self.operator.key().sign(self.cluster, &order)?;
                                doubtful = false;
                                break;
                            }
                        }
                    }
                    Attempt::Refused(refusal) => return Err(SubmitError::Refused(refusal)),
                    Attempt::NotTaken(why) => last = why,
                    Attempt::MaybeTaken(why) => return self.look(order.serial, why, end).await,
                }
            }
            sleep(PAUSE).await;
        }
        if doubtful {
            return self.look(order.serial, last, end).await;
        }
        Err(SubmitError::Unavailable(last))
    }

    /// It stands in the state, whatever became of the answer.
    fn found(&self) -> Committed {
        self.under_way.store(false, Ordering::Relaxed);
        Committed { index: None, outcome: None }
    }

    /// Above every order of this key that the mesh knows, and the time by custom. Two commands of one millisecond must not
    /// take each other's order for their own, so chance stands where the microseconds would.
    fn serial(&self, answers: &Answers, now_unix_ms: u64) -> u64 {
        let mut chance = [0; 2];
        let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
        let microseconds = u64::from(u16::from_le_bytes(chance)) % 1_000;
        let now = now_unix_ms.saturating_mul(1_000).saturating_add(microseconds);
        now.max(self.serial_seen(answers).saturating_add(1 + microseconds))
    }

    fn serial_seen(&self, answers: &Answers) -> u64 {
        let key = self.operator.public();
        Agreement::of(answers)
            .majority_has(|status| status.state.operators.get(&key).map_or(0, |operator| operator.serial))
    }

    async fn attempt(
        &self,
        node: NodeId,
        signed: &Signed<Order>,
        answers: &Answers,
        end: Instant,
    ) -> Attempt {
        let members = roster(answers);
        let left = end.duration_since(Instant::now());
        let link =
            tokio::time::timeout(left, Link::to_node(self.way, node, &members, left.min(CONNECT_WITHIN)));
        let link = match link.await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Attempt::NotTaken(error.to_string()),
            Err(_) => return Attempt::NotTaken("no answer in time".into()),
        };
        self.under_way.store(true, Ordering::Relaxed);
        let left = end.duration_since(Instant::now());
        let answer = link.ask(&Request::Submit(signed.clone()), left).await;
        link.close().await;
        let attempt = judge(answer);
        if !matches!(attempt, Attempt::MaybeTaken(_)) {
            self.under_way.store(false, Ordering::Relaxed);
        }
        attempt
    }

    /// Looks for an order that may have been taken.
    async fn look(&self, serial: u64, why: String, end: Instant) -> Result<Committed, SubmitError> {
        let end = end.max(Instant::now() + LOOK_AT_LEAST);
        while Instant::now() < end {
            let answers = everybody(self.way, LOOK_AT_LEAST / 2).await;
            if Agreement::of(&answers).quorum && self.serial_seen(&answers) == serial {
                return Ok(self.found());
            }
            sleep(PAUSE).await;
        }
        Err(SubmitError::Unknown(why))
    }
}

fn judge(answer: Result<Answer, ask::LinkError>) -> Attempt {
    match answer {
        Ok(Answer::Committed { outcome: Outcome::Refused(refusal), .. } | Answer::Refused(refusal)) => {
            Attempt::Refused(refusal)
        }
        Ok(Answer::Committed { index, outcome: outcome @ (Outcome::Done | Outcome::Site(_)) }) => {
            Attempt::Done(Committed { index: Some(index), outcome: Some(outcome) })
        }
        Ok(Answer::Unavailable { why, unknown: false }) => Attempt::NotTaken(why),
        Ok(Answer::Unavailable { why, unknown: true }) => Attempt::MaybeTaken(why),
        Ok(Answer::Status(_) | Answer::Genesis(_)) => {
            Attempt::MaybeTaken("it answered something else".into())
        }
        Err(error) if error.may_have_arrived() => Attempt::MaybeTaken(error.to_string()),
        Err(error) => Attempt::NotTaken(error.to_string()),
    }
}

/// Whom to turn to: the leader, then those who answered, then the rest.
fn takers(answers: &Answers) -> Vec<NodeId> {
    let leader = Agreement::of(answers).leader;
    let mut nodes: Vec<NodeId> = answers.keys().copied().collect();
    let silent = |node: &NodeId| answers.get(node).is_none_or(|heard| heard.answer.is_err());
    nodes.sort_by_key(|node| (Some(*node) != leader, silent(node), *node));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use std::sync::{Arc, Mutex};

    #[test]
    fn the_leader_is_asked_first_and_the_silent_last() {
        assert_eq!(takers(&sample::silent(&[2])), [1, 3, 2].map(NodeId));
    }

    #[test]
    fn only_what_was_certainly_not_taken_is_sent_again() {
        let unavailable = |unknown| judge(Ok(Answer::Unavailable { why: String::new(), unknown }));
        assert!(matches!(unavailable(false), Attempt::NotTaken(_)));
        assert!(matches!(unavailable(true), Attempt::MaybeTaken(_)));
        assert!(matches!(judge(Err(ask::LinkError::Late(PAUSE))), Attempt::MaybeTaken(_)));
        assert!(matches!(judge(Err(ask::LinkError::NoAddress)), Attempt::NotTaken(_)));
        let refused = Answer::Committed { index: 5, outcome: Outcome::Refused(Refusal::Replayed) };
        assert!(matches!(judge(Ok(refused)), Attempt::Refused(Refusal::Replayed)));
    }

    #[test]
    fn a_serial_number_is_above_every_earlier_one_even_if_the_clock_went_back() {
        let mut answers = sample::healthy();
        let operator = Identity::from_seed([5; 32].into());
        for node in [1, 2, 3] {
            let operators = &mut sample::status(&mut answers, node).state.operators;
            let mut known = operators.values().next().unwrap().clone();
            known.serial = 9_000_000;
            operators.insert(operator.public(), known);
        }
        let way = Way::Socket("/nowhere".into());
        let (cluster, under_way) = (ClusterId([0; 32]), AtomicBool::new(false));
        let orderer = Orderer { way: &way, cluster, operator: &operator, under_way: &under_way };
        for _ in 0..100 {
            assert!((9_000_001..9_001_001).contains(&orderer.serial(&answers, 8_000)));
            assert!((10_000_000..10_001_000).contains(&orderer.serial(&answers, 10_000)));
        }
        let all: std::collections::BTreeSet<u64> =
            (0..20).map(|_| orderer.serial(&answers, 10_000)).collect();
        assert!(all.len() > 10, "two commands of one millisecond: {all:?}");
    }

    /// Submits a drain to an agent that gives these answers to orders, and shows them as carried out from
    /// the second status on if `lands`.
    async fn submitted(orders: Vec<Answer>, lands: bool) -> (Result<Committed, SubmitError>, usize) {
        let operator = Arc::new(Identity::from_seed([5; 32].into()));
        let answers = sample::healthy();
        let (mut left, taken) = (orders.into_iter(), Arc::new(Mutex::new(Vec::new())));
        let (key, orders_seen, shown) = (operator.public(), taken.clone(), answers.clone());
        let agent = sample::agent(move |request| {
            let status = |node: NodeId| {
                let mut status = shown[&node].answer.clone().unwrap();
                if let Some(order) = orders_seen.lock().unwrap().last().filter(|_| lands) {
                    let mut known = status.state.operators.values().next().unwrap().clone();
                    known.serial = *order;
                    status.state.operators.insert(key, known);
                }
                Answer::Status(status)
            };
            match request {
                Request::Status => status(NodeId(1)),
                Request::StatusOf(node) => status(node),
                Request::Genesis => panic!("nobody joins"),
                Request::Submit(signed) => {
                    let order: Order = signed.verify(ClusterId([0xab; 32])).unwrap();
                    orders_seen.lock().unwrap().push(order.serial);
                    left.next().unwrap()
                }
            }
        });
        let (way, under_way) = (agent.way(), AtomicBool::new(false));
        let orderer =
            Orderer { way: &way, cluster: ClusterId([0xab; 32]), operator: &operator, under_way: &under_way };
        let act = Act::Drain { node: NodeId(2), drained: true };
        let done = orderer.submit(act, &answers, sample::NOW_UNIX_MS, Duration::from_secs(3)).await;
        let sent = taken.lock().unwrap().len();
        (done, sent)
    }

    fn unavailable(unknown: bool) -> Answer {
        Answer::Unavailable { why: "no leader".into(), unknown }
    }

    #[tokio::test]
    async fn an_order_that_was_not_taken_is_tried_again() {
        let committed = Answer::Committed { index: 7, outcome: Outcome::Done };
        let (done, sent) = submitted(vec![unavailable(false), unavailable(false), committed], false).await;
        assert_eq!(done.unwrap(), Committed { index: Some(7), outcome: Some(Outcome::Done) });
        assert_eq!(sent, 3);
    }

    #[tokio::test]
    async fn an_order_that_another_command_overtook_is_signed_anew() {
        let overtaken = Answer::Refused(Refusal::Replayed);
        let committed = Answer::Committed { index: 7, outcome: Outcome::Done };
        let (done, sent) = submitted(vec![overtaken, committed], false).await;
        assert_eq!(done.unwrap(), Committed { index: Some(7), outcome: Some(Outcome::Done) });
        assert_eq!(sent, 2);
    }

    #[tokio::test]
    async fn an_order_whose_answer_got_lost_is_found_in_the_state_and_never_sent_twice() {
        let (done, sent) = submitted(vec![unavailable(true)], true).await;
        assert_eq!(done.unwrap(), Committed { index: None, outcome: None });
        assert_eq!(sent, 1);
    }

    #[tokio::test]
    async fn an_order_that_nobody_can_find_is_called_unknown() {
        let (done, sent) = submitted(vec![unavailable(true)], false).await;
        assert!(matches!(done, Err(SubmitError::Unknown(_))), "{done:?}");
        assert_eq!(sent, 1);
    }
}
