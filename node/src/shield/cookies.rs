//! SYN cookies: `net.ipv4.tcp_syncookies`, which governs IPv6 as well.
//!
//! | value | means | we |
//! |---|---|---|
//! | 0 | a full queue drops every visitor's SYN | set 1, say so, set back at the end |
//! | 1 | a full queue answers with cookies | leave it |
//! | 2 | every SYN is answered with a cookie | leave it |
//!
//! **Invariant.** Only a 0 is changed, and set back only by [`Cookies::close`], while our 1 still stands. A killed agent
//! leaves cookies on: that harms nobody.

use std::{fmt, fs, io};

/// Of the network namespace of the thread that reads or writes it.
const FILE: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const COST: &str = "without SYN cookies a flood of a few hundred SYNs a second locks every visitor out";

/// What the operator should know about the cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieNotice {
    /// They were off; the agent switched them on.
    SwitchedOn,
    /// They are off, and the agent may not switch them on.
    Off {
        /// Why not.
        why: String,
    },
    /// Nobody can tell.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl fmt::Display for CookieNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwitchedOn => write!(
                f,
                "net.ipv4.tcp_syncookies was 0 and is 1 while the agent runs: {COST}; to make it last: \
                 echo net.ipv4.tcp_syncookies=1 > /etc/sysctl.d/90-syncookies.conf, and look for who sets 0 \
                 (ufw: /etc/ufw/sysctl.conf)"
            ),
            Self::Off { why } => write!(
                f,
                "net.ipv4.tcp_syncookies is 0 and cannot be changed from here ({why}): {COST}; on the host: sysctl \
                 -w net.ipv4.tcp_syncookies=1"
            ),
            Self::Unknown { why } => write!(
                f,
                "net.ipv4.tcp_syncookies cannot be read ({why}): a kernel without CONFIG_SYN_COOKIES has neither \
                 cookies nor synproxy, and {COST}"
            ),
        }
    }
}

/// The cookies as this run of the agent found them.
#[derive(Debug)]
pub struct Cookies {
    /// Whether the 1 that stands there is ours.
    ours: bool,
}

impl Cookies {
    /// Switches them on where they are off.
    #[must_use]
    pub fn open() -> (Self, Option<CookieNotice>) {
        let (ours, notice) = match read() {
            Err(error) => (false, Some(CookieNotice::Unknown { why: error.to_string() })),
            Ok(0) => match fs::write(FILE, "1") {
                Ok(()) => (true, Some(CookieNotice::SwitchedOn)),
                Err(error) => (false, Some(CookieNotice::Off { why: error.to_string() })),
            },
            Ok(_) => (false, None),
        };
        (Self { ours }, notice)
    }

    /// Sets them back if they were switched on here and nobody changed them since.
    ///
    /// # Errors
    /// The kernel's, if it refuses; the cookies stay on then.
    pub fn close(self) -> io::Result<()> {
        if self.ours && read()? == 1 { fs::write(FILE, "0") } else { Ok(()) }
    }
}

/// The value that stands there now.
///
/// # Errors
/// The kernel's, if it has no such setting, or shows something that is no number.
pub fn read() -> io::Result<u8> {
    fs::read_to_string(FILE)?.trim().parse().map_err(io::Error::other)
}
