//! Who belongs to the mesh: nodes admitted, given another role and removed, by operators' orders.
//!
//! **Invariant.** An id and a key stand for one node for ever: neither is ever given to another one, so that
//! what a removed node signed, promised or voted cannot be taken for the word of its successor. Names are
//! for people and free again after a removal.

use super::State;
use crate::command::{Outcome, Refusal, no_such_node};
use crate::id::NodeId;
use crate::incident::Matter;
use crate::limits::{ADDRESSES_MAX, FORMER_KEYS_MAX, NODE_ID_JUMP_MAX, NODES_MAX, VOTERS_MAX};
use crate::roster::{Member, Operator, Role, Standing};
use crate::sign;
use alloc::format;

impl State {
    pub(super) fn admit(
        &mut self,
        index: u64,
        member: Member,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        self.check_newcomer(&member)?;
        self.check_votes(None, member.role)?;
        let id = member.id;
        let text = match member.standing {
            Standing::Probation { then, .. } if member.role == Role::Learner => {
                format!(
                    "{} admitted {} as {id}, on probation, then a {}",
                    by.name,
                    member.name,
                    then.as_str()
                )
            }
            Standing::Probation { .. } => {
                return Err(Refusal::Forbidden(format!("on probation {} is a learner", member.name)));
            }
            Standing::Active | Standing::Drained => {
                format!("{} admitted {} as {id}, a {}", by.name, member.name, member.role.as_str())
            }
        };
        self.node_id_max = id;
        self.members.insert(id, member);
        self.roster_index = index;
        self.incidents.note(index, &Matter::Roster, unix_ms, &text);
        Ok(Outcome::Done)
    }

    pub(super) fn set_role(
        &mut self,
        index: u64,
        node: NodeId,
        role: Role,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if !self.members.contains_key(&node) {
            return Err(no_such_node(node));
        }
        self.check_votes(Some(node), role)?;
        let member = self.members.get_mut(&node).ok_or_else(|| no_such_node(node))?;
        if let Standing::Probation { .. } = member.standing {
            return Err(Refusal::Forbidden(format!(
                "{} is on probation: `stead undrain {}` ends it",
                member.name, member.name
            )));
        }
        if member.role != role {
            let text = format!(
                "{} made {} a {} ({} before)",
                by.name,
                member.name,
                role.as_str(),
                member.role.as_str()
            );
            member.role = role;
            self.roster_index = index;
            self.incidents.note(index, &Matter::Roster, unix_ms, &text);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove(
        &mut self,
        index: u64,
        node: NodeId,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if self.config.voters.contains(&node) {
            return Err(Refusal::Forbidden(format!(
                "{} still votes: `stead remove` makes it a learner first and waits until it does not",
                self.name_of(node)
            )));
        }
        // Its seats stay until the next plan: an epoch is a place in a plan, and must not get another node.
        let member = self.members.remove(&node).ok_or_else(|| no_such_node(node))?;
        self.isolations.remove(&node);
        self.host_keys.remove(&node);
        self.fences.remove(&node);
        self.roster_index = index;
        self.former_keys.push(member.key);
        let excess = self.former_keys.len().saturating_sub(FORMER_KEYS_MAX);
        self.former_keys.drain(..excess);
        let text = format!("{} removed {} ({node})", by.name, member.name);
        self.incidents.note(index, &Matter::Roster, unix_ms, &text);
        Ok(Outcome::Done)
    }

    fn check_newcomer(&self, member: &Member) -> Result<(), Refusal> {
        let forbid = |why| Err(Refusal::Forbidden(why));
        if self.members.values().any(|m| m.key == member.key || m.name == member.name) {
            return forbid(format!("a node with the name or key of {} is there already", member.name));
        }
        if self.former_keys.contains(&member.key) {
            return forbid(format!(
                "the key of {} belonged to a node that was removed, and keys are never used twice: make a new one",
                member.name
            ));
        }
        if self.operators.contains_key(&member.key) {
            return forbid("this is an operator's key: give the node one of its own".into());
        }
        if !sign::is_key(&member.key) {
            return forbid(format!("the key of {} is no public key: copy it again", member.name));
        }
        if member.id <= self.node_id_max {
            return forbid(format!("node ids are never used twice: take one above {}", self.node_id_max));
        }
        if member.id.0 - self.node_id_max.0 > NODE_ID_JUMP_MAX {
            return forbid(format!(
                "{} is far above all ids so far: take {}",
                member.id,
                self.node_id_max.0 + 1
            ));
        }
        if self.members.len() >= NODES_MAX {
            return forbid(format!("{NODES_MAX} nodes are the most"));
        }
        if member.addresses.len() > ADDRESSES_MAX {
            let addresses = member.addresses.len();
            return forbid(format!("{addresses} addresses: name at most {ADDRESSES_MAX}"));
        }
        Ok(())
    }

    /// One that shall vote has to find room among the voters, or it would wait for ever.
    pub(super) fn check_votes(&self, node: Option<NodeId>, role: Role) -> Result<(), Refusal> {
        let others = self.members.values().filter(|m| Some(m.id) != node && m.role.votes()).count();
        if role.votes() && others >= VOTERS_MAX {
            return Err(Refusal::Forbidden(format!(
                "{VOTERS_MAX} voters are the most: make it a learner, or another one first"
            )));
        }
        Ok(())
    }
}
