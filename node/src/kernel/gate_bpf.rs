//! The gate as a BPF program on the uplink: exact to the nanosecond, one system call per renewal.
//!
//! The maps and (tcx) the links are pinned under `/sys/fs/bpf/stead/<instance>/<ifindex>`, so they outlive
//! the agent. A new agent loads its own program onto the *same* maps and swaps it in atomically.
//!
//! **Invariant.** An address's slot never changes while it is gated, and its expiry is overwritten in
//! place: see `bpf/gate.bpf.c` for why.

use super::{
    bpffs,
    gate::{ADDRESSES_MAX, GateConfig, GateError, Rung},
};
use crate::vip::rtnl::Link;
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
};
use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
};
use stead_proto::time::Instant;

/// The compiled `bpf/gate.bpf.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/gate.bpf.o");

/// Raised when the maps' layout changes, so that an old map is never read with new eyes.
const LAYOUT: u32 = 1;
const SLOTS: &str = "gate_slots";
const EXPIRIES: &str = "gate_expiries";
/// The clsact filter's place: before everybody else, under a handle of our own.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x5ead);
const SIDES: [(TcAttachType, &str); 2] =
    [(TcAttachType::Ingress, "stead_ingress"), (TcAttachType::Egress, "stead_egress")];

type Key = [u8; 16];

pub(super) struct BpfGate {
    slots: HashMap<MapData, Key, u32>,
    expiries: Array<MapData, u64>,
    /// What `slots` says, so that a renewal needs no lookup in the kernel.
    table: BTreeMap<IpAddr, u32>,
}

impl BpfGate {
    /// Loads, adopts the maps of an earlier run, gates the addresses, then attaches.
    pub(super) fn open(config: &GateConfig, uplink: &Link, rung: Rung) -> Result<Self, String> {
        if !uplink.ethernet {
            return Err(format!("{} is not an Ethernet interface", uplink.name));
        }
        let directory = bpffs::directory(&config.instance, config.uplink_ifindex)
            .map_err(|error| format!("/sys/fs/bpf cannot be used ({error})"))?;
        let mut object = EbpfLoader::new()
            .map_pin_path(SLOTS, map_path(&directory, SLOTS))
            .map_pin_path(EXPIRIES, map_path(&directory, EXPIRIES))
            .load(OBJECT)
            .map_err(|error| format!("the kernel does not load the gate program ({})", chain(&error)))?;
        let mut gate = Self::adopt(&mut object)?;
        for address in &config.addresses {
            gate.watch(*address).map_err(|error| error.to_string())?;
        }
        for (side, program) in SIDES {
            attach(&mut object, &directory, &uplink.name, rung, side, program)
                .map_err(|why| format!("the program cannot be attached to {} ({why})", uplink.name))?;
        }
        // Only now, with the new attachment in place, may the other kind go.
        match rung {
            Rung::Tcx => detach_clsact(&uplink.name),
            Rung::Clsact | Rung::Nft | Rung::Lifetime => unpin_links(&directory)
                .map_err(|error| format!("an earlier tcx attachment cannot be removed ({error})"))?,
        }
        Ok(gate)
    }

    fn adopt(object: &mut Ebpf) -> Result<Self, String> {
        let mut take = |name: &str| object.take_map(name).ok_or(format!("no map {name} in the object"));
        let (slots, expiries) = (take(SLOTS)?, take(EXPIRIES)?);
        let slots: HashMap<_, Key, u32> = slots.try_into().map_err(|error| chain(&error))?;
        let expiries = expiries.try_into().map_err(|error| chain(&error))?;
        let mut table = BTreeMap::new();
        for entry in slots.iter() {
            let (key, slot) = entry.map_err(|error| chain(&error))?;
            table.insert(Ipv6Addr::from(key).to_canonical(), slot);
        }
        Ok(Self { slots, expiries, table })
    }

    pub(super) fn watch(&mut self, address: IpAddr) -> Result<(), GateError> {
        if self.table.contains_key(&address) {
            return Ok(());
        }
        let slot = self.free_slot().ok_or(GateError::Full)?;
        let refused = |source| GateError::Map { doing: "gate", address, source };
        self.expiries.set(slot, 0, 0).map_err(refused)?;
        self.slots.insert(key(address), slot, 0).map_err(refused)?;
        self.table.insert(address, slot);
        Ok(())
    }

    pub(super) fn set(&mut self, address: IpAddr, until: Instant) -> Result<(), GateError> {
        let slot = *self.table.get(&address).ok_or(GateError::NotWatched(address))?;
        self.expiries.set(slot, until.as_ns(), 0).map_err(|source| GateError::Map {
            doing: "set the expiry of",
            address,
            source,
        })
    }

    pub(super) fn forget(&mut self, address: IpAddr) -> Result<(), GateError> {
        if !self.table.contains_key(&address) {
            return Ok(());
        }
        self.slots.remove(&key(address)).map_err(|source| GateError::Map {
            doing: "forget",
            address,
            source,
        })?;
        self.table.remove(&address);
        Ok(())
    }

