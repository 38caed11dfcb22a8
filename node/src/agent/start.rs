//! How an agent starts, in order: identity, store, kernel, then the core; and how it ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stead_proto::admin::RungSeen;
use stead_proto::codec;
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::lease::BootId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::memory::{Memories, Memory};
use stead_proto::mesh::{Effect, Event, Mesh, Records, Start, Uplink};
use stead_proto::report::GateSeen;
use stead_proto::report::Unwell;
use stead_proto::seed::Seed;
use stead_proto::state::State;
use stead_proto::time::Span;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::admin::Admin;
use super::error::{AgentError, WayBack};
use super::gating::Gating;
use super::inbox::Inbox;
use super::inlets::{Inlets, StatusQuery};
use super::licence::Leave;
use super::outbox::Outbox;
use super::owner::{Owner, tell_unwell, vips};
use super::pages::Pages;
use super::peer::QuicCourier;
use super::records_file::RecordsFile;
use super::replica::{StateElectors, StateReplica};
use super::watch::{CONVICTIONS_KEY, MEMORIES_KEY, accepted_keys, view};
use super::worker::Worker;
use super::{driver, hints, keeper, links, lookout, outcasts, probing, realtime, socket, watch as watching};
use crate::clock;
use crate::config::Config;
use crate::consensus::{Compaction, Consensus, Settings, Timing};
use crate::identity::Identity;
use crate::kernel::gate::{Gate, GateConfig, Rung};
use crate::service::Services;
use crate::storage::Create;
use crate::transport::{Datagram, Directory, Inbound, Inboxes, Profile, Transport};
use crate::vip::Vip;
use crate::vip::rtnl::Link;

const INCARNATION_KEY: &str = "incarnation";
const META_DEADLINE: Duration = Duration::from_secs(10);
/// Lease messages that may wait; beyond that they are late anyway.
const DATAGRAMS_MAX: usize = 256;
const EVENTS_MAX: usize = 512;
const MESSAGES_MAX: usize = 64;
const EFFECTS_MAX: usize = 128;
const QUERIES_MAX: usize = 16;
/// How long the end may take until the peers know.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the kernel of this machine can do for the lease.
struct Kernel {
    gate: Option<Gate>,
    vip: Option<Vip>,
    /// The uplink, if addresses can be served there.
    uplink: Option<Link>,
    /// Its index, if it exists.
    ifindex: Option<u32>,
    seen: GateSeen,
    coarse: bool,
    /// Why no address can be served here, if that is so.
    useless: Option<String>,
}

