//! The driver of the limit: opens or takes over the table, renews its licence, withdraws it, repairs it.
//!
//! **Invariant.** Nothing here removes the limit but [`Guard::close`]: dropping a guard, or dying, leaves the
//! table to the kernel, whose licence runs out. Tables of other names are never touched.

use super::{
    nft,
    rules::{self, COUNTERS, Rung},
};
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
    /// The rules are as we wrote them.
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
    /// nft failed.
    #[error("nft: {0}; the kernel keeps the rules it had, check `nft list ruleset`")]
    Nft(String),
}

/// The limit on one uplink.
#[derive(Debug)]
pub struct Guard {
    rung: Rung,
    uplink: String,
    ifindex: u32,
    policy: GuardPolicy,
    /// The chains as the kernel lists them, to see whether somebody changed them.
    written: String,
    throttled: bool,
    quarantined: bool,
}

impl Guard {
    /// Puts the limit in place, or takes over the one that is there with its counts, and says what each
    /// better rung lacks. It starts as the kernel has it: a quarantine goes on, a licence is not given.
    ///
    /// # Errors
    /// [`GuardError`] if the policy or the name is bad. Missing kernel features are rungs, not errors.
    pub fn open(uplink: &str, ifindex: u32, policy: GuardPolicy) -> Result<(Self, Vec<String>), GuardError> {
        let complaints = policy.check();
        if !complaints.is_empty() {
            return Err(GuardError::Policy(complaints));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
        if uplink.is_empty() || uplink.len() > 15 || !uplink.bytes().all(plain) {
            return Err(GuardError::Uplink(uplink.into()));
        }
        let mut guard = Self {
            rung: Rung::None,
            uplink: uplink.into(),
            ifindex,
            policy,
            written: String::new(),
            throttled: false,
            quarantined: false,
        };
        let mut shortfalls = Vec::new();
        for (rung, next) in [(Rung::NetdevEgress, Rung::InetOutput), (Rung::InetOutput, Rung::None)] {
            guard.rung = rung;
            match guard.write() {
                Ok(()) => {
                    guard.quarantined = guard.has("quarantine");
                    return Ok((guard, shortfalls));
                }
                Err(why) => shortfalls.push(format!("no {rung}: {why}; with {next}, {}", next.cost())),
            }
        }
        guard.rung = Rung::None;
        Ok((guard, shortfalls))
    }

    /// Where the limit stands.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }

    /// Renews the licence; does nothing while throttled.
    ///
    /// # Errors
    /// [`GuardError::Nft`]; the licence then runs out by itself.
    pub fn renew(&self) -> Result<(), GuardError> {
        if self.throttled {
            return Ok(());
        }
        self.run(&rules::put(self.rung, "licence", self.ifindex, self.policy.licence_ms))
    }

    /// Withdraws the licence at once; renewals give none until [`Guard::lift`].
    ///
    /// # Errors
    /// [`GuardError::Nft`]; renewals have stopped all the same, so the licence runs out.
    pub fn throttle(&mut self) -> Result<(), GuardError> {
        self.throttled = true;
        self.run(&rules::take(self.rung, "licence", self.ifindex))
    }

    /// Lets new connections reach only these and the policy's friends. It stays when the agent dies.
    ///
    /// # Errors
    /// [`GuardError::Nft`].
    pub fn quarantine(&mut self, friends: &[Prefix]) -> Result<(), GuardError> {
        let policy =
            GuardPolicy { friends: [&self.policy.friends[..], friends].concat(), ..self.policy.clone() };
        let complaints = policy.check();
        if !complaints.is_empty() {
            return Err(GuardError::Policy(complaints));
        }
        let friends = rules::friends(self.rung, &policy.friends);
        self.run(&format!("{friends}{}", rules::put(self.rung, "quarantine", self.ifindex, 0)))?;
        self.policy = policy;
        self.quarantined = true;
        Ok(())
    }

    /// Ends throttle and quarantine, and gives a licence.
    ///
    /// # Errors
    /// [`GuardError::Nft`]; then nothing has changed.
    pub fn lift(&mut self) -> Result<(), GuardError> {
        let end = rules::take(self.rung, "quarantine", self.ifindex);
        let licence = rules::put(self.rung, "licence", self.ifindex, self.policy.licence_ms);
        self.run(&format!("{end}{licence}"))?;
        self.throttled = false;
        self.quarantined = false;
        Ok(())
    }

    /// The counts so far; they outlive the agent, not the table.
    ///
    /// # Errors
    /// [`GuardError::Nft`].
    pub fn counters(&self) -> Result<Counters, GuardError> {
        if self.rung == Rung::None {
            return Ok(Counters::default());
        }
        let table: Vec<_> = self.rung.table().split(' ').collect();
        let listed = nft::list(&[&["list", "table"], &table[..]].concat()).map_err(GuardError::Nft)?;
        let [licensed, allowed, limited, dropped, refused] = COUNTERS.map(|name| packets(&listed, name));
        Ok(Counters { licensed, allowed, limited, dropped, refused })
    }

    /// Compares the kernel's rules with ours; writes them anew if somebody changed them.
    ///
    /// # Errors
    /// [`GuardError::Nft`] if they cannot be restored.
    pub fn verify(&mut self) -> Result<Found, GuardError> {
        let kept = !self.quarantined || self.has("quarantine");
        if self.rung == Rung::None || (kept && self.chains().is_ok_and(|now| now == self.written)) {
            return Ok(Found::Intact);
        }
        tracing::warn!(rung = %self.rung, "somebody changed the guard's rules; they are restored, look for who did");
        self.write().map_err(GuardError::Nft)?;
        if self.quarantined {
            self.run(&rules::put(self.rung, "quarantine", self.ifindex, 0))?;
        }
        Ok(Found::Restored)
    }

    /// Removes the limit.
    ///
    /// # Errors
    /// [`GuardError::Nft`] if it is still there.
    pub fn close(self) -> Result<(), GuardError> {
        let table = self.rung.table();
        self.run(&format!("add table {table}\ndelete table {table}\n"))
    }

    fn write(&mut self) -> Result<(), String> {
        let (table, script) = (self.rung.table(), rules::ruleset(self.rung, &self.uplink, &self.policy));
        if let Err(first) = nft::run(&script) {
            // A table that cannot be updated (changed sets, a renamed uplink): replaced in one transaction.
            nft::run(&format!("add table {table}\ndelete table {table}\n{script}")).map_err(|_| first)?;
        }
        self.written = self.chains()?;
        Ok(())
    }

    /// The chains without their counts.
    fn chains(&self) -> Result<String, String> {
        let table: Vec<_> = self.rung.table().split(' ').collect();
        let listed = nft::list(&[&["-s", "list", "table"], &table[..]].concat())?;
        Ok(listed.find("chain ").map_or(String::new(), |at| listed.get(at..).unwrap_or_default().to_owned()))
    }

    fn has(&self, set: &str) -> bool {
        let table: Vec<_> = self.rung.table().split(' ').collect();
        nft::list(&[&["list", "set"], &table[..], &[set]].concat())
            .is_ok_and(|said| said.contains("elements"))
    }

    fn run(&self, script: &str) -> Result<(), GuardError> {
        if self.rung == Rung::None {
            return Ok(());
        }
        nft::run(script).map_err(GuardError::Nft)
    }
}

/// `counter NAME {` and, on the next line, `packets N bytes M`.
fn packets(listed: &str, name: &str) -> u64 {
    let head = format!("counter {name} {{");
    let mut lines = listed.lines().skip_while(|line| line.trim() != head).skip(1);
    lines
        .next()
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}
