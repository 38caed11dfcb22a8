//! What the listener itself would offer in its SYN-ACK, so that the proxy offers the same.
//!
//! | option | from |
//! |---|---|
//! | MSS | the uplink's MTU, without the headers (a listener's own `TCP_MAXSEG` is not seen) |
//! | timestamps, SACK | `net.ipv4.tcp_timestamps`, `net.ipv4.tcp_sack`, which are all that the kernel goes by |
//! | window scaling | what a connection of that port was given; if none tells, what a connection over loopback is given; else the kernel's formula |
//!
//! Scaling is the one that must be right: the listener chooses its own shift when the proxy dials it, but
//! the visitor goes by the proxy's. A shift too large would make the visitor send beyond the window, one
//! too small would slow its uploads.
//!
//! **Invariant.** It is never asked of anybody but this host, and asking is over after [`ASK_WAIT`] for each port.

use super::{
    diag::{Diag, Entry},
    rules::Offer,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

/// For a connection over loopback; a listener whose queue is full of a flood may not answer at all.
const ASK_WAIT: Duration = Duration::from_millis(100);
const MTU: u16 = 1_500;
const MTU_MIN: u16 = 576;
const HEADERS4: u16 = 40;
const HEADERS6: u16 = 60;
/// `TCP_MAX_WSCALE` of `net/tcp.h`.
const WSCALE_MAX: u32 = 14;

/// For one guarded address and port, of which these connections are known.
pub(super) fn offer(uplink: &str, to: SocketAddr, known: &[Entry], diag: &mut Diag) -> Offer {
    let timestamps = setting("ipv4/tcp_timestamps") != Some(0);
    // Without timestamps a cookie has no room for it.
    let scaling = timestamps && setting("ipv4/tcp_window_scaling") != Some(0);
    let wscale = || given(to, known).or_else(|| ask(to, diag)).unwrap_or_else(formula);
    Offer {
        mss: mss(uplink, to.ip()),
        wscale: scaling.then(wscale),
        timestamps,
        sack: timestamps && setting("ipv4/tcp_sack") != Some(0),
    }
}

fn mss(uplink: &str, address: IpAddr) -> u16 {
    // The IPv6 setting is the interface's MTU as this network namespace sees it; sysfs may show another one.
    let mtu = setting(&format!("ipv6/conf/{uplink}/mtu")).and_then(|mtu| u16::try_from(mtu).ok());
    let headers = if address.is_ipv4() { HEADERS4 } else { HEADERS6 };
    mtu.unwrap_or(MTU).max(MTU_MIN).saturating_sub(headers)
}

/// The shift that a connection to this place was given.
fn given(to: SocketAddr, known: &[Entry]) -> Option<u8> {
    known.iter().filter(|entry| entry.flow.local == to).find_map(|entry| entry.offered?.wscale)
}

fn ask(to: SocketAddr, diag: &mut Diag) -> Option<u8> {
    // Whoever cannot bind to an address does not have it, and would ask a stranger.
    UdpSocket::bind((to.ip(), 0)).ok()?;
    let stream = TcpStream::connect_timeout(&to, ASK_WAIT).ok()?;
    let asked = stream.local_addr().ok()?;
    let found = diag.connections(to.port()).ok()?;
    found.iter().find(|entry| entry.flow.remote == asked)?.offered?.wscale
}

/// `tcp_select_initial_window` of `net/ipv4/tcp_output.c`, for a listener with an ordinary buffer.
fn formula() -> u8 {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default();
    let last = |text: &str| text.split_ascii_whitespace().last().and_then(|word| word.parse::<u32>().ok());
    let largest = last(&read("ipv4/tcp_rmem")).max(last(&read("core/rmem_max"))).unwrap_or(1);
    scale(largest)
}

fn scale(space: u32) -> u8 {
    let shift = space.max(1).ilog2().saturating_sub(15).min(WSCALE_MAX);
    u8::try_from(shift).expect("it is at most 14")
}

fn setting(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_formula_gives_what_the_kernel_gives() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = ask(listener.local_addr().unwrap(), &mut Diag::open().unwrap());
        assert_eq!(asked, Some(formula()));
    }

    #[test]
    fn a_listener_with_a_buffer_of_its_own_is_asked_and_not_guessed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(32 << 10).unwrap();
        let to = listener.local_addr().unwrap();
        let mut diag = Diag::open().unwrap();
        assert_ne!(formula(), 0);
        assert_eq!(ask(to, &mut diag), Some(0));
        let _visitor = TcpStream::connect(to).unwrap();
        let known = diag.connections(to.port()).unwrap();
        assert_eq!(offer("lo", to, &known, &mut diag).wscale, Some(0));
    }

    #[test]
    fn an_address_that_is_not_ours_is_not_asked() {
        assert_eq!(ask("192.0.2.1:80".parse().unwrap(), &mut Diag::open().unwrap()), None);
    }

    #[test]
    fn scales_are_those_of_the_kernel() {
        let table = [(0, 0), (65_535, 0), (65_536, 1), (6_291_456, 7), (33_554_432, 10), (u32::MAX, 14)];
        for (space, expected) in table {
            assert_eq!(scale(space), expected, "{space} bytes");
        }
    }
}
