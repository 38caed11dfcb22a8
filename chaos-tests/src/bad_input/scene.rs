//! A mesh in the lab for one test at a time, and the questions that the tests ask it.
//!
//! **Invariant.** When a scene ends, however it ends, its processes, namespaces and files are gone.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use stead::demo::socket;
use stead::demo::stage::{Cast, Stage, scratch};
use stead_deploy::lab::Family;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::user_namespace::{Privilege, privilege};
use stead_node::agent::SOCKET_NAME;
use stead_node::identity::Identity;
use stead_proto::admin::{Answer, Request, Status};
use stead_proto::id::Name;
use stead_proto::order::{Act, Order};

use super::handicap::{self, Handicap};

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Two meshes at once would measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A mesh and its files.
pub struct Scene {
    /// The mesh.
    pub stage: Stage,
    program: String,
    files: Files,
    _alone: MutexGuard<'static, ()>,
}

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scene {
    /// A mesh of `nodes` in which every node takes part and one of them serves. `program` is every node.
    /// `lacks` says what some hosts lack from the start.
    ///
    /// # Errors
    /// That this is not root, or what did not come about.
    pub fn raise(program: &str, nodes: u8, lacks: &[(&str, &[Handicap])]) -> anyhow::Result<Self> {
        Self::raise_with_room(program, nodes, 0, lacks)
    }

    /// The same, with more hosts in the network, for nodes that join later.
    ///
    /// # Errors
    /// As [`Scene::raise`].
    pub fn raise_with_room(
        program: &str,
        nodes: u8,
        hosts: u8,
        lacks: &[(&str, &[Handicap])],
    ) -> anyhow::Result<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if privilege()? != Some(Privilege::Root) {
            bail!("these tests make network namespaces and mounts: run them as root");
        }
        let files = Files(scratch(&std::env::temp_dir())?);
        for (name, handicaps) in lacks {
            handicap::write(&files.0, name, handicaps)?;
        }
        let cast = Cast {
            nodes,
            lease_ms: 350,
            program: program.into(),
            directory: files.0.clone(),
            gate: None,
            family: Family::Ip4,
            judges: true,
        };
        let mut scene = Self {
            stage: Stage::raise_with_room(&cast, hosts)?,
            program: program.into(),
            files,
            _alone: alone,
        };
        scene.stage.until_served()?;
        let all: Vec<usize> = (0..scene.stage.players.len()).collect();
        scene.until_part(&all)?;
        Ok(scene)
    }

    /// What the host of node `i` lacks from its agent's next start on.
    ///
    /// # Errors
    /// That there is no such node.
    pub fn handicap(&self, i: usize, handicaps: &[Handicap]) -> anyhow::Result<()> {
        handicap::write(&self.files.0, self.stage.player(i)?.name.as_str(), handicaps)
    }

    /// The directory of node `i`.
    ///
    /// # Errors
    /// That there is none.
    pub fn home(&self, i: usize) -> anyhow::Result<PathBuf> {
        Ok(self.stage.player(i)?.directory().to_path_buf())
    }

    /// Everything that the agent of node `i` has ever logged.
    ///
    /// # Errors
    /// That there is none.
    pub fn log(&self, i: usize) -> anyhow::Result<String> {
        let path = self.home(i)?.join("agent.log");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Replaces a text in `agent.toml` of node `i`.
    ///
    /// # Errors
    /// That it is not there.
    pub fn reconfigure(&self, i: usize, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.home(i)?.join("agent.toml");
        let text = std::fs::read_to_string(&path)?;
        if !text.contains(from) {
            bail!("{} does not say {from}", path.display());
        }
        Ok(std::fs::write(&path, text.replace(from, to))?)
    }

    /// An operator of the mesh: `director` and `deputy` are admins, `watcher` is a viewer.
    ///
    /// # Errors
    /// That there is none of this name.
    pub fn operator(&self, name: &str) -> anyhow::Result<Identity> {
        Ok(Identity::load(&self.operator_files(name).join("operator.key"))?)
    }

    /// The directory of an operator's key and context.
    #[must_use]
    pub fn operator_files(&self, name: &str) -> PathBuf {
        let directory = if name == "director" { "operator".into() } else { format!("operator-{name}") };
        self.stage.directory.join(directory)
    }

    /// Signs `act` as `who` and gives it to node `i`.
    ///
    /// # Errors
    /// That the node does not answer.
    pub fn order(&self, who: &Identity, i: usize, act: Act) -> anyhow::Result<Answer> {
        let cluster = self.stage.status(i)?.state.cluster;
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let order = Order { serial: u64::try_from(unix.as_micros())?, act };
        let signed = who.key().sign(cluster, &order)?;
        socket::ask(&self.home(i)?.join("run").join(SOCKET_NAME), &Request::Submit(signed))
    }

    /// Waits until all of `nodes` follow a leader and know their services.
    ///
    /// # Errors
    /// That they do not in time.
    pub fn until_part(&mut self, nodes: &[usize]) -> anyhow::Result<()> {
        let ready = |status: Status| {
            let ready = status.endpoints.iter().all(|endpoint| endpoint.ready);
            (status.waiting.is_none() && status.leader_fresh && ready).then_some(())
        };
        self.stage.until("the nodes take part", PATIENCE, |stage| {
            nodes.iter().try_for_each(|i| stage.status(*i).ok().and_then(ready))
        })
    }

    /// Waits until `look` finds something in the status of node `i`.
    ///
    /// # Errors
    /// That it does not in time.
    pub fn until_status<T>(
        &mut self,
        i: usize,
        what: &str,
        look: impl Fn(&Status) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.stage.until(what, PATIENCE, |stage| stage.status(i).ok().as_ref().and_then(&look))
    }

    /// Gives an order to node `i` until it is committed, with whatever outcome: an election may be under way.
    ///
    /// # Errors
    /// That it is not, in time, with the last answer.
    pub fn commit(&mut self, i: usize, act: &Act) -> anyhow::Result<()> {
        let mut last = String::new();
        let done = self.stage.until("an order is committed", PATIENCE, |stage| {
            let answer = stage.order(i, act.clone());
            last = format!("{answer:?}");
            matches!(answer, Ok(Answer::Committed { .. })).then_some(())
        });
        done.context(last)
    }

    /// Waits until the agent of node `i` has ended by itself, which has to be a failure; what it said since
    /// its log had `since` bytes.
    ///
    /// # Errors
    /// That it runs on, or calls this a success.
    pub fn refusal(&mut self, i: usize, since: usize) -> anyhow::Result<String> {
        let ended = self.stage.agent(i)?.wait(PATIENCE);
        let said = self.log(i)?.get(since..).unwrap_or_default().to_owned();
        match ended {
            Ok(status) if !status.success() => Ok(said),
            Ok(status) => Err(anyhow!("the agent ended with {status}: {said}")),
            Err(error) => Err(anyhow!("the agent should have refused to start: {error}: {said}")),
        }
    }

    /// Starts the agent of node `i`, which has to refuse; what it says.
    ///
    /// # Errors
    /// That it starts.
    pub fn refused_start(&mut self, i: usize) -> anyhow::Result<String> {
        let since = self.log(i)?.len();
        self.stage.start_agent(i)?;
        self.refusal(i, since)
    }

    /// Starts the agent of node `i` without a store and with the flag of its very first start; it has to
    /// refuse. What it says.
    ///
    /// # Errors
    /// That it runs on, or calls this a success.
    pub fn refused_first_start(&self, i: usize) -> anyhow::Result<String> {
        let (mut agent, log) = self.first_start(i)?;
        let ended = agent.wait(PATIENCE)?;
        let said = std::fs::read_to_string(log)?;
        if ended.success() { Err(anyhow!("the agent ended with {ended}: {said}")) } else { Ok(said) }
    }

    /// Starts the agent of node `i` without a store and with the flag of its very first start; the process, and
    /// where it writes its log.
    ///
    /// # Errors
    /// That it cannot be started.
    pub fn first_start(&self, i: usize) -> anyhow::Result<(Process, PathBuf)> {
        let home = self.home(i)?;
        if home.join("data").exists() {
            std::fs::remove_dir_all(home.join("data"))?;
        }
        let config = home.join("agent.toml");
        let argv = [
            self.program.as_ref(),
            "agent".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "--create".as_ref(),
        ];
        let log = home.join("first-start.log");
        let here = self.stage.lab.namespace(self.stage.player(i)?.place)?;
        Ok((Process::start(here, &argv, &[], &log)?, log))
    }

    /// The endpoint's name.
    ///
    /// # Errors
    /// Never.
    pub fn endpoint(&self) -> anyhow::Result<Name> {
        Ok("www".parse()?)
    }
}

/// A figure of a process in kB, such as `VmRSS` or `VmHWM` (proc(5)).
///
/// # Errors
/// That the process is gone.
pub fn memory_kb(pid: u32, figure: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no such figure")?;
    Ok(number.parse()?)
}
