//! The holding page over real sockets, each test in a network namespace of its own. Needs root.

#![allow(clippy::unwrap_used)]

use rustix::thread::{CapabilitySet, UnshareFlags};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stead_node::holding::{self, CLIENT_TIME_MAX, CLIENTS_MAX, Holding, HoldingError, Means, Page};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const VIP: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";
const GET: &str = "GET /shop?x=1 HTTP/1.1\r\nHost: example.org\r\n\r\n";
/// Far more than anything here takes, far less than for ever.
const SOON: Duration = Duration::from_secs(3);
/// Long enough for an answer over loopback, if one is to come.
const SILENCE: Duration = Duration::from_millis(300);

/// Runs `test` on a thread with its own network namespace, which goes when the thread does.
fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare_network();
        ip(&["link", "set", "lo", "up"]);
        ip(&["address", "add", &format!("{VIP}/32"), "dev", "lo"]);
        ip(&["address", "add", &format!("{VIP6}/128"), "dev", "lo", "nodad"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[expect(unsafe_code, reason = "unshare is unsafe in rustix because of the file table")]
fn unshare_network() {
    // SAFETY: only the network namespace is unshared, no file descriptor table.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    unshared.expect("this test needs root: it makes a network namespace of its own");
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("this test needs iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

/// From here on this thread, and the threads that it starts, may not use BPF.
fn give_up_bpf() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    let bpf =
        CapabilitySet::BPF | CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
    sets.effective.remove(bpf);
    sets.permitted.remove(bpf);
    rustix::thread::set_capabilities(None, sets).unwrap();
}

async fn hold(address: &str, ports: &[u16]) -> Holding {
    holding::serve(address.parse().unwrap(), ports, &Page::default()).await.unwrap()
}

/// What comes back for `request`, up to the end of the connection.
async fn ask(address: &str, port: u16, request: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(at(address, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(SOON, exchange).await.expect("an answer and the end of the connection")
}

fn at(address: &str, port: u16) -> SocketAddr {
    (address.parse::<IpAddr>().unwrap(), port).into()
}

fn is_page(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && answer.ends_with("</html>\n")
}

/// Accepts connections in the kernel and never answers, as a hung application does.
async fn hung_application(port: u16) -> TcpListener {
    TcpListener::bind(("0.0.0.0", port)).await.unwrap()
}

/// Whether a new connection to `address` comes out at `application`.
async fn reaches(address: &str, application: &TcpListener) -> bool {
    let port = application.local_addr().unwrap().port();
    let _visitor = TcpStream::connect(at(address, port)).await.unwrap();
    timeout(SILENCE, application.accept()).await.is_ok()
}

#[test]
fn a_visitor_gets_exactly_these_bytes() {
    in_own_network(|| async {
        let holding = hold(VIP, &[80]).await;
        assert_eq!(holding.means(), Means::Steered);
        let answer = ask(VIP, 80, GET).await.unwrap();
        insta::assert_snapshot!(answer.replace("\r\n", "␍\n"));
        holding.stop().await;
    });
}

#[test]
fn every_request_is_answered_and_head_gets_no_page() {
    in_own_network(|| async {
        let page = Page { title: "<Closed>".into(), message: "Back at 8.".into(), retry_after_s: 900 };
        let holding = holding::serve(VIP.parse().unwrap(), &[80], &page).await.unwrap();
        let get = ask(VIP, 80, GET).await.unwrap();
        assert!(is_page(&get) && get.contains("Retry-After: 900\r\n"));
        assert!(get.contains("<h1>&lt;Closed&gt;</h1>\n<p>Back at 8.</p>"));
        let (head, html) = get.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", html.len())));
        let answer = ask(VIP, 80, "HEAD / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
        assert_eq!(answer, format!("{head}\r\n\r\n"));
        let body = "x".repeat(30_000);
        let post = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(ask(VIP, 80, &post).await.unwrap(), get);
        let long = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(9_000));
        assert_eq!(ask(VIP, 80, &long).await.unwrap(), get);
        assert_eq!(ask(VIP, 80, "\x16\x03\x01\x02").await.unwrap_or_default(), "");
        holding.stop().await;
    });
}

#[test]
fn the_traffic_is_taken_from_a_hung_application_and_given_back() {
    in_own_network(|| async {
        let application = hung_application(80).await;
        assert!(reaches(VIP, &application).await);
        let started = Instant::now();
        let holding = hold(VIP, &[80]).await;
        println!("the page stands after {:?}", started.elapsed());
        assert_eq!(holding.means(), Means::Steered);
        for _ in 0..20 {
            assert!(is_page(&ask(VIP, 80, GET).await.unwrap()));
        }
        assert!(reaches("127.0.0.1", &application).await, "probes still come to the application");
        holding.stop().await;
        assert!(reaches(VIP, &application).await);
    });
}

#[test]
fn ipv6_is_served_like_ipv4_and_only_the_address_that_is_held() {
    in_own_network(|| async {
        let application = TcpListener::bind("[::]:80").await.unwrap();
        let holding = hold(VIP6, &[80, 8080]).await;
        assert_eq!(holding.means(), Means::Steered);
        assert!(is_page(&ask(VIP6, 80, GET).await.unwrap()));
        assert!(is_page(&ask(VIP6, 8080, GET).await.unwrap()));
        assert!(reaches("::1", &application).await);
        assert!(reaches(VIP, &application).await);
        holding.stop().await;
        assert!(reaches(VIP6, &application).await);
    });
}

#[test]
fn two_pages_for_two_addresses_stand_side_by_side() {
    in_own_network(|| async {
        let (four, six) = (hold(VIP, &[80]).await, hold(VIP6, &[80]).await);
        four.stop().await;
        assert!(ask(VIP, 80, GET).await.is_err());
        assert!(is_page(&ask(VIP6, 80, GET).await.unwrap()));
        six.stop().await;
    });
}

#[test]
fn a_restarted_application_takes_its_port_back_while_the_page_stands() {
    in_own_network(|| async {
        let holding = hold(VIP, &[80]).await;
        for _ in 0..20 {
            assert!(is_page(&ask(VIP, 80, GET).await.unwrap()));
        }
        let application = hung_application(80).await;
        assert!(is_page(&ask(VIP, 80, GET).await.unwrap()), "visitors wait until it is healthy");
        holding.stop().await;
        assert!(reaches(VIP, &application).await);
    });
}

#[test]
fn tls_ports_are_closed_while_the_page_stands() {
    in_own_network(|| async {
        let application = hung_application(443).await;
        let holding = hold(VIP, &[80, 443]).await;
        let refused = timeout(SOON, TcpStream::connect(at(VIP, 443))).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        holding.stop().await;
        assert!(reaches(VIP, &application).await);
    });
}

#[test]
fn the_page_waits_for_an_address_that_is_not_there_yet() {
    in_own_network(|| async {
        let holding = hold("192.0.2.77", &[80]).await;
        assert_eq!(holding.means(), Means::Steered);
        ip(&["address", "add", "192.0.2.77/32", "dev", "lo"]);
        assert!(is_page(&ask("192.0.2.77", 80, GET).await.unwrap()));
        holding.stop().await;
    });
}

#[test]
fn without_bpf_a_free_port_is_bound_and_freed_at_once() {
    in_own_network(|| async {
        give_up_bpf();
        let holding = hold(VIP, &[8080]).await;
        assert_eq!(holding.means(), Means::Bound);
        assert!(is_page(&ask(VIP, 8080, GET).await.unwrap()));
        assert!(TcpListener::bind("0.0.0.0:8080").await.is_err(), "this is why steering comes first");
        let idle = TcpStream::connect(at(VIP, 8080)).await.unwrap();
        holding.stop().await;
        let application = hung_application(8080).await;
        assert!(reaches(VIP, &application).await);
        drop(idle);
    });
}

#[test]
fn without_bpf_an_address_that_is_not_there_can_be_bound() {
    in_own_network(|| async {
        give_up_bpf();
        let holding = hold("192.0.2.77", &[8080]).await;
        assert_eq!(holding.means(), Means::Bound);
        holding.stop().await;
    });
}

#[test]
fn without_bpf_a_taken_port_is_an_error_that_says_what_to_do() {
    in_own_network(|| async {
        give_up_bpf();
        let _application = hung_application(8080).await;
        let error = holding::serve(VIP.parse().unwrap(), &[8080], &Page::default()).await.unwrap_err();
        assert!(matches!(error, HoldingError::PortTaken { port: 8080, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("CAP_BPF") && text.contains("not permitted"), "{text}");
    });
}

#[test]
fn three_hundred_slow_clients_leave_room_for_an_honest_one() {
    in_own_network(|| async {
        let holding = hold(VIP, &[80]).await;
        let mut slow = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(at(VIP, 80)).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
            slow.push(stream);
        }
        let started = Instant::now();
        assert!(is_page(&ask(VIP, 80, GET).await.unwrap()));
        println!("an honest visitor waited {:?} behind 300 slow ones", started.elapsed());
        for (number, stream) in slow.iter_mut().enumerate() {
            let limit = CLIENT_TIME_MAX + SOON;
            let end = timeout(limit.saturating_sub(started.elapsed()), stream.read(&mut [0; 16])).await;
            assert!(matches!(end.expect("hung up in time"), Ok(0) | Err(_)), "a slow client got an answer");
            if number == 300 - CLIENTS_MAX {
                assert!(started.elapsed() < Duration::from_secs(1), "the oldest give way at once");
            }
        }
        println!("the last slow client was hung up on after {:?}", started.elapsed());
        assert_eq!(holding.served(), 1);
        holding.stop().await;
    });
}

#[test]
fn stop_hangs_up_on_whoever_is_connected() {
    in_own_network(|| async {
        let holding = hold(VIP, &[80]).await;
        let mut idle = TcpStream::connect(at(VIP, 80)).await.unwrap();
        assert!(is_page(&ask(VIP, 80, GET).await.unwrap()));
        let started = Instant::now();
        holding.stop().await;
        let took = started.elapsed();
        let end = timeout(SOON, idle.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)));
        assert!(ask(VIP, 80, GET).await.is_err());
        println!("stopped in {took:?}");
        assert!(took < Duration::from_millis(200));
    });
}

/// A process that is being started has copies of all descriptors for a moment, so that closing ours ends nothing.
#[test]
fn stop_is_immediate_even_while_processes_are_being_started() {
    let done = Arc::new(AtomicBool::new(false));
    let starter = std::thread::spawn({
        let done = done.clone();
        move || {
            while !done.load(Ordering::Relaxed) {
                assert!(Command::new("/bin/true").status().unwrap().success());
            }
        }
    });
    let test = |port: u16, means: Means| {
        let test = async move || {
            for _ in 0..20 {
                let holding = hold(VIP, &[port]).await;
                assert_eq!(holding.means(), means);
                assert!(is_page(&ask(VIP, port, GET).await.unwrap()));
                holding.stop().await;
                let application = hung_application(port).await;
                assert!(reaches(VIP, &application).await);
            }
        };
        std::panic::catch_unwind(|| {
            in_own_network(move || async move {
                if means == Means::Bound {
                    give_up_bpf();
                }
                test().await;
            });
        })
    };
    let results = [test(80, Means::Steered), test(8080, Means::Bound)];
    done.store(true, Ordering::Relaxed);
    starter.join().unwrap();
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn impossible_ports_are_refused_with_what_to_do() {
    in_own_network(|| async {
        let serve = async |ports: &[u16]| holding::serve(VIP.parse().unwrap(), ports, &Page::default()).await;
        assert!(matches!(serve(&[443]).await, Err(HoldingError::NoPort)));
        assert!(matches!(serve(&[]).await, Err(HoldingError::NoPort)));
        let many: Vec<u16> = (1_000..1_017).collect();
        assert!(matches!(serve(&many).await, Err(HoldingError::TooManyPorts(17))));
    });
}
