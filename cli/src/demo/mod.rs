//! `stead demo`: a mesh on this machine, a visitor who never stops asking, and one misfortune after another.
//!
//! **Invariant.** Every figure is measured at the visitor, who is outside of the mesh; nothing is printed
//! that was not seen. Whatever happens, nothing is left behind.

mod acts;
mod director;
mod interrupt;
mod night;
mod picture;
pub mod socket;
pub mod stage;
mod timeline;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use stead_deploy::lab::now;
use stead_deploy::lab::sample_site::{self, SampleSite};
use stead_deploy::lab::user_namespace::{self, Privilege};
use stead_deploy::lab::visitor::{Route, Visitor};
use stead_deploy::lab::{Family, Place};

use acts::Act;
use interrupt::Interrupt;
use stage::{Cast, SITE_PORT, Stage};
use timeline::Timeline;

/// The hidden subcommand that is the sample site of a node.
pub const SAMPLE_SITE: &str = "sample-site";

/// What the demo shall show.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes, 3 to 7.
    pub nodes: u8,
    /// Play on without waiting for the watcher.
    pub auto: bool,
    /// Keep the mesh running at the end, until Ctrl-C.
    pub keep: bool,
    /// Print one JSON object at the end instead of the play.
    pub json: bool,
    /// Draw the run into this SVG file.
    pub picture: Option<PathBuf>,
}

/// Plays it.
///
/// # Errors
/// What could not be set up, or an act that did not end; the lab is gone then.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let privilege = user_namespace::enter_if_needed()?;
    let directory = Scratch(stage::scratch(&std::env::temp_dir())?);
    let interrupt = Interrupt::watch(directory.0.clone())?;
    let cast = Cast {
        nodes: options.nodes,
        lease_ms: 350,
        program: std::env::current_exe().context("find this program")?,
        directory: directory.0.clone(),
        gate: None,
        family: Family::Ip4,
        judges: true,
    };
    let mut timeline = Timeline::begin(options.json, options.auto);
    timeline.say(&format!(
        "{} servers and a visitor, as network namespaces of this machine{}",
        options.nodes,
        match privilege {
            Privilege::Root => "",
            Privilege::UserNamespace => " (not root: in a user namespace)",
        }
    ));
    let mut stage = Stage::raise_with_room(&cast, 1)?;
    let holder = stage.until_served()?;
    let status = stage.status(holder)?;
    timeline.say(&format!(
        "{} serves http://{}/, the lease of {} ms is enforced by {}",
        stage.player(holder)?.name,
        stage.address,
        cast.lease_ms,
        status.own.gate.rung
    ));
    for shortfall in &status.own.gate.shortfalls {
        timeline.say(&format!("note: {shortfall}"));
    }
    stage.until("every node takes part", Duration::from_secs(10), acts::all_take_part)?;
    let visitor = Visitor::start(&stage.lab, Route::to(SocketAddr::new(stage.address, SITE_PORT)))?;
    stage.until("the visitor is answered", Duration::from_secs(5), |_| acts::is_answered(&visitor))?;
    let slack = Duration::from_millis(u64::from(status.own.gate.slack_ms));
    let mut begun = Vec::new();
    for act in Act::ALL {
        timeline.curtain(act)?;
        begun.push((now(), act));
        timeline.played(acts::play(act, &mut stage, &visitor, slack)?);
    }
    let mut arrived = Vec::new();
    match night::prepare(&mut stage)? {
        None => timeline
            .say("note: no sensor of this kernel can see a flood here: the act of the malware is left out"),
        Some(bad) => {
            timeline.curtain(Act::Malware)?;
            begun.push((now(), Act::Malware));
            let stranger = Place::Node(options.nodes);
            let night = night::play(&mut stage, &visitor, bad, stranger, slack)?;
            night.told.iter().for_each(|line| timeline.say(&format!("  ├ {line}")));
            timeline.played(night.played);
            arrived = night.arrived;
        }
    }
    if options.keep {
        for i in 0..stage.players.len() {
            if stage.agent(i).is_err() {
                stage.start_agent(i)?;
            }
        }
        timeline.say(&format!(
            "kept running in {} until Ctrl-C; ask it from another terminal:",
            directory.0.display()
        ));
        timeline.say(&how_to_ask(&stage, privilege)?);
        interrupt.wait();
    }
    let diary = visitor.stop()?;
    if let Some(file) = &options.picture {
        std::fs::write(file, picture::draw(&diary, &begun, &arrived))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(timeline.end(&diary))
}

/// A command line that speaks to the mesh from the visitor's place: this process holds all the networks.
fn how_to_ask(stage: &Stage, privilege: Privilege) -> anyhow::Result<String> {
    let (pid, network) = (std::process::id(), stage.lab.namespace(Place::Visitor)?.as_raw_fd());
    let user = match privilege {
        Privilege::Root => "",
        Privilege::UserNamespace => "-U --preserve-credentials ",
    };
    let program = std::env::current_exe().context("find this program")?;
    let context = stage.directory.join("operator/mesh.toml");
    Ok(format!(
        "  nsenter -t {pid} {user}--net=/proc/{pid}/fd/{network} {} --context {} status",
        program.display(),
        context.display()
    ))
}

/// The sample site of one node; runs until it is killed.
///
/// # Errors
/// That the name is none, or the port is taken.
pub fn sample_site(name: &str, hang_while: PathBuf) -> anyhow::Result<Infallible> {
    let site = SampleSite { port: SITE_PORT, name: name.parse()?, hang_while: Some(hang_while) };
    Ok(sample_site::serve(&site)?)
}

/// The directory of one run, gone with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("STEAD_KEEP_FILES").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
