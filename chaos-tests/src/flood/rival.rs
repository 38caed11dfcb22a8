//! FastNetMon, as Debian packages it, on a host of its own of the same lab: what does it see of the same flood?
//!
//! It runs without an agent beside it, since what stead cuts off before the capture nobody else could see. Its
//! capture is AF_PACKET's; its threshold is the lowest that it allows, one TCP packet a second, over the shortest
//! average, one second: any honest connection would be told, too. It only tells: what to do is left to a script and
//! the network, so nothing is throttled.
//!
//! **Invariant.** It hears of nothing but the lab: no API, no reports to its makers, its files in the mesh's directory.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stead_deploy::lab::now;
use stead_deploy::lab::process::Process;
use stead_proto::time::Instant;

use super::scenario::Scenario;
use super::scene::{BARE, Scene};
use super::victim::SILENT;

/// Where Debian puts it, and what it starts from.
const PROGRAM: &str = "/usr/sbin/fastnetmon";
const CONFIG: &str = "/etc/fastnetmon.conf";
/// How long it may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);
/// How long it may go on thinking after a flood: several of its seconds.
const THINKS_FOR: Duration = Duration::from_secs(5);

/// From one run's part of a second to the next one's, in milliseconds: no two of ten are the same.
const PHASE_STEP_MS: usize = 370;

/// What it told of one flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RivalRun {
    /// From the first SYN at the victim until its script was started; nothing if it never was.
    pub told_ms: Option<u64>,
    /// SYNs at the victim until then, or in all if it told nothing.
    pub left: u64,
}

/// Why there is no rival here, and how to have one; nothing if there is.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let there = Path::new(PROGRAM).exists() && Path::new(CONFIG).exists();
    (!there).then_some("FastNetMon is not installed, so nothing stands beside: apt-get install fastnetmon")
}

/// Starts FastNetMon anew on the host without an agent, floods from there, and waits for its word. It looks at its
/// counters once a second, so each `run` begins in another part of that second.
///
/// # Errors
/// What could not be played, with what FastNetMon said.
pub fn play_rival(scene: &mut Scene, scenario: Scenario, run: usize) -> anyhow::Result<RivalRun> {
    let mut rival = Rival::start(scene)?;
    let phase_ms = run.wrapping_mul(PHASE_STEP_MS) % 1_000;
    std::thread::sleep(Duration::from_millis(u64::try_from(phase_ms)?));
    let own = scene.stage.lab.ip4(BARE);
    let is_from = |source| scenario.way.is_from(source, own);
    scene.victim.forget();
    let lost_before = scene.victim.record(is_from, SILENT, now())?.1;
    let since = now();
    scene.start_flood(BARE, scenario, SILENT)?.ended()?;
    let told = scene.stage.until("FastNetMon tells", THINKS_FOR, |_| rival.told()).ok();
    rival.process.kill_9()?;
    let (syns, lost) = scene.victim.record(is_from, SILENT, since)?;
    let first = *syns.first().context("no SYN arrived at the victim")?;
    let noted = syns.iter().filter(|at| told.is_none_or(|told| **at <= told)).count();
    // At once there is not much else than the flood to lose, so what was lost was lost before it was told.
    let left = u64::try_from(noted)?.saturating_add(lost.saturating_sub(lost_before));
    Ok(RivalRun { told_ms: told.map(|at| at.since(first).as_ms()), left })
}

struct Rival {
    process: Process,
    directory: PathBuf,
}

impl Rival {
    fn start(scene: &mut Scene) -> anyhow::Result<Self> {
        let directory = scene.stage.directory.join("fastnetmon");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir(&directory)?;
        let config = write_files(&directory, &scene.stage.lab.ip4(BARE).to_string())?;
        let file = |name: &str| directory.join(name);
        let argv = [
            PROGRAM.to_owned(),
            format!("--configuration_file={}", config.display()),
            format!("--log_file={}", file("log").display()),
        ];
        let namespace = scene.stage.lab.namespace(BARE)?;
        let process = Process::start(namespace, &argv, &[], &file("output"))?;
        // It writes these once a second, and begins to capture before it does so first.
        let begun = scene.stage.until("FastNetMon captures", BEGINS_WITHIN, |_| {
            let log = std::fs::read_to_string(file("log")).ok()?;
            (log.contains("Start AF_PACKET worker") && file("stats").exists()).then_some(())
        });
        begun.with_context(|| process.log_tail())?;
        Ok(Self { process, directory })
    }

    /// When its script was started to ban, on the clock of the lab, in hundredths of a second.
    fn told(&self) -> Option<Instant> {
        let text = std::fs::read_to_string(self.directory.join("told")).ok()?;
        let ban = text.lines().find(|line| line.ends_with(" ban"))?;
        let (seconds, hundredths) = ban.split_once(' ')?.0.split_once('.')?;
        let (seconds, hundredths): (u64, u64) = (seconds.parse().ok()?, hundredths.parse().ok()?);
        Some(Instant::from_ns(seconds * 1_000_000_000 + hundredths * 10_000_000))
    }
}

/// Debian's configuration with the lowest thresholds and nothing that leaves the host; where it lies.
fn write_files(directory: &Path, own: &str) -> anyhow::Result<PathBuf> {
    let file = |name: &str| directory.join(name).display().to_string();
    let (networks, script, told) = (file("networks"), file("notify"), file("told"));
    std::fs::write(&networks, format!("{own}/32\n"))?;
    let notify = format!(
        "#!/bin/sh\nread -r uptime idle < /proc/uptime\necho \"$uptime $*\" >> '{told}'\ncat > /dev/null\n"
    );
    std::fs::write(&script, notify)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let (pid, stats, stats6) = (file("pid"), file("stats"), file("stats6"));
    let ours = [
        ("interfaces", "eth0"),
        ("mirror_afpacket", "on"),
        ("average_calculation_time", "1"),
        ("ban_for_tcp_pps", "on"),
        ("threshold_tcp_pps", "1"),
        ("ban_for_pps", "off"),
        ("ban_for_bandwidth", "off"),
        ("enable_connection_tracking", "off"),
        ("networks_list_path", &networks),
        ("notify_script_path", &script),
        ("pid_path", &pid),
        ("cli_stats_file_path", &stats),
        ("cli_stats_ipv6_file_path", &stats6),
        ("enable_api", "off"),
        ("prometheus", "off"),
        ("disable_usage_report", "on"),
    ];
    let debian = std::fs::read_to_string(CONFIG).with_context(|| format!("read {CONFIG}"))?;
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let kept = |line: &&str| key(line).is_none_or(|key| ours.iter().all(|(name, _)| *name != key));
    let mut text: String = debian.lines().filter(kept).fold(String::new(), |text, line| text + line + "\n");
    for (name, value) in ours {
        let _ = writeln!(text, "{name} = {value}");
    }
    let config = directory.join("conf");
    std::fs::write(&config, text)?;
    Ok(config)
}
