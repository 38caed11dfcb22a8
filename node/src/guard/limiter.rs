//! The driver of the limit: opens or takes over the table, renews its licence, withdraws it, repairs it.
//!
//! **Invariant.** Nothing here removes the limit but [`Guard::close`]: dropping a guard, or dying, leaves the
//! table to the kernel, whose licence runs out. Tables of other names are never touched. One agent at a time has the
//! limit of an uplink: two would take each other's licence and throttle for a stranger's meddling, and undo them.
//! Another one waits, says so, and takes over when the first has ended.

use super::rules::{self, COUNTERS, Rung, Table};
use crate::nfnetlink::{Change, Nfnetlink, Set};
use crate::nft;
use crate::seat::Seat;
use crate::vip::rtnl::{Link, Rtnl, RtnlError};
use stead_proto::{
    guard::{GuardPolicy, Prefix},
    site::Complaint,
};

/// What has gone through the limit since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SYNs that passed by licence.
    pub licensed: u64,
    /// SYNs that passed by the allow-list.
    pub allowed: u64,
    /// SYNs that passed within the limit.
    pub limited: u64,
    /// SYNs dropped above it.
    pub dropped: u64,
    /// Packets refused by the quarantine.
    pub refused: u64,
}

/// What [`Guard::verify`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The rules are as we wrote them, or another agent's to look after.
    Intact,
    /// Somebody removed or changed them; they are written anew.
    Restored,
}

/// What a guard could not do.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The policy cannot be enforced.
    #[error("the guard policy cannot be enforced: {0:?}")]
    Policy(Vec<Complaint>),
    /// The name cannot stand in a rule.
    #[error("{0:?} is no name of an interface")]
    Uplink(String),
    /// The kernel refused a change.
    #[error("nftables: {0}; the kernel keeps what it had")]
    Kernel(#[source] std::io::Error),
    /// Another agent has the limit.
    #[error("another agent has the limit on {0}")]
    Waiting(String),
    /// nft failed.
    #[error("nft: {0}; the kernel keeps the rules it had, check `nft list ruleset`")]
    Nft(String),
}

/// The limit on one uplink.
#[derive(Debug)]
pub struct Guard {
    table: Table,
    uplink: String,
    ifindex: u32,
    policy: GuardPolicy,
    /// The best rung to try.
    best: Rung,
    /// The right to this uplink's table; `None` while another agent has it.
    seat: Option<Seat>,
    rtnl: Option<Rtnl>,
    kernel: Option<Nfnetlink>,
    /// Our table as the kernel lists it, without counts and what comes and goes by itself.
    written: String,
    /// The generation of the rules after our own last change.
    generation: u32,
    throttled: bool,
    quarantined: bool,
}

impl Guard {
    /// Puts the limit in place, or takes over the one that is there with its counts, and says what each
    /// better rung lacks. It starts as the kernel has it: a throttle and a quarantine go on, a licence is not given.
    /// While another agent has the limit there is no rung, and [`Self::verify`] looks whether it has ended.
    ///
    /// # Errors
    /// [`GuardError`] if the policy or the name is bad. Missing kernel features are rungs, not errors.
    pub fn open(uplink: &str, ifindex: u32, policy: GuardPolicy) -> Result<(Self, Vec<String>), GuardError> {
        Self::open_at(uplink, ifindex, policy, Rung::NetdevEgress)
    }

