//! The store against a plain model, and against many threads, with too little memory.

use std::collections::BTreeMap;

use ingle_core::ids::{CacheId, StageId};
use ingle_core::memory::{MemoryPool, MemoryUse};
use ingle_core::size::ByteSize;
use proptest::prelude::*;

use super::{drain_shuffle, outputs};
use crate::{BlockReader, BlockStore, Error, StorageLevel};

const MAPS: u32 = 4;
const PARTITIONS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Write { map: u32, partition: u32, len: usize },
    Commit { map: u32 },
    Discard { map: u32 },
    Read { partition: u32 },
    Squeeze { kib: u64 },
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![6 => 1usize..200, 3 => 1usize..20_000, 1 => 1usize..400_000];
    prop_oneof![
        12 => (0..MAPS, 0..PARTITIONS, len).prop_map(|(map, partition, len)| Step::Write { map, partition, len }),
        3 => (0..MAPS).prop_map(|map| Step::Commit { map }),
        1 => (0..MAPS).prop_map(|map| Step::Discard { map }),
        3 => (0..PARTITIONS).prop_map(|partition| Step::Read { partition }),
        2 => (1u64..600).prop_map(|kib| Step::Squeeze { kib }),
        1 => Just(Step::Drop),
    ]
}

fn drain(mut reader: BlockReader) -> Result<Vec<Vec<u8>>, Error> {
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block.to_vec());
    }
    Ok(blocks)
}

fn read(store: &BlockStore, stage: StageId, partition: u32) -> Result<Vec<Vec<u8>>, Error> {
    drain_shuffle(store.open_shuffle(stage, outputs(MAPS), None, partition..partition + 1, None)?)
}

type Blocks = Vec<(u32, Vec<u8>)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_store_holds_what_a_plain_map_would(steps in prop::collection::vec(step(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        // Room to read the largest block beside the packed index, but not for much more.
        let pool = MemoryPool::new(ByteSize(900 << 10));
        let store = BlockStore::new(pool.clone(), folder.path()).unwrap();
        let stage = StageId(0);
        let mut open = BTreeMap::new();
        let mut model: BTreeMap<u32, Blocks> = BTreeMap::new();
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { map, partition, len } => {
                    let block = vec![i as u8; len];
                    let (output, written) = open
                        .entry(map)
                        .or_insert_with(|| (store.task_output(stage, map, 0, PARTITIONS), Blocks::new()));
                    output.write(partition, &block).unwrap();
                    written.push((partition, block));
                }
                Step::Commit { map } => {
                    if let Some((output, written)) = open.remove(&map) {
                        output.commit().unwrap();
                        model.insert(map, written);
                    }
                }
                Step::Discard { map } => drop(open.remove(&map)),
                Step::Read { partition } => match read(&store, stage, partition) {
                    Ok(blocks) => {
                        let expected: Vec<_> = model
                            .values()
                            .flatten()
                            .filter(|(p, _)| *p == partition)
                            .map(|(_, block)| block.clone())
                            .collect();
                        prop_assert_eq!(blocks, expected);
                    }
                    Err(Error::MissingOutput { map, .. }) => {
                        prop_assert_eq!(Some(map), (0..MAPS).find(|m| !model.contains_key(m)));
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                },
                Step::Squeeze { kib } => drop(pool.reserve(MemoryUse::Guest, kib << 10)),
                Step::Drop => {
                    store.drop_stage(stage);
                    model.clear();
                }
            }
            prop_assert!(pool.usage().total() <= pool.capacity().0);
        }
        drop(open);
        store.drop_stage(stage);
        prop_assert_eq!(pool.usage().total(), 0);
    }
}

/// A block that says who wrote it and which it is, of any length.
fn block(map: u32, i: u32) -> Vec<u8> {
    let len = 8 + (map * 7919 + i * 104_729) % 9000;
    let mut block = vec![(map + i) as u8; len as usize];
    block[..4].copy_from_slice(&map.to_le_bytes());
    block[4..8].copy_from_slice(&i.to_le_bytes());
    block
}

#[test]
fn many_threads_in_a_tiny_pool_neither_lose_blocks_nor_wait_for_ever() {
    const THREADS: u32 = 8;
    const BLOCKS: u32 = 400;
    let folder = tempfile::tempdir().unwrap();
    // A twentieth of what is written.
    let pool = MemoryPool::new(ByteSize(2 << 20));
    let store = BlockStore::new(pool.clone(), folder.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, pool) = (&store, &pool);
            scope.spawn(move || {
                let stage = StageId(thread);
                let cache = CacheId(thread);
                let mut runs = store.runs();
                let run = runs.create().unwrap();
                let mut output = store.task_output(stage, 0, 0, 2);
                let mut cached = store.cache_writer(cache, 0, StorageLevel::MemoryAndDisk);
                for i in 0..BLOCKS {
                    let block = block(thread, i);
                    output.write(i % 2, &block).unwrap();
                    runs.write(run, &block).unwrap();
                    cached.write(&block).unwrap();
                    // A guest that grows, as far as there is memory.
                    drop(pool.reserve(MemoryUse::Guest, 64 << 10));
                }
                output.commit().unwrap();
                cached.finish();
                assert!(cached.commit().unwrap());
                let all: Vec<_> = (0..BLOCKS).map(|i| block(thread, i)).collect();
                assert!(drain(runs.open(run).unwrap()).unwrap() == all);
                assert!(drain(store.open_cached(cache, 0).unwrap().unwrap()).unwrap() == all);
                for partition in 0..2 {
                    let read = drain_shuffle(
                        store
                            .open_shuffle(stage, outputs(1), None, partition..partition + 1, None)
                            .unwrap(),
                    )
                    .unwrap();
                    assert!(read.iter().eq(all.iter().skip(partition as usize).step_by(2)));
                }
                store.drop_stage(stage);
                store.drop_cache(cache);
            });
        }
    });
    assert_eq!(pool.usage().total(), 0);
    assert!(store.stats().spilled > 8 << 20, "{:?}", store.stats());
}

#[test]
fn readers_of_one_output_race_with_its_eviction() {
    let folder = tempfile::tempdir().unwrap();
    let pool = MemoryPool::new(ByteSize(16 << 20));
    let store = BlockStore::new(pool.clone(), folder.path()).unwrap();
    let stage = StageId(0);
    let mut output = store.task_output(stage, 0, 0, 1);
    let all: Vec<_> = (0..1000).map(|i| block(0, i)).collect();
    all.iter().for_each(|b| output.write(0, b).unwrap());
    output.commit().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert!(
                    drain_shuffle(store.open_shuffle(stage, outputs(1), None, 0..1, None).unwrap())
                        .unwrap()
                        == all
                )
            });
        }
        scope.spawn(|| {
            for mib in 10..15 {
                drop(pool.reserve(MemoryUse::Guest, mib << 20));
            }
        });
    });
    assert!(
        drain_shuffle(store.open_shuffle(stage, outputs(1), None, 0..1, None).unwrap()).unwrap()
            == all
    );
}
