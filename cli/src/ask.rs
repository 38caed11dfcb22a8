//! Asks every node at once what it sees, with a deadline.
//!
//! Nodes of the context are asked directly; nodes that joined later are learnt from the first answers; who
//! stays silent is asked once more through a node that answers, so that an operator who reaches one node
//! sees the whole mesh.
//!
//! **Invariant.** Every node of the mesh has an entry in the result: its answer, or why there is none. Who was
//! removed has none, once a majority says so.

mod link;

pub(crate) use link::{Link, LinkError};

use crate::agreement::Agreement;
use crate::context::{Contact, Context};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stead_node::identity::Identity;
use stead_proto::admin::{Answer, Request, Status};
use stead_proto::id::{ClusterId, Name, NodeId};
use stead_proto::roster::Member;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How a mesh is reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// By an operator's key, over the network.
    Network {
        /// Where the nodes are.
        context: Context,
        /// The operator's key.
        operator: Arc<Identity>,
    },
    /// By the socket of the agent on this machine.
    Socket(PathBuf),
}

/// What one node answered, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What people call it.
    pub name: Name,
    /// What it sees, or a sentence.
    pub answer: Result<Box<Status>, String>,
    /// The node that passed question and answer on, if it was not reached directly.
    pub via: Option<Name>,
}

/// What all nodes answered.
pub type Answers = BTreeMap<NodeId, Heard>;

/// Asks everybody. Takes at most `deadline`.
pub async fn everybody(way: &Way, deadline: Duration) -> Answers {
    let end = Instant::now() + deadline;
    // What is left over is for those who have to be asked through others.
    let direct = deadline.mul_f32(0.6);
    let mut answers = match way {
        Way::Network { context, operator } => over_network(context, operator, direct, end).await,
        Way::Socket(path) => over_socket(path, direct).await,
    };
    let silent: Vec<NodeId> = answers.iter().filter(|(_, h)| h.answer.is_err()).map(|(id, _)| *id).collect();
    let relay = answers.iter().find(|(_, heard)| heard.answer.is_ok());
    if let Some((relay, name)) = relay.map(|(id, heard)| (*id, heard.name.clone())) {
        through(way, relay, &name, &silent, end, &mut answers).await;
    }
    forget_removed(&mut answers);
    answers
}

/// A context file may name nodes that have been removed since; a majority says who belongs to the mesh.
fn forget_removed(answers: &mut Answers) {
    let agreement = Agreement::of(answers);
    let Some(state) = agreement.state().filter(|_| agreement.quorum) else { return };
    let members: BTreeSet<NodeId> = state.members.keys().copied().collect();
    answers.retain(|node, _| members.contains(node));
}

async fn over_network(
    context: &Context,
    operator: &Arc<Identity>,
    direct: Duration,
    end: Instant,
) -> Answers {
    let mut answers = all_of(context.nodes.clone(), context.cluster, operator, direct).await;
    let known = |id: &NodeId| context.nodes.iter().any(|contact| contact.id == *id);
    let newcomers: Vec<Contact> =
        roster(&answers).values().filter(|m| !known(&m.id)).map(contact_of).collect();
    if !newcomers.is_empty() {
        let left = end.duration_since(Instant::now()).mul_f32(0.5);
        answers.extend(all_of(newcomers, context.cluster, operator, left).await);
    }
    answers
}

