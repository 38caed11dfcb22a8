//! The lease gate: an address of ours is heard on the wire only while its lease runs.
//!
//! A dead, stopped or starved agent cannot release an address, so the kernel is told in advance when to
//! fall silent. Four rungs do that, from exact to coarse; [`Gate::open`] takes the best one that this
//! kernel allows and says, for each better one, what is missing and what that costs.
//!
//! **Invariant.** At every rung a gated address is closed unless somebody said until when it is open, and
//! closes by itself. Opening a gate adopts what an earlier run left behind: an unexpired lease stays open,
//! everything else stays closed, and there is no moment in which a gated address is not gated.
//!
//! Deliberately absent: any decision about leases, and any promise about a frame that had passed the gate
//! when it closed. Such a frame may sit in a queue (hence `limits::HANDOVER_GUARD`), or on a virtual CPU
//! that its hypervisor holds back.

use super::{bpffs, gate_bpf::BpfGate, gate_nft::NftGate};
use crate::vip::rtnl::{Rtnl, RtnlError};
use std::{fmt, net::IpAddr};
use stead_proto::time::Instant;

/// Addresses that one gate can hold.
pub const ADDRESSES_MAX: usize = 64;

/// How the kernel is made to enforce a lease, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// BPF on a pinned tcx link (Linux 6.6).
    Tcx,
    /// BPF as a clsact filter (Linux 5.8).
    Clsact,
    /// nft set elements with a timeout on the netdev hooks (Linux 5.16 and the `nft` program).
    Nft,
    /// Nothing but the lifetime of the address itself, in whole seconds.
    Lifetime,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Self; 4] = [Self::Tcx, Self::Clsact, Self::Nft, Self::Lifetime];

    /// How long after its expiry an address may still be heard. A lease has to allow for it.
    ///
    /// A bound at every rung but the last: there it is what one usually sees (rounding up to a second, and a
    /// check each second), but the kernel expires addresses from a *deferrable* work item
    /// (`net/ipv4/devinet.c`), which an idle processor may put off for seconds more.
    #[must_use]
    pub const fn slack_ms(self) -> u64 {
        match self {
            Self::Tcx | Self::Clsact => 1,
            Self::Nft => 100,
            Self::Lifetime => 2_400,
        }
    }

    /// What it costs to stand on this rung instead of the best one.
    const fn cost(self) -> &'static str {
        match self {
            Self::Tcx => "nothing is lost",
            Self::Clsact => "another program may remove the filter by flushing tc filters",
            Self::Nft => {
                "takeovers wait 100 ms longer, an agent frozen amid a renewal may overrun, and VLAN-tagged \
                 frames are not seen"
            }
            Self::Lifetime => {
                "a takeover waits 2.4 s longer, and when an agent dies or is stopped two nodes may answer for a \
                 moment; install nftables on Linux 5.16 or later"
            }
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "BPF (tcx)",
            Self::Clsact => "BPF (clsact)",
            Self::Nft => "nft timeouts",
            Self::Lifetime => "address lifetimes",
        })
    }
}

/// A rung that could not be had: a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The rung that was tried.
    pub rung: Rung,
    /// Why it does not work here.
    pub why: String,
    /// What the next rung down costs, and what to do about it.
    pub cost: String,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}; {}", self.rung, self.why, self.cost)
    }
}

/// What a gate could not do.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The uplink cannot be gated at all.
    #[error("no gate on interface {ifindex}: {source}")]
    Uplink {
        /// The interface asked for.
        ifindex: u32,
        /// What the kernel said.
        source: RtnlError,
    },
    /// The instance is not a plain file name.
    #[error("{0:?} cannot name a gate: use letters, digits, '-' and '_', at most 64 of them")]
    Instance(String),
    /// The address is not gated; [`Gate::watch`] comes first.
    #[error("{0} is not gated: watch it first")]
    NotWatched(IpAddr),
    /// No room for another address.
    #[error("the gate is full: at most {ADDRESSES_MAX} addresses")]
    Full,
    /// The kernel refused a map operation.
    #[error("the kernel refused to {doing} {address}: {source}")]
    Map {
        /// What was tried.
        doing: &'static str,
        /// For which address.
        address: IpAddr,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// nft failed; the address closes by itself when its element runs out.
    #[error("nft: {0}; the address closes by itself at its last expiry, check `nft list ruleset`")]
    Nft(String),
    /// The nft helper does not keep up; the address closes by itself at its last expiry.
    #[error("the nft helper is busy; the address closes by itself at its last expiry")]
    Busy,
    /// Something of the gate could not be removed from the kernel.
    #[error(
        "a part of the gate remains ({0}); it keeps its addresses silent until it is removed or the host restarts"
    )]
    Remains(String),
    /// The address could not be taken off its interface.
    #[error("cannot close {address} by removing it: {source}")]
    Remove {
        /// The address that is still there.
        address: IpAddr,
        /// What the kernel said.
        source: RtnlError,
    },
}

