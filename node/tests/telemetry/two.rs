//! Two agents' sensors on one uplink: somebody started a second one.

use super::{
    collect,
    common::{Bench, bench, wait_for},
    parts,
    senders::send_frames,
};
use std::process::{Child, Command};
use stead_node::telemetry::{Hook, Sensor, Sensors};

/// What each of them tells of a hundred SYNs, by BPF and by nft.
fn told_by(bench: &Bench, sensors: &mut [&mut Sensors]) -> Vec<(u64, u64)> {
    for sensors in &mut *sensors {
        sensors.read();
    }
    send_frames(bench.uplink.ifindex, false, |n| super::by_hand(false, n).frame(), 100);
    let told = |sensors: &mut &mut Sensors| {
        let told = collect(sensors, |sum| parts(sum).0.syn.packet >= 100 && parts(sum).1 >= 100);
        (parts(&told).0.syn.packet, parts(&told).1)
    };
    sensors.iter_mut().map(told).collect()
}

#[test]
fn both_agents_sensors_see_everything_and_go_on_when_the_other_ends() {
    for first_ends in [true, false] {
        bench(move |bench| {
            let (mut first, missing) = Sensors::open("uplink");
            assert_eq!(missing, []);
            let (mut second, missing) = Sensors::open("uplink");
            assert_eq!(missing, []);
            assert_eq!(told_by(bench, &mut [&mut first, &mut second]), [(100, 100); 2]);
            let mut stays = if first_ends {
                drop(first);
                second
            } else {
                drop(second);
                first
            };
            // The one that went took the counters with it, which is said, and they are made again.
            let mut missed = Vec::new();
            wait_for("the other's sensors to see everything again", || {
                let told = stays.read();
                assert!(told.egress.is_some(), "each has its own program");
                missed.extend(stays.missing().iter().map(|missing| missing.sensor));
                !missed.is_empty() && stays.missing().is_empty()
            });
            assert!(missed.iter().all(|sensor| *sensor == Sensor::Netdev), "{missed:?}");
            assert_eq!(told_by(bench, &mut [&mut stays]), [(100, 100)]);
        });
    }
}

#[test]
fn at_clsact_the_second_agent_says_that_the_place_is_taken_and_the_first_goes_on() {
    bench(|bench| {
        let (mut first, missing) = Sensors::open_at("uplink", Hook::Clsact);
        assert_eq!(missing, []);
        let (mut second, missing) = Sensors::open_at("uplink", Hook::Clsact);
        let [taken] = &missing[..] else { panic!("{missing:?}") };
        println!("MISSING {taken}");
        assert_eq!(taken.sensor, Sensor::Egress);
        assert!(taken.why.contains(&format!("process {}", std::process::id())), "{taken}");
        assert_eq!((second.hook(), second.read().egress), (None, None), "not zero");
        assert_eq!(told_by(bench, &mut [&mut first]), [(100, 100)]);

        // When the first one ends, the place is free.
        drop(first);
        wait_for("the second to take the place", || {
            second.read();
            second.missing().is_empty()
        });
        assert_eq!(second.hook(), Some(Hook::Clsact));
        assert_eq!(told_by(bench, &mut [&mut second]), [(100, 100)]);
        drop(second);
        assert_eq!(super::strangers::run("tc filter show dev uplink egress"), "", "nothing is left");
    });
}

/// Kills and collects its process, also on panic.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a behaviour of its own: the process that the next test kills.
#[test]
fn helper_that_watches() {
    if std::env::var_os("STEAD_TEST_WATCHES").is_some() {
        let _sensors = Sensors::open_at("uplink", Hook::Clsact);
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn the_filter_of_a_killed_agent_is_replaced() {
    bench(|bench| {
        let filters = || super::strangers::run("tc filter show dev uplink egress");
        let helper = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "two::helper_that_watches"])
            .env("STEAD_TEST_WATCHES", "1")
            .spawn();
        let helper = Reaped(helper.unwrap());
        wait_for("the helper's filter", || filters().contains("sensor_egress"));
        drop(helper);
        assert!(filters().contains("sensor_egress"), "a killed agent cannot clean up");
        let (mut sensors, missing) = Sensors::open_at("uplink", Hook::Clsact);
        assert_eq!((missing.as_slice(), sensors.hook()), (&[][..], Some(Hook::Clsact)));
        assert_eq!(told_by(bench, &mut [&mut sensors]), [(100, 100)]);
        drop(sensors);
        assert_eq!(filters(), "", "nothing is left");
    });
}