async fn all_of(
    contacts: Vec<Contact>,
    cluster: ClusterId,
    operator: &Arc<Identity>,
    deadline: Duration,
) -> Answers {
    let mut tasks = JoinSet::new();
    for contact in contacts {
        let operator = operator.clone();
        tasks.spawn(async move {
            let answer = one(&contact, cluster, &operator, deadline).await;
            (contact.id, Heard { name: contact.name, answer, via: None })
        });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn one(
    contact: &Contact,
    cluster: ClusterId,
    operator: &Identity,
    deadline: Duration,
) -> Result<Box<Status>, String> {
    let asked = async {
        let link = Link::to(contact, cluster, operator, deadline).await?;
        let answer = link.ask(&Request::Status, deadline).await;
        link.close().await;
        answer
    };
    match tokio::time::timeout(deadline, asked).await {
        Ok(Ok(Answer::Status(status))) if status.node == contact.id => Ok(status),
        Ok(Ok(Answer::Status(status))) => {
            Err(format!("calls itself {}: correct `id` in the context file", status.node))
        }
        Ok(Ok(Answer::Unavailable { why, .. })) => Err(why),
        Ok(Ok(Answer::Refused(refusal))) => Err(refusal.to_string()),
        Ok(Ok(Answer::Committed { .. } | Answer::Genesis(_))) => Err("answered something else".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", deadline.as_millis())),
    }
}

/// The agent of this machine; the others are still to be asked, through it.
async fn over_socket(path: &Path, deadline: Duration) -> Answers {
    let asked = async {
        let link = Link::to_socket(path).await?;
        link.ask(&Request::Status, deadline).await
    };
    let status = match tokio::time::timeout(deadline, asked).await {
        Ok(Ok(Answer::Status(status))) => status,
        Ok(Ok(_)) | Err(_) => return alone(format!("{}: the agent is busy", path.display())),
        Ok(Err(error)) => return alone(error.to_string()),
    };
    let unasked = |member: &Member| {
        (member.id, Heard { name: member.name.clone(), answer: Err("not asked yet".into()), via: None })
    };
    let mut answers: Answers = status.state.members.values().map(unasked).collect();
    let me = status.node;
    if let Some(heard) = answers.get_mut(&me) {
        heard.answer = Ok(status);
    }
    answers
}

/// Nothing is known but that the agent of this machine does not answer.
fn alone(why: String) -> Answers {
    let name: Name = "local".parse().expect("a name");
    Answers::from([(NodeId(0), Heard { name, answer: Err(why), via: None })])
}

async fn through(
    way: &Way,
    relay: NodeId,
    via: &Name,
    silent: &[NodeId],
    end: Instant,
    answers: &mut Answers,
) {
    let left = end.duration_since(Instant::now());
    let members = roster(answers);
    let mut tasks = JoinSet::new();
    for node in silent.iter().copied().filter(|node| members.contains_key(node)) {
        let (way, members) = (way.clone(), members.clone());
        tasks.spawn(async move {
            let asked = async {
                let link = Link::to_node(&way, relay, &members, left).await?;
                let answer = link.ask(&Request::StatusOf(node), left).await;
                link.close().await;
                answer
            };
            (node, tokio::time::timeout(left, asked).await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let Ok((node, answer)) = done else { continue };
        let Some(heard) = answers.get_mut(&node) else { continue };
        match answer {
            Ok(Ok(Answer::Status(status))) if status.node == node => {
                (heard.answer, heard.via) = (Ok(status), Some(via.clone()));
            }
            Ok(Ok(Answer::Unavailable { why, .. })) if matches!(way, Way::Socket(_)) => {
                heard.answer = Err(why)
            }
            Err(_) if matches!(way, Way::Socket(_)) => heard.answer = Err("no answer in time".into()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Everybody whom anybody's state knows.
pub(crate) fn roster(answers: &Answers) -> BTreeMap<NodeId, Member> {
    let states = answers.values().filter_map(|heard| heard.answer.as_ref().ok());
    let mut states: Vec<_> = states.map(|status| &status.state).collect();
    states.sort_by_key(|state| state.applied);
    // The newest word on each node wins.
    states.into_iter().flat_map(|state| state.members.clone()).collect()
}

/// How to reach a member of the roster.
pub(crate) fn contact_of(member: &Member) -> Contact {
    Contact {
        name: member.name.clone(),
        id: member.id,
        key: member.key,
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[tokio::test]
    async fn root_sees_the_whole_mesh_through_the_agent_of_one_server() {
        let answers = sample::healthy();
        let agent = sample::agent(move |request| match request {
            Request::Status => Answer::Status(answers[&NodeId(1)].answer.clone().unwrap()),
            Request::StatusOf(NodeId(2)) => Answer::Status(answers[&NodeId(2)].answer.clone().unwrap()),
            Request::StatusOf(_) => {
                Answer::Unavailable { why: "#3 does not answer: not connected".into(), unknown: false }
            }
            Request::Submit(_) | Request::Genesis => panic!("nobody ordered anything"),
        });
        let heard = everybody(&agent.way(), Duration::from_secs(5)).await;
        let via = |id| heard[&NodeId(id)].via.as_ref().map(Name::as_str);
        assert_eq!((via(1), via(2), via(3)), (None, Some("a"), None));
        assert_eq!(heard[&NodeId(3)].answer, Err("#3 does not answer: not connected".into()));
        assert!(Agreement::of(&heard).quorum);
    }

    #[test]
    fn a_removed_node_is_forgotten_only_if_a_majority_says_so() {
        let mut answers = sample::silent(&[3]);
        for node in [1, 2] {
            sample::status(&mut answers, node).state.members.remove(&NodeId(3));
        }
        forget_removed(&mut answers);
        assert!(!answers.contains_key(&NodeId(3)));
        let mut answers = sample::silent(&[2, 3]);
        sample::status(&mut answers, 1).state.members.remove(&NodeId(3));
        forget_removed(&mut answers);
        assert_eq!(answers.len(), 3, "one node alone hides nobody");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_a_silent_node() {
        let heard = everybody(&Way::Socket("/nowhere/agent.sock".into()), Duration::from_secs(5)).await;
        assert_eq!(heard.len(), 1);
        assert!(Agreement::of(&heard).basis.is_none());
    }
}
