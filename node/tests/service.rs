//! Services against real sockets and processes: what is noticed, how fast, and what is brought back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions)]

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use stead_node::service::{Children, ServiceError, ServiceEvent, Services};
use stead_proto::health::{Reason, Verdict};
use stead_proto::service::{Check, Restart, RestartHow, Service, StatusRange};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Far more than anything here takes, far less than for ever.
const SOON: Duration = Duration::from_secs(20);

fn tcp(name: &str, port: u16) -> Service {
    Service::new(name.parse().unwrap(), Check::Tcp { port })
}

fn http(name: &str, port: u16) -> Service {
    let check = Check::Http { port, path: "/health".into(), host: None, expect: StatusRange::default() };
    Service::new(name.parse().unwrap(), check)
}

fn exec(name: &str, script: &str) -> Service {
    let command = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    let mut service = Service::new(name.parse().unwrap(), Check::Exec { command });
    service.every_ms = 50;
    service
}

fn with_restart(mut service: Service, command: &[&str]) -> Service {
    let how = RestartHow::Command(command.iter().map(|word| (*word).into()).collect());
    service.restart =
        Some(Restart { patience_ms: 5_000, backoff_ms_min: 200, backoff_ms_max: 800, ..Restart::new(how) });
    service
}

async fn run(services: Vec<Service>) -> (Services, Receiver<ServiceEvent>) {
    let (mut running, events) = Services::new();
    running.replace(services).await.unwrap();
    (running, events)
}

