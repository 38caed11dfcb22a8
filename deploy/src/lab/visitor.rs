//! The visitor: asks the site for a page at fixed times and notes what came back.
//!
//! Open loop: a new TCP connection every interval, due when it is due, whatever became of the ones before.
//! A closed loop would ask less often exactly when the site is slow, and so hide outages.
//!
//! **Invariant.** Requests under way, records and response bytes are bounded; what did not fit is counted or
//! recorded as [`Outcome::NotSent`]. One thread, inside the visitor's namespace.

use super::error::LabError;
use super::now;
use super::topology::{Lab, Place};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use stead_proto::time::{Instant, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant as Deadline, MissedTickBehavior, timeout_at};

const RESPONSE_BYTES_MAX: usize = 16 << 10;
const SERVED_BY_BYTES_MAX: usize = 100;
/// Requests under way beyond those that the timeout allows for, for a visitor that was itself held up.
const SPARE_REQUESTS: u32 = 64;

/// What to ask for, and how often.
#[derive(Clone, Debug)]
pub struct Route {
    /// The site's public address and port.
    pub to: SocketAddr,
    /// The path.
    pub path: String,
    /// The time between two requests, at least a millisecond.
    pub interval: Duration,
    /// From the first SYN to the end of the answer.
    pub timeout: Duration,
    /// The most records kept.
    pub visits_max: usize,
}

impl Route {
    /// `/` every 5 ms with a timeout of 250 ms, for up to 80 minutes.
    #[must_use]
    pub fn to(to: SocketAddr) -> Self {
        let (interval, timeout) = (Duration::from_millis(5), Duration::from_millis(250));
        Self { to, path: "/".into(), interval, timeout, visits_max: 1_000_000 }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Ok {
        /// The HTTP status.
        status: u16,
        /// The header `X-Served-By`.
        served_by: Option<Arc<str>>,
    },
    /// The connection was refused.
    Refused,
    /// No whole answer in time.
    Timeout,
    /// The connection broke before the answer was whole.
    Reset,
    /// The kernel knows no way there.
    Unreachable,
    /// The answer was not HTTP.
    Garbled,
    /// Too many were under way, or the visitor could not open a socket: says nothing about the site.
    NotSent,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When it was due, on the clock of [`super::now`].
    pub due: Instant,
    /// How much later it began: the visitor's own delay, on a busy machine.
    pub late: Span,
    /// From its beginning to its end.
    pub latency: Span,
    /// How it ended.
    pub outcome: Outcome,
}

impl Visit {
    /// When it ended.
    #[must_use]
    pub const fn ended(&self) -> Instant {
        self.due.after(self.late).after(self.latency)
    }
}

/// What a visitor noted.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    /// The requests, in the order in which they ended.
    pub visits: Vec<Visit>,
    /// How many more there were.
    pub lost: u64,
}

impl Diary {
    fn note(&mut self, visit: Visit, visits_max: usize) {
        if self.visits.len() < visits_max {
            self.visits.push(visit);
        } else {
            self.lost += 1;
        }
    }
}

/// A visitor on his way. He goes home when dropped.
#[derive(Debug)]
pub struct Visitor {
    diary: Arc<Mutex<Diary>>,
    home: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<Result<Result<(), LabError>, LabError>>>,
}

impl Visitor {
    /// Starts visiting from the lab's visitor namespace.
    ///
    /// # Errors
    /// [`LabError::System`] if no thread can be started there.
    pub fn start(lab: &Lab, route: Route) -> Result<Self, LabError> {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let (home, go_home) = watch::channel(false);
        let noted = Arc::clone(&diary);
        let visitor = lab.namespace(Place::Visitor)?;
        let thread = visitor.start_thread("lab-visitor", move || visit_until(route, &noted, go_home))?;
        Ok(Self { diary, home, thread: Some(thread) })
    }

    /// What he noted so far. Requests under way are not in it.
    #[must_use]
    pub fn so_far(&self) -> Diary {
        self.diary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends no more requests, waits for those under way, and gives out everything.
    ///
    /// # Errors
    /// [`LabError`] if visiting failed at some moment.
    pub fn stop(mut self) -> Result<Diary, LabError> {
        self.end()?;
        Ok(std::mem::take(&mut *self.diary.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn end(&mut self) -> Result<(), LabError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.home.send_replace(true);
        thread.join().map_err(|_| LabError::Panicked("visitor"))??
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the visitor ended badly");
        }
    }
}

fn visit_until(
    route: Route,
    diary: &Arc<Mutex<Diary>>,
    go_home: watch::Receiver<bool>,
) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LabError::system("start an event loop"))?;
    runtime.block_on(visit(Arc::new(route), diary, go_home));
    Ok(())
}

