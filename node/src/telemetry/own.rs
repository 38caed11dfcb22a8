//! Which source addresses are this host's, for the sensor in the kernel.
//!
//! The kernel's program looks a SYN's source up in a map that is kept here. An address that has just become
//! ours may send before the map knows it; so the program counts foreign SYNs by source, too, and those of an
//! address that turns out to be ours are taken back before anybody is told of them.
//!
//! **Invariant.** An address is in the map from the moment that it is seen until a minute after it was seen
//! last: what it sent while it was ours is never called foreign.

use crate::vip::rtnl::{Rtnl, RtnlError};
use aya::maps::{HashMap, MapData, MapError};
use netlink_packet_route::{AddressFamily, address::AddressAttribute};
use std::{collections::BTreeMap, net::IpAddr};
use stead_proto::time::{Instant, Span};

/// Addresses that the map holds, as in `bpf/sensor.bpf.c`.
const OWN_MAX: usize = 1_024;
/// How long an address is called ours after it was taken away.
const KEPT: Span = Span::from_ms(60_000);
/// How often the addresses are read when nothing foreign was sent.
const PERIOD: Span = Span::from_ms(1_000);

type Key = [u8; 16];

pub(super) struct Own {
    addresses: HashMap<MapData, Key, u8>,
    foreign: HashMap<MapData, Key, u64>,
    /// When each was seen last.
    known: BTreeMap<Key, Instant>,
    read_last: Option<Instant>,
}

/// Why the addresses could not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnError {
    #[error("the addresses of this host cannot be read ({0})")]
    Read(#[from] RtnlError),
    #[error("the kernel does not take the addresses of this host ({0})")]
    Map(#[from] MapError),
}

impl Own {
    pub(super) const fn new(
        addresses: HashMap<MapData, Key, u8>,
        foreign: HashMap<MapData, Key, u64>,
    ) -> Self {
        Self { addresses, foreign, known: BTreeMap::new(), read_last: None }
    }

    /// Brings the map up to date if that is due, or if `foreign` SYNs wait for an explanation. Returns how many
    /// of them had a source that is ours.
    pub(super) fn explain(&mut self, rtnl: &mut Rtnl, now: Instant, foreign: u64) -> Result<u64, OwnError> {
        let due = self.read_last.is_none_or(|last| now.since(last) >= PERIOD);
        if !due && foreign == 0 {
            return Ok(0);
        }
        self.read_last = Some(now);
        let mut explained: u64 = 0;
        for address in addresses(rtnl)? {
            let key = key(address);
            if !self.known.contains_key(&key) {
                if self.known.len() >= OWN_MAX {
                    // Not all of them can be told from foreign ones, so nothing is called foreign.
                    return Ok(foreign);
                }
                self.addresses.insert(key, 1, 0)?;
                if foreign > 0
                    && let Ok(count) = self.foreign.get(&key, 0)
                {
                    self.foreign.remove(&key)?;
                    explained = explained.saturating_add(count);
                }
            }
            self.known.insert(key, now);
        }
        let gone: Vec<Key> =
            self.known.iter().filter(|(_, seen)| now.since(**seen) > KEPT).map(|(key, _)| *key).collect();
        for key in gone {
            self.addresses.remove(&key)?;
            self.known.remove(&key);
        }
        Ok(explained.min(foreign))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "netlink's enum is foreign and open-ended")]
fn addresses(rtnl: &mut Rtnl) -> Result<Vec<IpAddr>, RtnlError> {
    let messages = rtnl.addresses(AddressFamily::Unspec)?;
    // On a link between two hosts `Address` is the other one's, and `Local` ours.
    let attributes = messages.iter().flat_map(|message| &message.attributes);
    Ok(attributes
        .filter_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
            _ => None,
        })
        .collect())
}

fn key(address: IpAddr) -> Key {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