/// The next event of `name` whose verdict is `word`.
async fn until(events: &mut Receiver<ServiceEvent>, name: &str, word: &str) -> ServiceEvent {
    let wait = async {
        loop {
            let event = events.recv().await.expect("services run");
            if event.name.as_str() == name && event.verdict.word() == word {
                return event;
            }
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{name} did not become {word}"))
}

async fn until_true(what: &str, mut predicate: impl FnMut() -> bool) {
    let started = Instant::now();
    while !predicate() {
        assert!(started.elapsed() < SOON, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// An application that answers with a status of the test's choosing; while that is 0, visitors wait.
/// Dropping it kills it.
struct Application {
    address: SocketAddr,
    status: watch::Sender<u16>,
    _task: JoinSet<()>,
}

impl Application {
    async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, status) = (listener.local_addr().unwrap(), watch::Sender::new(200));
        let mut task = JoinSet::new();
        task.spawn(answer(listener, status.subscribe()));
        Self { address, status, _task: task }
    }

    async fn anywhere() -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn answer_with(&self, status: u16) {
        self.status.send_replace(status);
    }
}

async fn answer(listener: TcpListener, status: watch::Receiver<u16>) {
    let mut visitors = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        while visitors.try_join_next().is_some() {}
        let mut status = status.clone();
        visitors.spawn(async move {
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let status = *status.wait_for(|status| *status != 0).await.unwrap();
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

/// A web server as a process of its own. It notes when it starts and its process id.
const WEB_SERVER: &str = r#"
use IO::Socket::INET; use Time::HiRes "time"; $| = 1;
my ($port, $log) = @ARGV;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 50, ReuseAddr => 1) or die $!;
open(my $f, ">>", $log); printf $f "%d %.3f\n", $$, time; close $f;
print "listening\n";
while (my $c = $s->accept) { sysread($c, my $r, 1024); print $c "HTTP/1.0 200 OK\r\n\r\nok"; close $c; }
"#;

/// The web server above as a service in the foreground. Whatever the test does, dropping it leaves none running.
struct WebServer {
    directory: TempDir,
    port: u16,
}

impl WebServer {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), port: free_port().await }
    }

    fn log(&self) -> String {
        self.directory.path().join("starts").to_str().unwrap().into()
    }

    fn service(&self) -> Service {
        let (port, log) = (self.port.to_string(), self.log());
        with_restart(http("web", self.port), &["/usr/bin/perl", "-e", WEB_SERVER, &port, &log])
    }

    /// Process ids and times of start, in seconds.
    fn starts(&self) -> Vec<(Pid, f64)> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let parse = |line: &str| {
            let (pid, at) = line.split_once(' ')?;
            Some((Pid::from_raw(pid.parse().ok()?)?, at.parse().ok()?))
        };
        text.lines().filter_map(parse).collect()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        for (pid, _) in self.starts() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&self.log()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test]
async fn each_kind_of_check_tells_working_from_broken() {
    let application = Application::anywhere().await;
    let broken = Application::anywhere().await;
    broken.answer_with(500);
    let nobody = free_port().await;
    let (services, mut events) = run(vec![
        http("http-good", application.port()),
        http("http-bad", broken.port()),
        tcp("tcp-good", application.port()),
        tcp("tcp-bad", nobody),
        exec("exec-good", "exit 0"),
        exec("exec-bad", "echo checking; echo disk full >&2; exit 3"),
    ])
    .await;
    for _ in 0..6 {
        timeout(SOON, events.recv()).await.unwrap();
    }
    let said: Vec<String> =
        services.snapshot().iter().map(|event| format!("{}: {}", event.name, event.verdict)).collect();
    assert_eq!(
        said,
        [
            "exec-bad: down (status 3: checking disk full)",
            "exec-good: healthy",
            "http-bad: down (status 500, expected 200 to 399)",
            "http-good: healthy",
            "tcp-bad: down (its port refuses connections: the application is not running)",
            "tcp-good: healthy",
        ]
    );
    services.shutdown(Children::Stop).await;
}

#[tokio::test]
async fn a_dead_application_is_noticed_within_150_ms() {
    let mut application = Application::anywhere().await;
    let address = application.address;
    let (services, mut events) = run(vec![http("web", address.port())]).await;
    let mut times = Vec::new();
    for round in 0..30 {
        until(&mut events, "web", "healthy").await;
        // Die at another phase between two probes each time.
        sleep(Duration::from_millis(round * 37 % 100)).await;
        let died = Instant::now();
        drop(application);
        let event = until(&mut events, "web", "down").await;
        times.push(died.elapsed());
        assert!(matches!(event.verdict, Verdict::Down { .. }));
        application = Application::start(address).await;
    }
    let (p50, p99) = percentiles(times);
    println!("dead application noticed: p50 {p50:?}, p99 {p99:?} of 30");
    assert!(p99 < Duration::from_millis(150), "{p99:?}");
    services.shutdown(Children::Leave).await;
}

#[tokio::test]
async fn a_hung_application_is_noticed_within_a_second() {
    let application = Application::anywhere().await;
    let (services, mut events) = run(vec![http("web", application.port())]).await;
    let mut times = Vec::new();
    for round in 0..10 {
        application.answer_with(200);
        until(&mut events, "web", "healthy").await;
        sleep(Duration::from_millis(round * 37 % 100)).await;
        application.answer_with(0);
        let hung = Instant::now();
        let event = until(&mut events, "web", "down").await;
        times.push(hung.elapsed());
        assert!(matches!(event.verdict, Verdict::Down { reason: Reason::Timeout, .. }));
    }
    let (p50, p99) = percentiles(times);
    println!("hung application noticed: p50 {p50:?}, max {p99:?} of 10");
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    services.shutdown(Children::Leave).await;
}

#[tokio::test]
async fn a_pause_shorter_than_two_timeouts_raises_no_alarm() {
    let application = Application::anywhere().await;
    let (services, mut events) = run(vec![http("web", application.port())]).await;
    until(&mut events, "web", "healthy").await;
    for _ in 0..3 {
        application.answer_with(0);
        sleep(Duration::from_millis(600)).await;
        application.answer_with(200);
        sleep(Duration::from_millis(300)).await;
    }
    assert!(events.try_recv().is_err(), "{:?}", services.snapshot());
    services.shutdown(Children::Leave).await;
}

#[tokio::test]
async fn a_killed_child_is_brought_back_and_never_sooner_than_its_backoff() {
    let web = WebServer::new().await;
    let (services, mut events) = run(vec![web.service()]).await;
    until(&mut events, "web", "healthy").await;
    let mut back = Vec::new();
    for _ in 0..4 {
        let (pid, _) = *web.starts().last().unwrap();
        let killed = Instant::now();
        kill_process(pid, Signal::KILL).unwrap();
        until(&mut events, "web", "healthy").await;
        back.push(killed.elapsed());
        assert!(!runs(pid));
    }
    let starts = web.starts();
    let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    println!("killed child answers again after {back:?}; {gaps:.3?} s between starts");
    // 50 ms: the program notes its start a little after the agent began it, sooner or later.
    for (gap, backoff) in gaps.iter().zip([0.2, 0.4, 0.8, 0.8]) {
        assert!(*gap > backoff - 0.05, "{gap} s where {backoff} s are due");
    }
    assert_eq!(gaps.len(), 4);
    services.shutdown(Children::Stop).await;
    assert!(TcpStream::connect(("127.0.0.1", web.port)).await.is_err(), "it was stopped with the agent");
}

#[tokio::test]
async fn a_hung_child_is_ended_before_the_next_one_starts() {
    let web = WebServer::new().await;
    let (services, mut events) = run(vec![web.service()]).await;
    until(&mut events, "web", "healthy").await;
    let (hung, _) = web.starts()[0];
    kill_process(hung, Signal::STOP).unwrap();
    let stopped = Instant::now();
    let event = until(&mut events, "web", "ailing").await;
    let noticed = stopped.elapsed();
    assert!(matches!(event.verdict, Verdict::Ailing { reason: Reason::Timeout, .. }));
    until(&mut events, "web", "healthy").await;
    println!("stopped child: noticed after {noticed:?}, replaced after {:?}", stopped.elapsed());
    assert!(!runs(hung));
    assert_eq!(web.starts().len(), 2);
    services.shutdown(Children::Stop).await;
}

#[tokio::test]
async fn children_are_left_running_unless_stopping_is_asked_for() {
    let web = WebServer::new().await;
    let (services, mut events) = run(vec![web.service()]).await;
    until(&mut events, "web", "healthy").await;
    services.shutdown(Children::Leave).await;
    let (pid, _) = web.starts()[0];
    assert!(runs(pid) && TcpStream::connect(("127.0.0.1", web.port)).await.is_ok());
    kill_process(pid, Signal::KILL).unwrap();
    until_true("the child is reaped even now", || !Path::new(&format!("/proc/{pid}")).exists()).await;
}

#[tokio::test]
async fn an_ailing_service_that_hangs_on_is_down_at_the_moment_when_the_patience_ends() {
    let application = Application::anywhere().await;
    let mut service = with_restart(http("web", application.port()), &["/bin/true"]);
    service.restart.as_mut().unwrap().patience_ms = 150;
    let (services, mut events) = run(vec![service]).await;
    until(&mut events, "web", "healthy").await;
    application.answer_with(0);
    let ailing = until(&mut events, "web", "ailing").await;
    let down = until(&mut events, "web", "down").await;
    let waited = Duration::from_nanos(down.at.since(ailing.at).as_ns());
    println!("given away {waited:?} after the restart began, in the middle of a probe");
    assert!((Duration::from_millis(149)..Duration::from_millis(250)).contains(&waited), "{waited:?}");
    services.shutdown(Children::Leave).await;
}

#[tokio::test]
async fn a_late_exec_check_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let noted = directory.path().join("pids");
    let mut service = exec("slow", &format!("sleep 30 & echo $$ $! >> {}; wait", noted.display()));
    service.timeout_ms = 300;
    let (services, mut events) = run(vec![service]).await;
    let event = until(&mut events, "slow", "down").await;
    assert!(matches!(event.verdict, Verdict::Down { reason: Reason::Timeout, .. }));
    services.shutdown(Children::Leave).await;
    let text = fs::read_to_string(noted).unwrap();
    let pids: Vec<Pid> =
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    assert!(pids.len() >= 4, "two probes, each with a shell and a sleep: {text}");
    until_true("all of them are gone", || !pids.iter().any(|pid| runs(*pid))).await;
}

#[tokio::test]
async fn an_exec_check_leaves_nothing_behind_and_cannot_flood_us() {
    let directory = tempfile::tempdir().unwrap();
    let noted = directory.path().join("pids");
    let script =
        format!("sleep 30 & echo $! >> {}; head -c 5000000 /dev/zero | tr '\\0' y; exit 1", noted.display());
    let (services, mut events) = run(vec![exec("noisy", &script)]).await;
    let event = until(&mut events, "noisy", "down").await;
    let Verdict::Down { reason: Reason::Bad(said), .. } = event.verdict else { panic!("{event:?}") };
    assert_eq!(said, format!("status 1: {}", "y".repeat(290)));
    services.shutdown(Children::Leave).await;
    let text = fs::read_to_string(noted).unwrap();
    let pids: Vec<Pid> = text.lines().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    until_true("all of them are gone", || !pids.iter().any(|pid| runs(*pid))).await;
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let mut service = exec("gone", "");
    service.check = Check::Exec { command: vec!["/no/such/check".into()] };
    let (services, mut events) = run(vec![service]).await;
    let event = until(&mut events, "gone", "down").await;
    assert!(
        event.verdict.to_string().contains("cannot start /no/such/check: No such file"),
        "{}",
        event.verdict
    );
    services.shutdown(Children::Leave).await;
}

#[tokio::test]
async fn replacing_the_set_keeps_the_state_of_what_did_not_change() {
    let application = Application::anywhere().await;
    let web = WebServer::new().await;
    let (kept, mut changed) = (http("kept", application.port()), tcp("changed", application.port()));
    let (mut services, mut events) = run(vec![kept.clone(), changed.clone(), web.service()]).await;
    until(&mut events, "web", "healthy").await;
    let before = services.snapshot();
    assert!(before.iter().all(|event| event.verdict.is_healthy()), "{before:?}");
    changed.timeout_ms += 1;
    services.replace(vec![kept, changed, tcp("new", application.port())]).await.unwrap();
    until(&mut events, "changed", "unknown").await;
    until(&mut events, "changed", "healthy").await;
    until_true("the new one is healthy too", || services.snapshot().iter().all(|e| e.verdict.is_healthy()))
        .await;
    let after = services.snapshot();
    let names: Vec<&str> = after.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["changed", "kept", "new"]);
    assert_eq!(after[1], before[1]);
    let (pid, _) = web.starts()[0];
    until_true("the command of a removed service is stopped", || !runs(pid)).await;
    services.shutdown(Children::Stop).await;
}

