//! A shuffle file that an executor which was broken out of may have written: its worker serves it, and executors read it.

use std::fs;
use std::sync::Arc;

use ingle_blocks::{BlockStore, Had, MapOutput, Place, Served, ShuffleDir};
use ingle_core::ids::StageId;
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;

use crate::Input;

const FOOT: usize = 36;
const SIZE: usize = 16;
/// A block may be stored in few bytes and be long: it is charged here.
const MEMORY: u64 = 4 << 20;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let repair = input.flag();
    let first = input.id();
    let partitions = first..first.saturating_add(input.id());
    let mut file = input.rest().to_vec();
    if repair {
        // Checksums keep out what is damaged, not who knows them.
        self::repair(&mut file);
    }
    let Ok(root) = tempfile::tempdir() else { return };
    let dir = ShuffleDir::create(&root.path().join("shuffle")).expect("a folder can be made");
    let folder = root.path().join("shuffle/1");
    if fs::create_dir(&folder).and_then(|()| fs::write(folder.join("2-3"), &file)).is_err() {
        return;
    }
    let mut served = 0;
    let outputs = vec![(2, 3), (2, 4)];
    let mut serving = dir.serve(StageId(1), partitions.clone(), outputs, Had::default(), 1 << 20);
    while let Ok(Some(Served::Piece(head, bytes))) = serving.next(64 << 10) {
        assert_eq!(head.map, 2);
        served += bytes.len();
        assert!(served <= file.len(), "more than the file has");
    }
    let pool = MemoryPool::new(ByteSize(MEMORY));
    let store = BlockStore::with_shuffle_dir(pool.clone(), root.path(), dir);
    let store = store.expect("a folder can be made");
    let outputs: Arc<[_]> = [MapOutput { map: 2, attempt: 3, place: Place::Here }].into();
    if let Ok(mut reader) = store.open_shuffle(StageId(1), outputs, None, partitions, None) {
        // A thousand empty blocks are as good as more.
        for _ in 0..1000 {
            match reader.next_block() {
                Ok(Some(block)) => assert!(block.len() as u64 <= MEMORY),
                Ok(None) | Err(_) => break,
            }
        }
    }
    drop(store);
    assert_eq!(pool.usage().total(), 0);
}

fn number(file: &[u8], at: usize, bytes: usize) -> usize {
    let mut number = [0; 8];
    if let Some(found) = at.checked_add(bytes).and_then(|end| file.get(at..end)) {
        number[..bytes].copy_from_slice(found);
    }
    u64::from_le_bytes(number) as usize
}

fn put(file: &mut [u8], at: usize, crc: u32) {
    if let Some(place) = file.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes all checksums right, and the foot stand where it must.
fn repair(file: &mut [u8]) {
    let Some(foot) = file.len().checked_sub(FOOT) else { return };
    let (spans, directory) = (number(file, foot, 8), number(file, foot + 8, 8));
    let partitions = number(file, foot + 16, 4);
    let wanted = partitions.saturating_add(1).saturating_mul(SIZE).saturating_add(directory);
    if wanted != foot && directory <= foot {
        // As many partitions as there is room for.
        let partitions = ((foot - directory) / SIZE).saturating_sub(1) as u32;
        file[foot + 16..foot + 20].copy_from_slice(&partitions.to_le_bytes());
        let directory = foot.saturating_sub((partitions as usize + 1) * SIZE) as u64;
        file[foot + 8..foot + 16].copy_from_slice(&directory.to_le_bytes());
    }
    file[foot + 28..].copy_from_slice(b"INGLSHF1");
    let crc = crc32fast::hash(&file[foot..foot + 24]);
    put(file, foot + 24, crc);

    let directory = number(file, foot + 8, 8);
    let mut data: usize = 8;
    let end = directory.min(foot);
    let mut at = spans;
    while at.checked_add(SIZE).is_some_and(|next| next <= end) {
        let stored = number(file, at + 4, 4);
        let bytes = file.get(data..data.saturating_add(stored)).unwrap_or_default();
        let mut crc = crc32fast::Hasher::new();
        crc.update(bytes);
        crc.update(&file[at + 8..at + 12]);
        let crc = crc.finalize();
        put(file, at + 12, crc);
        data = data.saturating_add(stored);
        at += SIZE;
    }
    for (partition, at) in (0u32..).zip((directory..foot).step_by(SIZE)) {
        let Some(entry) = file.get(at..at + 12) else { break };
        let mut crc = crc32fast::Hasher::new();
        crc.update(entry);
        crc.update(&partition.to_le_bytes());
        let crc = crc.finalize();
        put(file, at + 12, crc);
    }
}
