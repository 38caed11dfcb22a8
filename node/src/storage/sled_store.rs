//! The store on a disk: sled 0.34.7 and what it takes to trust it.
//!
//! sled's `flush()` is not durable (it calls `sync_file_range`, which flushes neither the disk's cache nor
//! the size of a grown file), so every durability point is `flush()` and then `sync_data()` on our own
//! handle of its file. sled remembers its first I/O error for ever, so writes since the last sync are kept
//! here, and a store that hit a full disk is opened again and gets them again.
//!
//! **Invariant.** [`Store::sync`] returns `Ok` only if every earlier write is in the file and the file is
//! on the disk. An engine that opens without the identity that was stored in it at creation is lost.

use super::layout::{self, Create, Owner};
use super::record::{self, Assembly, Damage};
use super::space::Room;
use super::{Key, Op, Space, Store, StoreError, Tree, is_out_of_space, snapshot_file};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use stead_proto::id::ClusterId;

/// Bytes of sled's page cache.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Bytes of sled's segments and of its write buffers. Items up to a quarter of it stay in the log.
const SEGMENT_BYTES: usize = 256 * 1024;
/// How long an engine that is being closed in the background may keep its lock.
const REOPEN_WAIT: Duration = Duration::from_secs(3);
const REOPEN_STEP: Duration = Duration::from_millis(10);
const IDENTITY_KEY: &[u8] = b"identity";

/// A store in a directory of its own.
pub struct SledStore {
    dir: PathBuf,
    room: Room,
    engine: RwLock<Engine>,
    pending: Mutex<Pending>,
    snapshots: Mutex<()>,
    _lock: File,
}

/// Writes that no sync has covered yet.
#[derive(Default)]
struct Pending {
    ops: Vec<Op>,
    engine_failed: bool,
}

enum Engine {
    Open {
        db: sled::Db,
        file: File,
    },
    /// Between closing a failed engine and opening it again.
    Closed,
}

/// What went wrong inside sled.
enum Trouble {
    Full,
    Broken(String),
    Io(std::io::Error),
}

impl SledStore {
    /// Opens the store of `node`, creating it only if `create` allows.
    ///
    /// # Errors
    /// [`StoreError`] says whether to start it otherwise, to wait for room, or that the store is lost.
    pub fn open(dir: &Path, cluster: ClusterId, node: u64, create: Create) -> Result<Self, StoreError> {
        let owner = Owner { cluster, node };
        if !layout::is_present(dir)? {
            match create {
                Create::Never => return Err(StoreError::Absent { dir: dir.to_path_buf() }),
                Create::IfAbsent => layout::create(dir, owner, |dir| found(dir, owner))?,
            }
        }
        layout::verify(dir, owner)?;
        let lock = lock(&layout::layout_file(dir))?;
        require(&layout::snapshot_dir(dir))?;
        layout::tidy(dir)?;
        snapshot_file::tidy(&layout::snapshot_dir(dir))?;
        let room = Room::of(dir, layout::reserve_file(dir));
        if room.make().is_err() {
            tracing::warn!(dir = %dir.display(), "opening the store on a full disk");
        }
        let engine = match open_engine(dir) {
            Err(StoreError::Full { .. }) => {
                room.give_up_reserve();
                open_engine(dir)?
            }
            other => other?,
        };
        let store = Self {
            dir: dir.to_path_buf(),
            room,
            engine: RwLock::new(engine),
            pending: Mutex::default(),
            snapshots: Mutex::default(),
            _lock: lock,
        };
        store.check_identity(owner)?;
        store.room.restore_reserve();
        Ok(store)
    }

    fn check_identity(&self, owner: Owner) -> Result<(), StoreError> {
        if self.get(Tree::Store, IDENTITY_KEY)? == Some(identity(owner)) {
            Ok(())
        } else {
            Err(self.lost("it does not contain the identity that was stored at its creation".into()))
        }
    }

    fn lost(&self, why: String) -> StoreError {
        StoreError::Lost { file: layout::engine_dir(&self.dir).join("db"), why }
    }

    /// Runs `work` on the open engine; a panic inside sled is damage.
    fn with_engine<T>(&self, work: impl FnOnce(&sled::Db) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Engine::Open { db, .. } = &*engine else {
            return Err(StoreError::Full { dir: self.dir.clone() });
        };
        self.guard(|| work(db))
    }

