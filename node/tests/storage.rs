//! The store on a real disk: damage is noticed, nothing starts empty, a full disk is survived.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

#[path = "common/alone.rs"]
mod alone;

use alone::{Alone, secret};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stead_node::consensus::{
    Compaction, Consensus, Courier, CourierError, Disk, ProposeError, Replica, Role, Settings, Timing,
};
use stead_node::storage::{Create, Op, SimDisk, SledStore, Space, Store, StoreError, Tree};
use stead_proto::id::ClusterId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;

const CLUSTER: ClusterId = ClusterId([7; 32]);

fn open(dir: &Path, create: Create) -> Result<SledStore, StoreError> {
    SledStore::open(dir, CLUSTER, 1, create)
}

fn key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

fn put(index: u64, value: &[u8]) -> Op {
    Op::Put(Tree::Log, key(index), value.to_vec())
}

fn behaves(store: &dyn Store) {
    let long: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    store
        .write(&[put(1, b"one"), put(2, &long), put(3, b""), Op::Put(Tree::Meta, b"k".to_vec(), vec![9])])
        .unwrap();
    assert_eq!(store.get(Tree::Log, &key(2)).unwrap(), Some(long.clone()));
    assert_eq!(store.get(Tree::Log, &key(4)).unwrap(), None);
    assert_eq!(store.last(Tree::Log).unwrap(), Some((key(3), Vec::new())));
    let all = vec![(key(1), b"one".to_vec()), (key(2), long), (key(3), Vec::new())];
    assert_eq!(store.range(Tree::Log, &key(0), &key(u64::MAX), usize::MAX).unwrap(), all);
    assert_eq!(store.range(Tree::Log, &key(1), &key(3), usize::MAX).unwrap(), all[..2]);
    assert_eq!(store.range(Tree::Log, &key(0), &key(9), 0).unwrap(), all[..1]);
    assert_eq!(store.range(Tree::Log, &key(2), &key(9), 5_000).unwrap(), all[1..2]);
    assert_eq!(store.range(Tree::Log, &key(3), &key(3), usize::MAX).unwrap(), []);
    store.write(&[put(2, b"short"), Op::Remove(Tree::Log, key(3)), Op::Remove(Tree::Log, key(7))]).unwrap();
    assert_eq!(store.last(Tree::Log).unwrap(), Some((key(2), b"short".to_vec())));
    store.sync().unwrap();
    assert_eq!(store.snapshot().unwrap(), None);
    store.put_snapshot("2", b"state").unwrap();
    store.put_snapshot("1", b"late").unwrap();
    assert_eq!(store.snapshot().unwrap(), Some(("2".into(), b"state".to_vec())));
}

#[test]
fn both_stores_behave_alike() {
    let dir = tempfile::tempdir().unwrap();
    behaves(&open(&dir.path().join("store"), Create::IfAbsent).unwrap());
    behaves(&SimDisk::default().open());
}

#[test]
fn what_was_synced_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    for start in 0..5_u64 {
        let store = open(&dir, if start == 0 { Create::IfAbsent } else { Create::Never }).unwrap();
        let there = store.range(Tree::Log, &key(0), &key(u64::MAX), usize::MAX).unwrap();
        assert_eq!(u64::try_from(there.len()).unwrap(), start * 100);
        store.write(&(0..100).map(|i| put(start * 100 + i, &[7; 300])).collect::<Vec<_>>()).unwrap();
        store.sync().unwrap();
    }
}

#[test]
fn nothing_starts_empty_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    assert!(matches!(open(&at, Create::Never), Err(StoreError::Absent { .. })));
    assert!(!at.exists());
    drop(open(&at, Create::IfAbsent).unwrap());
    for missing in ["LAYOUT", "sled/db", "sled/conf", "sled", "snapshots"] {
        let aside = dir.path().join("aside");
        fs::rename(at.join(missing), &aside).unwrap();
        let refused = open(&at, Create::IfAbsent).map(drop);
        assert!(matches!(refused, Err(StoreError::Lost { .. })), "{missing}: {refused:?}");
        let _ = fs::remove_dir_all(at.join(missing));
        fs::rename(&aside, at.join(missing)).unwrap();
        drop(open(&at, Create::Never).unwrap());
    }
    fs::write(at.join("sled/db"), b"").unwrap();
    assert!(matches!(open(&at, Create::IfAbsent), Err(StoreError::Lost { .. })));
}

