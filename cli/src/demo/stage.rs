//! A stage: a whole mesh in the lab, with a small site on each node. The demo plays on it, and so do the
//! chaos tests.
//!
//! **Invariant.** Everything is real but the cables: the nodes are `stead agent` processes of this very
//! binary with the files that `stead init` writes. All of it ends with the stage.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use stead_deploy::lab::overlap::Claim;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::{Family, Lab, Place, Shape};
use stead_node::agent::SOCKET_NAME;
use stead_proto::admin::{Answer, Status};
use stead_proto::id::{Name, NodeId};
use stead_proto::order::Act;
use stead_proto::roster::{OperatorRole, Role};
use stead_proto::service::{Check, Service};
use stead_proto::site::{Driver, EndpointSpec, HoldingText, Site};

pub use super::director::Director;
use crate::init::{self, NewNode};

/// The last number of the endpoint's address.
const ENDPOINT_HOST: u8 = 100;
/// The port of the sample site.
pub const SITE_PORT: u16 = 80;
/// How long a mesh may take until somebody serves.
const RAISED_WITHIN: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What kind of mesh to raise.
#[derive(Clone, Debug)]
pub struct Cast {
    /// How many nodes.
    pub nodes: u8,
    /// The lease, in milliseconds.
    pub lease_ms: u32,
    /// The program that is every node: a `stead` binary.
    pub program: PathBuf,
    /// Where files and logs go; a new directory is made in it.
    pub directory: PathBuf,
    /// The rung of the lease gate to use; the best if `None`.
    pub gate: Option<String>,
    /// By which addresses the nodes meet and visitors come.
    pub family: Family,
    /// Whether the nodes may isolate one of theirs by themselves.
    pub judges: bool,
}

/// One node on the stage.
#[derive(Debug)]
pub struct Player {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: NodeId,
    /// Where it stands.
    pub place: Place,
    directory: PathBuf,
    agent: Option<Process>,
    site: Option<Process>,
    ran_before: bool,
}

impl Player {
    /// Where its files and its log are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A mesh in the lab.
#[derive(Debug)]
pub struct Stage {
    /// The network.
    pub lab: Lab,
    /// The nodes.
    pub players: Vec<Player>,
    /// The public address of the sample site.
    pub address: IpAddr,
    /// Its family, and that of the addresses by which the nodes meet.
    pub family: Family,
    /// The files of the mesh.
    pub directory: PathBuf,
    program: PathBuf,
    director: Director,
}

impl Stage {
    /// Makes the network and the files, and starts every node and every site.
    ///
    /// # Errors
    /// What could not be made or started, with the log's end.
    pub fn raise(cast: &Cast) -> anyhow::Result<Self> {
        Self::raise_with_room(cast, 0)
    }

    /// The same, with more hosts in the network, for nodes that join later.
    ///
    /// # Errors
    /// As [`Stage::raise`].
    pub fn raise_with_room(cast: &Cast, hosts: u8) -> anyhow::Result<Self> {
        let lab = Lab::start(Shape::of(cast.nodes.saturating_add(hosts)))?;
        let address = lab.shape().address(cast.family, ENDPOINT_HOST);
        let directory = cast.directory.join("mesh");
        let node = |i: u8| -> anyhow::Result<NewNode> {
            let name = name_of(i)?;
            let home = directory.join(name.as_str());
            let address = lab.address(cast.family, Place::Node(i)).to_string();
            let node = NewNode::new(name, Role::Voter, &address)
                .with("run", home.join("run").to_string_lossy().as_ref())
                .with("data", home.join("data").to_string_lossy().as_ref())
                .with("uplink", "eth0");
            Ok(match &cast.gate {
                Some(rung) => node.with("gate", rung.as_str()),
                None => node,
            })
        };
        let nodes = (0..cast.nodes).map(node).collect::<anyhow::Result<Vec<_>>>()?;
        let mut site = sample_site(address, cast.lease_ms)?;
        site.charter.isolate = cast.judges;
        let plan = init::Plan {
            nodes,
            operators: vec![
                ("director".parse()?, OperatorRole::Admin),
                ("deputy".parse()?, OperatorRole::Admin),
                ("watcher".parse()?, OperatorRole::Viewer),
            ],
            site,
            out: directory.clone(),
        };
        let written = init::write(&plan)?;
        let context = written.contexts.first().ok_or_else(|| anyhow!("no operator was made"))?;
        let key = context.with_file_name("operator.key");
        let operator = stead_node::identity::Identity::load(&key)?;
        let player = |(i, (id, directory)): (usize, &(NodeId, PathBuf))| -> anyhow::Result<Player> {
            let i = u8::try_from(i)?;
            let (name, place) = (name_of(i)?, Place::Node(i));
            Ok(Player {
                name,
                id: *id,
                place,
                directory: directory.clone(),
                agent: None,
                site: None,
                ran_before: false,
            })
        };
        let players = written.nodes.iter().enumerate().map(player).collect::<anyhow::Result<Vec<_>>>()?;
        let director = Director {
            sockets: written.nodes.iter().map(|(_, node)| node.join("run").join(SOCKET_NAME)).collect(),
            operator: Arc::new(operator),
            cluster: written.cluster,
        };
        let program = cast.program.clone();
        let family = cast.family;
        let mut stage = Self { lab, players, address, family, directory, program, director };
        for i in 0..stage.players.len() {
            stage.start_site(i)?;
            stage.start_agent(i)?;
        }
        Ok(stage)
    }

