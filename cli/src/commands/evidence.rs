//! `stead incidents ID --evidence` and `stead incidents --verify`: what a node was cut off for, checked by a second path.
//!
//! **Invariant.** Nothing is shown that was not verified, whether it comes from a mesh or from a file.

use super::admit::genesis;
use super::session::{Session, state};
use crate::agreement::Agreement;
use crate::bundle::verify::{Verdict, verify as verify_bundle};
use crate::bundle::{BYTES_MAX, Bundle};
use crate::exit::{Exit, Failure};
use crate::json::{Evidence, Witness};
use crate::output::Output;
use crate::render;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use stead_proto::id::NodeId;
use stead_proto::incident::Matter;
use stead_proto::state::{Authority, State};

pub(super) async fn show(session: &Session, id: u64, export: Option<&Path>) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (state, exit) = state(&agreement)?;
    let node = subject(state, id)?;
    let genesis = genesis(session, &answers, state.cluster).await?;
    let statuses = agreement.answers.keys().filter_map(|node| agreement.status_of(*node));
    let evidence: Vec<_> = statuses.flat_map(|status| status.evidence.iter().cloned()).collect();
    let bundle = Bundle::of(state, &genesis, node, &evidence)
        .ok_or_else(|| Failure::Failed(format!("incident {id} rests on no testimonies")))?;
    let text = serde_json::to_vec_pretty(&bundle)
        .map_err(|error| Failure::Failed(format!("the evidence cannot be written: {error}")))?;
    let verdict = verify_bundle(&text, Some(&genesis)).map_err(|why| {
        Failure::Failed(format!("the evidence does not hold: {why}. Do not trust the node that told it"))
    })?;
    if let Some(file) = export {
        std::fs::write(file, &text).map_err(|error| at(file, &error))?;
    }
    let shown = view(verdict, export);
    session.output.document(&shown, |shown| render::evidence(shown, session.output.paint))?;
    Ok(exit)
}

pub(super) fn verify(output: &Output, file: &Path, genesis: Option<&Path>) -> Result<Exit, Failure> {
    let own = genesis.map(read).transpose()?;
    let verdict = verify_bundle(&read(file)?, own.as_deref())
        .map_err(|why| Failure::Failed(format!("{} does not hold: {why}", file.display())))?;
    output.document(&view(verdict, None), |shown| render::evidence(shown, output.paint))?;
    Ok(Exit::Ok)
}

/// Whom an incident is about, if its peers cut him off.
fn subject(state: &State, id: u64) -> Result<NodeId, Failure> {
    let incident = state.incidents.get(id).ok_or_else(|| {
        Failure::Failed(format!("there is no incident {id}: `stead incidents` lists those on record"))
    })?;
    let Matter::Isolated(node) = incident.matter else {
        return Err(Failure::Usage(format!(
            "incident {id} is not about a node that was cut off: `stead cases` names those that are"
        )));
    };
    match state.isolations.get(&node).map(|isolation| &isolation.by) {
        Some(Authority::Peers(_)) => Ok(node),
        Some(Authority::Operator { name, reason }) => Err(Failure::Failed(format!(
            "{} was cut off by the operator {name} ({reason}): there are no testimonies",
            state.name_of(node)
        ))),
        None => Err(Failure::Failed(format!(
            "{} was removed since, and its evidence with it",
            state.name_of(node)
        ))),
    }
}

/// No more than a bundle can have.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let opened = File::open(file).map_err(|error| at(file, &error))?;
    opened.take(limit).read_to_end(&mut bytes).map_err(|error| at(file, &error))?;
    Ok(bytes)
}

fn at(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", file.display()))
}

fn view(verdict: Verdict, exported: Option<&Path>) -> Evidence {
    let witness = |(node, grounds)| Witness { node, grounds };
    Evidence {
        cluster: verdict.cluster,
        node: verdict.subject,
        needed: verdict.needed,
        witnesses: verdict.witnesses.into_iter().map(witness).collect(),
        reports: verdict.reports,
        missing: verdict.missing,
        unanchored: verdict.unanchored,
        absent: verdict.absent,
        exported: exported.map(|file| file.display().to_string()),
    }
}