/// Runs one agent on the current runtime until it is told to stop.
pub(super) async fn run(
    config: &Config,
    reload: impl Fn() -> Option<Config> + Send + 'static,
) -> Result<(), AgentError> {
    let identity = Identity::load(&config.key_file)?;
    let genesis_bytes = read(&config.genesis_file)?;
    let genesis = Genesis::decode(&genesis_bytes)
        .map_err(|source| AgentError::Genesis { path: config.genesis_file.clone(), source })?;
    let cluster = genesis
        .cluster()
        .map_err(|error| AgentError::Genesis { path: config.genesis_file.clone(), source: error.into() })?;
    let (me, roster) = who_am_i(config, &genesis, cluster, identity.public())?;
    make_dir(&config.run_dir)?;
    let listener =
        socket::bind(&config.run_dir).map_err(|(path, source)| AgentError::File { path, source })?;

    let state = State::begin(cluster, &genesis);
    let directory = Directory::new(accepted_keys(&view(roster.as_ref(), Arc::new(state.clone()))));
    let (replica, states) = StateReplica::new(state);

    // The lease thread comes first: the transport lives on it.
    let (datagram_sender, datagrams) = mpsc::channel::<Datagram>(DATAGRAMS_MAX);
    let (message_sender, messages) = mpsc::channel::<Inbound>(MESSAGES_MAX);
    let inboxes = Inboxes { datagrams: datagram_sender, messages: message_sender };
    let (transport_sender, transport) = oneshot::channel();
    let (owner_sender, owner) = oneshot::channel::<(Owner, Inlets)>();
    let (bind, keys) = (config.listen, directory.clone());
    let profile = Profile { jitter_seed: seed(), ..Profile::default() };
    let starter = Identity::load(&config.key_file)?;
    let thread = realtime::spawn(config.realtime, move || async move {
        let started = Transport::start(&starter, (cluster, me), bind, keys, profile, inboxes);
        if transport_sender.send(started).is_ok()
            && let Ok((owner, inlets)) = owner.await
        {
            let transport = owner.transport.clone();
            owner.run(inlets).await;
            // Here, because the connections live on this thread: without it the owner's last words never leave.
            transport.close(FAREWELL).await;
        }
    })
    .map_err(AgentError::Threads)?;
    let transport = transport.await.map_err(|_| AgentError::Ended("the lease thread"))??;

    let electors = StateElectors { states: states.clone(), roster: roster.clone() };
    let consensus = open_consensus(config, cluster, me, (replica, electors), &transport).await?;
    consensus.believe_terms_after(roster.as_ref().map_or(0, |seed| seed.term));
    let own = own_memory(&consensus)?;
    let newborn = own.incarnation == 0;
    raise_incarnation(&consensus, own.incarnation + 1).await?;
    if genesis.voters().contains(&me) {
        consensus.initialize(genesis.voters().into_iter().map(|id| id.0).collect()).await?;
    }
    let now = clock::now();
    let (records, found) = RecordsFile::open::<Records>(&config.run_dir.join("lease"))?;
    let records_now = Records::resume(found, boot_id()?, own.durable.1, newborn, now);

    let state_now = view(roster.as_ref(), states.borrow().clone());
    let kernel = open_kernel(config, cluster, &state_now);
    let (event_sender, events) = mpsc::channel::<Event>(EVENTS_MAX);
    let (query_sender, queries) = mpsc::channel::<StatusQuery>(QUERIES_MAX);
    let (effect_sender, effects) = mpsc::channel::<Effect>(EFFECTS_MAX);
    let (drives, driver_thread, driver_ended) =
        driver::start(kernel.uplink.as_ref(), kernel.vip, kernel.coarse, event_sender.clone())
            .map_err(AgentError::Threads)?;
    if kernel.ifindex.is_none() {
        tell_unwell(&event_sender, Unwell::UplinkMissing, true).await;
    }
    let link_driver = drives.clone();
    let leave = Leave::default();
    let gate_rung = gate_rung(&kernel.seen);
    let mesh = Mesh::new(
        now,
        Start {
            me,
            key: Identity::load(&config.key_file)?.into_key(),
            state: state_now.clone(),
            records: records_now,
            own,
            incarnation: own.incarnation + 1,
            memories: memories(&consensus)?,
            convictions: read_meta(&consensus, CONVICTIONS_KEY)?.unwrap_or_default(),
            election_timeout: span(config.election_timeout),
            seed: seed(),
            gate: kernel.seen,
            uplink: kernel.useless.map_or(Uplink::Asked, Uplink::Useless),
        },
    );
    let (outcast_sender, outcasts) = watch::channel(BTreeSet::new());
    let owner = Owner {
        me,
        mesh,
        records,
        gate: Gating::new(kernel.gate),
        driver: drives,
        transport: transport.clone(),
        worker: Outbox::new(effect_sender),
        peers: Vec::new(),
        unwritten: None,
        withheld: BTreeSet::new(),
        leave: leave.clone(),
        directory: directory.clone(),
        outcasts: outcast_sender,
    };
    let inlets = Inlets::new(datagrams, events, queries);
    owner_sender.send((owner, inlets)).map_err(|_| AgentError::Ended("the lease thread"))?;

    let (rung_sender, rungs) = watch::channel(vec![gate_rung.clone()]);
    let post = lookout::Post {
        uplink: config.uplink.clone(),
        instance: instance(config, cluster),
        ifindex: kernel.ifindex,
        run_dir: config.run_dir.clone(),
        states: states.clone(),
        events: event_sender.clone(),
        leave,
        gate_rung,
        rungs: rung_sender,
    };
    let (lookout, lookout_ended) = lookout::start(post).map_err(AgentError::Threads)?;

    let joined = Arc::new(AtomicBool::new(false));
    let admin = Admin {
        me,
        consensus: consensus.clone(),
        transport: transport.clone(),
        state: states.clone(),
        queries: query_sender,
        genesis: genesis_bytes.into(),
        rungs,
    };
    let (services, service_events) = Services::new();
    let (hint_sender, hint_states) = watch::channel(state_now);
    let inbox = Inbox {
        consensus: consensus.clone(),
        admin: admin.clone(),
        events: event_sender.clone(),
        joined: joined.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(inbox.run(messages));
    tasks.spawn(socket::serve(listener, admin));
    if let Some(uplink) = kernel.uplink {
        tasks.spawn(probing::run(me, uplink, states.clone(), event_sender.clone()));
    }
    tasks.spawn(watching::round_trips(transport.clone(), event_sender.clone()));
    tasks.spawn(watching::services(service_events, event_sender.clone()));
    let (peer_sender, peers) = watch::channel(config.peers.clone());
    tasks.spawn(watching::reload(reload, peer_sender));
    tasks.spawn(hints::run(transport.clone(), peers, hint_states));
    tasks.spawn(watching::raft(consensus.clone(), span(config.election_timeout), event_sender.clone()));
    let doors = outcasts::Doors {
        transport: transport.clone(),
        directory: directory.clone(),
        events: event_sender.clone(),
    };
    tasks.spawn(outcasts::run(outcasts, states.clone(), instance(config, cluster), doors));
    tasks.spawn(watching::state(me, roster, states, directory, hint_sender, services, event_sender.clone()));
    let (memory_sender, newest_memories) = watch::channel(Memories::default());
    tasks.spawn(keeper::run(consensus.clone(), MEMORIES_KEY, newest_memories));
    let (conviction_sender, newest_convictions) = watch::channel(Vec::new());
    tasks.spawn(keeper::run(consensus.clone(), CONVICTIONS_KEY, newest_convictions));
    tasks.spawn(driver_ended);
    tasks.spawn(lookout_ended);
    let worker = Worker {
        consensus: consensus.clone(),
        events: event_sender.clone(),
        joined,
        pages: Pages::default(),
        memories: memory_sender,
        convictions: conviction_sender,
    };
    let worker = tokio::spawn(worker.run(effects));
    tracing::info!(node = %me, name = %config.name, cluster = ?cluster, version = super::VERSION, "agent started");

    let found = links::Uplink { name: config.uplink.clone(), ifindex: kernel.ifindex };
    let another_uplink = links::run(found, link_driver, event_sender.clone());
    let ended = wait_for_end(worker, tasks, another_uplink, config).await;
    let _ = event_sender.send(Event::Stop).await;
    let thread = tokio::task::spawn_blocking(move || (thread.join(), driver_thread.join(), lookout.join()));
    let _ = tokio::time::timeout(META_DEADLINE, thread).await;
    consensus.shutdown().await?;
    ended
}

async fn wait_for_end(
    worker: tokio::task::JoinHandle<Option<Memory>>,
    mut tasks: tokio::task::JoinSet<()>,
    another_uplink: impl Future<Output = ()>,
    config: &Config,
) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Threads)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Threads)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        ended = worker => {
            return Err(match ended {
                Ok(Some(seen)) => AgentError::Lost { way_back: WayBack::of(config), seen },
                Ok(None) | Err(_) => AgentError::Ended("the worker"),
            });
        }
        () = another_uplink => {
            let uplink = config.uplink.clone();
            tracing::info!(uplink, "the uplink has appeared: the agent ends, to be started again on it");
            return Err(AgentError::UplinkAppeared { uplink });
        }
        _ = tasks.join_next() => return Err(AgentError::Ended("a task")),
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, AgentError> {
    std::fs::read(path).map_err(|source| AgentError::File { path: path.into(), source })
}

