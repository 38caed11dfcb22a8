//! What SYNs made by hand are held to, for the program in the kernel: it cuts them off before user space knows.
//!
//! No program that serves a site makes SYNs by hand, so raw and packet sockets have the limit alone, licence or
//! not, from the first SYN on. Destinations that the site allows are spared: the guard knows their rates.
//!
//! Deliberately absent: everything that a TCP socket sends, which is the guard's.

use aya::maps::{
    Array, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use std::net::IpAddr;
use stead_proto::guard::{GuardPolicy, Prefix, Rate};

const NANOSECONDS: u64 = 1_000_000_000;
/// The bits before an IPv4 address that is written as an IPv6 one (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u32 = 96;

/// How many SYNs raw and packet sockets may send, and where that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgedLimit {
    /// How many.
    pub rate: Rate,
    /// Destinations that are not held to it.
    pub spared: Vec<Prefix>,
}

impl From<&GuardPolicy> for ForgedLimit {
    fn from(policy: &GuardPolicy) -> Self {
        let spared = policy.allowed.iter().map(|entry| entry.to).collect();
        Self { rate: policy.limit, spared }
    }
}

/// The kernel's copy.
pub(super) struct Cut {
    limit: Array<MapData, [u64; 2]>,
    spared: LpmTrie<MapData, [u8; 16], u8>,
    written: Option<ForgedLimit>,
}

impl Cut {
    pub(super) const fn new(limit: Array<MapData, [u64; 2]>, spared: LpmTrie<MapData, [u8; 16], u8>) -> Self {
        Self { limit, spared, written: None }
    }

    /// Writes the destinations before the limit, so that none of them is cut off meanwhile.
    pub(super) fn write(&mut self, wanted: &ForgedLimit) -> Result<(), MapError> {
        let written: Result<Vec<_>, _> = self.spared.keys().collect();
        let written = written?;
        for gone in written.iter().filter(|found| !spares(wanted, found)) {
            match self.spared.remove(gone) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        for key in wanted.spared.iter().map(|prefix| key(*prefix)) {
            // Older kernels refuse to write what a full trie has already.
            if written.iter().all(|known| !is_same(known, &key)) {
                self.spared.insert(&key, 0, 0)?;
            }
        }
        self.limit.set(0, interval_and_slack(wanted.rate), 0)?;
        self.written = Some(wanted.clone());
        Ok(())
    }

    /// Whether the kernel has what was written, and nobody spared one more destination.
    pub(super) fn stands(&self) -> bool {
        let Some(written) = &self.written else { return true };
        let found: Result<Vec<_>, _> = self.spared.keys().collect();
        self.limit.get(&0, 0).is_ok_and(|limit| limit == interval_and_slack(written.rate))
            && found.is_ok_and(|found| found.iter().all(|found| spares(written, found)))
    }
}

fn spares(limit: &ForgedLimit, found: &Key<[u8; 16]>) -> bool {
    limit.spared.iter().any(|prefix| is_same(&key(*prefix), found))
}

fn is_same(one: &Key<[u8; 16]>, other: &Key<[u8; 16]>) -> bool {
    (one.prefix_len(), one.data()) == (other.prefix_len(), other.data())
}

/// `struct limit` of the program: nanoseconds from one to the next, and those that a burst takes.
fn interval_and_slack(rate: Rate) -> [u64; 2] {
    let interval = NANOSECONDS / u64::from(rate.per_second.max(1));
    [interval, interval.saturating_mul(rate.burst.into())]
}

fn key(prefix: Prefix) -> Key<[u8; 16]> {
    match prefix.address {
        IpAddr::V4(address) => {
            Key::new(MAPPED_BITS + u32::from(prefix.bits), address.to_ipv6_mapped().octets())
        }
        IpAddr::V6(address) => Key::new(prefix.bits.into(), address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_fits_into_its_slack_and_not_one_more() {
        let [interval, slack] = interval_and_slack(Rate { per_second: 10, burst: 20 });
        assert_eq!((interval, slack), (100_000_000, 2_000_000_000));
    }

    #[test]
    fn an_ipv4_prefix_lies_where_the_program_looks_for_it() {
        let key = key(Prefix { address: "192.0.2.0".parse().unwrap(), bits: 24 });
        assert_eq!(key.prefix_len(), 120);
        assert_eq!(key.data()[10..14], [255, 255, 192, 0]);
    }
}
