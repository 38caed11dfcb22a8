//! Others work on the same uplink: what they have is left alone, what they take from us is said and put back.
#![allow(unsafe_code, clippy::as_conversions)]

use super::{
    collect,
    common::{Bench, bench, wait_for},
    open, parts,
    senders::send_frames,
};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType, tc::SchedClassifierLink},
};
use std::{
    mem::size_of_val,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::Command,
};
use stead_node::telemetry::{Hook, Sensor, Sensors};

const SIDES: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// Runs a program as somebody else would; it has to succeed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Somebody else's program at tcx, filter at clsact and nft table, all on our uplink.
struct Theirs {
    _object: Ebpf,
    _link: SchedClassifierLink,
    program: u32,
    filter: String,
    rules: String,
}

impl Theirs {
    fn put() -> Self {
        let mut object =
            Ebpf::load(aya::include_bytes_aligned!("../../src/telemetry/bpf/sensor.bpf.o")).unwrap();
        let program: &mut SchedClassifier = object.program_mut("sensor_egress").unwrap().try_into().unwrap();
        program.load().unwrap();
        let id = program.attach("uplink", TcAttachType::Egress).unwrap();
        let link = program.take_link(id).unwrap();
        let program = program.info().unwrap().id();
        run("tc qdisc add dev uplink clsact");
        run("tc filter add dev uplink egress prio 7 protocol ip u32 match ip dport 4321 0xffff");
        run("nft add table netdev theirs");
        run("nft add counter netdev theirs seen");
        run("nft add chain netdev theirs out { type filter hook egress device uplink priority 5 ; }");
        run("nft add rule netdev theirs out counter name seen");
        Self { _object: object, _link: link, program, filter: filters(), rules: rules() }
    }

    /// Everything is as it was put, and the program stands where packets come by.
    fn assert_untouched(&self, when: &str) {
        assert!(attached(TcAttachType::Egress).contains(&self.program), "{when}: their tcx program");
        assert!(filters().contains(&self.filter), "{when}: their filter in {}", filters());
        assert_eq!(rules(), self.rules, "{when}: their table");
    }
}

fn filters() -> String {
    run("tc filter show dev uplink egress prio 7")
}

fn rules() -> String {
    run("nft -s list table netdev theirs")
}

fn attached(side: TcAttachType) -> Vec<u32> {
    SchedClassifier::query_tcx("uplink", side).unwrap().1.iter().map(aya::programs::ProgramInfo::id).collect()
}

/// Our programs' links are detached as another process with enough rights can: by their numbers, from outside.
fn detach_from_outside(program: u32) {
    const BPF_LINK_GET_FD_BY_ID: i64 = 30;
    const BPF_LINK_DETACH: i64 = 34;
    let link = aya::programs::loaded_links()
        .filter_map(Result::ok)
        .find(|link| link.program_id() == program)
        .expect("the program is attached by a link");
    // SAFETY: both calls read an attribute of the size that is told, which outlives them; the descriptor is new.
    unsafe {
        let mut attribute = [0u32; 32];
        attribute[0] = link.id();
        let size = size_of_val(&attribute);
        let fd = libc::syscall(libc::SYS_bpf, BPF_LINK_GET_FD_BY_ID, attribute.as_ptr(), size);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let fd = OwnedFd::from_raw_fd(i32::try_from(fd).unwrap());
        attribute = [0; 32];
        attribute[0] = u32::try_from(fd.as_raw_fd()).unwrap();
        let done = libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, attribute.as_ptr(), size);
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Reads until `sensor` was missing and is back; says how long it took until it was missed.
fn wait_until_missed_and_back(sensors: &mut Sensors, sensor: Sensor) {
    let begun = std::time::Instant::now();
    let mut missed = None;
    wait_for("the loss to be said and mended", || {
        sensors.read();
        if missed.is_none() && sensors.missing().iter().any(|missing| missing.sensor == sensor) {
            missed = Some(begun.elapsed());
        }
        missed.is_some() && sensors.missing().is_empty()
    });
    println!("FIGURE {sensor} missed after {:?}, back after {:?}", missed.unwrap(), begun.elapsed());
    assert!(missed.unwrap().as_millis() < 1_500, "an operator hears of it in about a second");
}

fn assert_all_see(bench: &Bench, sensors: &mut Sensors, when: &str) {
    send_frames(bench.uplink.ifindex, false, |n| super::by_hand(false, n).frame(), 100);
    let told = collect(sensors, |sum| parts(sum).0.syn.packet >= 100 && parts(sum).1 >= 100);
    assert_eq!((parts(&told).0.syn.packet, parts(&told).1), (100, 100), "{when}");
}

#[test]
fn a_program_that_somebody_detached_is_said_and_put_back_and_theirs_stays() {
    bench(|bench| {
        let theirs = Theirs::put();
        let mut sensors = open();
        assert_eq!(sensors.hook(), Some(Hook::Tcx));
        theirs.assert_untouched("beside ours");
        for side in SIDES {
            let ours = attached(side)[0];
            assert_ne!(ours, theirs.program, "ours counts first");
            detach_from_outside(ours);
            assert!(!attached(side).contains(&ours));
            wait_until_missed_and_back(&mut sensors, Sensor::Egress);
            assert_eq!(sensors.hook(), Some(Hook::Tcx));
            theirs.assert_untouched("after ours was put back");
            assert_all_see(bench, &mut sensors, "after ours was put back");
        }
        drop(sensors);
        theirs.assert_untouched("after we left");
        assert_eq!(SIDES.map(|side| attached(side).len()), [0, 1], "nothing of ours is left");
    });
}

#[test]
fn rules_that_somebody_removed_are_said_and_written_again_and_theirs_stay() {
    bench(|bench| {
        let theirs = Theirs::put();
        let mut sensors = open();
        let table = format!("netdev stead_sensor_{}", bench.uplink.ifindex);
        for meddling in ["flush chain", "flush table", "delete chain", "delete table"] {
            let chain = if meddling.ends_with("chain") { "egress" } else { "" };
            if meddling == "delete chain" {
                run(&format!("nft flush chain {table} {chain}"));
            }
            run(&format!("nft {meddling} {table} {chain}"));
            wait_until_missed_and_back(&mut sensors, Sensor::Netdev);
            theirs.assert_untouched(meddling);
            assert_all_see(bench, &mut sensors, meddling);
        }
        drop(sensors);
        theirs.assert_untouched("after we left");
        assert_eq!(run("nft list tables"), "table netdev theirs\n");
    });
}

#[test]
fn a_filter_that_somebody_removed_is_put_back_beside_theirs() {
    bench(|bench| {
        let theirs = Theirs::put();
        let (mut sensors, missing) = Sensors::open_at("uplink", Hook::Clsact);
        assert_eq!((missing.as_slice(), sensors.hook()), (&[][..], Some(Hook::Clsact)));
        theirs.assert_untouched("beside ours");
        for side in ["ingress", "egress"] {
            run(&format!("tc filter del dev uplink {side} prio 2"));
            wait_until_missed_and_back(&mut sensors, Sensor::Egress);
            theirs.assert_untouched("after ours was put back");
            assert_all_see(bench, &mut sensors, side);
        }
        drop(sensors);
        theirs.assert_untouched("after we left");
        assert_eq!(run("tc filter show dev uplink egress prio 2"), "", "nothing of ours is left");
    });
}
