//! Where the owner gets its work from, and what comes first: lease messages, then timers, then the rest.
//!
//! **Invariant.** Nothing is starved: however many lease messages come, after [`DATAGRAMS_IN_A_ROW_MAX`] of them
//! one piece of other work that waits has its turn. (Timers need none: the core looks at them with each event.)

use std::time::Duration;

use stead_proto::admin::Status;
use stead_proto::mesh::Event;
use stead_proto::time::Instant;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::transport::Datagram;

/// The longest sleep; a deadline far away is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Enough for a round of lease messages about every endpoint.
const DATAGRAMS_IN_A_ROW_MAX: u32 = 32;

/// A question for the core's status.
#[derive(Debug)]
pub(super) struct StatusQuery {
    pub(super) reply: oneshot::Sender<Box<Status>>,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// For the core.
    Event(Event),
    /// Somebody wants to know how things stand.
    Query(StatusQuery),
    /// The time that was asked for is over.
    Retry,
}

/// The owner's queues.
#[derive(Debug)]
pub(super) struct Inlets {
    datagrams: mpsc::Receiver<Datagram>,
    events: mpsc::Receiver<Event>,
    queries: mpsc::Receiver<StatusQuery>,
    /// Lease messages since other work was looked for.
    in_a_row: u32,
    /// Whose turn it is after them.
    queries_first: bool,
}

impl Inlets {
    pub(super) const fn new(
        datagrams: mpsc::Receiver<Datagram>,
        events: mpsc::Receiver<Event>,
        queries: mpsc::Receiver<StatusQuery>,
    ) -> Self {
        Self { datagrams, events, queries, in_a_row: 0, queries_first: false }
    }

    /// Waits for work, at most until `deadline`, or for `again` if that is shorter.
    pub(super) async fn next(&mut self, deadline: Instant, again: Option<Duration>) -> Work {
        if self.in_a_row >= DATAGRAMS_IN_A_ROW_MAX
            && let Some(other) = self.other_work()
        {
            return other;
        }
        let work = tokio::select! {
            biased;
            Some(datagram) = self.datagrams.recv() => {
                self.in_a_row += 1;
                return Work::Event(Event::Datagram { from: datagram.from, bytes: datagram.bytes.into() });
            }
            () = sleep_until(deadline) => Work::Event(Event::Timer),
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => Work::Retry,
            Some(event) = self.events.recv() => Work::Event(event),
            Some(query) = self.queries.recv() => Work::Query(query),
        };
        self.in_a_row = 0;
        work
    }

    /// Events and questions in turns, or one kind would starve the other.
    fn other_work(&mut self) -> Option<Work> {
        self.in_a_row = 0;
        self.queries_first = !self.queries_first;
        let event = |inlets: &mut Self| inlets.events.try_recv().ok().map(Work::Event);
        let query = |inlets: &mut Self| inlets.queries.try_recv().ok().map(Work::Query);
        if self.queries_first {
            query(self).or_else(|| event(self))
        } else {
            event(self).or_else(|| query(self))
        }
    }
}

async fn sleep_until(deadline: Instant) {
    let left = Duration::from_nanos(deadline.since(clock::now()).as_ns());
    tokio::time::sleep(left.min(SLEEP_MAX)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use stead_proto::id::NodeId;

    #[tokio::test]
    async fn a_flood_of_lease_messages_does_not_starve_events_and_questions() {
        let (datagrams, datagram_inlet) = mpsc::channel(4);
        let (events, event_inlet) = mpsc::channel(4);
        let (queries, query_inlet) = mpsc::channel(4);
        let mut inlets = Inlets::new(datagram_inlet, event_inlet, query_inlet);
        let (reply, _answer) = oneshot::channel();
        events.try_send(Event::Stop).unwrap();
        events.try_send(Event::Reached).unwrap();
        queries.try_send(StatusQuery { reply }).unwrap();

        let (mut floods, mut heard, mut asked) = (0, 0, 0);
        while (heard, asked) != (2, 1) {
            let datagram = Datagram { from: NodeId(2), bytes: Bytes::from_static(b"!"), at: clock::now() };
            while datagrams.try_send(datagram.clone()).is_ok() {}
            match inlets.next(Instant::NEVER, None).await {
                Work::Event(Event::Datagram { .. }) => floods += 1,
                Work::Event(event) => {
                    assert!(matches!(event, Event::Stop | Event::Reached), "{event:?}");
                    heard += 1;
                }
                Work::Query(_) => asked += 1,
                Work::Retry => panic!("nobody asked for it"),
            }
            assert!(floods <= 3 * DATAGRAMS_IN_A_ROW_MAX, "{heard} events, {asked} questions");
        }
    }
}
