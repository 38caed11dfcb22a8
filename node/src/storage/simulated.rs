//! A disk in memory that can lose power: for simulations and tests.
//!
//! **Invariant.** After [`SimDisk::crash`] exactly the synced writes and a prefix of the others are left,
//! and handles from before the crash can do nothing any more.

use super::{Key, Op, Space, Store, StoreError, Tree};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Content = BTreeMap<(Tree, Key), Vec<u8>>;

/// The disk; it outlives the process that uses it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    durable: Content,
    visible: Content,
    unsynced: Vec<Op>,
    snapshot: Option<(String, Vec<u8>)>,
    full: bool,
    withheld: bool,
    life: u64,
    syncs: u64,
}

/// One process's handle of a [`SimDisk`].
#[derive(Debug)]
pub struct SimStore {
    disk: SimDisk,
    life: u64,
}

impl SimDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle for the process that runs now.
    #[must_use]
    pub fn open(&self) -> SimStore {
        SimStore { disk: self.clone(), life: self.platter().life }
    }

    /// Writes that no sync has covered yet.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.platter().unsynced.len()
    }

    /// How often the disk was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// Cuts the power: of the writes since the last sync, only the first `kept` reached the disk.
    pub fn crash(&self, kept: usize) {
        let mut platter = self.platter();
        let unsynced = std::mem::take(&mut platter.unsynced);
        for op in unsynced.into_iter().take(kept) {
            apply(&mut platter.durable, op);
        }
        platter.visible = platter.durable.clone();
        platter.life += 1;
        platter.withheld = false;
    }

    /// From now on the disk only pretends to sync, so that a later crash can fall between any two writes.
    pub fn withhold_syncs(&self) {
        self.platter().withheld = true;
    }

    /// Fills the disk, or makes room on it.
    pub fn set_full(&self, space: Space) {
        self.platter().full = space == Space::Full;
    }
}

fn apply(content: &mut Content, op: Op) {
    match op {
        Op::Put(tree, key, value) => drop(content.insert((tree, key), value)),
        Op::Remove(tree, key) => drop(content.remove(&(tree, key))),
    }
}

impl SimStore {
    fn platter(&self) -> Result<MutexGuard<'_, Platter>, StoreError> {
        let platter = self.disk.platter();
        if platter.life == self.life {
            return Ok(platter);
        }
        let source = io::Error::other("the power was cut");
        Err(StoreError::Io { what: "use", path: PathBuf::from("simulated"), source })
    }

    fn writable(&self) -> Result<MutexGuard<'_, Platter>, StoreError> {
        let platter = self.platter()?;
        if platter.full { Err(StoreError::Full { dir: PathBuf::from("simulated") }) } else { Ok(platter) }
    }
}

impl Store for SimStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.platter()?.visible.get(&(tree, key.to_vec())).cloned())
    }

    fn range(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let platter = self.platter()?;
        let mut records: Vec<(Key, Vec<u8>)> = Vec::new();
        let mut bytes = 0_usize;
        for ((_, key), value) in platter.visible.range((tree, from.to_vec())..(tree, to.to_vec())) {
            if bytes >= bytes_max && !records.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(value.len());
            records.push((key.clone(), value.clone()));
        }
        Ok(records)
    }

    fn last(&self, tree: Tree) -> Result<Option<(Key, Vec<u8>)>, StoreError> {
        let platter = self.platter()?;
        let mut keys = platter.visible.iter().rev().filter(|((of, _), _)| *of == tree);
        Ok(keys.next().map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn write(&self, ops: &[Op]) -> Result<(), StoreError> {
        let mut platter = self.writable()?;
        for op in ops {
            platter.unsynced.push(op.clone());
            apply(&mut platter.visible, op.clone());
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut platter = self.writable()?;
        if platter.withheld {
            return Ok(());
        }
        let unsynced = std::mem::take(&mut platter.unsynced);
        for op in unsynced {
            apply(&mut platter.durable, op);
        }
        platter.syncs += 1;
        Ok(())
    }

    fn space(&self, _bytes: u64) -> Space {
        if self.disk.platter().full { Space::Full } else { Space::Ok }
    }

    fn tend(&self) {}

    fn put_snapshot(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut platter = self.writable()?;
        if platter.snapshot.as_ref().is_none_or(|(there, _)| there.as_str() <= name) {
            platter.snapshot = Some((name.to_owned(), bytes.to_vec()));
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        Ok(self.platter()?.snapshot.clone())
    }
}
