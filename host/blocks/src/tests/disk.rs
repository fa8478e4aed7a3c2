//! What is charged for what lies on disk, and what comes of too much.

use std::cell::Cell;

use ingle_core::ids::{CacheId, StageId};
use ingle_core::memory::{MemoryPool, MemoryUse};
use ingle_core::size::ByteSize;
use tempfile::TempDir;

use crate::{BlockStore, Compression, Disk, Error, ShuffleDir, StorageLevel};

const BLOCK: usize = 64 << 10;

/// A store of little memory and a disk of so many bytes.
fn store(limit: u64) -> (TempDir, Disk, BlockStore) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), limit, "raise ingle.executor.disk");
    let pool = MemoryPool::new(ByteSize(256 << 10));
    let store = BlockStore::new(pool, folder.path()).unwrap().charging(&disk);
    (folder, disk, store)
}

/// Bytes that the files of a folder take, as the file system sees it.
fn on_disk(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => on_disk(&path),
            false => std::fs::metadata(path).unwrap().blocks() * 512,
        })
        .sum()
}

fn assert_out_of_disk(error: &Error) {
    let text = error.to_string();
    assert!(matches!(error, Error::Disk(_)), "{text}");
    assert!(text.contains("raise ingle.executor.disk"), "{text}");
}

#[test]
fn runs_are_charged_until_they_are_dropped_and_then_the_disk_is_free() {
    let (folder, disk, store) = store(4 << 20);
    let mut runs = store.runs();
    // Ten times what the disk has, but never at once.
    for _ in 0..20 {
        let run = runs.create().unwrap();
        (0..32).for_each(|_| runs.write(run, &[7; BLOCK]).unwrap());
        assert!(disk.used() > 1 << 20 && on_disk(folder.path()) > 1 << 20);
        let mut reader = runs.open(run).unwrap();
        while reader.next_block().unwrap().is_some() {}
        drop(reader);
        runs.drop_run(run).unwrap();
        assert!(disk.used() < 1 << 20, "{}", disk.used());
    }
    assert!(on_disk(folder.path()) < 1 << 20);
    let run = runs.create().unwrap();
    let refused = (0..1000).find_map(|_| runs.write(run, &[7; BLOCK]).err()).unwrap();
    assert_out_of_disk(&refused);
    assert!(on_disk(folder.path()) <= 5 << 20);
    drop(runs);
    assert_eq!(disk.used(), 0);
}

#[test]
fn a_run_that_is_read_stays_though_it_is_dropped() {
    let (_folder, _disk, store) = store(64 << 20);
    let mut runs = store.runs();
    let run = runs.create().unwrap();
    (0..32u8).for_each(|n| runs.write(run, &[n; BLOCK]).unwrap());
    let mut reader = runs.open(run).unwrap();
    runs.drop_run(run).unwrap();
    for n in 0..32u8 {
        assert_eq!(reader.next_block().unwrap(), Some(&[n; BLOCK][..]));
    }
}

#[test]
fn shuffle_output_is_charged_also_when_it_is_empty_until_its_stage_goes() {
    let (_folder, disk, store) = store(1 << 20);
    let write = |stage, map, partitions| {
        let mut output = store.task_output(StageId(stage), map, 0, partitions);
        if map == 0 {
            output.write(0, &[1; 1000])?;
        }
        output.commit()
    };
    write(1, 0, 1).unwrap();
    let small = disk.used();
    assert!((1000..2000).contains(&small), "{small}");
    // Nothing but directories, of 16 bytes a partition.
    let refused = (1..1000).find_map(|map| write(2, map, 10_000).err()).unwrap();
    assert_out_of_disk(&refused);
    assert!(disk.used() > 700 << 10, "{}", disk.used());
    store.drop_stage(StageId(2));
    assert_eq!(disk.used(), small);
    store.drop_stage(StageId(1));
    assert_eq!(disk.used(), 0);
}

#[test]
fn cached_partitions_and_results_are_charged_until_they_go() {
    let (_folder, disk, store) = store(1 << 20);
    let mut cached = store.cache_writer(CacheId(1), 0, StorageLevel::DiskOnly);
    (0..8).for_each(|_| assert!(cached.write(&[1; BLOCK]).unwrap()));
    cached.finish();
    assert!(cached.commit().unwrap());
    assert_eq!(disk.used(), 8 * BLOCK as u64);
    let mut result = store.result();
    let refused = (0..100).find_map(|_| result.emit(&[1; BLOCK]).err()).unwrap();
    assert_out_of_disk(&refused);
    drop(result);
    assert_eq!(disk.used(), 8 * BLOCK as u64);
    store.drop_cache(CacheId(1));
    assert_eq!(disk.used(), 0);
}

#[test]
fn what_is_spilled_and_what_is_shuffled_is_owed_at_the_disks_rate() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever owes something is asked whether to stop.
    let owes = |store: &BlockStore| {
        let asked = Cell::new(false);
        store.pay_for_writes(|| {
            asked.set(true);
            true
        });
        asked.get()
    };
    let store = || {
        let disk = Disk::shared(folder.path(), 64 << 20, "", u64::MAX, "", Some(1));
        let dir = ShuffleDir::create(&folder.path().join("shuffle")).unwrap();
        let pool = MemoryPool::new(ByteSize(256 << 10));
        BlockStore::with_shuffle_dir(pool, folder.path(), dir).unwrap().charging(&disk)
    };
    let spills = store();
    let mut runs = spills.runs();
    let run = runs.create().unwrap();
    runs.write(run, &[7; 1000]).unwrap();
    assert!(!owes(&spills), "it is in memory");
    (0..32).for_each(|_| runs.write(run, &[7; BLOCK]).unwrap());
    assert!(owes(&spills));
    let shuffles = store();
    let mut output = shuffles.task_output(StageId(1), 0, 0, 1);
    output.write(0, &[7; 1000]).unwrap();
    assert!(!owes(&shuffles), "it is in memory");
    output.commit().unwrap();
    assert!(owes(&shuffles));
}

#[test]
fn a_try_that_ends_as_its_stage_is_dropped_leaves_no_charge() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), 64 << 20, "");
    let pool = MemoryPool::new(ByteSize(1 << 20));
    let dir = ShuffleDir::create(&folder.path().join("shuffle")).unwrap().charging(&disk);
    for stage in (0..500).map(StageId) {
        let charge = pool.reserve(MemoryUse::Shuffle, 0).unwrap();
        let mut writer = dir.write(stage, 0, 0, 1, Compression::None, charge).unwrap();
        writer.begin(0).unwrap();
        writer.push(&[1; 1000]).unwrap();
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                // It may find no folder.
                drop(writer.commit());
            });
            both.wait();
            dir.drop_stage(stage);
        });
        assert_eq!(disk.used(), 0, "{stage}");
        assert_eq!(std::fs::read_dir(folder.path().join("shuffle")).unwrap().count(), 0);
    }
}