#[test]
fn a_foreign_or_newer_store_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    drop(open(&at, Create::IfAbsent).unwrap());
    for (cluster, node) in [(ClusterId([8; 32]), 1), (CLUSTER, 2)] {
        let refused = SledStore::open(&at, cluster, node, Create::IfAbsent).map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
        assert!(refused.to_string().contains("LAYOUT") && refused.to_string().contains("belongs to"));
    }
    let layout = fs::read_to_string(at.join("LAYOUT")).unwrap();
    fs::write(at.join("LAYOUT"), layout.replace("format 1", "format 2")).unwrap();
    let refused = open(&at, Create::IfAbsent).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { format: 2, known: 1, .. }));
    assert!(refused.to_string().contains("Upgrade stead"));
    for damage in ["", "hello\n", "stead store\nformat 1\n"] {
        fs::write(at.join("LAYOUT"), damage).unwrap();
        assert!(matches!(open(&at, Create::IfAbsent), Err(StoreError::Lost { .. })), "{damage:?}");
    }
}

#[test]
fn two_agents_do_not_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let first = open(&at, Create::IfAbsent).unwrap();
    assert!(matches!(open(&at, Create::Never), Err(StoreError::InUse { .. })));
    drop(first);
    drop(open(&at, Create::Never).unwrap());
}

/// What a creation is made of, in the order in which it moves its parts to their places.
const PARTS: [&str; 4] = ["sled", "snapshots", "reserve", "LAYOUT"];

/// A directory in which the creation of a store ended after `moved` parts had been moved.
fn interrupted(at: &Path, moved: usize) {
    drop(open(at, Create::IfAbsent).unwrap());
    fs::create_dir(at.join("unfinished")).unwrap();
    for part in &PARTS[moved..] {
        fs::rename(at.join(part), at.join("unfinished").join(part)).unwrap();
    }
}

#[test]
fn a_creation_interrupted_anywhere_is_no_store_and_is_begun_again() {
    for moved in 0..PARTS.len() {
        let dir = tempfile::tempdir().unwrap();
        interrupted(dir.path(), moved);
        let refused = open(dir.path(), Create::Never).map(drop);
        assert!(matches!(refused, Err(StoreError::Absent { .. })), "{moved}: {refused:?}");
        drop(open(dir.path(), Create::IfAbsent).unwrap());
        assert!(!dir.path().join("unfinished").exists());
        drop(open(dir.path(), Create::Never).unwrap());
    }
}

#[test]
fn a_creation_interrupted_after_its_last_step_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Create::IfAbsent).unwrap();
    store.write(&[put(1, b"kept")]).unwrap();
    store.sync().unwrap();
    drop(store);
    interrupted(dir.path(), PARTS.len());
    let store = open(dir.path(), Create::IfAbsent).unwrap();
    assert_eq!(store.get(Tree::Log, &key(1)).unwrap(), Some(b"kept".to_vec()));
    assert!(!dir.path().join("unfinished").exists());
}

#[test]
fn what_is_not_ours_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let prepare: [fn(&Path); 3] = [|_| (), |at| interrupted(at, 0), |at| interrupted(at, 3)];
    for (number, prepare) in prepare.into_iter().enumerate() {
        let at = dir.path().join(number.to_string());
        fs::create_dir(&at).unwrap();
        prepare(&at);
        fs::write(at.join("photos"), b"dear to somebody").unwrap();
        let there = |at: &Path| {
            let names = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let before = there(&at);
        let refused = open(&at, Create::IfAbsent).map(drop);
        assert!(matches!(refused, Err(StoreError::Lost { .. })), "{number}: {refused:?}");
        assert_eq!(there(&at), before);
        assert_eq!(fs::read(at.join("photos")).unwrap(), b"dear to somebody");
    }
}

#[test]
fn a_store_begins_on_a_volume_of_its_own() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts a file system of its own: run it as root"
    );
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_path_buf();
    // The mount vanishes with the thread that sees it, and with the threads of the store.
    let on_a_volume = std::thread::spawn(move || {
        mount_tmpfs_of_this_thread(&at);
        fs::create_dir(at.join("lost+found")).unwrap();
        assert!(matches!(open(&at, Create::Never), Err(StoreError::Absent { .. })));
        let store = open(&at, Create::IfAbsent).unwrap();
        store.write(&[put(1, b"one")]).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = open(&at, Create::Never).unwrap();
        assert_eq!(store.get(Tree::Log, &key(1)).unwrap(), Some(b"one".to_vec()));
        assert!(at.join("lost+found").exists());
    });
    on_a_volume.join().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it was written beside the volume");
}

#[expect(unsafe_code, reason = "unshare is unsafe in rustix because of the file table")]
fn mount_tmpfs_of_this_thread(at: &Path) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    // SAFETY: only the mount namespace is unshared, no file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(c"size=64m")).unwrap();
}

