use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use ingle_core::ids::{CacheId, StageId};
use ingle_core::memory::{Account, MemoryPool, MemoryUse};
use ingle_core::size::ByteSize;
use tempfile::TempDir;

use super::{drain_shuffle, outputs};
use crate::{
    BlockReader, BlockStore, CachedStats, Error, MapOutput, Place, RunSet, ShuffleReader,
    StorageLevel,
};

const STAGE: StageId = StageId(1);
const CACHE: CacheId = CacheId(1);

struct Fixture {
    folder: TempDir,
    pool: MemoryPool,
    store: BlockStore,
}

fn fixture(memory: u64) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let pool = MemoryPool::new(ByteSize(memory));
    let store = BlockStore::new(pool.clone(), folder.path()).unwrap();
    Fixture { folder, pool, store }
}

fn open(store: &BlockStore, maps: u32, partition: u32) -> crate::Result<ShuffleReader> {
    store.open_shuffle(STAGE, outputs(maps), None, partition..partition + 1, None)
}

fn read_shuffle(reader: ShuffleReader) -> Vec<Vec<u8>> {
    drain_shuffle(reader).unwrap()
}

fn read_all(mut reader: BlockReader) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        blocks.push(block.to_vec());
    }
    assert!(reader.next_block().unwrap().is_none(), "the end stays the end");
    blocks
}

/// Makes everything that can leave memory leave it.
fn squeeze(pool: &MemoryPool) {
    let free = pool.capacity().0 - pool.usage().total();
    assert!(pool.reserve(MemoryUse::Guest, free + 1).is_ok(), "something is evicted");
}

fn spill_folder(folder: &Path) -> std::path::PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

fn commit(store: &BlockStore, map: u32, blocks: &[(u32, &[u8])]) {
    commit_attempt(store, map, 0, blocks);
}

fn commit_attempt(store: &BlockStore, map: u32, attempt: u32, blocks: &[(u32, &[u8])]) {
    let mut output = store.task_output(STAGE, map, attempt, 4);
    for (partition, block) in blocks {
        output.write(*partition, block).unwrap();
    }
    output.commit().unwrap();
}

#[test]
fn a_partition_is_read_block_by_block_in_the_order_of_the_maps() {
    let f = fixture(1 << 20);
    commit(&f.store, 1, &[(0, b"b0"), (2, b"b2")]);
    commit(&f.store, 0, &[(2, b"a2"), (0, b"a0"), (2, b""), (2, b"more")]);
    let read = |p| read_shuffle(open(&f.store, 2, p).unwrap());
    for _ in 0..2 {
        assert_eq!(read(0), [b"a0", b"b0"]);
        assert_eq!(read(2), [&b"a2"[..], b"more", b"b2"]);
        assert_eq!(read(3), [b""; 0]);
    }
    assert_eq!(f.store.stats().shuffled, 12);
    assert_eq!((f.store.stats().spilled, f.pool.usage().total()), (0, 0), "it is in files");
}

#[test]
fn a_missing_output_is_named() {
    let f = fixture(1 << 20);
    commit(&f.store, 0, &[(0, b"x")]);
    let missing = drain_shuffle(open(&f.store, 3, 0).unwrap()).unwrap_err();
    assert!(matches!(missing, Error::MissingOutput { stage: STAGE, map: 1, .. }), "{missing}");
    f.store.drop_stage(STAGE);
    let missing = drain_shuffle(open(&f.store, 1, 0).unwrap()).unwrap_err();
    assert!(matches!(missing, Error::MissingOutput { map: 0, .. }), "{missing}");
}

