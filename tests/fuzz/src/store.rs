//! A task's calls that end at its executor's block store, in any order and with any numbers, in little memory; and a disk that
//! gives back other bytes than were written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ingle_blocks::{
    BlockReader, BlockStore, CacheWriter, Compression, Error, Fetch, Fetched, MapOutput, Place,
    RemoteBlock, RemoteBlocks, ResultBuffer, StorageLevel, TaskOutput,
};
use ingle_core::ids::{CacheId, StageId};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;

use crate::Input;

const MEMORY: u64 = 256 << 10;
/// So that no input takes long.
const MAX_OPS: usize = 200;

pub fn run(data: &[u8]) {
    let Ok(root) = tempfile::tempdir() else { return };
    let pool = MemoryPool::new(ByteSize(MEMORY));
    let store = BlockStore::new(pool.clone(), root.path()).expect("a folder can be made");
    let mut input = Input::new(data);
    let codecs = [Compression::None, Compression::Lz4, Compression::Zstd];
    let store = store.compressed(input.pick(&codecs));
    Task::new(&store, root.path()).run(&mut input);
    drop(store);
    assert_eq!(pool.usage().total(), 0, "everything is given back");
}

struct Task<'a> {
    store: &'a BlockStore,
    root: &'a Path,
    runs: ingle_blocks::RunSet,
    outputs: Vec<TaskOutput>,
    caches: Vec<CacheWriter>,
    results: Vec<ResultBuffer>,
    readers: Vec<BlockReader>,
    /// Whether blocks on disk were changed.
    is_damaged: bool,
    buffer: Vec<u8>,
}

impl<'a> Task<'a> {
    fn new(store: &'a BlockStore, root: &'a Path) -> Self {
        Self {
            store,
            root,
            runs: store.runs(),
            outputs: Vec::new(),
            caches: Vec::new(),
            results: Vec::new(),
            readers: Vec::new(),
            is_damaged: false,
            buffer: Vec::new(),
        }
    }

    /// A block that says what it is by its bytes.
    fn block(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let length = (input.number() as usize % 1_000_003 * 97) % (96 << 10);
        let byte = input.byte();
        self.buffer.clear();
        self.buffer.resize(length, byte);
        self.buffer.clone()
    }

    fn run(mut self, input: &mut Input<'_>) {
        for _ in 0..MAX_OPS {
            if input.is_empty() {
                break;
            }
            // A guest is told of an error, or ends; either way the host goes on.
            if let Err(error) = self.op(input) {
                self.check(&error);
            }
        }
    }

    fn check(&self, error: &Error) {
        let damaged = matches!(error, Error::Damaged { .. } | Error::Io { .. });
        assert!(!damaged || self.is_damaged, "nothing was damaged: {error}");
    }