/// A byte that changed under a value is an error, or makes the store lost; it is never another answer.
#[test]
fn a_changed_byte_anywhere_in_a_stored_value_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let value: Vec<u8> = (0..=255).rev().cycle().take(3_000).collect();
    let store = open(&at, Create::IfAbsent).unwrap();
    store.write(&[put(1, &value)]).unwrap();
    store.sync().unwrap();
    drop(store);
    let db = at.join("sled/db");
    let content = fs::read(&db).unwrap();
    let pattern = &value[..200];
    let places: Vec<usize> =
        content.windows(pattern.len()).enumerate().filter(|(_, w)| *w == pattern).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "the value is not in the file");
    for offset in (0..1_900).step_by(190) {
        let copy = dir.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        assert!(Command::new("cp").args(["-a"]).args([&at, &copy]).status().unwrap().success());
        let file = fs::OpenOptions::new().write(true).open(copy.join("sled/db")).unwrap();
        for place in &places {
            let at = place + offset;
            file.write_all_at(&[content[at] ^ 0x40], u64::try_from(at).unwrap()).unwrap();
        }
        let read = open(&copy, Create::Never).and_then(|store| store.get(Tree::Log, &key(1)));
        assert!(
            read.as_ref().is_err_and(is_lost) || read.as_ref().is_ok_and(Option::is_none),
            "{offset}: {read:?}"
        );
    }
}

fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::Lost { .. })
}

