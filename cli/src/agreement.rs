//! What a majority of the voters agrees on, who differs, and who is silent. Pure.
//!
//! Answers are not of one instant: a node that lacks the last entries is behind, not in disagreement, as long
//! as what it says fits. At an equal applied index the state's digest decides; otherwise all that was decided is
//! compared: site, voters, plans, roster, operators.
//!
//! **Invariant.** Nothing is called agreed that less than a majority of the voters has said, and who votes
//! is read from the configuration that most of the answering nodes share, not from any single one.

use crate::ask::Answers;
use std::collections::{BTreeMap, BTreeSet};
use stead_proto::admin::{EndpointStatus, Status};
use stead_proto::config::Config;
use stead_proto::id::{Name, NodeId};
use stead_proto::plan::Epoch;
use stead_proto::report::Report;
use stead_proto::state::State;

/// The common view of the mesh.
#[derive(Debug)]
pub struct Agreement<'a> {
    /// Everybody's answer.
    pub answers: &'a Answers,
    /// The answer that most others fit; its state is what gets shown. Nobody answered if there is none.
    pub basis: Option<&'a Status>,
    /// The voters whose answers fit that.
    pub agreeing: BTreeSet<NodeId>,
    /// Whether they are a majority.
    pub quorum: bool,
    /// The leader that a majority of the voters follows and has lately heard.
    pub leader: Option<NodeId>,
    /// How each node's answer stands to the rest.
    pub opinions: BTreeMap<NodeId, Opinion>,
}

/// How one node's answer stands to what most say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It fits.
    Agrees,
    /// It lacks this many entries, and what it says is older.
    Behind(u64),
    /// It does not fit, in these points.
    Differs(Vec<String>),
    /// There is none, because.
    Silent(String),
}

/// Who serves an endpoint, and who is promised it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whom the mesh takes for its holder: the only one that serves it, or to whom a majority has promised it.
    pub holder: Option<NodeId>,
    /// Under which epoch.
    pub epoch: Option<Epoch>,
    /// Every node that says that it serves it now.
    pub serving: BTreeSet<NodeId>,
    /// Whether a majority of the voters has promised it to the holder, or he may go on alone.
    pub agreed: bool,
    /// To whom each voter has promised it, as far as known.
    pub promises: BTreeMap<NodeId, Option<(NodeId, Epoch)>>,
}

impl<'a> Agreement<'a> {
    /// Compares everybody's answer.
    #[must_use]
    pub fn of(answers: &'a Answers) -> Self {
        let heard: Vec<&Status> = answers.values().filter_map(|heard| heard.answer.as_deref().ok()).collect();
        let voters = shared_config(&heard).map(|config| config.voters.clone()).unwrap_or_default();
        let supporters = |basis: &Status| -> BTreeSet<NodeId> {
            let fitting = heard.iter().filter(|other| voters.contains(&other.node) && fits(basis, other));
            fitting.map(|status| status.node).collect()
        };
        // Of equally supported ones, what several say word for word comes before what one says alone.
        let twins = |basis: &Status| {
            let same =
                |s: &&&Status| s.state.applied == basis.state.applied && s.state.digest == basis.state.digest;
            heard.iter().filter(same).count()
        };
        let weight = |status: &&Status| (supporters(status).len(), twins(status), status.state.applied);
        let basis = heard.iter().copied().max_by_key(weight);
        let agreeing = basis.map(supporters).unwrap_or_default();
        let majority = voters.len() / 2 + 1;
        let leader = leader(&heard, &voters);
        let opinion = |heard: &Result<Box<Status>, String>| match (heard, basis) {
            (Ok(status), Some(basis)) => opinion(status, basis, leader),
            (Ok(_), None) => Opinion::Agrees,
            (Err(why), _) => Opinion::Silent(why.clone()),
        };
        let opinions = answers.iter().map(|(id, heard)| (*id, opinion(&heard.answer))).collect();
        let quorum = !voters.is_empty() && agreeing.len() >= majority;
        Self { answers, basis, agreeing, quorum, leader, opinions }
    }

