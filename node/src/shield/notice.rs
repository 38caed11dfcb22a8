//! What the shield has to tell the operator: sentences about this host, and errors.
//!
//! **Invariant.** Each says what is lost, and what to do about it.

use super::{
    cookies::CookieNotice,
    diag::DiagError,
    rules::{BYPASS_MAX, TABLE},
};
use std::{fmt, io};

/// What remains, and what that costs, where the proxy cannot be had.
const ALONE: &str = "a flood meets SYN cookies alone: visitors get in, but each SYN of the flood takes the \
                     listener's time, and those without TCP timestamps lose window scaling and SACK";

/// Something about this host that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// About the SYN cookies.
    Cookies(CookieNotice),
    /// The shield cannot be raised here.
    NoProxy {
        /// Why not.
        why: String,
    },
    /// An earlier run of the agent ended while its shield stood; it is lowered now.
    Abandoned {
        /// How many addresses and ports it guarded.
        guarded: usize,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookies(notice) => notice.fmt(f),
            Self::NoProxy { why } => no_proxy(f, why),
            Self::Abandoned { guarded } => write!(
                f,
                "an earlier run of the agent left its shield before {guarded} addresses and ports; it is lowered, \
                 and raised again if the flood goes on"
            ),
        }
    }
}

fn no_proxy(f: &mut fmt::Formatter<'_>, why: &str) -> fmt::Result {
    write!(
        f,
        "no synproxy ({why}); {ALONE}; install nftables, and a kernel with CONFIG_NFT_SYNPROXY (modprobe \
         nft_synproxy)"
    )
}

/// The shield was not raised, lowered or looked after.
#[derive(Debug, thiserror::Error)]
pub enum ShieldError {
    /// There is nothing to guard.
    #[error("no address and port to put the shield before; give the endpoint's services ports")]
    Nothing,
    /// Too many places.
    #[error("{0} addresses and ports are more than one shield guards; {ALONE}")]
    TooMany(usize),
    /// More connections than can be led past the proxy.
    #[error(
        "{0} connections are open, and the shield can spare {BYPASS_MAX}: it stays down rather than cut any off; {ALONE}"
    )]
    Crowded(usize),
    /// The kernel or nft has no synproxy.
    #[error("no synproxy ({0}); {ALONE}; install nftables, and a kernel with CONFIG_NFT_SYNPROXY")]
    NoProxy(String),
    /// Somebody drops the visitors' answers before they reach the proxy.
    #[error(
        "no visitor's answer reached the raised shield, so it was lowered: a foreign rule drops unknown ACKs before \
         the input hook (look in `nft list ruleset` for `ct state invalid drop` or `new` without SYN at prerouting, \
         and except the endpoint's ports); {ALONE}"
    )]
    Starved,
    /// The proxy answers nobody of one family.
    #[error(
        "the kernel's synproxy answers no SYN over {family}: it drops those whose checksum the network card did not          verify (IPv6, up to Linux 6.18 at least), so the shield leaves {family} alone until the agent starts again; see          `ethtool -k` for rx-checksumming; {ALONE}"
    )]
    Mute {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The kernel does not list connections.
    #[error("the shield cannot see which connections to spare: {0}")]
    Connections(#[from] DiagError),
    /// nft refused something.
    #[error("nft did not change the shield ({0}); its last state stands: see nft list table {TABLE}")]
    Nft(String),
    /// The cookies were not set back.
    #[error("net.ipv4.tcp_syncookies could not be set back to 0 ({0}); it stays 1, which harms nobody")]
    Cookies(io::Error),
}