    fn guard<T>(&self, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, StoreError> {
        let file = layout::engine_dir(&self.dir).join("db");
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Trouble::Full)) => Err(StoreError::Full { dir: self.dir.clone() }),
            Ok(Err(Trouble::Broken(why))) => Err(self.lost(why)),
            Ok(Err(Trouble::Io(source))) => Err(StoreError::io("use", &file, source)),
            Err(_) => Err(self.lost("the engine panicked on its content".into())),
        }
    }

    /// Closes a failed engine, opens it again and repeats the writes that no sync covered.
    fn revive(&self, pending: &mut Pending) -> Result<(), StoreError> {
        self.room.make()?;
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        *engine = Engine::Closed;
        let opened = match open_engine(&self.dir) {
            Err(StoreError::Full { .. }) => {
                self.room.give_up_reserve();
                open_engine(&self.dir)?
            }
            other => other?,
        };
        if let Engine::Open { db, .. } = &opened {
            self.guard(|| pending.ops.iter().try_for_each(|op| apply(db, op)))?;
        }
        *engine = opened;
        pending.engine_failed = false;
        tracing::info!(dir = %self.dir.display(), "opened the store again after the disk was full");
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Engine::Open { db, file } = &*engine else {
            return Err(StoreError::Full { dir: self.dir.clone() });
        };
        self.guard(|| {
            db.flush()?;
            file.sync_data().map_err(Trouble::from)
        })
    }
}

impl Store for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let head_place = record::place(tree, key, 0)?;
        self.with_engine(|db| {
            let Some(head) = db.get(&head_place)? else { return Ok(None) };
            let mut assembly = Assembly::begin(&head_place, &head)?;
            while assembly.wants_more() {
                let place = record::place(tree, key, assembly.next_part())
                    .map_err(|error| Trouble::Broken(error.to_string()))?;
                let Some(part) = db.get(&place)? else { break };
                assembly.add(&place, &part)?;
            }
            Ok(Some(assembly.finish()?.1))
        })
    }

    fn range(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let (from, to) = (record::place(tree, from, 0)?, record::place(tree, to, 0)?);
        if from >= to {
            return Ok(Vec::new());
        }
        self.with_engine(|db| collect(db.range(from..to), bytes_max))
    }

    fn last(&self, tree: Tree) -> Result<Option<(Key, Vec<u8>)>, StoreError> {
        let (from, to) = record::bounds(tree);
        let key = self.with_engine(|db| {
            for item in db.range(from..to).rev() {
                let (place, _) = item?;
                let (key, part) = record::parse_place(&place).ok_or_else(unreadable_place)?;
                if part == 0 {
                    return Ok(Some(key.to_vec()));
                }
            }
            Ok(None)
        })?;
        let Some(key) = key else { return Ok(None) };
        Ok(self.get(tree, &key)?.map(|value| (key, value)))
    }

    fn write(&self, ops: &[Op]) -> Result<(), StoreError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        self.room.make()?;
        if pending.engine_failed {
            self.revive(&mut pending)?;
        }
        pending.ops.extend_from_slice(ops);
        match self.with_engine(|db| ops.iter().try_for_each(|op| apply(db, op))) {
            // The writes are kept: the next sync opens the engine again and repeats them.
            Err(StoreError::Full { .. }) => {
                pending.engine_failed = true;
                Ok(())
            }
            other => other,
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.engine_failed {
            match self.flush() {
                Err(StoreError::Full { .. }) => pending.engine_failed = true,
                other => {
                    other?;
                    pending.ops.clear();
                    return Ok(());
                }
            }
        }
        self.revive(&mut pending)?;
        self.flush().inspect_err(|error| pending.engine_failed = error.is_full())?;
        pending.ops.clear();
        Ok(())
    }

    fn space(&self, bytes: u64) -> Space {
        self.room.space(bytes)
    }

    fn tend(&self) {
        self.room.restore_reserve();
    }

    fn put_snapshot(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let _one_at_a_time = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot_file::put(&layout::snapshot_dir(&self.dir), name, bytes)
    }

    fn snapshot(&self) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        let _one_at_a_time = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot_file::latest(&layout::snapshot_dir(&self.dir))
    }
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => source.into(),
            other @ (sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. }) => Self::Broken(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(source: std::io::Error) -> Self {
        if is_out_of_space(&source) { Self::Full } else { Self::Io(source) }
    }
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Self {
        Self::Broken(damage.to_string())
    }
}

fn unreadable_place() -> Trouble {
    Trouble::Broken("a key is not one of ours".into())
}

fn identity(owner: Owner) -> Vec<u8> {
    let mut bytes = owner.cluster.0.to_vec();
    bytes.extend(owner.node.to_le_bytes());
    bytes
}

/// Fills the directory of a new store: the engine with the identity in it, and the reserve.
fn found(dir: &Path, owner: Owner) -> Result<(), StoreError> {
    let engine = layout::engine_dir(dir);
    fs::create_dir(&engine).map_err(|e| StoreError::io("create the directory", &engine, e))?;
    let db = start(&engine)?;
    let put = || {
        apply(&db, &Op::Put(Tree::Store, IDENTITY_KEY.to_vec(), identity(owner)))?;
        db.flush().map_err(Trouble::from)?;
        File::open(engine.join("db")).and_then(|file| file.sync_all()).map_err(Trouble::from)
    };
    put().map_err(|trouble| trouble.into_error(&engine))?;
    drop(db);
    sync_tree(&engine)?;
    let room = Room::of(dir, layout::reserve_file(dir));
    room.build_reserve()
}

