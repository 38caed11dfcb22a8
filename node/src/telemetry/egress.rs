//! The sensor in the kernel: loads and attaches `bpf/sensor.bpf.c`, reads it, sums over the processors.
//!
//! It stands first at tc, so that it counts what is tried, also what it or another program drops later. A
//! tcx link dies with its process unless it is [kept](EgressSensor::outlive); a clsact filter outlives it anyhow and
//! is replaced by the next run's.
//!
//! **Invariant.** Dropping it detaches it. What it tells are differences; a counter that went back counts from
//! zero.

use super::{
    Hook,
    cut::{Cut, ForgedLimit},
    difference,
    outliving::{Outliving, Place},
    own::Own,
    sketch::{LastSecond, TopDestination, WINDOW_BYTES, Window},
};
use crate::vip::rtnl::{Link, Rtnl};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, MapError, PerCpuArray, PerCpuValues},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
};
use std::fmt;
use stead_proto::{
    telemetry::{BySource, Egress},
    time::Instant,
};

/// The compiled `bpf/sensor.bpf.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/sensor.bpf.o");

/// The clsact filter's place: right behind the gate's, under a handle of our own.
const PRIORITY: u16 = 2;
const HANDLE: TcHandle = TcHandle::new(0, 0x5ea5);
const SIDES: [(TcAttachType, &str); 2] =
    [(TcAttachType::Ingress, "sensor_ingress"), (TcAttachType::Egress, "sensor_egress")];

/// `struct counts` of the program, field by field.
const COUNTS: usize = 13;
type Counts = [u64; COUNTS];

pub(super) struct EgressSensor {
    counts: PerCpuArray<MapData, Counts>,
    windows: PerCpuArray<MapData, [u8; WINDOW_BYTES]>,
    settings: Array<MapData, [u64; 2]>,
    own: Own,
    cut: Cut,
    seed: u64,
    /// Which of the two windows the kernel is writing.
    window: u32,
    last: Counts,
    recent: LastSecond,
    top: Option<TopDestination>,
    hook: Hook,
    /// Holds the programs.
    object: Ebpf,
    /// The attachments, that of egress last; dropping one detaches it.
    links: Vec<SchedClassifierLink>,
    kept: Option<Outliving>,
}

impl EgressSensor {
    /// Loads, says which addresses are ours, then attaches.
    ///
    /// With a limit from the first packet on, if it is given.
    pub(super) fn open(
        uplink: &Link,
        rtnl: &mut Rtnl,
        hook: Hook,
        forged: Option<&ForgedLimit>,
        now: Instant,
    ) -> Result<Self, String> {
        if !uplink.ethernet {
            return Err(format!("{} is not an Ethernet interface", uplink.name));
        }
        let mut object = EbpfLoader::new()
            .load(OBJECT)
            .map_err(|error| format!("the kernel does not load the sensor ({})", chain(&error)))?;
        let mut take = |name: &str| object.take_map(name).ok_or(format!("no map {name} in the object"));
        let mut own = Own::new(
            take("sensor_own")?.try_into().map_err(|error| chain(&error))?,
            take("sensor_foreign")?.try_into().map_err(|error| chain(&error))?,
        );
        let cut = Cut::new(
            take("sensor_limit")?.try_into().map_err(|error| chain(&error))?,
            take("sensor_spared")?.try_into().map_err(|error| chain(&error))?,
        );
        own.explain(rtnl, now, 0).map_err(|error| error.to_string())?;
        let mut sensor = Self {
            counts: take("sensor_counts")?.try_into().map_err(|error| chain(&error))?,
            windows: take("sensor_windows")?.try_into().map_err(|error| chain(&error))?,
            settings: take("sensor_settings")?.try_into().map_err(|error| chain(&error))?,
            own,
            cut,
            seed: seed()?,
            window: 0,
            last: [0; COUNTS],
            recent: LastSecond::default(),
            top: None,
            hook,
            object,
            links: Vec::new(),
            kept: None,
        };
        sensor.write_settings().map_err(|error| chain(&error))?;
        if let Some(forged) = forged {
            sensor.limit_forged(forged)?;
        }
        for (side, program) in SIDES {
            let link = attach(&mut sensor.object, &uplink.name, hook, side, program);
            sensor.links.push(
                link.map_err(|why| format!("the sensor cannot be attached to {} ({why})", uplink.name))?,
            );
        }
        sensor.last = sensor.totals().map_err(|error| chain(&error))?;
        Ok(sensor)
    }