async fn visit(route: Arc<Route>, diary: &Arc<Mutex<Diary>>, mut go_home: watch::Receiver<bool>) {
    let interval = route.interval.max(Duration::from_millis(1));
    let in_time = u32::try_from(route.timeout.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
    let room = in_time.saturating_add(SPARE_REQUESTS).min(4_096);
    let under_way = Arc::new(Semaphore::new(usize::try_from(room).unwrap_or(1)));
    let request: Arc<str> = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: stead-lab\r\nConnection: close\r\n\r\n",
        route.path, route.to
    )
    .into();
    let (began, began_at) = (Deadline::now(), now());
    let mut due_times = tokio::time::interval_at(began, interval);
    due_times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let due = tokio::select! {
            biased;
            _ = go_home.wait_for(|home| *home) => break,
            due = due_times.tick() => began_at.after(span(due.saturating_duration_since(began))),
        };
        let (route, request, diary) = (Arc::clone(&route), Arc::clone(&request), Arc::clone(diary));
        let Ok(place) = Arc::clone(&under_way).try_acquire_owned() else {
            let visit = Visit { due, late: now().since(due), latency: Span::ZERO, outcome: Outcome::NotSent };
            diary.lock().unwrap_or_else(PoisonError::into_inner).note(visit, route.visits_max);
            continue;
        };
        tokio::spawn(async move {
            let start = now();
            let (outcome, left_open) = ask(&route, &request).await;
            let visit = Visit { due, late: start.since(due), latency: now().since(start), outcome };
            diary.lock().unwrap_or_else(PoisonError::into_inner).note(visit, route.visits_max);
            drop((left_open, place));
        });
    }
    // Each request has a deadline, so this ends.
    let _all_home = under_way.acquire_many(room).await;
}

async fn ask(route: &Route, request: &str) -> (Outcome, Option<TcpStream>) {
    let deadline = Deadline::now() + route.timeout;
    let mut stream = match timeout_at(deadline, TcpStream::connect(route.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return (outcome_of(&error), None),
        Err(_) => return (Outcome::Timeout, None),
    };
    let outcome = match timeout_at(deadline, exchange(&mut stream, request)).await {
        Ok(Ok(response)) => read_response(&response),
        Ok(Err(error)) => outcome_of(&error),
        Err(_) => Outcome::Timeout,
    };
    if !matches!(outcome, Outcome::Ok { .. }) {
        // A connection that failed must not linger and retransmit to whoever has the address next.
        let _already_gone = stream.set_zero_linger();
    }
    (outcome, Some(stream))
}

/// The whole response: everything until the server closes, as it was asked to.
async fn exchange(stream: &mut TcpStream, request: &str) -> io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    let limit = u64::try_from(RESPONSE_BYTES_MAX).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut response).await?;
    Ok(response)
}

fn outcome_of(error: &io::Error) -> Outcome {
    if error.kind() == ErrorKind::ConnectionRefused {
        return Outcome::Refused;
    }
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Outcome::Reset,
        Some(libc::ETIMEDOUT) => Outcome::Timeout,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN) => Outcome::Unreachable,
        Some(_) | None => Outcome::NotSent,
    }
}

fn read_response(response: &[u8]) -> Outcome {
    if response.is_empty() {
        return Outcome::Reset;
    }
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Outcome::Garbled };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let Some(status) = words.next().and_then(|status| status.parse().ok()).filter(|_| http) else {
        return Outcome::Garbled;
    };
    let header = |name: &str| {
        let fields = lines.clone().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let expected = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if body.len() < expected && response.len() < RESPONSE_BYTES_MAX {
        return Outcome::Reset;
    }
    let served_by = header("x-served-by").map(|name| name.chars().take(SERVED_BY_BYTES_MAX).collect());
    Outcome::Ok { status, served_by: served_by.map(|name: String| name.into()) }
}

fn span(duration: Duration) -> Span {
    Span::from_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_names_status_and_server() {
        let answer = b"HTTP/1.1 503 Sorry\r\ncontent-length: 2\r\nx-served-by: web-1\r\n\r\nno";
        assert_eq!(read_response(answer), Outcome::Ok { status: 503, served_by: Some("web-1".into()) });
    }

    #[test]
    fn an_answer_that_breaks_off_is_not_an_answer() {
        assert_eq!(read_response(b""), Outcome::Reset);
        assert_eq!(read_response(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno"), Outcome::Reset);
        assert_eq!(read_response(b"HTTP/1.1 200 OK\r\ncont"), Outcome::Garbled);
        assert_eq!(read_response(b"220 mail ready\r\n\r\n"), Outcome::Garbled);
    }
}