#[test]
fn each_attempt_is_read_by_its_number_and_the_rest_is_credited() {
    let f = fixture(1 << 20);
    commit_attempt(&f.store, 0, 0, &[(0, b"first")]);
    commit_attempt(&f.store, 0, 1, &[(0, b"second")]);
    let used = f.pool.usage();
    let mut dropped = f.store.task_output(STAGE, 1, 0, 4);
    dropped.write(0, b"never committed").unwrap();
    drop(dropped);
    assert_eq!(f.pool.usage(), used);
    let second: Arc<[_]> = [MapOutput { map: 0, attempt: 1, place: Place::Here }].into();
    let read = f.store.open_shuffle(STAGE, second, None, 0..1, None).unwrap();
    assert_eq!(read_shuffle(read), [b"second"]);
    assert_eq!(read_shuffle(open(&f.store, 1, 0).unwrap()), [b"first"]);
    f.store.drop_stage(STAGE);
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn a_partition_that_is_not_there_is_refused() {
    let f = fixture(1 << 20);
    let mut output = f.store.task_output(STAGE, 0, 0, 4);
    assert!(matches!(output.write(4, b"x"), Err(Error::Invalid(_))));
}

#[test]
fn a_reader_goes_on_with_what_it_has_open_when_its_stage_is_dropped() {
    let f = fixture(8 << 20);
    let block = vec![7; 300 << 10];
    commit(&f.store, 0, &[(0, &block), (0, &block), (0, &block), (0, &block), (0, &block)]);
    let mut reader = open(&f.store, 1, 0).unwrap();
    assert_eq!(reader.next_block().unwrap(), Some(&block[..]));
    f.store.drop_stage(STAGE);
    assert_eq!(read_shuffle(reader), vec![block; 4]);
}

/// A run of these blocks, its number 0, which may be spilled.
fn run_of(store: &BlockStore, blocks: &[&[u8]]) -> RunSet {
    let mut runs = store.runs();
    let run = runs.create().unwrap();
    blocks.iter().for_each(|block| runs.write(run, block).unwrap());
    drop(runs.open(run).unwrap());
    runs
}

fn spill_file(folder: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.is_file()).unwrap()
}

#[test]
fn spill_files_are_private_and_go_with_what_they_hold() {
    let f = fixture(1 << 20);
    let runs = run_of(&f.store, &[b"x"]);
    squeeze(&f.pool);
    let folder = spill_folder(f.folder.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("shuffle"))), (0o700, 0o700));
    let file = spill_file(&folder);
    assert_eq!(mode(&file), 0o600);
    drop(runs);
    assert!(!file.exists());
    drop(f.store);
    assert!(!folder.exists());
}

#[test]
fn a_block_changed_on_disk_is_found_and_named() {
    let f = fixture(1 << 20);
    let mut runs = run_of(&f.store, &[b"aaaa", b"bbbb"]);
    squeeze(&f.pool);
    std::fs::write(spill_file(&spill_folder(f.folder.path())), b"aaaabbxb").unwrap();
    let mut reader = runs.open(0).unwrap();
    assert_eq!(reader.next_block().unwrap(), Some(&b"aaaa"[..]));
    let error = reader.next_block().unwrap_err();
    assert!(matches!(error, Error::Damaged { offset: 4, .. }), "{error}");
}

#[test]
fn without_memory_for_blocks_a_task_writes_through_to_disk() {
    let f = fixture(40 << 10);
    let block = vec![3; 100 << 10];
    let mut runs = run_of(&f.store, &[b"small", &block]);
    assert_eq!(f.store.stats().spilled, block.len() as u64);
    let mut reader = runs.open(0).unwrap();
    assert_eq!(reader.next_block().unwrap(), Some(&b"small"[..]));
    assert!(
        matches!(reader.next_block(), Err(Error::Memory(_))),
        "reading it needs memory, in one piece"
    );
}

#[test]
fn a_spill_that_fails_is_an_error_of_the_task_with_the_path() {
    let f = fixture(40 << 10);
    let folder = spill_folder(f.folder.path());
    std::fs::remove_dir_all(&folder).unwrap();
    let mut output = f.store.task_output(STAGE, 0, 0, 1);
    let error = (0..100).find_map(|_| output.write(0, &[1; 10_000]).err()).unwrap();
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
}

#[test]
fn tiny_blocks_are_packed() {
    let f = fixture(64 << 20);
    let mut output = f.store.task_output(STAGE, 0, 0, 4);
    for i in 0..100_000u32 {
        output.write(i % 4, &i.to_le_bytes()).unwrap();
    }
    assert!(f.pool.usage().total() < 100_000 * 40, "{}", f.pool.usage());
    squeeze(&f.pool);
    output.commit().unwrap();
    for partition in 0..4 {
        let read = read_shuffle(open(&f.store, 1, partition).unwrap());
        let expected: Vec<_> = (0..25_000).map(|i| (4 * i + partition).to_le_bytes()).collect();
        assert_eq!(read, expected);
    }
}