    /// The state to show.
    #[must_use]
    pub fn state(&self) -> Option<&'a State> {
        self.basis.map(|status| &status.state)
    }

    /// Whether a voter says that more was decided than what a majority shows: it may have been, just now.
    #[must_use]
    pub fn trails(&self) -> bool {
        let Some(basis) = self.basis else { return false };
        let voters = basis.state.config.voters.iter().filter_map(|voter| self.status_of(*voter));
        voters.into_iter().any(|voter| voter.state.applied > basis.state.applied && !fits(basis, voter))
    }

    /// The highest number that as many agreeing voters have come to as make a majority: no single node can raise it
    /// or hold it down.
    #[must_use]
    pub fn majority_has(&self, number: impl Fn(&Status) -> u64) -> u64 {
        let said = self.agreeing.iter().filter_map(|id| self.status_of(*id)).map(number);
        let mut said: Vec<u64> = said.collect();
        said.sort_unstable_by(|a, b| b.cmp(a));
        let majority = self.state().map_or(1, |state| state.config.majority());
        said.get(majority.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// What a node itself answered.
    #[must_use]
    pub fn status_of(&self, node: NodeId) -> Option<&'a Status> {
        self.answers.get(&node)?.answer.as_deref().ok()
    }

    /// A node's own view of an endpoint.
    #[must_use]
    pub fn endpoint_at(&self, node: NodeId, endpoint: &Name) -> Option<&'a EndpointStatus> {
        self.status_of(node)?.endpoints.iter().find(|e| e.name == *endpoint)
    }

    /// The latest report of a node: its own, or the freshest that another one holds, with its age in
    /// milliseconds.
    #[must_use]
    pub fn report_of(&self, node: NodeId) -> Option<(u64, &'a Report)> {
        if let Some(status) = self.status_of(node) {
            return Some((0, &status.own));
        }
        let statuses = self.answers.values().filter_map(|heard| heard.answer.as_deref().ok());
        let seen = statuses.flat_map(|status| &status.peers).filter(|peer| peer.node == node);
        seen.filter_map(|peer| peer.report.as_ref())
            .map(|(age, report)| (*age, report))
            .min_by_key(|(age, _)| *age)
    }

    /// Who holds an endpoint.
    #[must_use]
    pub fn holding(&self, endpoint: &Name) -> Holding {
        let says_so =
            |id: &NodeId| self.endpoint_at(*id, endpoint).and_then(|e| e.serving).map(|(epoch, _)| epoch);
        let serving: BTreeMap<NodeId, Epoch> =
            self.answers.keys().filter_map(|id| Some((*id, says_so(id)?))).collect();
        let config = self.state().map(|state| &state.config);
        let voters = config.map(|config| config.voters.clone()).unwrap_or_default();
        let promises: BTreeMap<NodeId, Option<(NodeId, Epoch)>> = voters
            .iter()
            .filter_map(|voter| Some((*voter, self.endpoint_at(*voter, endpoint)?.promised)))
            .collect();
        let promised_to = |node: NodeId| promises.values().flatten().filter(|(to, _)| *to == node).count();
        let majority = voters.len() / 2 + 1;
        let elected = promises.values().flatten().find(|(node, _)| promised_to(*node) >= majority);
        let (holder, epoch) = match (elected, serving.first_key_value()) {
            (Some((node, epoch)), _) => (Some(*node), Some(*epoch)),
            (None, Some((node, epoch))) if serving.len() == 1 => (Some(*node), Some(*epoch)),
            (None, Some(_) | None) => (None, None),
        };
        let alone = config.and_then(|config| config.pair);
        let agreed = holder.is_some_and(|node| promised_to(node) >= majority || alone == Some(node));
        Holding { holder, epoch, serving: serving.into_keys().collect(), agreed, promises }
    }
}

/// The configuration that most answering nodes share; the newest of equally common ones.
fn shared_config<'a>(heard: &[&'a Status]) -> Option<&'a Config> {
    let configs = heard.iter().map(|status| &status.state.config);
    configs.max_by_key(|config| {
        let sharing = heard.iter().filter(|other| other.state.config == **config).count();
        (sharing, config.index)
    })
}