#[test]
fn a_long_log_stays_small_on_the_disk_and_long_values_stay_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let store = open(&at, Create::IfAbsent).unwrap();
    let began = Instant::now();
    for index in 0..100_000_u64 {
        store.write(&[put(index, &[7; 256])]).unwrap();
        if index % 16 == 15 {
            store.sync().unwrap();
        }
        if index % 5_000 == 4_999 {
            let old: Vec<Op> =
                (index.saturating_sub(5_999)..index - 999).map(|i| Op::Remove(Tree::Log, key(i))).collect();
            store.write(&old).unwrap();
            store.sync().unwrap();
        }
    }
    let took = began.elapsed();
    let bytes = size(&at.join("sled"));
    let rss = resident_kib();
    println!("100000 appends in batches of 16: {took:?}, {bytes} bytes on disk, {rss} KiB resident");
    assert!(bytes < 24 * 1024 * 1024, "{bytes} bytes on the disk");
    for index in 0..20_u64 {
        store.write(&[put(200_000 + index, &vec![3; COMMAND_FRAME_BYTES_MAX])]).unwrap();
    }
    store.sync().unwrap();
    let blobs = fs::read_dir(at.join("sled/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled never syncs these files");
    drop(store);
    let began = Instant::now();
    let store = open(&at, Create::Never).unwrap();
    println!("opened again in {:?}", began.elapsed());
    assert_eq!(store.last(Tree::Log).unwrap().unwrap(), (key(200_019), vec![3; COMMAND_FRAME_BYTES_MAX]));
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A small file system of its own; needs root.
struct SmallDisk {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    fn of(mib: u64) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts a small file system: run it as root (sudo -E cargo test -p stead-node --test storage)"
        );
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("disk");
        fs::create_dir(&at).unwrap();
        let size = format!("size={mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status();
        assert!(mount.unwrap().success(), "cannot mount a tmpfs");
        Self { at, _dir: dir }
    }

    fn store(&self) -> PathBuf {
        self.at.join("store")
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Somebody else writes until nothing fits any more.
    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    fn shrink_filler(&self, bytes: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.filler()).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn a_store_on_a_full_disk_waits_opens_and_heals() {
    let disk = SmallDisk::of(48);
    let store = open(&disk.store(), Create::IfAbsent).unwrap();
    store.write(&[put(1, b"before")]).unwrap();
    store.sync().unwrap();
    disk.fill();
    assert_eq!(store.space(0), Space::Full);
    let mut index = 2;
    while store.write(&[put(index, &[7; 1_000])]).and_then(|()| store.sync()).is_ok() {
        assert!(index < 1_000_000, "the disk never fills");
        index += 1;
        disk.fill();
    }
    let acknowledged = index - 1;
    drop(store);
    // sled cannot open without any room at all, so the operator (or the reserve) has to make some.
    disk.make_room();
    let store = open(&disk.store(), Create::Never).unwrap();
    assert_eq!(store.get(Tree::Log, &key(1)).unwrap(), Some(b"before".to_vec()));
    for index in 2..=acknowledged {
        assert_eq!(store.get(Tree::Log, &key(index)).unwrap(), Some(vec![7; 1_000]), "entry {index}");
    }
    assert_eq!(store.space(0), Space::Ok);
    disk.fill();
    drop(store);
    let store = open(&disk.store(), Create::Never).unwrap();
    store.write(&[put(index, b"from the reserve")]).unwrap();
    store.sync().unwrap();
}

#[test]
fn an_engine_that_met_a_full_disk_is_opened_again_with_all_that_it_missed() {
    let disk = SmallDisk::of(48);
    let store = open(&disk.store(), Create::IfAbsent).unwrap();
    let mut next = 0_u64;
    for round in 0..3_u64 {
        store.write(&[put(next, b"acknowledged")]).unwrap();
        store.sync().unwrap();
        next += 1;
        // Just above the floor, and no reserve: the engine itself runs into the wall.
        let _ = fs::remove_file(disk.store().join("reserve"));
        disk.fill();
        disk.shrink_filler(1_200 * 1024);
        let first = next;
        let long = |i: u64| vec![u8::try_from(round * 16 + i).unwrap(); COMMAND_FRAME_BYTES_MAX];
        let ops: Vec<Op> = (0..12).map(|i| put(first + i, &long(i))).collect();
        store.write(&ops).unwrap();
        let met = store.sync();
        assert!(matches!(met, Err(StoreError::Full { .. })), "round {round}: {met:?}");
        assert!(matches!(store.write(&[put(first, b"later")]), Err(StoreError::Full { .. })));
        disk.make_room();
        store.sync().unwrap();
        store.tend();
        for i in 0..12 {
            assert_eq!(store.get(Tree::Log, &key(first + i)).unwrap(), Some(long(i)), "entry {i}");
        }
        next += 12;
    }
    drop(store);
    let store = open(&disk.store(), Create::Never).unwrap();
    let there = store.range(Tree::Log, &key(0), &key(u64::MAX), usize::MAX).unwrap();
    let indexes: Vec<Vec<u8>> = there.into_iter().map(|(key, _)| key).collect();
    assert_eq!(indexes, (0..next).map(key).collect::<Vec<_>>());
}

struct Nobody;
impl Courier for Nobody {
    async fn call(&self, _to: u64, _frame: Vec<u8>, _deadline: Duration) -> Result<Vec<u8>, CourierError> {
        Err(CourierError::Unreachable("nobody is there".into()))
    }
}

#[derive(Default)]
struct Counter(u64);
impl Replica for Counter {
    fn apply(&mut self, _index: u64, _command: &[u8]) -> Vec<u8> {
        self.0 += 1;
        self.0.to_le_bytes().to_vec()
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), String> {
        self.0 = u64::from_le_bytes(bytes.try_into().map_err(|_| "not a count")?);
        Ok(())
    }
}

async fn until(what: &str, mut predicate: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !predicate() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_on_a_full_disk_refuses_writes_and_heals_without_a_restart() {
    let disk = SmallDisk::of(48);
    let timing =
        Timing { heartbeat: Duration::from_millis(50), election_timeout: Duration::from_millis(300) };
    let settings = Settings {
        dir: disk.store(),
        cluster: CLUSTER,
        me: 1,
        create: Create::IfAbsent,
        timing,
        compaction: Compaction { entries: 200, keep: 50, ..Compaction::default() },
        key: Arc::new(secret()),
        electors: Arc::new(Alone),
    };
    let consensus = Consensus::open(settings, Counter::default(), Nobody).await.unwrap();
    consensus.initialize([1].into()).await.unwrap();
    consensus.campaign().await.unwrap();
    let propose = async || consensus.propose(vec![7; 1_000], Duration::from_secs(5)).await;
    until("it leads", || consensus.status().role == Role::Leader).await;
    let mut acknowledged = 0_u64;
    for _ in 0..3 {
        for _ in 0..300 {
            acknowledged = u64::from_le_bytes(propose().await.unwrap().1.try_into().unwrap());
        }
        disk.fill();
        assert_eq!(propose().await, Err(ProposeError::DiskFull));
        until("the status says so", || consensus.status().disk == Disk::Full).await;
        // What openraft writes by itself finds the reserve, or waits; it never ends consensus.
        let greedy = tokio::time::timeout(Duration::from_secs(2), async {
            loop {
                disk.fill();
                consensus.meta_put("incarnation", &[1; 900]).await.unwrap();
            }
        });
        let _: Result<(), _> = greedy.await;
        disk.make_room();
        until("there is room", || consensus.status().disk == Disk::Ok).await;
        assert_eq!(consensus.status().role, Role::Leader);
    }
    let last = u64::from_le_bytes(propose().await.unwrap().1.try_into().unwrap());
    assert_eq!(last, acknowledged + 1);
    consensus.shutdown().await.unwrap();
}