/// What to gate.
#[derive(Clone, Debug)]
pub struct GateConfig {
    /// The interface that the addresses are heard on.
    pub uplink_ifindex: u32,
    /// Tells this agent's gate from that of another mesh, or another lab node, on the same machine.
    pub instance: String,
    /// Addresses to gate from the first moment, closed unless an earlier run left an unexpired lease.
    pub addresses: Vec<IpAddr>,
    /// The best rung to try; the best there is if `None`.
    pub wanted: Option<Rung>,
}

/// An open gate. It has one owner; dropping it leaves everything in the kernel as it is.
#[derive(Debug)]
pub struct Gate {
    rung: Rung,
    how: How,
}

#[derive(Debug)]
enum How {
    Bpf(Box<BpfGate>),
    Nft(NftGate),
    Lifetime { rtnl: Rtnl, uplink_ifindex: u32 },
}

impl Gate {
    /// Opens the best gate that works here, and says of each better rung why it does not.
    ///
    /// # Errors
    /// [`GateError::Uplink`] and [`GateError::Instance`]: no rung can work with these.
    pub fn open(config: &GateConfig) -> Result<(Self, Vec<Shortfall>), GateError> {
        check_instance(&config.instance)?;
        let uplink_ifindex = config.uplink_ifindex;
        let at_uplink = |source| GateError::Uplink { ifindex: uplink_ifindex, source };
        let mut rtnl = Rtnl::open().map_err(at_uplink)?;
        let uplink = rtnl.link(uplink_ifindex).map_err(at_uplink)?;

        let mut shortfalls = Vec::new();
        for rung in Rung::ALL.into_iter().filter(|rung| Some(*rung) >= config.wanted) {
            let opened = match rung {
                Rung::Tcx | Rung::Clsact => {
                    BpfGate::open(config, &uplink, rung).map(|gate| How::Bpf(Box::new(gate)))
                }
                Rung::Nft => NftGate::open(config, &uplink).map(How::Nft),
                Rung::Lifetime => break,
            };
            match opened {
                Ok(how) => {
                    retire(config, &uplink.name, rung);
                    return Ok((Self { rung, how }, shortfalls));
                }
                Err(why) => {
                    // Two ways to attach the same program mostly fail for one reason, told once.
                    shortfalls.retain(|known: &Shortfall| known.why != why);
                    shortfalls.push(shortfall(rung, why));
                }
            }
        }
        retire(config, &uplink.name, Rung::Lifetime);
        Ok((Self { rung: Rung::Lifetime, how: How::Lifetime { rtnl, uplink_ifindex } }, shortfalls))
    }

    /// The rung that this gate stands on.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }

    /// Gates `address`: closed, unless it is gated already; then nothing changes.
    ///
    /// # Errors
    /// [`GateError::Full`], or what the kernel refused. The address must not be claimed then.
    pub fn watch(&mut self, address: IpAddr) -> Result<(), GateError> {
        match &mut self.how {
            How::Bpf(gate) => gate.watch(address),
            How::Nft(gate) => gate.watch(address),
            How::Lifetime { .. } => Ok(()),
        }
    }

    /// Opens `address` until `until`, whether that is later or earlier than before.
    ///
    /// At the BPF rungs this is one system call, without allocation, and may be called from a real-time
    /// thread. At the nft rung it hands over to a helper thread and does not wait. At the lifetime rung it
    /// does nothing: there the `vip` driver extends the address itself.
    ///
    /// # Errors
    /// [`GateError::NotWatched`], or what went wrong; the address then closes at its last expiry.
    pub fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError> {
        match &mut self.how {
            How::Bpf(gate) => gate.set(address, until),
            How::Nft(gate) => gate.set(address, until),
            How::Lifetime { .. } => Ok(()),
        }
    }

    /// Closes `address`. When this returns `Ok` the kernel lets nothing more of it out.
    ///
    /// # Errors
    /// What went wrong; the address may still be heard until its last expiry.
    pub fn close(&mut self, address: IpAddr) -> Result<(), GateError> {
        match &mut self.how {
            How::Bpf(gate) => gate.set(address, Instant::ZERO),
            How::Nft(gate) => gate.close(address),
            How::Lifetime { rtnl, uplink_ifindex } => rtnl
                .remove_address(address, *uplink_ifindex)
                .map(drop)
                .map_err(|source| GateError::Remove { address, source }),
        }
    }