fn fits(one: &Status, other: &Status) -> bool {
    if one.state.cluster != other.state.cluster {
        return false;
    }
    if one.state.applied == other.state.applied {
        // An equal digest stands for equal decisions; who shows it beside others does not tell the truth.
        return one.state.digest == other.state.digest && same_decisions(&one.state, &other.state);
    }
    same_decisions(&one.state, &other.state)
}

fn same_decisions(one: &State, other: &State) -> bool {
    let operators = |state: &State| -> Vec<_> {
        // Their serial numbers change with each order.
        let told = state.operators.iter().map(|(key, operator)| (*key, operator.name.clone(), operator.role));
        told.collect()
    };
    one.site_version == other.site_version
        && one.site == other.site
        && one.config == other.config
        && one.plans == other.plans
        && one.members == other.members
        && one.node_id_max == other.node_id_max
        && one.former_keys == other.former_keys
        && operators(one) == operators(other)
}

fn leader(heard: &[&Status], voters: &BTreeSet<NodeId>) -> Option<NodeId> {
    let mut votes: BTreeMap<NodeId, usize> = BTreeMap::new();
    for status in heard.iter().filter(|s| voters.contains(&s.node) && s.leader_fresh) {
        if let Some(leader) = status.own.log.leader {
            *votes.entry(leader).or_default() += 1;
        }
    }
    votes.into_iter().find(|(_, votes)| *votes > voters.len() / 2).map(|(leader, _)| leader)
}

