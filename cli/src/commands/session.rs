//! What every command that speaks to a mesh has: a way to it, a deadline, an output.

use crate::agreement::Agreement;
use crate::args::Global;
use crate::ask::{Answers, Way, everybody};
use crate::context::{Contact, Context, Found, Places};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress;
use crate::submit::Orderer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stead_node::identity::Identity;
use stead_proto::id::NodeId;
use stead_proto::state::State;

/// How long everybody may take to answer.
const ASK_WITHIN: Duration = Duration::from_millis(1_500);
/// How long the others may take to apply what one voter has applied; one that lies about it costs no more.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(1_000);
const CATCH_UP_EVERY: Duration = Duration::from_millis(30);
/// How long voters may take to change.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Session {
    pub(super) way: Way,
    pub(super) output: Output,
    context_file: Option<PathBuf>,
    timeout: Option<Duration>,
    under_way: AtomicBool,
    /// Set once an order was committed.
    changed: AtomicBool,
}

impl Session {
    /// Finds the mesh and reads the operator's key.
    pub(super) fn open(global: &Global, output: Output) -> Result<Self, Failure> {
        let places = Places::usual(global.context.clone(), |name| std::env::var_os(name));
        let (way, context_file) = match places.find().map_err(Failure::Usage)? {
            Found::Socket(path) => (Way::Socket(path), None),
            Found::Context(path) => {
                let context = Context::load(&path).map_err(Failure::Problems)?;
                let operator = Identity::load(&context.operator_key);
                let operator = operator.map_err(|error| Failure::Usage(error.to_string()))?;
                (Way::Network { context, operator: Arc::new(operator) }, Some(path))
            }
        };
        Ok(Self {
            way,
            output,
            context_file,
            timeout: global.timeout,
            under_way: AtomicBool::new(false),
            changed: AtomicBool::new(false),
        })
    }

    /// Asks everybody; again for a moment, while a majority shows what is older than what one voter has applied.
    ///
    /// An order is acknowledged as soon as the leader has applied it, and the others follow with its next message: who
    /// looks at once what came of his order would else be shown how it was before.
    pub(super) async fn ask(&self) -> Answers {
        let within = self.timeout.unwrap_or(ASK_WITHIN);
        let asked = async {
            let end = Instant::now() + CATCH_UP_WITHIN.min(within);
            loop {
                let answers = everybody(&self.way, within).await;
                if !Agreement::of(&answers).trails() || Instant::now() >= end {
                    return answers;
                }
                tokio::time::sleep(CATCH_UP_EVERY).await;
            }
        };
        progress::during("asking all nodes", asked).await
    }

    /// Asks everybody, while waiting for something to happen.
    pub(super) async fn ask_again(&self) -> Answers {
        everybody(&self.way, ASK_WITHIN.min(self.timeout.unwrap_or(ASK_WITHIN))).await
    }

    /// How long an order may take.
    pub(super) fn order_within(&self) -> Duration {
        self.timeout.unwrap_or(ORDER_WITHIN)
    }

    /// An order of this command was committed.
    pub(super) fn has_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// How long something may take that waits for leases to run out and voters to change.
    pub(super) fn settle_within(&self) -> Duration {
        self.timeout.unwrap_or(SETTLE_WITHIN)
    }

    /// Writes into the operator's context file who belongs to the mesh now; `address` is that of a newcomer.
    /// A file that cannot be written costs a line, not the command: the nodes in it tell of the others.
    pub(super) fn keep_context(&self, state: &State, newcomer: Option<(NodeId, &str)>) {
        let (Way::Network { context, .. }, Some(path)) = (&self.way, &self.context_file) else { return };
        let now = context.following(state, newcomer);
        if now == *context {
            return;
        }
        if let Err(error) = now.replace(path) {
            let path = path.display();
            crate::output::note(&format!("stead: {path} could not be brought up to date: {error}"));
        }
    }

    /// How the nodes of a state are reached, as far as this operator knows.
    pub(super) fn contacts(&self, state: &State) -> Vec<Contact> {
        match &self.way {
            Way::Network { context, .. } => context.following(state, None).nodes,
            Way::Socket(_) => state.members.values().map(crate::ask::contact_of).collect(),
        }
    }

    /// Who orders, if an operator's key is at hand.
    pub(super) fn orderer(&self) -> Result<Orderer<'_>, Failure> {
        match &self.way {
            Way::Network { context, operator } => Ok(Orderer {
                way: &self.way,
                cluster: context.cluster,
                operator,
                under_way: &self.under_way,
            }),
            Way::Socket(_) => Err(Failure::Usage(
                "orders are signed by an operator's key, and the agent's socket has none: name your mesh.toml \
                 with --context FILE or $STEAD_CONTEXT"
                    .into(),
            )),
        }
    }
}

/// The state to show. Nobody answering is a failure; less than a majority is said beside the output.
pub(super) fn state<'a>(agreement: &Agreement<'a>) -> Result<(&'a State, Exit), Failure> {
    let Some(state) = agreement.state() else {
        return Err(Failure::NoQuorum(crate::view::mesh(agreement).advice.join("\n")));
    };
    if agreement.quorum {
        return Ok((state, Exit::Ok));
    }
    crate::output::note("stead: no majority of the voters agrees; this is what the nodes that answer say");
    Ok((state, Exit::Degraded))
}

/// The state that a majority agrees on; orders that change who votes start from nothing less.
pub(super) fn settled_state<'a>(agreement: &Agreement<'a>) -> Result<&'a State, Failure> {
    match agreement.state().filter(|_| agreement.quorum) {
        Some(state) => Ok(state),
        None => Err(Failure::NoQuorum(crate::view::mesh(agreement).advice.join("\n"))),
    }
}

/// Carries out `command` until it is done or Ctrl-C is pressed.
pub(super) fn on_runtime(
    session: Session,
    command: impl AsyncFnOnce(&Session) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command(&session) => ended,
            _ = tokio::signal::ctrl_c() => Err(interrupted(&session)),
        }
    });
    // Lookups of names cannot be cancelled; they must not hold up the end.
    runtime.shutdown_background();
    ended
}

fn interrupted(session: &Session) -> Failure {
    if session.under_way.load(Ordering::Relaxed) {
        return Failure::Unknown(
            "interrupted: the order was sent and may be carried out; look with `stead status` before trying again".into(),
        );
    }
    if session.changed.load(Ordering::Relaxed) {
        return Failure::Failed(
            "interrupted: what was committed so far stays; the same command goes on from there".into(),
        );
    }
    Failure::Failed("interrupted; nothing was changed".into())
}
