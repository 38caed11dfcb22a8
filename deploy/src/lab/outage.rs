//! What a visitor's requests say about outages. Pure.
//!
//! A request is *good* if it was answered in time with a status of 200 to 299. Two definitions, both in use
//! elsewhere:
//!
//! - **Outage** ([`outages`]): from the due time of the last good request before a failure to the due time of
//!   the first good one after it. What a visitor sees who comes anew; at most two intervals too long, and
//!   shorter than the fault by the visitor's timeout if the server only answered late.
//! - **Silence** ([`silences`]): the time between two good answers that follow one another. Also sees a pause
//!   that every visitor sat out.

use super::visitor::{Outcome, Visit};
use stead_proto::time::{Instant, Span};

/// A time in which visitors were not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last good sign before it; `None` if there was none.
    pub from: Option<Instant>,
    /// The first good sign after it; `None` if it did not end.
    pub until: Option<Instant>,
    /// How many requests failed in it.
    pub failures: u64,
}

impl Gap {
    /// How long it lasted; `None` if its beginning or end was not seen.
    #[must_use]
    pub fn length(&self) -> Option<Span> {
        self.from.zip(self.until).map(|(from, until)| until.since(from))
    }
}

/// Whether a request was served.
#[must_use]
pub fn is_good(visit: &Visit) -> bool {
    matches!(visit.outcome, Outcome::Ok { status: 200..=299, .. })
}

/// The outages, in order; see the module for the definition. Requests that were never sent count neither way.
#[must_use]
pub fn outages(visits: &[Visit]) -> Vec<Gap> {
    let mut asked: Vec<&Visit> = visits.iter().filter(|visit| visit.outcome != Outcome::NotSent).collect();
    asked.sort_by_key(|visit| visit.due);
    let mut found: Vec<Gap> = Vec::new();
    let mut last_good = None;
    let mut open: Option<Gap> = None;
    for visit in asked {
        if !is_good(visit) {
            open.get_or_insert(Gap { from: last_good, until: None, failures: 0 }).failures += 1;
            continue;
        }
        last_good = Some(visit.due);
        found.extend(open.take().map(|gap| Gap { until: last_good, ..gap }));
    }
    found.extend(open);
    found
}

/// The silences of at least `at_least`, in order.
#[must_use]
pub fn silences(visits: &[Visit], at_least: Span) -> Vec<Gap> {
    let mut answers: Vec<Instant> = visits.iter().filter(|visit| is_good(visit)).map(Visit::ended).collect();
    answers.sort();
    let pairs = answers.iter().zip(answers.iter().skip(1));
    let long = pairs.filter(|(from, until)| until.since(**from) >= at_least);
    let gap = |(from, until): (&Instant, &Instant)| {
        let within = |visit: &&Visit| !is_good(visit) && *from < visit.due && visit.due < *until;
        let failures = visits.iter().filter(within).map(|_| 1).sum();
        Gap { from: Some(*from), until: Some(*until), failures }
    };
    long.map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO.after(Span::from_ms(ms))
    }

    fn visit(due_ms: u64, latency_ms: u64, outcome: Outcome) -> Visit {
        Visit { due: at(due_ms), late: Span::ZERO, latency: Span::from_ms(latency_ms), outcome }
    }

    fn ok(due_ms: u64) -> Visit {
        visit(due_ms, 1, Outcome::Ok { status: 200, served_by: None })
    }

    #[test]
    fn an_outage_reaches_from_the_last_good_to_the_next_good_due_time() {
        let visits =
            [ok(0), ok(5), visit(10, 250, Outcome::Timeout), visit(15, 0, Outcome::Refused), ok(20), ok(25)];
        let gap = Gap { from: Some(at(5)), until: Some(at(20)), failures: 2 };
        assert_eq!(outages(&visits), [gap]);
        assert_eq!(gap.length(), Some(Span::from_ms(15)));
    }

    #[test]
    fn a_503_is_an_outage_and_one_that_does_not_end_has_no_length() {
        let honest = Outcome::Ok { status: 503, served_by: None };
        let visits = [ok(0), visit(5, 1, honest), visit(10, 0, Outcome::Reset)];
        let [gap] = outages(&visits)[..] else { panic!() };
        assert_eq!((gap.until, gap.length(), gap.failures), (None, None, 2));
    }

    #[test]
    fn requests_that_were_never_sent_prove_nothing() {
        assert_eq!(outages(&[ok(0), visit(5, 0, Outcome::NotSent), ok(10)]), []);
    }

    #[test]
    fn a_pause_that_every_visitor_sat_out_is_a_silence_but_no_outage() {
        let late = visit(10, 200, Outcome::Ok { status: 200, served_by: None });
        let visits = [ok(0), ok(5), late, ok(215)];
        assert_eq!(outages(&visits), []);
        let [gap] = silences(&visits, Span::from_ms(50))[..] else { panic!() };
        assert_eq!(gap.length(), Some(Span::from_ms(204)));
    }
}
