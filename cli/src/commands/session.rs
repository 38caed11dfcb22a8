//! What every command that speaks to a mesh has: a way to it, a deadline, an output.

use crate::agreement::Agreement;
use crate::args::Global;
use crate::ask::{Answers, Way, everybody};
use crate::context::{Context, Found, Places};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress;
use crate::submit::Orderer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stead_node::identity::Identity;
use stead_proto::state::State;

/// How long everybody may take to answer.
const ASK_WITHIN: Duration = Duration::from_millis(1_500);
/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Session {
    pub(super) way: Way,
    pub(super) output: Output,
    timeout: Option<Duration>,
    under_way: AtomicBool,
}

impl Session {
    /// Finds the mesh and reads the operator's key.
    pub(super) fn open(global: &Global, output: Output) -> Result<Self, Failure> {
        let places = Places::usual(global.context.clone(), |name| std::env::var_os(name));
        let way = match places.find().map_err(Failure::Usage)? {
            Found::Socket(path) => Way::Socket(path),
            Found::Context(path) => {
                let context = Context::load(&path).map_err(Failure::Problems)?;
                let operator = Identity::load(&context.operator_key);
                let operator = operator.map_err(|error| Failure::Usage(error.to_string()))?;
                Way::Network { context, operator: Arc::new(operator) }
            }
        };
        Ok(Self { way, output, timeout: global.timeout, under_way: AtomicBool::new(false) })
    }

    /// Asks everybody.
    pub(super) async fn ask(&self) -> Answers {
        let asked = everybody(&self.way, self.timeout.unwrap_or(ASK_WITHIN));
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
            _ = tokio::signal::ctrl_c() => Err(interrupted(session.under_way.load(Ordering::Relaxed))),
        }
    });
    // Lookups of names cannot be cancelled; they must not hold up the end.
    runtime.shutdown_background();
    ended
}

fn interrupted(under_way: bool) -> Failure {
    if under_way {
        return Failure::Unknown(
            "interrupted: the order was sent and may be carried out; look with `stead status` before trying again".into(),
        );
    }
    Failure::Failed("interrupted; nothing was changed".into())
}
