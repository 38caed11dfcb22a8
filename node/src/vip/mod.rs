//! The `vip` driver: puts an endpoint's address onto an interface of this node and takes it off again.
//!
//! - [`announce`]: tells the neighbours where the address is now.
//! - [`probe`]: asks whether another host has it, before it is claimed for the first time.
//! - [`watch`]: says when somebody changes addresses or interfaces behind our back.
//!
//! Every operation is idempotent and one round trip to the kernel on a connection that stays open.
//!
//! **Invariant.** An address of ours always has a bounded lifetime (the last rung of the lease gate), is
//! never chosen as a source by anything that did not bind to it, and carries [`ORIGIN`], so that a later
//! run recognises it.
//!
//! Deliberately absent: the decision whether to hold, and the gate: an address is watched there before it
//! is claimed here.
#![expect(clippy::wildcard_enum_match_arm, reason = "netlink's enums are foreign and open-ended")]

pub mod announce;
mod frame;
mod packet;
pub mod probe;
pub mod rtnl;
pub mod watch;

use netlink_packet_route::{
    AddressFamily,
    address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
        CacheInfo,
    },
};
use rtnl::{Rtnl, RtnlError, family};
use std::{collections::BTreeMap, net::IpAddr};
use stead_proto::time::{Instant, Span};

/// The `IFA_PROTO` of our addresses: who put them there (Linux 5.18; shown by `ip -d address`).
pub const ORIGIN: u8 = 93;

/// The kernel may expire an address a little before the second is full.
const EARLY: Span = Span::from_ms(50);

/// What the kernel says about an address on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is not here.
    Absent,
    /// It is here, and stead put it here.
    Ours {
        /// On this interface.
        ifindex: u32,
    },
    /// It is here, and somebody else put it here (or the kernel is older than 5.18 and cannot tell).
    Foreign {
        /// On this interface.
        ifindex: u32,
    },
}

/// The driver: a netlink connection and what was claimed through it.
#[derive(Debug)]
pub struct Vip {
    rtnl: Rtnl,
    claimed: BTreeMap<IpAddr, Claim>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    ifindex: u32,
    /// The expiry that the kernel was last given.
    expires: Instant,
}

impl Vip {
    /// Opens the connection, in this thread's network namespace.
    ///
    /// # Errors
    /// [`RtnlError`].
    pub fn open() -> Result<Self, RtnlError> {
        Ok(Self { rtnl: Rtnl::open()?, claimed: BTreeMap::new() })
    }

    /// Puts `address` (as a /32 or /128) onto an interface until `valid_until`, rounded up to a second; an
    /// address that is there already gets the new lifetime. `now` is [`crate::sys::now`].
    ///
    /// # Errors
    /// [`RtnlError`], which says what it costs and what to do.
    pub fn claim(
        &mut self,
        address: IpAddr,
        ifindex: u32,
        now: Instant,
        valid_until: Instant,
    ) -> Result<(), RtnlError> {
        let valid_s = lifetime_s(now, valid_until);
        self.rtnl.put_address(message(address, ifindex, valid_s))?;
        let expires = now.after(Span::from_ms(1_000).times(valid_s.into()));
        self.claimed.insert(address, Claim { ifindex, expires });
        Ok(())
    }

    /// Extends the lifetime of a claimed address; call it whenever the lease was renewed. The kernel is told
    /// only when the whole seconds it was given do not cover `valid_until` any more: the result says whether
    /// it was. Nothing happens to an address that was never claimed; one that somebody deleted comes back.
    ///
    /// # Errors
    /// As for [`Vip::claim`].
    pub fn extend(&mut self, address: IpAddr, now: Instant, valid_until: Instant) -> Result<bool, RtnlError> {
        let Some(claim) = self.claimed.get(&address).copied() else { return Ok(false) };
        if claim.expires >= valid_until.after(EARLY) {
            return Ok(false);
        }
        self.claim(address, claim.ifindex, now, valid_until).map(|()| true)
    }

    /// Takes `address` off this node, wherever it is; that it is not there is fine.
    ///
    /// # Errors
    /// [`RtnlError`]; the address may still be there until its lifetime ends.
    pub fn release(&mut self, address: IpAddr) -> Result<(), RtnlError> {
        if let Some(claim) = self.claimed.get(&address).copied() {
            self.rtnl.remove_address(address, claim.ifindex)?;
            self.claimed.remove(&address);
            return Ok(());
        }
        match self.presence(address)? {
            Presence::Absent => Ok(()),
            Presence::Ours { ifindex } | Presence::Foreign { ifindex } => {
                self.rtnl.remove_address(address, ifindex).map(drop)
            }
        }
    }

    /// Whether `address` is on this node, where, and by whom.
    ///
    /// # Errors
    /// [`RtnlError`].
    pub fn presence(&mut self, address: IpAddr) -> Result<Presence, RtnlError> {
        let messages = self.rtnl.addresses(family(address))?;
        let found = messages.iter().find(|message| address_of(message) == Some(address));
        Ok(found.map_or(Presence::Absent, |message| {
            let ifindex = message.header.index;
            if is_ours(message) { Presence::Ours { ifindex } } else { Presence::Foreign { ifindex } }
        }))
    }

    /// Addresses with our mark that this driver did not claim: what an earlier run left behind.
    ///
    /// # Errors
    /// [`RtnlError`].
    pub fn leftovers(&mut self) -> Result<Vec<(IpAddr, u32)>, RtnlError> {
        let messages = self.rtnl.addresses(AddressFamily::Unspec)?;
        let marked = messages.iter().filter(|message| is_ours(message));
        let placed = marked.filter_map(|message| Some((address_of(message)?, message.header.index)));
        Ok(placed.filter(|(address, _)| !self.claimed.contains_key(address)).collect())
    }
}

/// Whole seconds that cover the time until `valid_until`; zero would be refused, so at least one.
fn lifetime_s(now: Instant, valid_until: Instant) -> u32 {
    let left_ms = valid_until.since(now).plus(EARLY).as_ms();
    // One below the kernel's "for ever".
    u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX - 1).clamp(1, u32::MAX - 1)
}

fn message(address: IpAddr, ifindex: u32, valid_s: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.index = ifindex;
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = valid_s;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::CacheInfo(lifetime),
        AddressAttribute::Protocol(AddressProtocol::Other(ORIGIN)),
    ];
    match address {
        IpAddr::V4(_) => {
            message.header.prefix_len = 32;
            // IPv4 ignores preferred lifetimes when it chooses a source; it does respect the scope.
            message.header.scope = AddressScope::Host;
        }
        IpAddr::V6(_) => {
            message.header.prefix_len = 128;
            message.header.flags = AddressHeaderFlags::Nodad;
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
    }
    message
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::Other(ORIGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_covers_the_lease_and_is_neither_zero_nor_for_ever() {
        let now = Instant::from_ns(5_000_000_000);
        let in_ms = |ms| now.after(Span::from_ms(ms));
        assert_eq!(lifetime_s(now, Instant::ZERO), 1);
        assert_eq!(lifetime_s(now, in_ms(900)), 1);
        assert_eq!(lifetime_s(now, in_ms(990)), 2);
        assert_eq!(lifetime_s(now, in_ms(2_500)), 3);
        assert_eq!(lifetime_s(now, Instant::NEVER), u32::MAX - 1);
    }
}
