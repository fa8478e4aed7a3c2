//! Images: what a driver elsewhere says that its memory is made of, and the pieces that it sends; and pictures of what a guest changed.

use ingle_cluster::fuzzing::{Found, Images};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use ingle_proto::v1::ImageManifest;
use ingle_sandbox::{ComponentHash, Image, PIECE, ZERO_PIECE};

use crate::Input;

const PAGE: usize = 4096;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() { told(&mut input) } else { taken(&mut input) }
}

/// A piece that many images have.
fn piece(which: u8, length: usize) -> Vec<u8> {
    vec![which; length]
}

/// A driver's word for its images, and executors that find them.
fn told(input: &mut Input<'_>) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let pool = MemoryPool::new(ByteSize(16 << 20));
    let mut images = Images::new(dir.path().to_owned(), ComponentHash::of(b"job"), pool.clone(), 0);
    let mut held = Vec::new();
    for _ in 0..4 {
        if input.is_empty() {
            break;
        }
        let count = input.below(6);
        let mut length = (count * PIECE) as u64;
        match input.byte() % 4 {
            0 => length = input.number(),
            1 => length = length.saturating_sub(u64::from(input.byte()) * 997),
            2 => length = length.saturating_sub((input.below(63) * PAGE) as u64),
            _ => {}
        }
        let base = if input.byte().is_multiple_of(4) { input.number() } else { PAGE as u64 };
        let kinds: Vec<u8> = (0..count).map(|_| input.byte() % 6).collect();
        let length_of = |at: usize| (length as usize).saturating_sub(at * PIECE).min(PIECE);
        let hash = |(at, kind): (usize, &u8)| match kind {
            0 => ZERO_PIECE,
            // Of no piece that ever comes.
            5 => [5; 32],
            kind => *blake3::hash(&piece(*kind, length_of(at))).as_bytes(),
        };
        let mut hashes: Vec<u8> = kinds.iter().enumerate().flat_map(hash).collect();
        if input.byte() == 77 {
            hashes.truncate(hashes.len().saturating_sub(1));
        }
        let manifest = ImageManifest { base, length, hashes };
        let image = match images.find(manifest.clone()) {
            Ok(Found::Whole(image)) => image,
            Ok(Found::Partial(mut partial)) => {
                let mut sent = Vec::new();
                for place in partial.missing.clone() {
                    let kind = kinds.get(place as usize).copied().unwrap_or_default();
                    sent.extend(piece(kind, length_of(place as usize)));
                }
                match input.byte() % 8 {
                    0 => sent.extend_from_slice(input.some_bytes()),
                    1 => sent.truncate(input.number() as usize),
                    2 if !sent.is_empty() => {
                        let at = input.number() as usize % sent.len();
                        sent[at] ^= 1 | input.byte();
                    }
                    _ => {}
                }
                let chunk = 1 + input.number() as usize % (1 << 20);
                if sent.chunks(chunk.max(4096)).any(|chunk| partial.take(chunk).is_err()) {
                    continue;
                }
                let Ok(image) = images.complete(*partial) else { continue };
                image
            }
            Err(_) => continue,
        };
        look(&image, &manifest);
        if input.flag() {
            held.push(image);
        }
    }
    drop((images, held));
    assert_eq!(pool.usage().total(), 0, "everything is given back");
}

fn look(image: &Image, manifest: &ImageManifest) {
    assert_eq!((image.base(), image.length()), (manifest.base, manifest.length));
    assert!(image.base().checked_add(image.length()).is_some(), "it ends beyond any memory");
    let mut buffer = Vec::new();
    let pieces = image.pieces().expect("its files can be read");
    assert_eq!(pieces.as_flattened(), manifest.hashes, "it is what was described");
    for number in [0, 1, pieces.len(), usize::MAX, usize::MAX / PIECE] {
        image.read_piece(number, &mut buffer).expect("its files can be read");
        assert!(buffer.len() <= PIECE);
    }
    for part in image.parts().iter() {
        assert!(part.bytes.end <= image.length() as usize);
    }
    for page in [0, 1, (image.length() / PAGE as u64) as usize, usize::MAX] {
        let _ = image.page(page);
    }
}

/// Pictures of a memory, each of what changed since the one before.
fn taken(input: &mut Input<'_>) {
    let pool = MemoryPool::new(ByteSize(32 << 20));
    let component = ComponentHash::of(b"job");
    let mut memory = vec![0; PAGE * (1 + input.below(200))];
    let Ok(mut image) = Image::capture(component, 0, &memory, &pool) else { return };
    for round in 1..6 {
        if input.is_empty() {
            break;
        }
        memory.resize(memory.len() + PAGE * input.below(80), 0);
        let mut own = Vec::new();
        for _ in 0..input.below(8) {
            let at = input.number() as usize % (1 << 20) * PAGE + 3;
            if let Some(byte) = memory.get_mut(at) {
                *byte = round;
            }
            // As the kernel tells of pages beyond the first ones.
            own.extend(at.checked_sub(320 << 10).map(|at| (at / PAGE) as u32));
        }
        if input.byte() == 77 {
            own.push(input.id());
        }
        let next = Image::capture_changes(component, &image.before(), &memory, &own, &pool);
        let next = match next {
            Ok(Some(next)) => next,
            Ok(None) => match Image::capture(component, 0, &memory, &pool) {
                Ok(next) => next,
                Err(_) => return,
            },
            Err(_) => return,
        };
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        for number in 0..memory.len().div_ceil(PIECE) {
            next.read_piece(number, &mut buffer).expect("its files can be read");
            all.extend_from_slice(&buffer);
        }
        assert!(all == memory, "the picture isn't what was there");
        image = next;
    }
}
