//! Shuffle output that belongs to a worker: files, read here and there, sound or damaged.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ingle_core::ids::StageId;
use ingle_core::memory::{MemoryPool, MemoryUse};
use ingle_core::size::ByteSize;
use proptest::prelude::*;
use tempfile::TempDir;

use super::drain_shuffle;
use crate::{
    BlockStore, Compression, Error, Fetch, Fetched, Had, Head, MapOutput, Place, RemoteBlock,
    RemoteBlocks, Result, Served, ShuffleDir,
};

const STAGE: StageId = StageId(3);

struct Worker {
    folder: TempDir,
    pool: MemoryPool,
    store: BlockStore,
}

impl Worker {
    fn new(compression: Compression) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pool = MemoryPool::new(ByteSize(4 << 20));
        let dir = ShuffleDir::create(&folder.path().join("shuffle")).unwrap();
        let store = BlockStore::with_shuffle_dir(pool.clone(), folder.path(), dir).unwrap();
        let store = store.compressed(compression);
        Self { folder, pool, store }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("shuffle")
    }

    fn commit(&self, map: u32, attempt: u32, blocks: &[(u32, Vec<u8>)]) {
        let mut output = self.store.task_output(STAGE, map, attempt, 4);
        for (partition, block) in blocks {
            output.write(*partition, block).unwrap();
        }
        output.commit().unwrap();
    }

    fn read(
        &self,
        outputs: &[MapOutput],
        partition: u32,
        fetch: Option<&dyn Fetch>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut reader = self.store.open_shuffle(
            STAGE,
            outputs.into(),
            None,
            partition..partition + 1,
            fetch,
        )?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block()? {
            blocks.push(block.to_vec());
        }
        Ok(blocks)
    }
}

fn here(map: u32, attempt: u32) -> MapOutput {
    MapOutput { map, attempt, place: Place::Here }
}

/// Serves other workers' folders in this process.
struct Others(Vec<ShuffleDir>);

struct Stream(std::vec::IntoIter<Result<RemoteBlock>>);

impl RemoteBlocks for Stream {
    fn next(&mut self) -> Result<Option<Fetched>> {
        Ok(self.0.next().transpose()?.map(|block| Fetched { block, charge: None }))
    }
}

/// What is asked for at a time, and how much of it comes in a piece.
const ASKED: u64 = 1000;
const PIECE: usize = 300;

impl Fetch for Others {
    fn fetch(
        &self,
        worker: usize,
        stage: StageId,
        partitions: Range<u32>,
        outputs: Vec<(u32, u32)>,
    ) -> Box<dyn RemoteBlocks> {
        let mut blocks = Vec::new();
        let error = fetch_all(&self.0[worker], stage, partitions, outputs, &mut blocks).err();
        let blocks: Vec<_> = blocks.into_iter().map(Ok).chain(error.map(Err)).collect();
        Box::new(Stream(blocks.into_iter()))
    }
}

/// Asks again and again, as an executor does.
fn fetch_all(
    dir: &ShuffleDir,
    stage: StageId,
    partitions: Range<u32>,
    mut outputs: Vec<(u32, u32)>,
    blocks: &mut Vec<RemoteBlock>,
) -> Result<()> {
    let mut had = Had::default();
    loop {
        let mut serving = dir.serve(stage, partitions.clone(), outputs.clone(), had, ASKED);
        let mut begun: Option<(Head, Vec<u8>)> = None;
        let (mut came, before) = (0, blocks.len());
        while let Some(served) = serving.next(PIECE)? {
            let Served::Piece(head, piece) = served else {
                assert!(blocks.len() > before, "one comes anyway");
                assert!(serving.next(PIECE)?.is_none(), "that was the end");
                break;
            };
            assert!(piece.len() <= PIECE);
            let (head, mut bytes) = begun.take().unwrap_or((head, Vec::new()));
            bytes.extend_from_slice(&piece);
            if bytes.len() < head.stored_len as usize {
                begun = Some((head, bytes));
                continue;
            }
            came += bytes.len() as u64;
            assert!(came <= ASKED || blocks.len() == before, "{came} bytes");
            let of = outputs.iter().position(|(map, _)| *map == head.map).unwrap();
            outputs.drain(..of);
            had = if of > 0 { Had::default() } else { had };
            had = Had { blocks: had.blocks + 1, bytes: had.bytes + bytes.len() as u64 };
            let Head { map, raw_len, codec, crc, .. } = head;
            blocks.push(RemoteBlock { map, stored: bytes.into(), raw_len, codec, crc });
        }
        assert!(begun.is_none(), "a block broke off");
        if came == 0 || blocks.len() == before {
            return Ok(());
        }
    }
}

