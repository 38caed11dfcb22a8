//! `stead remove` and `stead role`: who belongs to the mesh, and who votes in it.
//!
//! **Invariant.** Nothing is ordered that would leave the mesh unable to decide, as far as the answers tell; and each
//! step looks first whether it is done, so that the command can be interrupted anywhere and run again.

use super::look::no_such_node;
use super::orders::{finish, holds_nothing, order, until_within};
use super::session::{Session, settled_state};
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use std::io::{IsTerminal, Write};
use stead_proto::id::{Name, NodeId};
use stead_proto::order::Act;
use stead_proto::roster::{Member, Role, Standing};
use stead_proto::state::State;

pub(super) async fn remove(session: &Session, node: &Name, yes: bool) -> Result<Exit, Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let (member, question) = {
        let agreement = Agreement::of(&answers);
        let state = settled_state(&agreement)?;
        let member = state.member_named(node.as_str()).ok_or_else(|| no_such_node(state, node))?;
        check_vote_can_go(&agreement, state, member)?;
        (member.clone(), question(state, member))
    };
    confirm(&question, yes).await?;
    let id = member.id;
    if member.standing == Standing::Active && member.role.serves() {
        order(session, Act::Drain { node: id, drained: true }, &answers, String::new()).await?;
    }
    give_away(session, node, id).await?;
    if member.role.votes() {
        order(session, Act::SetRole { node: id, role: Role::Learner }, &answers, String::new()).await?;
    }
    if !without_vote(session, node, id).await {
        return Err(Failure::Unknown(format!(
            "{node} is a learner now, but still votes: `stead status` says what is missing. Run the same command again \
             to go on"
        )));
    }
    let answers = session.ask_again().await;
    let done =
        order(session, Act::Remove(id), &answers, format!("{node} ({id}) is removed, and its key refused"))
            .await?;
    let gone = |agreement: &Agreement<'_>| {
        agreement.state().is_some_and(|state| agreement.quorum && !state.members.contains_key(&id))
    };
    until_within(session, session.order_within(), "waiting until a majority shows the new roster", gone)
        .await;
    let answers = session.ask_again().await;
    if let Ok(state) = settled_state(&Agreement::of(&answers)) {
        session.keep_context(state, None);
    }
    finish(session, &done)
}

pub(super) async fn set_role(
    session: &Session,
    node: &Name,
    role: Role,
    wait: bool,
) -> Result<Exit, Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let (id, votes, promote_after_ms) = {
        let agreement = Agreement::of(&answers);
        let state = settled_state(&agreement)?;
        let member = state.member_named(node.as_str()).ok_or_else(|| no_such_node(state, node))?;
        if !role.votes() {
            check_vote_can_go(&agreement, state, member)?;
        }
        (member.id, state.config.voters.contains(&member.id), state.site.charter.promote_after_ms)
    };
    let text = if role.votes() && !votes {
        let settled = crate::words::span(promote_after_ms.into());
        format!("{node} is a {} now; it votes once it has been up and caught up for {settled}", role.as_str())
    } else {
        format!("{node} is a {} now", role.as_str())
    };
    let mut done = order(session, Act::SetRole { node: id, role }, &answers, text).await?;
    if wait && !role.votes() {
        done.carried_out = Some(without_vote(session, node, id).await);
    }
    finish(session, &done)
}

/// Refuses what would leave voters of whom no majority answers.
fn check_vote_can_go(agreement: &Agreement<'_>, state: &State, member: &Member) -> Result<(), Failure> {
    if !state.config.voters.contains(&member.id) {
        return Ok(());
    }
    let name = &member.name;
    let staying: Vec<NodeId> = state.config.voters.iter().copied().filter(|id| *id != member.id).collect();
    if staying.is_empty() {
        return Err(Failure::Usage(format!(
            "{name} is the only voter, and a mesh without one decides nothing: admit another one first (`stead admit`)"
        )));
    }
    let silent: Vec<NodeId> =
        staying.iter().copied().filter(|id| agreement.status_of(*id).is_none()).collect();
    if staying.len() - silent.len() > staying.len() / 2 {
        return Ok(());
    }
    let names: Vec<String> = silent.iter().map(|id| state.name_of(*id)).collect();
    Err(Failure::Failed(format!(
        "without {name}, {} of the other {} voters answer, which is no majority: nothing could be decided any more. Bring \
         back {}, or remove that first",
        staying.len() - silent.len(),
        staying.len(),
        names.join(" or ")
    )))
}