    /// As [`Self::open`], with `best` as the best rung to try.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(
        uplink: &str,
        ifindex: u32,
        policy: GuardPolicy,
        best: Rung,
    ) -> Result<(Self, Vec<String>), GuardError> {
        let complaints = policy.check();
        if !complaints.is_empty() {
            return Err(GuardError::Policy(complaints));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
        if uplink.is_empty() || uplink.len() > 15 || !uplink.bytes().all(plain) {
            return Err(GuardError::Uplink(uplink.into()));
        }
        let mut guard = Self {
            table: Table::of(Rung::None, ifindex),
            uplink: uplink.into(),
            ifindex,
            policy,
            best,
            seat: None,
            rtnl: Rtnl::open().ok(),
            kernel: None,
            written: String::new(),
            generation: 0,
            throttled: false,
            quarantined: false,
        };
        let shortfalls = match Seat::take(&guard.table.name) {
            Ok(seat) => {
                guard.seat = Some(seat);
                guard.stand()
            }
            Err(taken) => vec![format!(
                "{taken} limits {uplink} already; this one waits until that has ended, stop one of them"
            )],
        };
        Ok((guard, shortfalls))
    }

    /// Where the limit stands.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.table.rung
    }

    /// Whether only the limit and the allow-list leave, licence or not.
    #[must_use]
    pub const fn is_throttled(&self) -> bool {
        self.throttled
    }

    /// Whether only friends can be reached.
    #[must_use]
    pub const fn is_quarantined(&self) -> bool {
        self.quarantined
    }

    /// Renews the licence.
    ///
    /// # Errors
    /// [`GuardError::Kernel`]; the licence then runs out by itself.
    pub fn renew(&mut self) -> Result<(), GuardError> {
        if self.seat.is_none() {
            // The other agent renews its own.
            return Ok(());
        }
        self.change(&[("licence", Change::Put(self.policy.licence_ms.into()))])
    }

    /// Lets only the limit and the allow-list leave from now on. It outlives the agent.
    ///
    /// # Errors
    /// [`GuardError::Kernel`]; then nothing has changed.
    pub fn throttle(&mut self) -> Result<(), GuardError> {
        self.change(&[("throttle", Change::Put(0)), ("licence", Change::Take)])?;
        self.throttled = true;
        Ok(())
    }

    /// Ends the throttle, and gives a licence.
    ///
    /// # Errors
    /// [`GuardError::Kernel`]; then nothing has changed.
    pub fn lift(&mut self) -> Result<(), GuardError> {
        let licence = Change::Put(self.policy.licence_ms.into());
        self.change(&[("throttle", Change::Take), ("licence", licence)])?;
        self.throttled = false;
        Ok(())
    }

    /// Lets new connections reach only these and the policy's friends. It outlives the agent.
    ///
    /// # Errors
    /// [`GuardError`]; then nothing has changed.
    pub fn quarantine(&mut self, friends: &[Prefix]) -> Result<(), GuardError> {
        let friends = [&self.policy.friends[..], friends].concat();
        let policy = GuardPolicy { friends, ..self.policy.clone() };
        let complaints = policy.check();
        if !complaints.is_empty() {
            return Err(GuardError::Policy(complaints));
        }
        self.load(&rules::friends(&self.table, &policy.friends)).map_err(GuardError::Nft)?;
        self.change(&[("quarantine", Change::Put(0))])?;
        self.quarantined = true;
        Ok(())
    }

    /// Ends the quarantine.
    ///
    /// # Errors
    /// [`GuardError`]; then it goes on.
    pub fn release(&mut self) -> Result<(), GuardError> {
        self.change(&[("quarantine", Change::Take)])?;
        self.quarantined = false;
        self.load(&rules::friends(&self.table, &self.policy.friends)).map_err(GuardError::Nft)
    }

    /// Another policy from now on; counts, licence, throttle and quarantine stay.
    ///
    /// # Errors
    /// [`GuardError`]; then the old one stays.
    pub fn follow(&mut self, policy: GuardPolicy) -> Result<(), GuardError> {
        let complaints = policy.check();
        if !complaints.is_empty() {
            return Err(GuardError::Policy(complaints));
        }
        if self.rung() == Rung::None {
            self.policy = policy;
            return Ok(());
        }
        let script = rules::ruleset(&self.table, &self.uplink, &policy);
        self.load(&script).map_err(GuardError::Nft)?;
        self.policy = policy;
        Ok(())
    }

    /// The counts so far; they outlive the agent, not the table.
    ///
    /// # Errors
    /// [`GuardError::Kernel`].
    pub fn counters(&mut self) -> Result<Counters, GuardError> {
        let Some(kernel) = &mut self.kernel else { return Ok(Counters::default()) };
        let (family, table) = (self.table.rung.family(), &self.table.name);
        let mut read = |name| kernel.counter(family, table, name).map_err(GuardError::Kernel);
        let [licensed, allowed, limited, dropped, refused] = COUNTERS.map(&mut read);
        Ok(Counters {
            licensed: licensed?,
            allowed: allowed?,
            limited: limited?,
            dropped: dropped?,
            refused: refused?,
        })
    }

    /// Compares the kernel's rules with ours, if anybody has changed any since; writes them anew if ours differ. Goes
    /// with an uplink that was renamed or made anew, and takes over from an agent that has ended.
    ///
    /// # Errors
    /// [`GuardError`] if they cannot be restored.
    pub fn verify(&mut self) -> Result<Found, GuardError> {
        if self.seat.is_none() {
            return self.take_over().map(|()| Found::Intact);
        }
        self.follow_uplink()?;
        let Some(kernel) = &mut self.kernel else { return Ok(Found::Intact) };
        let generation = kernel.generation().map_err(GuardError::Kernel)?;
        if generation == self.generation {
            return Ok(Found::Intact);
        }
        if self.listed().is_ok_and(|listed| listed == self.written) && self.marks() == self.kept_marks() {
            self.generation = generation;
            return Ok(Found::Intact);
        }
        let rung = self.rung();
        tracing::warn!(%rung, "somebody changed the guard's rules; they are restored, look for who did");
        let marks = self.kept_marks();
        self.begin().map_err(GuardError::Nft)?;
        self.mark(marks)?;
        Ok(Found::Restored)
    }

    /// Removes the limit.
    ///
    /// # Errors
    /// [`GuardError::Nft`] if it is still there.
    pub fn close(self) -> Result<(), GuardError> {
        if self.rung() == Rung::None {
            return Ok(());
        }
        nft::run(&rules::removal(&self.table)).map_err(GuardError::Nft)
    }

    /// Stands on the best rung that there is; says what each better one lacks.
    fn stand(&mut self) -> Vec<String> {
        self.remove_orphans();
        let (best, mut shortfalls) = (self.best, Vec::new());
        for rung in [Rung::NetdevEgress, Rung::InetOutput].into_iter().filter(|rung| *rung >= best) {
            self.table = Table::of(rung, self.ifindex);
            match self.begin() {
                Ok(()) => return shortfalls,
                Err(why) => shortfalls.push(format!("no {rung}: {why}")),
            }
        }
        self.table = Table::of(Rung::None, self.ifindex);
        self.kernel = None;
        shortfalls
    }

    /// Removes our tables of interfaces that are no more: nft hooks by name, so that they would limit whoever has the
    /// name now, who has no licence there and cannot get one.
    fn remove_orphans(&mut self) {
        let links = self.rtnl.as_mut().and_then(|rtnl| rtnl.links().ok());
        let (Some(links), Ok(listed)) = (links, nft::list(&["list", "tables"])) else { return };
        for orphan in rules::orphans(&listed, &links.iter().map(|link| link.ifindex).collect()) {
            match nft::run(&rules::removal(&orphan)) {
                Ok(()) => {
                    tracing::info!(table = %orphan, "the limit of an interface that is no more is removed")
                }
                Err(why) => {
                    tracing::warn!(table = %orphan, why, "the limit of an interface that is no more stays")
                }
            }
        }
    }

    /// Takes the limit over with its throttle and quarantine, if the agent that had it has ended. The counts are
    /// that agent's, and begin anew.
    fn take_over(&mut self) -> Result<(), GuardError> {
        let Some(seat) = Seat::take_over(&self.table.name) else { return Ok(()) };
        self.seat = Some(seat);
        let shortfalls = self.stand();
        tracing::info!(rung = %self.rung(), ?shortfalls, "the agent that had the SYN limit has ended; it is ours now");
        if self.rung() == Rung::None {
            return Ok(());
        }
        nft::run(&format!("reset counters table {}\n", self.table)).map_err(GuardError::Nft)
    }

    /// Goes with an uplink that was renamed, or made anew with another index. nft hooks interfaces by their names,
    /// and our marks are by their indices.
    fn follow_uplink(&mut self) -> Result<(), GuardError> {
        let Some(link) = self.moved() else { return Ok(()) };
        let (marks, earlier) = (self.kept_marks(), self.table.clone());
        tracing::warn!(
            from = self.uplink,
            to = link.name,
            "the uplink was renamed or made anew; the SYN limit follows"
        );
        if earlier.rung != Rung::None {
            // Rules of the old name would limit whoever gets that name next.
            nft::run(&rules::removal(&earlier)).map_err(GuardError::Nft)?;
        }
        if link.ifindex != self.ifindex {
            self.seat = None;
            self.seat = Seat::take(&Table::of(Rung::None, link.ifindex).name).ok();
        }
        let before = (std::mem::replace(&mut self.uplink, link.name), self.ifindex);
        self.ifindex = link.ifindex;
        if self.seat.is_none() {
            self.table = Table::of(Rung::None, self.ifindex);
            self.kernel = None;
            return Ok(());
        }
        let shortfalls = self.stand();
        if self.rung() == Rung::None {
            // As if it had not moved yet: the next call tries again.
            (self.uplink, self.ifindex) = before;
            (self.throttled, self.quarantined) = marks;
            return Err(GuardError::Nft(shortfalls.join("; ")));
        }
        self.mark(marks)
    }

    /// The uplink, if it is not where and what it was.
    fn moved(&mut self) -> Option<Link> {
        let rtnl = self.rtnl.as_mut()?;
        match rtnl.link(self.ifindex) {
            Ok(link) => (link.name != self.uplink).then_some(link),
            Err(RtnlError::NoInterface) => {
                rtnl.links().ok()?.into_iter().find(|link| link.name == self.uplink)
            }
            // Nothing is known, so nothing is changed.
            Err(RtnlError::NotPermitted | RtnlError::NoIpv6 | RtnlError::Kernel { .. }) => None,
        }
    }

    /// Throttles and quarantines, or not, whatever the kernel has.
    fn mark(&mut self, marks: (bool, bool)) -> Result<(), GuardError> {
        (self.throttled, self.quarantined) = marks;
        let put = |on| if on { Change::Put(0) } else { Change::Take };
        self.change(&[("throttle", put(self.throttled)), ("quarantine", put(self.quarantined))])
    }

    /// Writes the rules, keeps what an earlier table counted and held, and learns how the kernel lists them.
    fn begin(&mut self) -> Result<(), String> {
        let mut kernel = Nfnetlink::open().map_err(|error| error.to_string())?;
        let script = rules::ruleset(&self.table, &self.uplink, &self.policy);
        if let Err(first) = nft::run(&script) {
            // A table that cannot be updated (changed sets, an uplink of another name): replaced in one transaction,
            // with what it held.
            let (throttled, quarantined) = self.marks();
            let mut script = rules::removal(&self.table) + &script;
            for (name, on) in [("throttle", throttled), ("quarantine", quarantined)] {
                if on {
                    script += &format!("add element {} {name} {{ {} }}\n", self.table, self.ifindex);
                }
            }
            nft::run(&script).map_err(|_| first)?;
        }
        self.written = self.listed()?;
        (self.throttled, self.quarantined) = self.marks();
        self.generation = kernel.generation().map_err(|error| error.to_string())?;
        self.kernel = Some(kernel);
        Ok(())
    }

    /// Loads rules of ours with the program nft.
    fn load(&mut self, script: &str) -> Result<(), String> {
        if self.rung() == Rung::None {
            return Ok(());
        }
        nft::run(script)?;
        self.written = self.listed()?;
        if let Some(kernel) = &mut self.kernel {
            self.generation = kernel.generation().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn change(&mut self, changes: &[(&str, Change)]) -> Result<(), GuardError> {
        if self.seat.is_none() {
            return Err(GuardError::Waiting(self.uplink.clone()));
        }
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let set = |name| Set { family: self.table.rung.family(), table: &self.table.name, name };
        let changes: Vec<_> = changes.iter().map(|(name, change)| (set(name), *change)).collect();
        // interface indices are keys in the order of the machine's bytes.
        kernel.change(&self.ifindex.to_ne_bytes(), &changes).map_err(GuardError::Kernel)?;
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// Our table without its counts and without the elements that mark a state.
    fn listed(&self) -> Result<String, String> {
        let table = self.table.to_string();
        let words: Vec<_> = table.split(' ').collect();
        let listed = nft::list(&[&["-n", "-s", "list", "table"], &words[..]].concat())?;
        let mut kept = String::new();
        let (mut in_mark, mut in_licence) = (false, false);
        for line in listed.lines() {
            let word = line.trim();
            if let Some(name) = word.strip_prefix("set ") {
                in_licence = name.starts_with("licence");
                in_mark = ["licence", "throttle", "quarantine"].iter().any(|mark| name.starts_with(mark));
            }
            // Nobody has a licence for ever, unless somebody else gave it.
            let ours = |word: &str| word.matches(',').count() + 1 == word.matches("timeout").count();
            let mark = in_mark && word.starts_with("elements");
            if !mark || (in_licence && !ours(word)) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        Ok(kept)
    }

    /// Whether the kernel has this uplink throttled, and quarantined.
    fn marks(&self) -> (bool, bool) {
        (self.has("throttle"), self.has("quarantine"))
    }

    const fn kept_marks(&self) -> (bool, bool) {
        (self.throttled, self.quarantined)
    }

    fn has(&self, set: &str) -> bool {
        let table = self.table.to_string();
        let words: Vec<_> = table.split(' ').collect();
        nft::list(&[&["list", "set"], &words[..], &[set]].concat())
            .is_ok_and(|said| said.contains("elements"))
    }
}