fn block(letter: u8, length: usize) -> Vec<u8> {
    vec![letter; length]
}

#[test]
fn what_was_written_is_read_here_and_elsewhere_in_the_order_of_the_maps() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let (a, b) = (Worker::new(compression), Worker::new(compression));
        a.commit(0, 0, &[(2, block(b'a', 5000)), (0, block(b'b', 1)), (2, block(b'c', 3 << 20))]);
        b.commit(1, 4, &[(2, block(b'd', 2 << 20)), (2, block(b'e', 7))]);
        a.commit(2, 0, &[(3, block(b'x', 10))]);
        b.commit(3, 1, &[(2, block(b'f', 300))]);
        let there = |map, attempt| MapOutput { map, attempt, place: Place::At(0) };
        let outputs = [here(0, 0), there(1, 4), here(2, 0), there(3, 1)];
        let others = Others(vec![ShuffleDir::open_existing(&b.path())]);
        let read = a.read(&outputs, 2, Some(&others)).unwrap();
        let letters: Vec<_> = read.iter().map(|block| (block[0], block.len())).collect();
        let expected = [(b'a', 5000), (b'c', 3 << 20), (b'd', 2 << 20), (b'e', 7), (b'f', 300)];
        assert_eq!(letters, expected, "{compression:?}");
        assert!(a.read(&outputs, 1, Some(&others)).unwrap().is_empty());
        let part = |part| {
            let read = a.store.open_shuffle(STAGE, outputs.into(), Some(part), 2..3, Some(&others));
            read.and_then(drain_shuffle).map(|b| b.iter().map(|b| b[0]).collect::<Vec<_>>())
        };
        let together = |partitions| {
            let read = a.store.open_shuffle(STAGE, outputs.into(), None, partitions, Some(&others));
            read.and_then(drain_shuffle).map(|b| b.iter().map(|b| b[0]).collect::<Vec<_>>())
        };
        assert_eq!(together(0..4).unwrap(), b"bacdexf");
        assert_eq!(together(1..3).unwrap(), b"acdef");
        assert_eq!(together(2..4).unwrap(), b"acdexf");
        assert!(together(1..2).unwrap().is_empty());
        for partitions in [3..5, 4..5, 2..2, 5..u32::MAX] {
            assert!(matches!(together(partitions), Err(Error::MissingOutput { .. })));
        }
        assert_eq!(part(0..1).unwrap(), b"ac");
        assert_eq!(part(1..3).unwrap(), b"de");
        assert_eq!(part(3..4).unwrap(), b"f");
        assert!(part(2..2).unwrap().is_empty());
        assert!(matches!(part(3..5), Err(Error::Invalid(_))));
        assert!(matches!(part(5..usize::MAX), Err(Error::Invalid(_))));
        assert_eq!(a.pool.usage().total(), 0, "nothing is held once it is written and read");
        let size = std::fs::metadata(a.path().join("3/0-0")).unwrap().len();
        assert_eq!(size > 1 << 20, compression == Compression::None);
    }
}

#[test]
fn what_was_spilled_on_the_way_is_written_too() {
    let worker = Worker::new(Compression::None);
    let mut output = worker.store.task_output(STAGE, 0, 0, 4);
    for round in 0..64u8 {
        output.write(u32::from(round % 4), &block(round, 200_000)).unwrap();
    }
    assert!(worker.store.stats().spilled > 0, "more than the memory");
    output.commit().unwrap();
    for partition in 0..4 {
        let read = worker.read(&[here(0, 0)], partition, None).unwrap();
        assert_eq!(read.len(), 16);
        assert!(read.iter().all(|b| u32::from(b[0]) % 4 == partition && b.len() == 200_000));
    }
    assert_eq!(worker.pool.usage().of(MemoryUse::Shuffle), 0);
}