    pub(super) const fn hook(&self) -> Hook {
        self.hook
    }

    pub(super) const fn top(&self) -> Option<TopDestination> {
        self.top
    }

    /// Lets the egress program outlive this process, if the process is killed. After an error the sensor is detached.
    pub(super) fn outlive(&mut self, instance: &str, ifindex: u32) -> Result<(), String> {
        if self.hook == Hook::Clsact || self.kept.is_some() {
            return Ok(());
        }
        let place = Place::of(instance, ifindex)?;
        let link = self.links.pop().ok_or("it is not attached")?;
        let link = link.try_into().map_err(|error| chain(&error))?;
        self.kept = Some(place.keep(link)?);
        Ok(())
    }

    /// Leaves the egress program in the kernel, if it was told to outlive this process.
    pub(super) fn leave(mut self) {
        if let Some(kept) = self.kept.take() {
            kept.leave();
        }
        if self.hook == Hook::Clsact {
            // Dropping such a link would detach its filter; it owns no memory.
            self.links.drain(..).for_each(std::mem::forget);
        }
    }

    /// Holds SYNs made by hand to this from now on; see [`ForgedLimit`].
    pub(super) fn limit_forged(&mut self, limit: &ForgedLimit) -> Result<(), String> {
        self.cut.write(limit).map_err(|error| chain(&error))
    }

    /// Whether the kernel still has that limit.
    pub(super) fn holds_forged(&self) -> bool {
        self.cut.stands()
    }

    /// What was counted since the last call: what went out, and the SYNs that came in.
    pub(super) fn read(&mut self, rtnl: &mut Rtnl, now: Instant) -> Result<(Egress, u64), String> {
        let totals = self.totals().map_err(|error| chain(&error))?;
        let [
            tcp,
            raw,
            packet,
            forwarded,
            syn_with_payload,
            syn_foreign,
            syn_ack_matched,
            rst_matched,
            syn_again,
            raw_other,
            segments,
            inbound,
            syn_cut,
        ] = difference(&totals, &self.last);
        self.last = totals;
        let syn = BySource { tcp, raw, packet, forwarded };
        let explained = self.own.explain(rtnl, now, syn_foreign).unwrap_or_else(|error| {
            tracing::warn!(%error, "a SYN from an address that is new here may be called foreign");
            0
        });
        if syn.sum() > 0 {
            let window = self.take_window().map_err(|error| chain(&error))?;
            self.recent.add(now, window);
        }
        let recent = self.recent.sum(now);
        self.top = recent.as_ref().and_then(Window::top);
        let egress = Egress {
            syn,
            syn_with_payload,
            syn_foreign: syn_foreign.saturating_sub(explained),
            syn_ack_matched,
            rst_matched,
            syn_again,
            syn_cut,
            raw_other,
            segments,
            destinations: recent.map_or(0, |recent| recent.destinations()),
            top_per_mille: self.top.map_or(0, |top| top.per_mille()),
        };
        Ok((egress, inbound))
    }

    /// Whether the programs are still attached. Somebody may have flushed the filters, or detached the links; what
    /// would be counted then is zero, which is not what it means.
    pub(super) fn is_attached(&mut self, uplink: &str) -> bool {
        let hook = self.hook;
        SIDES.into_iter().all(|(side, name)| {
            let program = self.object.program_mut(name).and_then(|program| program.try_into().ok());
            let Some(program): Option<&mut SchedClassifier> = program else { return false };
            match hook {
                Hook::Tcx => is_in_tcx(program, uplink, side),
                Hook::Clsact => is_filter(program, uplink, side),
            }
        })
    }