/// This node's number; for one that is not in the genesis, with the roster that it was admitted to.
fn who_am_i(
    config: &Config,
    genesis: &Genesis,
    cluster: ClusterId,
    key: PublicKey,
) -> Result<(NodeId, Option<Seed>), AgentError> {
    if let Some(member) = genesis.members.iter().find(|m| m.name == config.name && m.key == key) {
        return Ok((member.id, None));
    }
    let stranger = || AgentError::Stranger { name: config.name.clone() };
    let path = config.roster_file.as_ref().ok_or_else(stranger)?;
    let seed = Seed::decode(&read(path)?, cluster)
        .map_err(|source| AgentError::Seed { path: path.clone(), source })?;
    let me = seed.id_of(&config.name, &key).ok_or_else(stranger)?;
    Ok((me, Some(seed)))
}

fn make_dir(path: &Path) -> Result<(), AgentError> {
    std::fs::create_dir_all(path).map_err(|source| AgentError::File { path: path.into(), source })
}

async fn open_consensus(
    config: &Config,
    cluster: ClusterId,
    me: NodeId,
    (replica, electors): (StateReplica, StateElectors),
    transport: &Transport,
) -> Result<Arc<Consensus>, AgentError> {
    let settings = Settings {
        dir: config.data_dir.clone(),
        cluster,
        me: me.0,
        create: if config.create { Create::IfAbsent } else { Create::Never },
        timing: Timing { heartbeat: config.heartbeat, election_timeout: config.election_timeout },
        compaction: Compaction::default(),
        key: Arc::new(Identity::load(&config.key_file)?.into_key()),
        electors: Arc::new(electors),
    };
    let opened = Consensus::open(settings, replica, QuicCourier(transport.clone())).await;
    Ok(Arc::new(opened.map_err(|error| AgentError::opening(config, error))?))
}