    /// Stops gating `address`. Its frames pass from now on: take it off the interface first.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn forget(&mut self, address: IpAddr) -> Result<(), GateError> {
        match &mut self.how {
            How::Bpf(gate) => gate.forget(address),
            How::Nft(gate) => gate.forget(address),
            How::Lifetime { .. } => Ok(()),
        }
    }

    /// The gated addresses, each with its expiry where the kernel tells it.
    #[must_use]
    pub fn watched(&self) -> Vec<(IpAddr, Option<Instant>)> {
        match &self.how {
            How::Bpf(gate) => gate.watched(),
            How::Nft(gate) => gate.watched(),
            How::Lifetime { .. } => Vec::new(),
        }
    }

    /// Takes everything that `instance` ever put into the kernel out of it again: for an orderly uninstall,
    /// after all endpoint addresses are off the machine.
    ///
    /// # Errors
    /// [`GateError::Remains`] says what could not be removed.
    pub fn uninstall(instance: &str) -> Result<(), GateError> {
        check_instance(instance)?;
        for ifindex in bpffs::interfaces(instance) {
            let name = Rtnl::open().and_then(|mut rtnl| rtnl.link(ifindex)).map(|link| link.name).ok();
            BpfGate::remove(instance, ifindex, name.as_deref()).map_err(GateError::Remains)?;
        }
        bpffs::sweep(instance);
        crate::telemetry::uninstall(instance).map_err(GateError::Remains)?;
        NftGate::remove_all(instance).map_err(GateError::Remains)
    }
}

/// Removes what other rungs left of earlier runs, now that `rung` enforces.
fn retire(config: &GateConfig, uplink: &str, rung: Rung) {
    if matches!(rung, Rung::Nft | Rung::Lifetime)
        && let Err(why) = BpfGate::remove(&config.instance, config.uplink_ifindex, Some(uplink))
    {
        tracing::warn!(why, "an earlier BPF gate stays in the kernel and may keep addresses closed");
    }
    if rung != Rung::Nft {
        NftGate::remove(&config.instance, config.uplink_ifindex);
    }
}

fn shortfall(rung: Rung, why: String) -> Shortfall {
    let next = match rung {
        Rung::Tcx => Rung::Clsact,
        Rung::Clsact => Rung::Nft,
        Rung::Nft | Rung::Lifetime => Rung::Lifetime,
    };
    Shortfall { rung, why, cost: format!("with {next} instead, {}", next.cost()) }
}

fn check_instance(instance: &str) -> Result<(), GateError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let ok = (1..=64).contains(&instance.len()) && instance.chars().all(letter);
    if ok { Ok(()) } else { Err(GateError::Instance(instance.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_cannot_leave_its_directory() {
        for bad in ["", "..", "a/b", "a b", "\"", &"x".repeat(65)] {
            assert!(check_instance(bad).is_err(), "{bad:?}");
        }
        assert!(check_instance("0a1b_web-1").is_ok());
    }

    #[test]
    fn a_gate_may_be_owned_by_a_thread_of_its_own() {
        const fn sendable<T: Send>() {}
        const { sendable::<Gate>() }
    }

    #[test]
    fn what_a_rung_costs_fits_the_report_with_its_reason() {
        let why = "/sys/fs/bpf cannot be used (not mounted, and a mount of this unit's own would end with it: run `mount -t bpf bpf /sys/fs/bpf` on the host)";
        for rung in [Rung::Tcx, Rung::Clsact] {
            let text = shortfall(rung, why.into()).to_string();
            assert!(text.len() <= stead_proto::limits::TEXT_BYTES_MAX, "{} bytes: {text}", text.len());
        }
    }

    #[test]
    fn every_rung_keeps_within_the_slack_that_leases_allow_for() {
        let slack_max = stead_proto::limits::GATE_SLACK_MAX.as_ms();
        assert!(Rung::ALL.into_iter().all(|rung| rung.slack_ms() <= slack_max));
    }

    #[test]
    fn a_shortfall_is_a_sentence_with_reason_and_cost() {
        let text = shortfall(Rung::Tcx, "no CAP_BPF".into()).to_string();
        assert!(text.contains("no BPF (tcx): no CAP_BPF; with BPF (clsact) instead,"), "{text}");
    }
}