/// Syncs every file and directory of the engine.
fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::io("sync", dir, source);
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
        }
    }
    layout::sync_dir(dir)
}

fn lock(file: &Path) -> Result<File, StoreError> {
    let handle = File::open(file).map_err(|source| StoreError::io("open", file, source))?;
    let deadline = Instant::now() + REOPEN_WAIT;
    while rustix::fs::flock(&handle, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return Err(StoreError::InUse { file: file.to_path_buf() });
        }
        std::thread::sleep(REOPEN_STEP);
    }
    Ok(handle)
}

fn require(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(StoreError::Lost { file: path.to_path_buf(), why: "it is missing".into() })
        }
        Err(source) => Err(StoreError::io("look at", path, source)),
    }
}

/// Opens an engine that exists: sled itself would create a missing one and call that a success.
fn open_engine(dir: &Path) -> Result<Engine, StoreError> {
    let engine = layout::engine_dir(dir);
    let file_path = engine.join("db");
    require(&file_path)?;
    require(&engine.join("conf"))?;
    remove_unfinished_index(&engine)?;
    let db = start(&engine)?;
    let file = File::open(&file_path).map_err(|e| StoreError::io("open", &file_path, e))?;
    file.sync_all().map_err(|e| StoreError::io("sync", &file_path, e))?;
    layout::sync_dir(&engine)?;
    Ok(Engine::Open { db, file })
}

/// A half-written index keeps sled from opening; it writes a new one from its log.
fn remove_unfinished_index(engine: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::io("tidy", engine, source);
    for entry in fs::read_dir(engine).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&path).map_err(io)?;
        }
    }
    Ok(())
}

fn start(engine: &Path) -> Result<sled::Db, StoreError> {
    let deadline = Instant::now() + REOPEN_WAIT;
    loop {
        let config = sled::Config::new()
            .path(engine)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .segment_size(SEGMENT_BYTES);
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(StoreError::InUse { file: engine.join("db") });
                }
                std::thread::sleep(REOPEN_STEP);
            }
            Ok(Err(error)) => return Err(Trouble::from(error).into_error(engine)),
            Err(_) => {
                let why = "the engine panicked while opening it".into();
                return Err(StoreError::Lost { file: engine.join("db"), why });
            }
        }
    }
}

impl Trouble {
    fn into_error(self, engine: &Path) -> StoreError {
        let file = engine.join("db");
        match self {
            Self::Full => StoreError::Full { dir: engine.to_path_buf() },
            Self::Broken(why) => StoreError::Lost { file, why },
            Self::Io(source) => StoreError::io("open", &file, source),
        }
    }
}

fn apply(db: &sled::Db, op: &Op) -> Result<(), Trouble> {
    match op {
        Op::Put(tree, key, value) => {
            let parts = record::seal(*tree, key, value).map_err(|e| Trouble::Broken(e.to_string()))?;
            if parts.len() > 1 {
                remove(db, *tree, key)?;
            }
            for (place, sealed) in parts {
                db.insert(place, sealed)?;
            }
            Ok(())
        }
        Op::Remove(tree, key) => remove(db, *tree, key),
    }
}

fn remove(db: &sled::Db, tree: Tree, key: &[u8]) -> Result<(), Trouble> {
    let place = |part| record::place(tree, key, part).map_err(|e| Trouble::Broken(e.to_string()));
    db.remove(place(0)?)?;
    let rest: BTreeSet<_> =
        db.range(place(1)?..=place(u16::MAX)?).keys().collect::<Result<_, sled::Error>>()?;
    for place in rest {
        db.remove(place)?;
    }
    Ok(())
}

fn collect(items: sled::Iter, bytes_max: usize) -> Result<Vec<(Key, Vec<u8>)>, Trouble> {
    let mut records: Vec<(Key, Vec<u8>)> = Vec::new();
    let mut bytes = 0_usize;
    let mut open: Option<Assembly> = None;
    for item in items {
        let (place, sealed) = item?;
        let (key, part) = record::parse_place(&place).ok_or_else(unreadable_place)?;
        if part == 0 {
            if let Some(done) = open.take() {
                let record = done.finish()?;
                bytes = bytes.saturating_add(record.1.len());
                records.push(record);
            }
            if bytes >= bytes_max && !records.is_empty() {
                return Ok(records);
            }
            open = Some(Assembly::begin(&place, &sealed)?);
        } else if let Some(assembly) = open.as_mut().filter(|assembly| assembly.owns(key, part)) {
            assembly.add(&place, &sealed)?;
        }
    }
    if let Some(done) = open {
        records.push(done.finish()?);
    }
    Ok(records)
}