    /// Puts a node that was admitted on the stage, at the place of host `i`: a new player, or in the stead of the
    /// one that stands there, whose agent has ended. `directory` has its files. Nothing is started yet.
    ///
    /// # Errors
    /// That a place before it is still free.
    pub fn enlist(&mut self, i: usize, name: Name, id: NodeId, directory: PathBuf) -> anyhow::Result<()> {
        let place = Place::Node(u8::try_from(i)?);
        let socket = directory.join("run").join(SOCKET_NAME);
        let mut player = Player { name, id, place, directory, agent: None, site: None, ran_before: false };
        let next = self.players.len();
        match (self.players.get_mut(i), self.director.sockets.get_mut(i)) {
            (Some(old), Some(old_socket)) => {
                player.site = old.site.take();
                (*old, *old_socket) = (player, socket);
            }
            (None, None) if i == next => {
                self.players.push(player);
                self.director.sockets.push(socket);
            }
            (_, _) => bail!("host {i} is not the next one"),
        }
        Ok(())
    }

    /// Waits until exactly one node serves; says which.
    ///
    /// # Errors
    /// That nobody does in time, with what each node said.
    pub fn until_served(&mut self) -> anyhow::Result<usize> {
        self.until("somebody serves", RAISED_WITHIN, |stage| stage.holder())
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// That it did not come about in time, with the nodes' logs.
    pub fn until<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("not within {patience:?}: {what}\n{}", self.logs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Who serves, by his own word.
    #[must_use]
    pub fn holder(&self) -> Option<usize> {
        let serves = |status: &Status| status.endpoints.iter().any(|e| e.serving.is_some());
        (0..self.players.len()).find(|i| self.status(*i).is_ok_and(|status| serves(&status)))
    }

    /// Who leads, by the word of most.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let said: Vec<NodeId> = (0..self.players.len())
            .filter_map(|i| self.status(i).ok().filter(|s| s.leader_fresh)?.own.log.leader)
            .collect();
        let most = said.iter().max_by_key(|id| said.iter().filter(|other| other == id).count())?;
        self.players.iter().position(|p| p.id == *most)
    }

    /// How node `i` sees the mesh.
    ///
    /// # Errors
    /// That it does not answer.
    pub fn status(&self, i: usize) -> anyhow::Result<Status> {
        self.director.status(i)
    }

    /// Signs an order as the operator and gives it to node `i`.
    ///
    /// # Errors
    /// That the node does not answer.
    pub fn order(&self, i: usize, act: Act) -> anyhow::Result<Answer> {
        self.director.order(i, act)
    }

    /// The operator, for another thread.
    #[must_use]
    pub fn director(&self) -> Director {
        self.director.clone()
    }

    /// Starts the agent of node `i`.
    ///
    /// # Errors
    /// That the program cannot be started.
    pub fn start_agent(&mut self, i: usize) -> anyhow::Result<()> {
        let player = self.players.get_mut(i).ok_or_else(|| anyhow!("no node {i}"))?;
        let config = player.directory.join("agent.toml");
        let mut argv =
            vec![self.program.as_os_str().to_owned(), "agent".into(), "--config".into(), config.into()];
        if !player.ran_before {
            argv.push("--create".into());
        }
        player.ran_before = true;
        let log = player.directory.join("agent.log");
        let process = Process::start(self.lab.namespace(player.place)?, &argv, &[], &log)?;
        player.agent = Some(process);
        Ok(())
    }

    /// Starts the sample site of node `i`.
    ///
    /// # Errors
    /// That the program cannot be started.
    pub fn start_site(&mut self, i: usize) -> anyhow::Result<()> {
        let player = self.players.get_mut(i).ok_or_else(|| anyhow!("no node {i}"))?;
        let argv = [
            self.program.as_os_str().to_owned(),
            super::SAMPLE_SITE.into(),
            player.name.as_str().into(),
            player.directory.join("hang").into(),
        ];
        let log = player.directory.join("site.log");
        player.site = Some(Process::start(self.lab.namespace(player.place)?, &argv, &[], &log)?);
        Ok(())
    }

    /// Lets the site of node `i` hang (accept and never answer), or answer again.
    ///
    /// # Errors
    /// That the switch file cannot be written.
    pub fn hang_site(&self, i: usize, hangs: bool) -> anyhow::Result<()> {
        let switch = self.player(i)?.directory.join("hang");
        if hangs {
            std::fs::write(&switch, "")?
        } else {
            std::fs::remove_file(&switch)?
        }
        Ok(())
    }

    /// Kills the agent of node `i` without a word.
    ///
    /// # Errors
    /// That it cannot be killed.
    pub fn kill_agent(&mut self, i: usize) -> anyhow::Result<()> {
        kill(self.players.get_mut(i).and_then(|p| p.agent.take()))
    }

    /// Kills the sample site of node `i`.
    ///
    /// # Errors
    /// That it cannot be killed.
    pub fn kill_site(&mut self, i: usize) -> anyhow::Result<()> {
        kill(self.players.get_mut(i).and_then(|p| p.site.take()))
    }

    /// The agent's process of node `i`.
    ///
    /// # Errors
    /// That it does not run.
    pub fn agent(&mut self, i: usize) -> anyhow::Result<&mut Process> {
        let player = self.players.get_mut(i).ok_or_else(|| anyhow!("no node {i}"))?;
        player.agent.as_mut().ok_or_else(|| anyhow!("no agent runs there"))
    }

    /// Node `i`.
    ///
    /// # Errors
    /// That there is none.
    pub fn player(&self, i: usize) -> anyhow::Result<&Player> {
        self.players.get(i).ok_or_else(|| anyhow!("no node {i}"))
    }

    /// Cuts node `i` off from everybody, or connects it again.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn cut_off(&mut self, i: usize, cut: bool) -> anyhow::Result<()> {
        let place = self.player(i)?.place;
        if cut {
            self.lab.isolate(place)?;
        } else {
            let kept: BTreeSet<(Place, Place)> =
                self.lab.cuts().iter().copied().filter(|(from, to)| *from != place && *to != place).collect();
            self.lab.set_cuts(kept)?;
        }
        Ok(())
    }