fn question(state: &State, member: &Member) -> String {
    let votes = state.config.voters.contains(&member.id);
    let left = state.config.voters.len() - usize::from(votes);
    let mut text =
        format!("{} ({}, a {}) leaves the mesh for good", member.name, member.id, member.role.as_str());
    if votes {
        text.push_str(&format!(
            ", and {left} voter{} {}",
            if left == 1 { "" } else { "s" },
            if left == 1 { "stays" } else { "stay" }
        ));
        if left < 3 {
            text.push_str(", of whom none may be lost");
        }
    }
    text.push_str(". To come back it needs a new key.");
    text
}

/// Asks on a terminal; without one, only `--yes` will do.
pub(super) async fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} Nobody can be asked here: add --yes")));
    }
    let prompt = format!("{question}\nGo on? [y/N] ");
    let answer = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let asked = std::io::stderr()
            .write_all(prompt.as_bytes())
            .and_then(|()| std::io::stdin().read_line(&mut line));
        asked.map(|_| line)
    });
    match answer.await {
        Ok(Ok(line)) if matches!(line.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) | Err(_) => Err(Failure::Failed("nothing was changed".into())),
    }
}

/// Waits until a drained node holds nothing.
async fn give_away(session: &Session, node: &Name, id: NodeId) -> Result<(), Failure> {
    let free = |agreement: &Agreement<'_>| {
        // Silent may be busy: then the voters' promises tell, which run out if it is dead. In two-voter mode it needs
        // none.
        let alone = agreement.state().is_some_and(|state| state.config.pair == Some(id));
        let may_hold_unseen = alone && agreement.status_of(id).is_none();
        agreement.quorum && !may_hold_unseen && holds_nothing(agreement, id)
    };
    let what = format!("waiting for {node} to give away what it holds");
    if until_within(session, session.order_within(), &what, free).await {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{node} is drained, but nobody else can take over what it serves: `stead why ENDPOINT` says why. Run the same \
         command again when another node can; to go without the site, stop the agent on {node} first"
    )))
}

/// Waits until a node does not vote any more, and another one leads: who leads and is cut off would take the
/// orders under way with it.
async fn without_vote(session: &Session, node: &Name, id: NodeId) -> bool {
    let free = |agreement: &Agreement<'_>| {
        let led = agreement.leader.is_some_and(|leader| leader != id);
        led && agreement.state().is_some_and(|state| agreement.quorum && !state.config.voters.contains(&id))
    };
    let what = format!("waiting until the others can do without the vote of {node}");
    until_within(session, session.settle_within(), &what, free).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Answers;
    use crate::sample;

    fn check(answers: &Answers, node: u64) -> Result<(), Failure> {
        let agreement = Agreement::of(answers);
        let state = agreement.state().unwrap();
        check_vote_can_go(&agreement, state, &state.members[&NodeId(node)])
    }

    #[test]
    fn a_vote_goes_only_if_most_of_the_others_answer() {
        assert_eq!(check(&sample::healthy(), 2), Ok(()));
        assert_eq!(check(&sample::silent(&[2]), 2), Ok(()), "the lost one itself");
        let told = check(&sample::silent(&[2]), 1).unwrap_err().to_string();
        assert!(told.contains("1 of the other 2 voters") && told.contains("Bring back b"), "{told}");
    }

    #[test]
    fn who_has_no_vote_can_always_go_and_the_only_voter_never() {
        let mut answers = sample::silent(&[2]);
        for node in [1, 3] {
            sample::status(&mut answers, node).state.config.voters.remove(&NodeId(2));
            sample::status(&mut answers, node).state.config.voters.remove(&NodeId(3));
        }
        assert_eq!(check(&answers, 3), Ok(()));
        assert!(check(&answers, 1).unwrap_err().to_string().contains("only voter"));
    }

    #[test]
    fn the_question_says_what_is_left() {
        let answers = sample::healthy();
        let agreement = Agreement::of(&answers);
        let state = agreement.state().unwrap();
        let text = question(state, &state.members[&NodeId(2)]);
        assert!(
            text.contains("2 voters stay, of whom none may be lost") && text.contains("new key"),
            "{text}"
        );
    }
}