/// What this node's own store knows, before this start.
fn own_memory(consensus: &Consensus) -> Result<Memory, AgentError> {
    let status = consensus.status();
    let incarnation = read_meta::<u64>(consensus, INCARNATION_KEY)?.unwrap_or_default();
    Ok(Memory { incarnation, term: status.vote_term, durable: status.durable_log.unwrap_or_default() })
}

fn memories(consensus: &Consensus) -> Result<Memories, AgentError> {
    Ok(read_meta(consensus, MEMORIES_KEY)?.unwrap_or_default())
}

fn read_meta<T: serde::de::DeserializeOwned>(
    consensus: &Consensus,
    key: &str,
) -> Result<Option<T>, AgentError> {
    let Some(bytes) = consensus.meta_get(key)? else { return Ok(None) };
    let value = codec::decode(&bytes, COMMAND_FRAME_BYTES_MAX);
    value.map(Some).map_err(|source| AgentError::Fact { key: key.into(), source })
}

async fn raise_incarnation(consensus: &Consensus, incarnation: u64) -> Result<(), AgentError> {
    let bytes = codec::encode(&incarnation, COMMAND_FRAME_BYTES_MAX).unwrap_or_default();
    let written = tokio::time::timeout(META_DEADLINE, consensus.meta_put(INCARNATION_KEY, &bytes)).await;
    Ok(written.map_err(|_| AgentError::Ended("the disk"))??)
}

fn boot_id() -> Result<BootId, AgentError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text =
        std::fs::read_to_string(path).map_err(|source| AgentError::File { path: path.into(), source })?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    // A boot id that is the same at each boot would make stale lease records pass for fresh ones.
    let number = u128::from_str_radix(&digits, 16).map_err(|_| AgentError::File {
        path: path.into(),
        source: std::io::Error::other("no boot id: lease records could not be told from older ones"),
    })?;
    Ok(BootId(number.to_be_bytes()))
}