    pub(super) fn watched(&self) -> Vec<(IpAddr, Option<Instant>)> {
        let until = |slot: &u32| self.expiries.get(slot, 0).ok().map(Instant::from_ns);
        self.table.iter().map(|(address, slot)| (*address, until(slot))).collect()
    }

    /// Takes attachments and maps of `instance` on one interface out of the kernel.
    pub(super) fn remove(instance: &str, ifindex: u32, uplink: Option<&str>) -> Result<(), String> {
        if let Some(uplink) = uplink {
            detach_clsact(uplink);
        }
        let directory = bpffs::path(instance, ifindex);
        if !directory.exists() {
            return Ok(());
        }
        // The kernel lets go of an unpinned link a little later; until then it shall find nothing to gate.
        if let Err(why) = empty(&map_path(&directory, SLOTS)) {
            tracing::debug!(why, "no addresses to take out of the gate");
        }
        unpin_links(&directory)
            .and_then(|()| bpffs::unpin(&map_path(&directory, SLOTS)))
            .and_then(|()| bpffs::unpin(&map_path(&directory, EXPIRIES)))
            .and_then(|()| std::fs::remove_dir(&directory))
            .map_err(|error| format!("removing {}: {error}", directory.display()))
    }

    fn free_slot(&self) -> Option<u32> {
        let slots_max = u32::try_from(ADDRESSES_MAX).expect("a small constant");
        (0..slots_max).find(|slot| !self.table.values().any(|taken| taken == slot))
    }
}

impl fmt::Debug for BpfGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BpfGate").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Loads one program and attaches it, in place of its predecessor if there is one.
fn attach(
    object: &mut Ebpf,
    directory: &Path,
    uplink: &str,
    rung: Rung,
    side: TcAttachType,
    name: &str,
) -> Result<(), String> {
    let program = object.program_mut(name).ok_or("not in the object")?;
    let program: &mut SchedClassifier = program.try_into().map_err(|error| chain(&error))?;
    program.load().map_err(|error| chain(&error))?;
    match rung {
        Rung::Tcx => attach_tcx(program, &directory.join(name), uplink, side),
        Rung::Clsact | Rung::Nft | Rung::Lifetime => attach_clsact(program, uplink, side),
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    pin: &Path,
    uplink: &str,
    side: TcAttachType,
) -> Result<(), String> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link: SchedClassifierLink = FdLink::from(pinned).try_into().map_err(|error| chain(&error))?;
        if program.attach_to_link(link).is_ok() {
            return Ok(());
        }
        // The interface that it was attached to is gone, and the link with it.
        bpffs::unpin(pin).map_err(|error| error.to_string())?;
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(uplink, side, first).map_err(|error| chain(&error))?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    let link: FdLink = link.try_into().map_err(|error| chain(&error))?;
    link.pin(pin).map(drop).map_err(|error| chain(&error))
}

fn attach_clsact(program: &mut SchedClassifier, uplink: &str, side: TcAttachType) -> Result<(), String> {
    // It may be there already; if it is not and cannot be added, attaching says why.
    let _ = tc::qdisc_add_clsact(uplink);
    let replaced = SchedClassifierLink::attached(uplink, side, PRIORITY, HANDLE, None)
        .map_err(|error| error.to_string())
        .and_then(|link| program.attach_to_link(link).map_err(|error| chain(&error)));
    let id = match replaced {
        Ok(id) => id,
        Err(_) => {
            let place = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program
                .attach_with_options(uplink, side, TcAttachOptions::Netlink(place))
                .map_err(|error| chain(&error))?
        }
    };
    // Dropping the link would detach the filter, which has to outlive this process. It owns no memory.
    std::mem::forget(program.take_link(id).map_err(|error| chain(&error))?);
    Ok(())
}

/// Removes our filters, if there are any; aya does not tell "none" from "refused".
fn detach_clsact(uplink: &str) {
    for (side, name) in SIDES {
        if let Err(error) = tc::qdisc_detach_program(uplink, side, name) {
            tracing::debug!(uplink, %error, "no clsact gate detached");
        }
    }
}

fn unpin_links(directory: &Path) -> io::Result<()> {
    SIDES.iter().try_for_each(|(_, name)| bpffs::unpin(&directory.join(name)))
}

fn empty(slots: &Path) -> Result<(), String> {
    let map = MapData::from_pin(slots).and_then(Map::from_map_data).map_err(|error| chain(&error))?;
    let mut slots: HashMap<_, Key, u32> = map.try_into().map_err(|error| chain(&error))?;
    let keys: Vec<Key> = slots.keys().flatten().collect();
    keys.iter().try_for_each(|key| slots.remove(key)).map_err(|error| chain(&error))
}

fn map_path(directory: &Path, map: &str) -> PathBuf {
    directory.join(format!("{map}_v{LAYOUT}"))
}

fn key(address: IpAddr) -> Key {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An error with all its causes: aya's outer messages alone say too little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