#[test]
fn an_attempt_is_exactly_that_and_a_missing_one_is_named() {
    let worker = Worker::new(Compression::None);
    worker.commit(0, 0, &[(0, block(b'a', 1))]);
    worker.commit(0, 1, &[(0, block(b'b', 1))]);
    assert_eq!(worker.read(&[here(0, 1)], 0, None).unwrap(), [b"b"]);
    let missing = worker.read(&[here(0, 0), here(0, 2)], 0, None).unwrap_err();
    assert!(
        matches!(missing, Error::MissingOutput { map: 0, attempt: 2, whole: false, .. }),
        "{missing}"
    );
    let unreachable = MapOutput { map: 5, attempt: 0, place: Place::At(0) };
    let missing = worker.read(&[unreachable], 0, None).unwrap_err();
    assert!(matches!(missing, Error::MissingOutput { map: 5, whole: true, .. }), "{missing}");
}

#[test]
fn a_task_that_is_given_up_leaves_no_file_and_a_dropped_stage_neither() {
    let worker = Worker::new(Compression::Lz4);
    let mut output = worker.store.task_output(STAGE, 0, 0, 4);
    output.write(0, b"x").unwrap();
    drop(output);
    assert_eq!(std::fs::read_dir(worker.path()).unwrap().count(), 0);
    worker.commit(0, 0, &[(0, block(b'a', 1))]);
    let mut other = worker.store.task_output(StageId(33), 0, 0, 4);
    other.write(0, b"stays").unwrap();
    other.commit().unwrap();
    worker.store.drop_stage(STAGE);
    let names: Vec<_> =
        std::fs::read_dir(worker.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["33"]);
    worker.store.drop_stage(StageId(3333));
}

#[test]
fn a_full_disk_is_told_apart() {
    // As full as a disk can be.
    if !Path::new("/dev/full").exists() {
        return;
    }
    use std::io::Write;
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let source = full.write_all(&[0; 10]).unwrap_err();
    let error = Error::Io { doing: "writing", path: "/x".into(), source };
    assert!(error.is_disk_full() && error.to_string().contains("No space left"), "{error}");
}