fn open_kernel(config: &Config, cluster: ClusterId, state: &State) -> Kernel {
    let uplink = links::find(&config.uplink);
    let vip = Vip::open().inspect_err(|error| tracing::warn!(%error, "no netlink")).ok();
    let wanted = config.gate.as_deref().and_then(rung_named);
    let mut seen = GateSeen { rung: "none".into(), slack_ms: 0, shortfalls: Vec::new() };
    let ifindex = uplink.as_ref().map(|link| link.ifindex);
    let Some(uplink_ifindex) = ifindex else {
        let missing = format!("the uplink {} does not exist: no address can be served", config.uplink);
        tracing::error!("{missing}");
        seen.shortfalls.push(stead_proto::roster::bounded_text(&missing));
        return Kernel { gate: None, vip, uplink, ifindex, seen, coarse: false, useless: Some(missing) };
    };
    let useless = missing_right(&config.uplink);
    if let Some(missing) = &useless {
        tracing::error!("{missing}");
        seen.shortfalls.push(stead_proto::roster::bounded_text(missing));
    }
    let instance = instance(config, cluster);
    let addresses = vips(state).into_values().collect();
    match Gate::open(&GateConfig { uplink_ifindex, instance, addresses, wanted }) {
        Ok((gate, shortfalls)) => {
            let rung = gate.rung();
            seen.rung = rung.to_string();
            seen.slack_ms = u32::try_from(rung.slack_ms()).unwrap_or(u32::MAX);
            let texts = shortfalls.iter().map(|s| stead_proto::roster::bounded_text(&s.to_string()));
            seen.shortfalls.extend(texts);
            for shortfall in &shortfalls {
                tracing::warn!("{shortfall}");
            }
            tracing::info!(%rung, "lease gate");
            Kernel { gate: Some(gate), vip, uplink, ifindex, seen, coarse: rung == Rung::Lifetime, useless }
        }
        Err(error) => {
            tracing::error!(%error, "no lease gate: no address can be served");
            let why = stead_proto::roster::bounded_text(&error.to_string());
            seen.shortfalls.push(why.clone());
            Kernel { gate: None, vip, uplink: None, ifindex, seen, coarse: false, useless: Some(why) }
        }
    }
}

/// The name under which this agent finds again what it left in the kernel.
fn instance(config: &Config, cluster: ClusterId) -> String {
    format!("{:?}-{}", cluster, config.name).replace('…', "")
}

/// What keeps this process from putting an address on the uplink, if it may not.
fn missing_right(uplink: &str) -> Option<String> {
    let may = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::NET_ADMIN));
    (!may).then(|| {
        format!(
            "CAP_NET_ADMIN is missing: no address can be put on {uplink}, which costs this node every endpoint \
             of the vip driver (it votes and probes all the same); run the agent as root or give its unit \
             AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
        )
    })
}

/// The lease gate, for whoever asks how this node stands.
fn gate_rung(seen: &GateSeen) -> RungSeen {
    RungSeen {
        part: "lease gate".into(),
        rung: seen.rung.clone(),
        best: seen.shortfalls.is_empty(),
        cost: if seen.slack_ms == 0 {
            String::new()
        } else {
            format!("an address may answer for {} ms after its lease", seen.slack_ms)
        },
        remedy: stead_proto::roster::bounded_text(&seen.shortfalls.join("; ")),
    }
}

/// The rung that `gate` in agent.toml asks for.
fn rung_named(word: &str) -> Option<Rung> {
    match word {
        "tcx" => Some(Rung::Tcx),
        "clsact" => Some(Rung::Clsact),
        "nft" => Some(Rung::Nft),
        "lifetime" => Some(Rung::Lifetime),
        _ => None,
    }
}

fn span(duration: Duration) -> Span {
    Span::from_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// A number that differs from node to node and from start to start.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u64::from_ne_bytes(bytes),
        Err(_) => clock::now().as_ns(),
    }
}
