//! The sensor's two programs by themselves: `BPF_PROG_TEST_RUN`, many times over one frame.
//!
//! **Invariant.** A program that has an opinion about a frame, or changes it, was not measured: that is an error.
//!
//! Deliberately absent: the sockets of TCP, which the kernel does not lend to a test run. A SYN is judged here as that
//! of some other socket, which differs in one comparison.

use super::figure::{Figure, nanoseconds};
use super::frames::{ACK, Path, SYN, SYN_ACK};
use anyhow::{Context as _, ensure};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use serde::Serialize;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../node/src/telemetry/bpf/sensor.bpf.o");
/// Extension headers that the sensor follows.
const EXTENSIONS: usize = 8;

/// What one kind of frame costs, in nanoseconds.
#[derive(Debug, Serialize)]
pub struct ProgramCost {
    /// What was run.
    pub frame: &'static str,
    /// Where it leaves.
    pub egress_ns: Figure,
    /// Where it arrives; a SYN that was never seen is as cheap there as any other.
    pub ingress_ns: Option<Figure>,
}

/// So many rounds of so many runs.
pub(super) fn measure(rounds: u32, runs: u32) -> anyhow::Result<Vec<ProgramCost>> {
    let programs = Programs::load()?;
    let mut costs = Vec::new();
    for (frame, egress, ingress) in cases() {
        costs.push(ProgramCost {
            frame,
            egress_ns: programs.figure("sensor_egress", &egress, rounds, runs)?,
            ingress_ns: Some(programs.figure("sensor_ingress", &ingress, rounds, runs)?),
        });
    }
    let fresh: anyhow::Result<Vec<f64>> = (1_u16..=5_000).map(|port| programs.fresh(port)).collect();
    costs.push(ProgramCost {
        frame: "SYN, IPv4, never seen, caches cold",
        egress_ns: Figure::of(fresh?)?,
        ingress_ns: None,
    });
    Ok(costs)
}

/// Frames as they leave, and as they arrive.
fn cases() -> [(&'static str, Vec<u8>, Vec<u8>); 10] {
    let both = |frame: &dyn Fn(Path) -> Vec<u8>, ipv6| {
        let path = Path::example(ipv6);
        (frame(path), frame(path.back()))
    };
    let tcp = |flags, bytes, extensions| move |path: Path| path.tcp(flags, bytes, extensions);
    let lldp = [&[2; 12][..], &[0x88, 0xcc], &[0; 50]].concat();
    let case = |name, (egress, ingress)| (name, egress, ingress);
    [
        ("not IP", lldp.clone(), lldp),
        case("TCP data, IPv4", both(&tcp(ACK, 1_000, 0), false)),
        case("TCP data, IPv6", both(&tcp(ACK, 1_000, 0), true)),
        case("UDP, IPv4", both(&|path| path.udp(100), false)),
        case("UDP, IPv6", both(&|path| path.udp(100), true)),
        case("SYN, IPv4, seen before", both(&tcp(SYN, 0, 0), false)),
        case("SYN, IPv6, seen before", both(&tcp(SYN, 0, 0), true)),
        case("SYN-ACK, IPv4", both(&tcp(SYN_ACK, 0, 0), false)),
        case("TCP data, IPv6, 8 extension headers", both(&tcp(ACK, 1_000, EXTENSIONS), true)),
        case("SYN, IPv6, 8 extension headers", both(&tcp(SYN, 0, EXTENSIONS), true)),
    ]
}

struct Programs(Ebpf);

impl Programs {
    fn load() -> anyhow::Result<Self> {
        let mut object =
            Ebpf::load(OBJECT).context("the kernel does not load the sensor: run this as root")?;
        for name in ["sensor_ingress", "sensor_egress"] {
            let program: &mut SchedClassifier =
                object.program_mut(name).context("it is not in the object")?.try_into()?;
            program.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        Ok(Self(object))
    }

    fn figure(&self, name: &str, frame: &[u8], rounds: u32, runs: u32) -> anyhow::Result<Figure> {
        let all: anyhow::Result<Vec<f64>> = (0..rounds).map(|_| self.run(name, frame, runs)).collect();
        Figure::of(all?)
    }

    /// A connection that the program has not heard of.
    fn fresh(&self, port: u16) -> anyhow::Result<f64> {
        let path = Path { ports: (port, 80), ..Path::example(false) };
        self.run("sensor_egress", &path.tcp(SYN, 0, 0), 1)
    }

    /// Nanoseconds a run.
    fn run(&self, name: &str, frame: &[u8], repeat: u32) -> anyhow::Result<f64> {
        let program: &SchedClassifier =
            self.0.program(name).context("it is not in the object")?.try_into()?;
        let mut back = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut back),
            repeat,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).with_context(|| format!("{name} cannot be run"))?;
        ensure!(result.return_value.cast_signed() == -1, "{name} had an opinion about a frame");
        ensure!(back == frame, "{name} changed a frame");
        Ok(nanoseconds(result.duration))
    }
}