#[test]
fn no_link_is_followed_to_what_others_shuffled() {
    let (own, other) = (Worker::new(Compression::None), Worker::new(Compression::None));
    other.commit(0, 0, &[(2, block(b's', 100))]);
    own.commit(1, 0, &[(2, block(b'o', 100))]);
    let stage = own.path().join(STAGE.0.to_string());
    let others = other.path().join(STAGE.0.to_string());
    std::os::unix::fs::symlink(others.join("0-0"), stage.join("0-0")).unwrap();
    let missing =
        |map| matches!(own.read(&[here(map, 0)], 2, None), Err(Error::MissingOutput { .. }));
    assert!(missing(0), "a link to a file");
    assert_eq!(own.read(&[here(1, 0)], 2, None).unwrap().len(), 1);
    std::fs::rename(&stage, own.path().join("aside")).unwrap();
    std::os::unix::fs::symlink(&others, &stage).unwrap();
    assert!(missing(0), "through a link to a folder");
    assert_eq!(other.read(&[here(0, 0)], 2, None).unwrap()[0][0], b's');
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_damaged_file_gives_what_was_written_or_an_error(
        at in 0.0f64..1.0, flip in 1u8.., cut in prop::option::of(0.0f64..1.0), compressed: bool,
    ) {
        let codec = if compressed { Compression::Lz4 } else { Compression::None };
        let worker = Worker::new(codec);
        let blocks: Vec<(u32, Vec<u8>)> =
            (0..40u8).map(|i| (u32::from(i % 4), block(i, 150 + usize::from(i)))).collect();
        worker.commit(0, 0, &blocks);
        let path = worker.path().join("3/0-0");
        let mut bytes = std::fs::read(&path).unwrap();
        match cut {
            Some(cut) => bytes.truncate((bytes.len() as f64 * cut) as usize),
            None => {
                let at = (bytes.len() as f64 * at) as usize;
                bytes[at] ^= flip;
            }
        }
        std::fs::write(&path, bytes).unwrap();
        let others = Others(vec![ShuffleDir::open_existing(&worker.path())]);
        for partition in 0..4 {
            let expected: Vec<_> =
                blocks.iter().filter(|(p, _)| *p == partition).map(|(_, b)| b.clone()).collect();
            for place in [Place::Here, Place::At(0)] {
                let output: Arc<[_]> = [MapOutput { map: 0, attempt: 0, place }].into();
                match worker.read(&output, partition, Some(&others)) {
                    Ok(read) => prop_assert_eq!(&read, &expected),
                    Err(Error::MissingOutput { map: 0, attempt: 0, whole: false, .. }) => {}
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
        }
    }
}

#[test]
fn numbers_that_nobody_wrote_are_refused_before_they_are_used() {
    let worker = Worker::new(Compression::None);
    worker.commit(0, 0, &[(2, block(b'a', 100))]);
    let path = worker.path().join("3/0-0");
    let sound = std::fs::read(&path).unwrap();
    let foot_at = sound.len() - 36;
    let spans_at = 8 + 100;

    // A directory that begins so far away that its end wraps around to where it should be, with a true checksum.
    let mut bytes = sound.clone();
    let partitions = u32::MAX;
    let directory_at = (foot_at as u64).wrapping_sub((u64::from(partitions) + 1) * 16);
    bytes[foot_at + 8..foot_at + 16].copy_from_slice(&directory_at.to_le_bytes());
    bytes[foot_at + 16..foot_at + 20].copy_from_slice(&partitions.to_le_bytes());
    let crc = crc32fast::hash(&bytes[foot_at..foot_at + 24]);
    bytes[foot_at + 24..foot_at + 28].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert!(worker.read(&[here(0, 0)], 2, None).is_err());

    // Blocks longer than any that a guest can write, before and after compression.
    for (at, number) in [(4, u32::MAX), (8, crate::MAX_BLOCK + 1)] {
        let mut bytes = sound.clone();
        bytes[spans_at + at..spans_at + at + 4].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(worker.read(&[here(0, 0)], 2, None).is_err(), "{number}");
    }
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(worker.read(&[here(0, 0)], 2, None).unwrap().len(), 1);
}

#[test]
fn many_small_blocks_are_read_span_by_span() {
    let worker = Worker::new(Compression::None);
    let blocks: Vec<_> = (0..20_000u32).map(|i| (i % 3, i.to_le_bytes().to_vec())).collect();
    worker.commit(0, 0, &blocks);
    let mut read = 0;
    for partition in 0..4 {
        let expected = blocks.iter().filter(|(p, _)| *p == partition).map(|(_, block)| block);
        let there = worker.read(&[here(0, 0)], partition, None).unwrap();
        assert!(there.iter().eq(expected), "partition {partition}");
        read += there.len();
    }
    assert_eq!(read, 20_000);
    assert_eq!(worker.pool.usage().total(), 0);
}

#[test]
fn what_a_reader_reads_ahead_is_charged_and_less_of_it_read_if_memory_is_short() {
    let worker = Worker::new(Compression::None);
    let blocks: Vec<_> = (0..100).map(|i| (0, block(i, 10_000))).collect();
    worker.commit(0, 0, &blocks);
    let read = |expected: Range<u64>| {
        let outputs = [here(0, 0)];
        let mut reader = worker.store.open_shuffle(STAGE, outputs.into(), None, 0..1, None)?;
        for (_, block) in &blocks {
            let read = reader.next_block()?;
            assert_eq!(read, Some(&block[..]));
        }
        let charged = worker.pool.usage().of(MemoryUse::Input);
        assert!(expected.contains(&charged), "{charged}");
        reader.next_block().map(|end| assert!(end.is_none()))
    };
    read(1_000_000..1_010_000).unwrap();
    let short = worker.pool.reserve(MemoryUse::Guest, (4 << 20) - 50_000).unwrap();
    read(13_000..50_000).unwrap();
    drop(short);
    let _shorter = worker.pool.reserve(MemoryUse::Guest, (4 << 20) - 8_000).unwrap();
    assert!(matches!(read(0..1), Err(Error::Memory(_))));
}