    /// A whole host is gone: its cable first, then every process.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn lose_host(&mut self, i: usize) -> anyhow::Result<()> {
        self.cut_off(i, true)?;
        self.kill_agent(i)?;
        self.kill_site(i)
    }

    /// The host is back.
    ///
    /// # Errors
    /// What could not be started.
    pub fn return_host(&mut self, i: usize) -> anyhow::Result<()> {
        self.cut_off(i, false)?;
        self.start_site(i)?;
        self.start_agent(i)
    }

    /// What the agents' journals say of when they began to serve.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        let journal =
            |player: &Player| std::fs::read_to_string(player.directory.join("agent.log")).unwrap_or_default();
        let claims_of = |player: &Player| {
            let Place::Node(node) = player.place else { return Vec::new() };
            journal(player).lines().filter_map(|line| claim(line, node)).collect()
        };
        self.players.iter().flat_map(claims_of).collect()
    }

    /// The end of each agent's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |player: &Player| {
            let text = std::fs::read_to_string(player.directory.join("agent.log")).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(25).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("--- {}\n{}", player.name, tail.join("\n"))
        };
        self.players.iter().map(log).collect::<Vec<_>>().join("\n")
    }
}

/// A line of a journal that says that a gate opens.
fn claim(line: &str, node: u8) -> Option<Claim> {
    let (_, rest) = line.split_once("the gate opens")?;
    let field =
        |name: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let (plan, rank) = field("epoch")?.split_once('.')?;
    let epoch = (plan.parse::<u128>().ok()? << 32) | rank.parse::<u128>().ok()?;
    let at = stead_proto::time::Instant::from_ns(field("at_ns")?.parse().ok()?);
    Some(Claim { at, address: field("address")?.parse().ok()?, node, epoch })
}

fn kill(process: Option<Process>) -> anyhow::Result<()> {
    if let Some(mut process) = process {
        process.kill_9()?;
    }
    Ok(())
}

fn name_of(i: u8) -> anyhow::Result<Name> {
    let letter = char::from(b'a'.checked_add(i).context("too many nodes")?);
    Ok(letter.to_string().parse()?)
}

/// One service, one endpoint.
///
/// # Errors
/// Never: the names are names.
pub fn sample_site(address: IpAddr, lease_ms: u32) -> anyhow::Result<Site> {
    let (web, www): (Name, Name) = ("web".parse()?, "www".parse()?);
    let check = Check::http(SITE_PORT, "/health");
    let mut site = Site::default();
    site.services.insert(web.clone(), Service::new(web.clone(), check));
    let spec = EndpointSpec {
        address,
        ports: vec![SITE_PORT],
        services: BTreeSet::from([web]),
        driver: Driver::Vip,
        lease_ms,
        prefer: Vec::new(),
        holding: HoldingText::default(),
    };
    site.endpoints.insert(www, spec);
    Ok(site)
}

/// A new, empty directory of this run.
///
/// # Errors
/// What the system says.
pub fn scratch(parent: &Path) -> anyhow::Result<PathBuf> {
    let path = parent.join(format!("stead-{}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
