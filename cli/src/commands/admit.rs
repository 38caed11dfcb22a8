//! `stead admit` and `stead readmit`: a key, the order that admits it, and the files that its server needs.
//!
//! **Invariant.** Each step looks first whether it is done, so that the command can be interrupted anywhere and
//! run again. The key is on the disk before the mesh hears of it.

use super::orders::{order, until_within};
use super::session::{Session, settled_state};
use crate::agreement::Agreement;
use crate::args::AdmitArgs;
use crate::ask::{Answers, Link, roster};
use crate::exit::{Exit, Failure};
use crate::init::{InitError, NewNode, join};
use crate::json::Admitted;
use crate::render;
use crate::words::now_unix_ms;
use std::path::Path;
use std::time::Duration;
use stead_proto::admin::{Answer, Request};
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, NodeId, PublicKey};
use stead_proto::order::Act;
use stead_proto::roster::{Member, Role, Standing};
use stead_proto::seed::Seed;
use stead_proto::state::State;

/// How long one node may take to say how the mesh began.
const GENESIS_WITHIN: Duration = Duration::from_secs(3);

/// Admits a node; with a `probation`, one that was cut off under that name.
pub(super) async fn run(
    session: &Session,
    args: &AdmitArgs,
    probation: Option<Duration>,
) -> Result<Exit, Failure> {
    session.orderer()?;
    let (name, address) = &args.node;
    let answers = session.ask().await;
    let known = known_key(args)?;
    let present = {
        let agreement = Agreement::of(&answers);
        let state = settled_state(&agreement)?;
        match probation {
            None => present(state, args, known)?,
            Some(_) => back(state, args, known)?,
        }
    };
    let key = match (known, &args.out) {
        (Some(key), None) => key,
        (Some(key), Some(out)) if join::key_in(out).map_err(failure)?.is_some() => key,
        (_, Some(out)) => join::begin(out, args.key).map_err(failure)?,
        (None, None) => return Err(Failure::Usage("say --out DIR, or --key PUBLICKEY".into())),
    };
    let index = if present {
        None
    } else {
        let act = {
            let agreement = Agreement::of(&answers);
            act(settled_state(&agreement)?, args, key, probation)?
        };
        let done = order(session, act, &answers, String::new()).await?;
        Some(done.index.unwrap_or_default())
    };
    let (state, term) = showing(session, key).await?;
    let admitted = state.members.values().find(|member| member.key == key);
    let admitted = admitted.ok_or_else(|| Failure::Failed(format!("{name} was removed again meanwhile")))?;
    session.keep_context(&state, Some((admitted.id, address)));
    if let Some(out) = &args.out {
        write(session, args, out, &state, term).await?;
    }
    let promote_after = state.site.charter.promote_after_ms;
    let told = Admitted {
        name: name.to_string(),
        id: admitted.id.0,
        role: admitted.role.as_str().into(),
        address: address.clone(),
        key: key.to_string(),
        directory: args.out.as_ref().map(|out| out.display().to_string()),
        has_secret: args.out.as_ref().is_some_and(|out| join::key_in(out).is_ok_and(|key| key.is_some())),
        index,
        promote_after_ms: admitted.role.votes().then_some(promote_after.into()),
        probation_until_unix_ms: until(admitted),
    };
    session.output.document(&told, render::admitted)?;
    Ok(Exit::Ok)
}

/// The node's key, if it was named or made before.
fn known_key(args: &AdmitArgs) -> Result<Option<PublicKey>, Failure> {
    let made = match &args.out {
        Some(out) => join::key_in(out).map_err(failure)?,
        None => None,
    };
    match (made, args.key) {
        (Some(made), Some(named)) if made != named => Err(Failure::Usage(format!(
            "the key in {} is {made}, not the one that --key names: leave --key out, or choose another directory",
            args.out.as_deref().unwrap_or(Path::new("")).display()
        ))),
        (made, named) => Ok(made.or(named)),
    }
}

/// Whether the node belongs to the mesh already. A name or key that stands for another one is refused here, before
/// anything is made.
fn present(state: &State, args: &AdmitArgs, key: Option<PublicKey>) -> Result<bool, Failure> {
    let (name, address) = &args.node;
    let with_key = state.members.values().find(|member| Some(member.key) == key);
    match (with_key, state.member_named(name.as_str())) {
        (Some(one), Some(other)) if one.id == other.id && one.role == args.role.into() => Ok(true),
        (Some(one), Some(other)) if one.id == other.id => Err(Failure::Usage(format!(
            "{name} belongs to the mesh as a {}: leave --role at that, and `stead role {name}` changes it",
            one.role.as_str()
        ))),
        (Some(one), _) => Err(Failure::Usage(format!(
            "this key is that of {}: another node needs another key, and so another directory",
            one.name
        ))),
        (None, Some(other)) => Err(Failure::Usage(format!(
            "there is a node {name} ({}) already. If its server or its disk is lost: `stead remove {name}`, then \
             `stead admit {name}={address} --out DIR`. A new server beside it needs another name",
            other.id
        ))),
        (None, None) if key.is_some_and(|key| state.former_keys.contains(&key)) => {
            Err(Failure::Usage(
                "this key belonged to a node that was removed, and is refused for ever: choose another --out DIR, or \
                 make a new key"
                    .into(),
            ))
        }
        (None, None) => Ok(false),
    }
}