#[tokio::test]
async fn a_set_that_cannot_run_is_refused_as_a_whole() {
    let application = Application::anywhere().await;
    let good = tcp("good", application.port());
    let (mut services, _events) = run(vec![good.clone()]).await;
    let mut bad = tcp("bad", 0);
    bad.rise = 0;
    let error = services.replace(vec![tcp("new", 80), bad]).await.unwrap_err();
    let text = "service bad: rise: a number from 1 to 20; check.port: a number from 1 to 65535";
    assert_eq!(error.to_string(), text);
    let error = services.replace(vec![good.clone(), good]).await.unwrap_err();
    assert!(matches!(error, ServiceError::Twice(_)));
    let many = (0..33).map(|n| tcp(&format!("s{n}"), 80)).collect();
    assert!(matches!(services.replace(many).await, Err(ServiceError::TooMany(33))));
    assert_eq!(services.snapshot().len(), 1);
    services.shutdown(Children::Stop).await;
}

#[test]
fn ten_probes_a_second_cost_next_to_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let application = runtime.block_on(Application::anywhere());
    let service = http("web", application.port());
    let probing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (services, mut events) = run(vec![service]).await;
            until(&mut events, "web", "healthy").await;
            let (wall, cpu) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
            sleep(Duration::from_secs(3)).await;
            let used = clock_gettime(ClockId::ThreadCPUTime) - cpu;
            let share = (used.tv_sec as f64 + used.tv_nsec as f64 / 1e9) / wall.elapsed().as_secs_f64();
            services.shutdown(Children::Leave).await;
            share
        })
    });
    let share = probing.join().unwrap();
    println!("one http check every 100 ms: {:.3} % of a core", share * 100.0);
    assert!(share < 0.01, "a build without optimisation stays below 1 % of a core");
}