fn opinion(status: &Status, basis: &Status, leader: Option<NodeId>) -> Opinion {
    let (own, common) = (&status.state, &basis.state);
    let mut differences = Vec::new();
    if own.cluster != common.cluster {
        return Opinion::Differs(vec![format!("belongs to another mesh ({})", own.cluster)]);
    }
    if own.applied == common.applied && own.digest != common.digest {
        differences.push(format!("another state at entry {}: it has to rebuild itself", own.applied));
    }
    if own.applied == common.applied && own.digest == common.digest && !same_decisions(own, common) {
        differences
            .push(format!("shows another state than its digest at entry {}: do not trust it", own.applied));
    }
    let (follows, name) = (status.own.log.leader, |node| common.name_of(node));
    match (leader, follows) {
        (Some(leader), Some(other)) if other != leader => {
            differences.push(format!("follows {}, not {}", name(other), name(leader)));
        }
        (Some(leader), None) => differences.push(format!("does not follow the leader {}", name(leader))),
        (Some(_) | None, Some(_) | None) => {}
    }
    if own.applied > common.applied && !same_decisions(own, common) {
        differences.push(format!("is {} entries ahead with other decisions", own.applied - common.applied));
    }
    if !differences.is_empty() {
        return Opinion::Differs(differences);
    }
    if own.applied < common.applied && !same_decisions(own, common) {
        return Opinion::Behind(common.applied - own.applied);
    }
    Opinion::Agrees
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn three_equal_answers_agree() {
        let answers = sample::healthy();
        let agreement = Agreement::of(&answers);
        assert!(agreement.quorum);
        assert_eq!(agreement.leader, Some(NodeId(1)));
        assert!(agreement.opinions.values().all(|o| *o == Opinion::Agrees));
        let holding = agreement.holding(&sample::name("www"));
        assert_eq!((holding.holder, holding.agreed), (Some(NodeId(1)), true));
    }

    #[test]
    fn one_answer_of_three_is_no_quorum() {
        let answers = sample::silent(&[2, 3]);
        let agreement = Agreement::of(&answers);
        assert!(!agreement.quorum);
        assert_eq!(agreement.leader, None);
        assert!(!agreement.holding(&sample::name("www")).agreed);
    }

    #[test]
    fn a_digest_that_differs_at_the_same_entry_is_a_disagreement_of_the_minority() {
        for odd in [1, 2, 3] {
            let answers = sample::disagreeing(odd);
            let agreement = Agreement::of(&answers);
            assert!(agreement.quorum);
            assert!(!agreement.agreeing.contains(&NodeId(odd)));
            assert!(matches!(agreement.opinions[&NodeId(odd)], Opinion::Differs(_)), "node {odd}");
        }
    }

    #[test]
    fn a_voter_with_a_newer_site_shows_that_the_majority_trails() {
        let mut answers = sample::healthy();
        assert!(!Agreement::of(&answers).trails());
        // Entries that decided nothing are no reason to ask again.
        sample::status(&mut answers, 1).state.applied += 1;
        assert!(!Agreement::of(&answers).trails());
        sample::status(&mut answers, 1).state.site_version += 1;
        assert!(Agreement::of(&answers).trails());
        sample::status(&mut answers, 2).state.applied += 1;
        sample::status(&mut answers, 2).state.site_version += 1;
        assert!(!Agreement::of(&answers).trails(), "the newer one is the majority's");
    }

    #[test]
    fn who_lacks_the_last_entries_is_behind_only_if_they_decided_something() {
        let mut answers = sample::healthy();
        sample::status(&mut answers, 3).state.applied -= 2;
        sample::status(&mut answers, 3).state.digest = [9; 32];
        assert_eq!(Agreement::of(&answers).opinions[&NodeId(3)], Opinion::Agrees);
        sample::status(&mut answers, 3).state.site_version -= 1;
        assert_eq!(Agreement::of(&answers).opinions[&NodeId(3)], Opinion::Behind(2));
    }

    #[test]
    fn a_node_that_claims_to_vote_alone_makes_no_majority_of_itself() {
        let mut answers = sample::healthy();
        let liar = sample::status(&mut answers, 2);
        liar.state.config.voters = [NodeId(2)].into();
        liar.state.config.index = 9_999;
        let agreement = Agreement::of(&answers);
        assert_eq!(agreement.agreeing, [NodeId(1), NodeId(3)].into());
        assert_eq!(agreement.basis.unwrap().state.config.voters.len(), 3);
    }

    #[test]
    fn one_node_that_claims_to_be_ahead_does_not_choose_the_roster_that_others_are_shown() {
        let lies: [fn(&mut State); 5] = [
            |state| drop(state.members.remove(&NodeId(1))),
            |state| state.node_id_max = NodeId(u64::MAX - 1),
            |state| state.operators.clear(),
            |state| state.former_keys.push(state.members[&NodeId(1)].key),
            |state| state.site = Default::default(),
        ];
        for lie in lies {
            let mut answers = sample::healthy();
            let liar = sample::status(&mut answers, 3);
            (liar.state.applied, liar.state.digest) = (liar.state.applied + 1, [7; 32]);
            lie(&mut liar.state);
            let agreement = Agreement::of(&answers);
            assert_eq!(agreement.agreeing, [NodeId(1), NodeId(2)].into());
            assert!(agreement.quorum && agreement.basis.unwrap().node != NodeId(3));
        }
    }

    #[test]
    fn what_one_says_alone_is_not_shown_in_place_of_what_two_say() {
        let mut answers = sample::healthy();
        let ahead = sample::status(&mut answers, 3);
        (ahead.state.applied, ahead.state.digest) = (ahead.state.applied + 1, [7; 32]);
        let applied = Agreement::of(&answers).state().unwrap().applied;
        assert_eq!(applied, sample::status(&mut answers, 1).state.applied);
        assert_eq!(Agreement::of(&answers).majority_has(|status| status.state.applied), applied);
    }

    #[test]
    fn a_stale_leader_is_nobodys_leader() {
        let mut answers = sample::healthy();
        for node in [1, 2, 3] {
            sample::status(&mut answers, node).leader_fresh = false;
        }
        assert_eq!(Agreement::of(&answers).leader, None);
    }

    #[test]
    fn nobody_answered_means_nothing_is_known() {
        let answers = sample::silent(&[1, 2, 3]);
        let agreement = Agreement::of(&answers);
        assert!(agreement.basis.is_none() && !agreement.quorum);
    }
}