    fn op(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let store = self.store;
        match input.byte() % 18 {
            0 => drop(self.runs.create()?),
            1 | 2 => {
                let block = self.block(input);
                self.runs.write(input.id(), &block)?;
            }
            3 => self.readers.push(self.runs.open(input.id())?),
            4 => self.runs.drop_run(input.id())?,
            5 => {
                let partitions = (input.id() % 2000).max(1);
                let (stage, map, attempt) = (StageId(input.id() % 4), input.id(), input.id());
                self.outputs.push(store.task_output(stage, map, attempt, partitions));
            }
            6 | 7 => {
                let block = self.block(input);
                let at = input.below(self.outputs.len().max(1));
                if let Some(output) = self.outputs.get_mut(at) {
                    output.write(input.id(), &block)?;
                }
            }
            8 => {
                let at = input.below(self.outputs.len().max(1));
                if at < self.outputs.len() {
                    self.outputs.swap_remove(at).commit()?;
                }
            }
            9 => self.read_shuffle(input)?,
            10 => {
                let levels =
                    [StorageLevel::MemoryOnly, StorageLevel::MemoryAndDisk, StorageLevel::DiskOnly];
                let (cache, level) = (CacheId(input.id() % 4), input.pick(&levels));
                self.caches.push(store.cache_writer(cache, input.id(), level));
            }
            11 => {
                let block = self.block(input);
                if let Some(cache) = self.caches.last_mut() {
                    cache.write(&block)?;
                }
            }
            12 => {
                if let Some(mut cache) = self.caches.pop() {
                    if input.flag() {
                        cache.finish();
                    }
                    cache.commit()?;
                }
            }
            13 => {
                let opened = store.open_cached(CacheId(input.id() % 4), input.id())?;
                self.readers.extend(opened);
            }
            14 => match input.byte() % 4 {
                0 => store.drop_cache(CacheId(input.id() % 4)),
                1 => store.drop_stage(StageId(input.id() % 4)),
                2 => drop(store.cached()),
                _ => self.damage(input),
            },
            15 => {
                let block = self.block(input);
                if self.results.is_empty() || input.flag() {
                    self.results.push(store.result());
                }
                if let Some(result) = self.results.last_mut() {
                    result.emit(&block)?;
                }
            }
            16 => {
                if let Some(result) = self.results.pop() {
                    drop(result.finish()?.load()?);
                }
            }
            _ => {
                let at = input.below(self.readers.len().max(1));
                let Some(reader) = self.readers.get_mut(at) else { return Ok(()) };
                let all = usize::from(input.byte());
                for _ in 0..all {
                    match reader.next_block()? {
                        // A block is of one byte: no other block's bytes get into it.
                        Some(block) => assert!(block.iter().all(|byte| *byte == block[0])),
                        None => {
                            self.readers.swap_remove(at);
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn read_shuffle(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let stage = StageId(input.id() % 4);
        let count = input.below(4);
        let outputs = (0..count).map(|_| {
            let place = if input.flag() { Place::At(input.below(3)) } else { Place::Here };
            MapOutput { map: input.id(), attempt: input.id(), place }
        });
        let outputs: Arc<[_]> = outputs.collect();
        let first = input.id();
        let partitions = first..first.saturating_add(input.id());
        let part = input.flag().then(|| {
            let first = input.id() as usize;
            first..first.saturating_add(input.id() as usize)
        });
        let blocks = Peer { blocks: sent(input) };
        let fetch: Option<&dyn Fetch> = if input.flag() { Some(&blocks) } else { None };
        let mut reader = self.store.open_shuffle(stage, outputs, part, partitions, fetch)?;
        for _ in 0..1000 {
            let Some(block) = reader.next_block()? else { break };
            assert!(block.len() <= MEMORY as usize, "what is read is charged");
        }
        Ok(())
    }

    /// Changes a byte in each file.
    fn damage(&mut self, input: &mut Input<'_>) {
        let (at, with) = (input.number() as usize, input.byte() | 1);
        self.is_damaged = true;
        let mut folders = vec![self.root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(mut bytes) = fs::read(&path)
                    && !bytes.is_empty()
                {
                    let at = at % bytes.len();
                    bytes[at] ^= with;
                    let _ = fs::write(&path, bytes);
                }
            }
        }
    }
}

/// What another worker sends, whatever was asked for.
fn sent(input: &mut Input<'_>) -> Vec<RemoteBlock> {
    let block = |input: &mut Input<'_>| {
        let map = input.id();
        let mut stored = input.some_bytes().to_vec();
        let mut raw_len = input.id();
        let codec = input.id() % 4;
        if input.flag() {
            // As it would be if it were sound.
            let raw = stored.repeat(20);
            raw_len = raw.len() as u32;
            match codec {
                1 => stored = ingle_blocks::fuzzing::lz4(&raw),
                2 => stored = zstd::bulk::compress(&raw, 1).unwrap_or_default(),
                _ => {}
            }
            raw_len = raw_len.wrapping_add(u32::from(input.byte() % 3));
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&stored);
        crc.update(&raw_len.to_le_bytes());
        let crc = crc.finalize() ^ u32::from(input.byte() == 77);
        RemoteBlock { map, stored: stored.into(), raw_len, codec, crc }
    };
    (0..input.below(6)).map(|_| block(input)).collect()
}

struct Peer {
    blocks: Vec<RemoteBlock>,
}

impl Fetch for Peer {
    fn fetch(
        &self,
        _: usize,
        _: StageId,
        _: std::ops::Range<u32>,
        _: Vec<(u32, u32)>,
    ) -> Box<dyn RemoteBlocks> {
        Box::new(Sent(self.blocks.clone().into_iter()))
    }
}

struct Sent(std::vec::IntoIter<RemoteBlock>);

impl RemoteBlocks for Sent {
    fn next(&mut self) -> ingle_blocks::Result<Option<Fetched>> {
        Ok(self.0.next().map(|block| Fetched { block, charge: None }))
    }
}