/// Whether a node that was cut off is back already, under this key.
fn back(state: &State, args: &AdmitArgs, key: Option<PublicKey>) -> Result<bool, Failure> {
    let name = &args.node.0;
    let member = state.member_named(name.as_str()).ok_or_else(|| {
        Failure::Usage(format!("there is no node {name}: `stead admit` takes in who is not in the roster"))
    })?;
    if Some(member.key) == key && until(member).is_some() {
        return Ok(true);
    }
    if !state.is_isolated(member.id) {
        return Err(Failure::Usage(format!(
            "{name} is not cut off: `stead nodes` shows how it is. Nothing was ordered."
        )));
    }
    if state.config.voters.contains(&member.id) {
        return Err(Failure::Failed(format!(
            "{name} still has its vote, which the others take from it within seconds: try again in a moment"
        )));
    }
    if key.is_some_and(|key| key == member.key) {
        return Err(Failure::Usage(format!(
            "this is the key under which {name} was cut off: choose another --out DIR, or make a new key"
        )));
    }
    Ok(false)
}

const fn until(member: &Member) -> Option<u64> {
    match member.standing {
        Standing::Probation { until_unix_ms, .. } => Some(until_unix_ms),
        Standing::Active | Standing::Drained => None,
    }
}

fn act(state: &State, args: &AdmitArgs, key: PublicKey, probation: Option<Duration>) -> Result<Act, Failure> {
    let member = member(state, args, key);
    let Some(probation) = probation else { return Ok(Act::Admit(Box::new(member))) };
    let old = state.member_named(args.node.0.as_str()).map(|old| old.id);
    let old = old.ok_or_else(|| Failure::Failed(format!("{} was removed meanwhile", member.name)))?;
    let lasts = u64::try_from(probation.as_millis()).unwrap_or(u64::MAX);
    let until_unix_ms = now_unix_ms().saturating_add(lasts);
    let standing = Standing::Probation { until_unix_ms, then: member.role };
    Ok(Act::Readmit { old, member: Box::new(Member { role: Role::Learner, standing, ..member }) })
}

fn member(state: &State, args: &AdmitArgs, key: PublicKey) -> Member {
    let (name, address) = &args.node;
    Member {
        id: NodeId(state.node_id_max.0.saturating_add(1)),
        name: name.clone(),
        key,
        role: args.role.into(),
        // Names are looked up by those who dial; the roster carries what is an address by itself.
        addresses: address.parse().into_iter().collect(),
        standing: Standing::Active,
    }
}

/// The state that a majority shows once it knows the node, and the term that a majority has come to.
async fn showing(session: &Session, key: PublicKey) -> Result<(State, u64), Failure> {
    let knows = |agreement: &Agreement<'_>| {
        let state = agreement.state().filter(|_| agreement.quorum);
        state.is_some_and(|state| state.members.values().any(|member| member.key == key))
    };
    let what = "waiting until a majority shows the new roster";
    if !until_within(session, session.settle_within(), what, knows).await {
        return Err(Failure::Unknown(
            "it is committed, but no majority shows it yet: run the same command again in a moment".into(),
        ));
    }
    let answers = session.ask_again().await;
    let agreement = Agreement::of(&answers);
    let term = agreement.majority_has(|status| status.own.log.term);
    // The seed rules until the newcomer has come so far: no single node may say how far that is.
    let applied = agreement.majority_has(|status| status.state.applied);
    Ok((State { applied, ..settled_state(&agreement)?.clone() }, term))
}

async fn write(
    session: &Session,
    args: &AdmitArgs,
    out: &Path,
    state: &State,
    term: u64,
) -> Result<(), Failure> {
    let answers = session.ask_again().await;
    let genesis = genesis(session, &answers, state.cluster).await?;
    let roster = Seed::of(state, term).encode().map_err(|error| Failure::Failed(error.to_string()))?;
    let (name, address) = &args.node;
    let node = NewNode::new(name.clone(), args.role.into(), address);
    let node = match &args.uplink {
        Some(uplink) => node.with("uplink", uplink.as_str()),
        None => node,
    };
    // Names of hosts that the operator once wrote for the others are worth more than the roster's addresses.
    let peers: Vec<NewNode> = session
        .contacts(state)
        .into_iter()
        .map(|contact| NewNode {
            name: contact.name,
            role: Role::Voter,
            addresses: contact.addresses,
            settings: Vec::new(),
        })
        .collect();
    join::finish(out, &node, &join::Mesh { peers: &peers, genesis: &genesis, roster: &roster })
        .map_err(failure)
}

