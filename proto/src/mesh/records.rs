//! The lease records of this boot, for all endpoints together: one value, written as one.
//!
//! **Invariant.** What is not in the records was never promised in this boot, because the whole value is
//! written before any promise is given. What may have been promised before this boot is covered by silence
//! and by treating the epochs of all plans up to [`Records::floor`] as burned (DESIGN §11 P7).

use crate::id::Name;
use crate::lease::{BootId, OUTLIVED, Record};
use crate::plan::Epoch;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// The records of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    boot_id: BootId,
    /// The last log index that this node's store held when the agent first started in this boot.
    floor: u64,
    silent_until_ns: u64,
    endpoints: BTreeMap<Name, Record>,
}

impl Records {
    /// What the last agent of this boot left behind, or a start without memory.
    ///
    /// `durable_index` is the last log index in the store. `newborn` says that this store, and with it the
    /// node's id, was made by this very start: then there is nothing that could have been forgotten.
    #[must_use]
    pub fn resume(
        found: Option<Self>,
        boot_id: BootId,
        durable_index: u64,
        newborn: bool,
        now: Instant,
    ) -> Self {
        let silent_until = if newborn { now } else { now.after(OUTLIVED) };
        found.filter(|records| records.boot_id == boot_id).unwrap_or_else(|| Self {
            boot_id,
            floor: durable_index,
            silent_until_ns: silent_until.as_ns(),
            endpoints: BTreeMap::new(),
        })
    }

    /// In which boot they were made.
    #[must_use]
    pub const fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// What is known of one endpoint.
    #[must_use]
    pub fn of(&self, endpoint: &Name, now: Instant) -> Record {
        self.endpoints.get(endpoint).copied().unwrap_or_else(|| Record {
            boot_id: self.boot_id,
            highest: if self.floor == 0 { Epoch::default() } else { Epoch::last_of(self.floor) },
            spent: self.floor != 0,
            promise: None,
            config_index: 0,
            config_since_ns: now.as_ns(),
            silent_until_ns: self.silent_until_ns,
            held: None,
        })
    }

    /// Agrees to nothing for an endpoint until then.
    pub(super) fn silence(&mut self, endpoint: &Name, now: Instant, until: Instant) {
        let mut record = self.of(endpoint, now);
        record.silent_until_ns = record.silent_until_ns.max(until.as_ns());
        self.endpoints.insert(endpoint.clone(), record);
    }

    pub(super) fn set(&mut self, endpoint: &Name, record: Record) {
        self.endpoints.insert(endpoint.clone(), record);
    }

    /// Forgets endpoints that are gone and bind nobody any more.
    pub(super) fn retain(&mut self, now: Instant, wanted: impl Fn(&Name) -> bool) {
        self.endpoints.retain(|name, record| {
            wanted(name) || record.held.is_some() || record.promise.is_some_and(|p| p.runs(now))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: BootId = BootId([1; 16]);

    #[test]
    fn after_a_reboot_everything_known_is_burned_and_silence_is_kept() {
        let now = Instant::from_ns(5);
        let old = Records::resume(None, BootId([2; 16]), 3, false, now);
        let records = Records::resume(Some(old), HERE, 7, false, now);
        let record = records.of(&"www".parse().unwrap(), now);
        assert_eq!((record.highest, record.spent), (Epoch::last_of(7), true));
        assert_eq!(record.silent_until_ns, now.after(OUTLIVED).as_ns());
    }

    #[test]
    fn an_agent_restart_forgets_nothing_and_waits_for_nothing() {
        let mut records = Records::resume(None, HERE, 0, true, Instant::ZERO);
        let www: Name = "www".parse().unwrap();
        let promised = Record { highest: Epoch { plan: 9, rank: 2 }, ..records.of(&www, Instant::ZERO) };
        records.set(&www, promised);
        let later = Instant::from_ns(99);
        let again = Records::resume(Some(records.clone()), HERE, 50, false, later);
        assert_eq!(again, records);
        assert_eq!(again.of(&www, later), promised);
    }
}