#[test]
fn a_run_is_read_from_its_start_as_often_as_one_likes() {
    let f = fixture(1 << 20);
    let mut runs = f.store.runs();
    let (a, b) = (runs.create().unwrap(), runs.create().unwrap());
    runs.write(a, b"a1").unwrap();
    runs.write(b, b"b1").unwrap();
    runs.write(a, b"a2").unwrap();
    for _ in 0..2 {
        assert_eq!(read_all(runs.open(a).unwrap()), [b"a1", b"a2"]);
        assert_eq!(read_all(runs.open(b).unwrap()), [b"b1"]);
        squeeze(&f.pool);
    }
    assert!(runs.write(a, b"late").is_err());
    assert!(runs.write(9, b"x").is_err() && runs.open(9).is_err());
    drop(runs);
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn a_run_that_is_dropped_gives_its_memory_and_its_number_back() {
    let f = fixture(4 << 20);
    let mut runs = f.store.runs();
    let (kept, dropped) = (runs.create().unwrap(), runs.create().unwrap());
    runs.write(kept, b"kept").unwrap();
    for block in [[1; 100_000], [2; 100_000]] {
        runs.write(dropped, &block).unwrap();
    }
    let held = f.pool.usage().total();
    let mut reader = runs.open(dropped).unwrap();
    assert_eq!(reader.next_block().unwrap().map(<[u8]>::len), Some(100_000));
    runs.drop_run(dropped).unwrap();
    assert!(runs.drop_run(dropped).is_err() && runs.drop_run(7).is_err());
    assert!(runs.open(dropped).is_err() && runs.write(dropped, b"late").is_err());
    // Who reads it goes on.
    assert_eq!(reader.next_block().unwrap().map(<[u8]>::len), Some(100_000));
    drop(reader);
    assert!(f.pool.usage().total() + 200_000 <= held, "{}", f.pool.usage());
    let again = runs.create().unwrap();
    assert_eq!((again, runs.create().unwrap()), (dropped, dropped + 1));
    runs.write(again, b"again").unwrap();
    assert_eq!(read_all(runs.open(again).unwrap()), [b"again"]);
    assert_eq!(read_all(runs.open(kept).unwrap()), [b"kept"]);
}

#[test]
fn runs_that_are_filled_in_turn_leave_memory_to_be_had() {
    let f = fixture(4 << 20);
    let mut runs = f.store.runs();
    let all: Vec<u32> = (0..16).map(|_| runs.create().unwrap()).collect();
    for round in 0..20u8 {
        all.iter().for_each(|run| runs.write(*run, &[round; 10_000]).unwrap());
    }
    // What isn't full can't be evicted: not more of it than a sixteenth for each of so many runs together.
    let free = f.pool.reserve(MemoryUse::Guest, (4 << 20) - (512 << 10));
    assert!(free.is_ok(), "{}", f.pool.usage());
    drop(free);
    for run in all {
        let expected: Vec<_> = (0..20u8).map(|round| [round; 10_000]).collect();
        assert_eq!(read_all(runs.open(run).unwrap()), expected);
    }
}

#[test]
fn a_result_is_one_value_wherever_it_was() {
    let f = fixture(16 << 20);
    for size in [10, 3 << 20] {
        let piece = vec![5; size / 10];
        let emit = || {
            let mut result = f.store.result();
            (0..10).for_each(|_| result.emit(&piece).unwrap());
            result.finish().unwrap()
        };
        let (stays, spills) = (emit(), emit());
        assert_eq!(stays.bytes(), 10 * piece.len() as u64);
        assert_eq!(&*stays.load().unwrap(), piece.repeat(10));
        squeeze(&f.pool);
        assert_eq!(&*spills.load().unwrap(), piece.repeat(10));
    }
    assert_eq!(f.pool.usage().total(), 0);
    assert!(f.store.result().finish().unwrap().load().unwrap().is_empty());
}

fn cache(store: &BlockStore, partition: u32, level: StorageLevel, block: &[u8]) {
    let mut writer = store.cache_writer(CACHE, partition, level);
    assert!(writer.write(block).unwrap());
    writer.finish();
    assert!(writer.commit().unwrap());
}

fn cached(store: &BlockStore, partition: u32) -> Option<Vec<Vec<u8>>> {
    store.open_cached(CACHE, partition).unwrap().map(read_all)
}

#[test]
fn cached_partitions_survive_pressure_as_their_level_says() {
    let f = fixture(1 << 20);
    for (partition, level) in [
        (0, StorageLevel::MemoryOnly),
        (1, StorageLevel::MemoryAndDisk),
        (2, StorageLevel::DiskOnly),
    ] {
        cache(&f.store, partition, level, b"kept");
        assert_eq!(cached(&f.store, partition), Some(vec![b"kept".to_vec()]));
    }
    assert_eq!(cached(&f.store, 9), None);
    assert_eq!(f.store.stats().spilled, 4, "only what must be on disk is");
    // Twice: the least recently used goes first, one at a time.
    squeeze(&f.pool);
    squeeze(&f.pool);
    assert_eq!(cached(&f.store, 0), None);
    assert_eq!(cached(&f.store, 1), Some(vec![b"kept".to_vec()]));
    assert_eq!(cached(&f.store, 2), Some(vec![b"kept".to_vec()]));
    f.store.drop_cache(CACHE);
    assert_eq!(cached(&f.store, 1), None);
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn the_least_recently_used_cached_partition_goes_first() {
    let f = fixture(1 << 20);
    (0..3).for_each(|p| cache(&f.store, p, StorageLevel::MemoryOnly, b"x"));
    assert!(cached(&f.store, 0).is_some());
    squeeze(&f.pool);
    let left: Vec<_> = (0..3).filter(|p| cached(&f.store, *p).is_some()).collect();
    assert_eq!(left, [0, 2]);
}

#[test]
fn what_tasks_write_is_spilled_before_a_cached_partition_is_lost() {
    let f = fixture(1 << 20);
    cache(&f.store, 0, StorageLevel::MemoryOnly, b"x");
    let _runs = run_of(&f.store, &[b"y"]);
    squeeze(&f.pool);
    assert!(cached(&f.store, 0).is_some());
    assert_eq!(f.store.stats().spilled, 1);
}

#[test]
fn a_partition_that_is_read_is_not_lost_under_the_reader() {
    let f = fixture(1 << 20);
    cache(&f.store, 0, StorageLevel::MemoryOnly, b"x");
    let reader = f.store.open_cached(CACHE, 0).unwrap().unwrap();
    let free = f.pool.capacity().0 - f.pool.usage().total();
    assert!(f.pool.reserve(MemoryUse::Guest, free + 1).is_err());
    assert_eq!(read_all(reader), [b"x"]);
    squeeze(&f.pool);
    assert!(cached(&f.store, 0).is_none());
}

#[test]
fn a_partition_too_large_for_memory_is_just_not_cached() {
    let f = fixture(256 << 10);
    let mut writer = f.store.cache_writer(CACHE, 0, StorageLevel::MemoryOnly);
    let fits = |_| writer.write(&[1; 10 << 10]).unwrap();
    assert_eq!((0..100).map(fits).last(), Some(false));
    writer.finish();
    assert!(!writer.commit().unwrap());
    assert!(cached(&f.store, 0).is_none());
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn a_dataset_does_not_make_room_for_itself_by_its_own_loss() {
    const PARTITION: usize = 100 << 10;
    let f = fixture(1 << 20);
    let store = |cache: CacheId, partition, level| {
        let mut writer = f.store.cache_writer(cache, partition, level);
        for _ in 0..10 {
            writer.write(&[1; PARTITION / 10]).unwrap();
        }
        writer.finish();
        writer.commit().unwrap()
    };
    let kept = |cache, upto| {
        let is_kept = |p: &u32| f.store.open_cached(cache, *p).unwrap().is_some();
        (0..upto).filter(is_kept).count()
    };
    let stored = (0..20).filter(|p| store(CACHE, *p, StorageLevel::MemoryOnly)).count();
    assert!((5..10).contains(&stored), "as many as there is room for: {stored}");
    assert_eq!(kept(CACHE, 20), stored, "none was lost for another");
    // Another dataset may take what was used longest ago, and goes to disk when it would have to take from itself.
    let other = CacheId(CACHE.0 + 1);
    assert!((0..20).all(|p| store(other, p, StorageLevel::MemoryAndDisk)));
    assert_eq!((kept(CACHE, 20), kept(other, 20)), (0, 20));
    assert!(f.store.stats().spilled >= 10 * PARTITION as u64);
}

#[test]
fn nothing_is_stored_of_a_dropped_dataset() {
    let f = fixture(1 << 20);
    let mut late = f.store.cache_writer(CACHE, 0, StorageLevel::MemoryAndDisk);
    late.write(b"x").unwrap();
    late.finish();
    f.store.drop_cache(CACHE);
    assert!(!late.commit().unwrap());
    assert!(cached(&f.store, 0).is_none());
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn a_cached_partition_is_stored_only_if_it_is_whole() {
    let f = fixture(1 << 20);
    let writer = || f.store.cache_writer(CACHE, 0, StorageLevel::MemoryAndDisk);
    let mut part = writer();
    part.write(b"x").unwrap();
    assert!(!part.commit().unwrap());
    assert!(cached(&f.store, 0).is_none());
    let mut empty = writer();
    empty.finish();
    assert!(matches!(empty.write(b"x"), Err(Error::Invalid(_))), "nothing follows");
    assert!(empty.commit().unwrap());
    assert_eq!(cached(&f.store, 0), Some(Vec::new()), "it has no records, which is known");
}

#[test]
fn a_cached_partition_that_was_not_committed_is_not_there() {
    let f = fixture(1 << 20);
    f.store.cache_writer(CACHE, 0, StorageLevel::MemoryAndDisk).write(b"x").unwrap();
    assert!(cached(&f.store, 0).is_none());
    assert_eq!(f.pool.usage().total(), 0);
}

#[test]
fn a_task_is_told_what_it_held_and_what_of_it_went_to_disk() {
    let f = fixture(1 << 20);
    let (task, other) = (Arc::new(Account::default()), Arc::new(Account::default()));
    let mut output = f.store.task_output(STAGE, 0, 0, 4).on(&task);
    let mut runs = f.store.runs().on(&task);
    let mut result = f.store.result().on(&other);
    let mut cached = f.store.cache_writer(CACHE, 0, StorageLevel::MemoryAndDisk).on(&task);
    let run = runs.create().unwrap();
    runs.write(run, &[1; 50_000]).unwrap();
    output.write(1, &[2; 100_000]).unwrap();
    cached.write(&[3; 70_000]).unwrap();
    result.emit(&[4; 10_000]).unwrap();
    let mut reader = runs.open(run).unwrap().on(&task);
    assert_eq!(reader.next_block().unwrap().map(<[u8]>::len), Some(50_000));
    drop((reader, runs));
    let near = |bytes: u64, payload: u64| (payload..payload + 40_000).contains(&bytes);
    let (now, most) = (task.now(), task.most());
    assert!(near(now.of(MemoryUse::Shuffle), 100_000), "the run is gone: {now:?}");
    assert!(
        near(most.of(MemoryUse::Shuffle), 150_000) && most.of(MemoryUse::Input) > 0,
        "{most:?}"
    );
    assert!(near(now.of(MemoryUse::Cache), 70_000), "{now:?}");
    assert_eq!((now.of(MemoryUse::Input), task.spilled()), (0, 0));
    output.commit().unwrap();
    cached.finish();
    cached.commit().unwrap();
    let whole = f.store.cached();
    assert_eq!((whole.partitions, whole.in_memory, whole.on_disk), (1, 70_000, 0));

    assert!(task.now().of(MemoryUse::Shuffle) < 2000, "the output is a file");

    // For whoever wants it. What is open stays.
    drop(f.pool.reserve(MemoryUse::Guest, (1 << 20) - 50_000).unwrap());
    let now = task.now();
    assert!(now.of(MemoryUse::Shuffle) < 2000 && now.of(MemoryUse::Cache) < 2000, "{now:?}");
    assert_eq!((task.spilled(), other.spilled()), (70_000, 0));
    let whole = f.store.cached();
    assert_eq!((whole.partitions, whole.in_memory, whole.on_disk), (1, 0, 70_000));
    let mut reader = f.store.open_cached(CACHE, 0).unwrap().unwrap().on(&other);
    reader.next_block().unwrap();
    assert!(other.now().of(MemoryUse::Input) >= 70_000, "what is read from disk has a buffer");
    f.store.drop_cache(CACHE);
    f.store.drop_stage(STAGE);
    drop(reader);
    assert_eq!((task.now().total(), task.most()), (0, most));
    assert_eq!(f.store.cached().partitions, 0);
}

#[test]
fn a_partition_of_which_something_is_lost_is_not_cached() {
    let f = fixture(1 << 20);
    let mut writer = f.store.cache_writer(CACHE, 0, StorageLevel::MemoryOnly);
    writer.write(&[1; 70_000]).unwrap();
    writer.finish();
    assert!(writer.commit().unwrap());
    assert_eq!(f.store.cached().partitions, 1);
    squeeze(&f.pool);
    assert_eq!(f.store.cached(), CachedStats::default());
}