    fn totals(&self) -> Result<Counts, MapError> {
        let mut sum = [0u64; COUNTS];
        for processor in self.counts.get(&0, 0)?.iter() {
            for (sum, count) in sum.iter_mut().zip(processor) {
                *sum = sum.wrapping_add(*count);
            }
        }
        Ok(sum)
    }

    /// Lets the kernel write the other window, and takes what is in this one. A packet that is being counted
    /// on another processor at this moment may be lost to the sketches; the counters are exact.
    fn take_window(&mut self) -> Result<Window, MapError> {
        let full = self.window;
        self.window ^= 1;
        self.write_settings()?;
        let processors = self.windows.get(&full, 0)?;
        let mut sum = Window::empty();
        for bytes in processors.iter() {
            sum.merge(&Window::parse(bytes));
        }
        let zeros = vec![[0; WINDOW_BYTES]; processors.len()];
        let zeros = PerCpuValues::try_from(zeros)
            .map_err(|io_error| aya::sys::SyscallError { call: "possible processors", io_error })?;
        self.windows.set(full, zeros, 0)?;
        Ok(sum)
    }

    fn write_settings(&mut self) -> Result<(), MapError> {
        let [a, b, c, d] = self.window.to_ne_bytes();
        self.settings.set(0, [self.seed, u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])], 0)
    }
}

impl fmt::Debug for EgressSensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressSensor")
            .field("hook", &self.hook)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// Nobody outside shall be able to choose destinations that look like one.
fn seed() -> Result<u64, String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| error.to_string())?;
    Ok(u64::from_ne_bytes(bytes))
}

fn attach(
    object: &mut Ebpf,
    uplink: &str,
    hook: Hook,
    side: TcAttachType,
    name: &str,
) -> Result<SchedClassifierLink, String> {
    let program = object.program_mut(name).ok_or("not in the object")?;
    let program: &mut SchedClassifier = program.try_into().map_err(|error| chain(&error))?;
    program.load().map_err(|error| chain(&error))?;
    let id = match hook {
        Hook::Tcx => {
            let first = TcAttachOptions::TcxOrder(LinkOrder::first());
            program.attach_with_options(uplink, side, first)
        }
        Hook::Clsact => {
            // It may be there already; if it is not and cannot be added, attaching says why.
            let _ = tc::qdisc_add_clsact(uplink);
            // The filter of an earlier run that could not clean up is replaced.
            SchedClassifierLink::attached(uplink, side, PRIORITY, HANDLE, None)
                .map_err(|error| ProgramError::TcError(TcError::IoError(error)))
                .and_then(|earlier| program.attach_to_link(earlier))
                .or_else(|_| program.attach_with_options(uplink, side, filter()))
        }
    };
    id.and_then(|id| program.take_link(id)).map_err(|error| chain(&error))
}

const fn filter() -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None })
}

fn is_in_tcx(program: &SchedClassifier, uplink: &str, side: TcAttachType) -> bool {
    let Ok(ours) = program.info() else { return false };
    SchedClassifier::query_tcx(uplink, side)
        .is_ok_and(|(_, attached)| attached.iter().any(|program| program.id() == ours.id()))
}

/// The kernel refuses a second filter in the same place; if it takes one, ours was gone.
fn is_filter(program: &mut SchedClassifier, uplink: &str, side: TcAttachType) -> bool {
    match program.attach_with_options(uplink, side, filter()) {
        // Taken out of the program and dropped, it is detached: the sensor is opened anew.
        Ok(id) => program.take_link(id).is_err(),
        Err(ProgramError::TcError(TcError::NetlinkError(error))) => {
            error.raw_os_error() == Some(rustix::io::Errno::EXIST.raw_os_error())
        }
        Err(_) => false,
    }
}

/// An error with all its causes, for aya's outer messages alone say too little; without the log of the
/// kernel's verifier, which only a developer can read.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
        tracing::debug!(%verifier_log, "the kernel's verifier refused the sensor");
        return format!("the kernel refuses the program: {io_error}");
    }
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
