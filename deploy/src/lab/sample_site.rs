//! A tiny web site for the lab: one page that says who served it.
//!
//! Started by `stead` as a subcommand of its own, so that the demo needs no other program. HTTP/1.1, one
//! request a connection, every path answers.
//!
//! **Invariant.** Threads and connections held are bounded, whatever the visitors do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use stead_proto::id::Name;

const THREADS: usize = 4;
const HUNG_MAX: usize = 256;
const REQUEST_BYTES_MAX: usize = 8 << 10;
const VISITOR_PATIENCE: Duration = Duration::from_secs(2);

/// What is served where.
#[derive(Clone, Debug)]
pub struct SampleSite {
    /// The TCP port, on all addresses of both families.
    pub port: u16,
    /// Who serves: told in the header `X-Served-By` and in the page.
    pub name: Name,
    /// While this file exists the site hangs: it accepts connections and never answers.
    pub hang_while: Option<PathBuf>,
}

/// Serves until the process ends.
///
/// # Errors
/// The port cannot be had.
pub fn serve(site: &SampleSite) -> io::Result<Infallible> {
    let listener = listen(site.port)?;
    let page = page(&site.name);
    thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| answer_all(&listener, site, &page));
        }
        answer_all(&listener, site, &page)
    })
}

/// One socket for both families; IPv4 alone where the kernel has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match TcpListener::bind(both) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        }
        result => result,
    }
}

fn page(name: &Name) -> String {
    let body = format!("<!doctype html><title>stead</title><p>served by {name}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nX-Served-By: {name}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}

fn answer_all(listener: &TcpListener, site: &SampleSite, page: &str) -> ! {
    let mut hung = VecDeque::new();
    loop {
        // A visitor that gave up before we looked, or no descriptors left: the next one may do better.
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if site.hang_while.as_ref().is_some_and(|file| file.exists()) {
            hung.push_back(stream);
            if hung.len() > HUNG_MAX {
                hung.pop_front();
            }
        } else {
            hung.clear();
            // A visitor that breaks off is no failure of the site.
            let _broken_off = answer(&stream, page);
        }
    }
}

fn answer(mut stream: &TcpStream, page: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(VISITOR_PATIENCE))?;
    stream.set_write_timeout(Some(VISITOR_PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut request: Vec<u8> = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut part)?;
        if length == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend(part.iter().take(length));
    }
    stream.write_all(page.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_as_long_as_it_says_and_names_its_server() {
        let page = page(&"web-1".parse().unwrap());
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("X-Served-By: web-1\r\n") && body.contains("served by web-1"), "{page}");
    }
}