/// How the mesh began, from the first node that tells it: its hash is the mesh's identity.
pub(super) async fn genesis(
    session: &Session,
    answers: &Answers,
    cluster: ClusterId,
) -> Result<Vec<u8>, Failure> {
    let members = roster(answers);
    let mut last = "nobody answered".to_string();
    for node in answers.iter().filter(|(_, heard)| heard.answer.is_ok()).map(|(node, _)| *node) {
        let asked = async {
            let link = Link::to_node(&session.way, node, &members, GENESIS_WITHIN).await?;
            let answer = link.ask(&Request::Genesis, GENESIS_WITHIN).await;
            link.close().await;
            answer
        };
        match asked.await {
            Ok(Answer::Genesis(bytes)) => {
                let identity = Genesis::decode(&bytes).ok().and_then(|genesis| genesis.cluster().ok());
                if identity == Some(cluster) {
                    return Ok(bytes);
                }
                last = format!("what {node} told is not the genesis of this mesh: do not trust it");
            }
            Ok(_) => last = format!("{node} answered something else"),
            Err(error) => last = error.to_string(),
        }
    }
    Err(Failure::Failed(format!(
        "the node is admitted, but its files are not complete: {last}. Run the same command again"
    )))
}

fn failure(error: InitError) -> Failure {
    match error {
        InitError::Exists(_) | InitError::Unsound(_) | InitError::Size(_) => {
            Failure::Usage(error.to_string())
        }
        InitError::Key(_) | InitError::Write { .. } => Failure::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn args(name: &str) -> AdmitArgs {
        AdmitArgs {
            node: (sample::name(name), "10.0.0.9:7832".into()),
            role: crate::args::NodeRole::Voter,
            out: Some("out".into()),
            key: None,
            uplink: None,
        }
    }

    #[test]
    fn a_name_or_key_of_another_node_is_refused_before_anything_is_made() {
        let answers = sample::healthy();
        let agreement = Agreement::of(&answers);
        let mut state = settled_state(&agreement).unwrap().clone();
        let [of_b, fresh] = [state.members[&NodeId(2)].key, PublicKey([9; 32])];
        assert_eq!(present(&state, &args("b"), Some(of_b)), Ok(true), "run again");
        assert_eq!(present(&state, &args("d"), None), Ok(false));
        let told = |found: Result<bool, Failure>| found.unwrap_err().to_string();
        assert!(told(present(&state, &args("b"), Some(fresh))).contains("stead remove b"));
        assert!(told(present(&state, &args("d"), Some(of_b))).contains("that of b"));
        state.former_keys.push(fresh);
        assert!(told(present(&state, &args("d"), Some(fresh))).contains("refused for ever"));
    }

    #[test]
    fn only_who_is_cut_off_comes_back_and_under_another_key() {
        let answers = sample::healthy();
        let agreement = Agreement::of(&answers);
        let mut state = settled_state(&agreement).unwrap().clone();
        let (b, fresh) = (state.members[&NodeId(2)].clone(), PublicKey([9; 32]));
        let told = |found: Result<bool, Failure>| found.unwrap_err().to_string();
        assert!(told(back(&state, &args("b"), None)).contains("is not cut off"));
        assert!(told(back(&state, &args("d"), None)).contains("there is no node d"));
        let by =
            stead_proto::state::Authority::Operator { name: "ann".parse().unwrap(), reason: "coins".into() };
        let isolation = stead_proto::state::Isolation { index: 1, unix_ms: 0, by };
        state.isolations.insert(b.id, isolation);
        assert!(told(back(&state, &args("b"), None)).contains("still has its vote"));
        state.config.voters.remove(&b.id);
        assert!(told(back(&state, &args("b"), Some(b.key))).contains("another --out"));
        assert_eq!(back(&state, &args("b"), None), Ok(false));
        let ordered = act(&state, &args("b"), fresh, Some(Duration::from_secs(60))).unwrap();
        let Act::Readmit { old, member } = ordered else { panic!("{ordered:?}") };
        assert_eq!((old, member.role), (b.id, Role::Learner));
        assert!(matches!(member.standing, Standing::Probation { then: Role::Voter, .. }));
        state.isolations.clear();
        state.members.remove(&old);
        state.members.insert(member.id, *member);
        assert_eq!(back(&state, &args("b"), Some(fresh)), Ok(true), "run again");
    }

    #[test]
    fn a_newcomer_gets_an_id_that_nobody_ever_had() {
        let answers = sample::healthy();
        let mut state = settled_state(&Agreement::of(&answers)).unwrap().clone();
        state.node_id_max = NodeId(17);
        assert_eq!(member(&state, &args("d"), PublicKey([9; 32])).id, NodeId(18));
    }

    #[test]
    fn one_node_alone_cannot_raise_the_term() {
        let mut answers = sample::healthy();
        for (node, term) in [(1, u64::MAX), (2, 7), (3, 6)] {
            sample::status(&mut answers, node).own.log.term = term;
        }
        assert_eq!(Agreement::of(&answers).majority_has(|status| status.own.log.term), 7);
    }
}
