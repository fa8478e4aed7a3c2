//! Images of the driver's memory, brought to an executor piece by piece.
//!
//! An image lies in a file of the application's folder on its worker, under the hash of its manifest, for all of the application's
//! executors there. Pieces that the images before had, and those that are all zeros, don't travel.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingle_core::memory::MemoryPool;
use ingle_proto::v1;
use ingle_sandbox::{ComponentHash, Image, PIECE, PieceHash, ZERO_PIECE};

/// Images whose pieces are looked through for the next one's.
const REMEMBERED: usize = 2;
/// A wasm32 memory, in pieces.
const MAX_PIECES: usize = (4 << 30) / PIECE;

/// Where images are put together.
pub struct Images {
    dir: PathBuf,
    component: ComponentHash,
    pool: MemoryPool,
    executor: u32,
    recent: VecDeque<(Arc<File>, Arc<[PieceHash]>)>,
}

/// An image that is being put together.
pub struct Partial {
    manifest: v1::ImageManifest,
    hashes: Arc<[PieceHash]>,
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    /// The pieces that must be brought, in the order in which they are asked for.
    pub missing: Vec<u32>,
    next: usize,
    /// What has come of the next piece.
    buffer: Vec<u8>,
}

/// Why an image can't be had. The words are for the user.
#[derive(Clone, Debug, Default)]
pub struct NoImage {
    pub why: String,
    /// It would be had on another machine.
    pub disk_is_full: bool,
}

impl From<String> for NoImage {
    fn from(why: String) -> Self {
        Self { why, disk_is_full: false }
    }
}

impl NoImage {
    fn io(doing: &str, path: &Path) -> impl Fn(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |error| {
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            Self { why: format!("{doing}: {error}"), disk_is_full: full.contains(&error.kind()) }
        }
    }
}

/// What there is of an image.
pub enum Found {
    Whole(Image),
    Partial(Box<Partial>),
}

impl Images {
    pub fn new(dir: PathBuf, component: ComponentHash, pool: MemoryPool, executor: u32) -> Self {
        Self { dir, component, pool, executor, recent: VecDeque::new() }
    }

    /// Looks for an image, or for what of it is here.
    pub fn find(&mut self, manifest: v1::ImageManifest) -> Result<Found, NoImage> {
        let hashes = hashes(&manifest)?;
        let mut name = blake3::Hasher::new();
        name.update(&manifest.base.to_le_bytes()).update(&manifest.length.to_le_bytes());
        name.update(&manifest.hashes);
        let path = self.dir.join(name.finalize().to_hex().as_str());
        if let Ok(file) = File::open(&path) {
            return Ok(Found::Whole(self.open(file, &manifest, hashes)?));
        }
        let failed = NoImage::io("making an image of the driver in", &self.dir);
        fs::create_dir_all(&self.dir).map_err(&failed)?;
        let temporary = path.with_extension(format!("{}.tmp", self.executor));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(&failed)?;
        let partial = Partial {
            manifest,
            hashes: hashes.clone(),
            file,
            temporary,
            path,
            missing: Vec::new(),
            next: 0,
            buffer: Vec::new(),
        };
        partial.file.set_len(partial.manifest.length).map_err(&failed)?;
        let mut partial = Box::new(partial);
        let known: HashMap<&PieceHash, (&File, usize)> = self
            .recent
            .iter()
            .flat_map(|(file, hashes)| {
                hashes.iter().enumerate().map(move |(place, hash)| (hash, (&**file, place)))
            })
            .collect();
        for (place, hash) in hashes.iter().enumerate().filter(|(_, hash)| **hash != ZERO_PIECE) {
            let copied = known.get(hash).is_some_and(|(from, at)| {
                let mut buffer = vec![0; partial.piece_length(place)];
                from.read_exact_at(&mut buffer, (at * PIECE) as u64).is_ok()
                    && partial.file.write_all_at(&buffer, (place * PIECE) as u64).is_ok()
            });
            if !copied {
                partial.missing.push(place as u32);
            }
        }
        Ok(Found::Partial(partial))
    }

    /// All pieces have come.
    pub fn complete(&mut self, partial: Partial) -> Result<Image, String> {
        if partial.next < partial.missing.len() {
            return Err("the driver sent only a part of its image".into());
        }
        fs::rename(&partial.temporary, &partial.path)
            .map_err(|e| format!("keeping {}: {e}", partial.path.display()))?;
        let file = partial.file.try_clone().map_err(|e| e.to_string())?;
        self.open(file, &partial.manifest, partial.hashes.clone())
    }

    fn open(
        &mut self,
        file: File,
        manifest: &v1::ImageManifest,
        hashes: Arc<[PieceHash]>,
    ) -> Result<Image, String> {
        let kept = file.try_clone().map_err(|e| e.to_string())?;
        let image = Image::from_file(
            self.component,
            manifest.base,
            manifest.length,
            file.into(),
            &self.pool,
        )
        .map_err(|e| e.to_string())?;
        self.recent.push_back((Arc::new(kept), hashes));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        Ok(image)
    }
}

fn hashes(manifest: &v1::ImageManifest) -> Result<Arc<[PieceHash]>, String> {
    let (hashes, rest) = manifest.hashes.as_chunks::<32>();
    let is_sound = rest.is_empty()
        && hashes.len() <= MAX_PIECES
        && manifest.length.div_ceil(PIECE as u64) == hashes.len() as u64;
    if !is_sound {
        return Err("the driver described an image that can't be".into());
    }
    Ok(hashes.into())
}

impl Partial {
    fn piece_length(&self, place: usize) -> usize {
        let start = (place * PIECE) as u64;
        self.manifest.length.saturating_sub(start).min(PIECE as u64) as usize
    }

    /// Takes bytes of the missing pieces, as they come.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), NoImage> {
        while !bytes.is_empty() {
            let Some(&place) = self.missing.get(self.next) else {
                let why = "the driver sent more of its image than was asked for";
                return Err(why.to_owned().into());
            };
            let place = place as usize;
            let wanted = self.piece_length(place) - self.buffer.len();
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if now.len() == wanted {
                if Some(blake3::hash(&self.buffer).as_bytes()) != self.hashes.get(place) {
                    let why = "a piece of the driver's image was changed on its way";
                    return Err(why.to_owned().into());
                }
                self.file
                    .write_all_at(&self.buffer, (place * PIECE) as u64)
                    .map_err(NoImage::io("writing", &self.temporary))?;
                self.buffer.clear();
                self.next += 1;
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already if it was completed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Where an application's images are.
pub fn dir(application_dir: &Path) -> PathBuf {
    application_dir.join("images")
}

#[cfg(test)]
mod tests {
    use ingle_core::size::ByteSize;

    use super::*;

    fn manifest(image: &Image) -> v1::ImageManifest {
        crate::driver::manifest(image).unwrap()
    }

    fn images(dir: &Path) -> Images {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        Images::new(dir.to_owned(), ComponentHash::of(b"job"), pool, 0)
    }

    fn captured(bytes: &[u8]) -> Image {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        Image::capture(ComponentHash::of(b"job"), 4096, bytes, &pool).unwrap()
    }

    /// Brings an image over; gives the number of pieces that travelled.
    fn bring(images: &mut Images, image: &Image) -> usize {
        match images.find(manifest(image)).unwrap() {
            Found::Whole(_) => 0,
            Found::Partial(mut partial) => {
                let mut all = Vec::new();
                let mut buffer = Vec::new();
                for place in partial.missing.clone() {
                    image.read_piece(place as usize, &mut buffer).unwrap();
                    all.extend_from_slice(&buffer);
                }
                all.chunks(100_000).for_each(|chunk| partial.take(chunk).unwrap());
                assert!(partial.take(b"more").is_err());
                let travelled = partial.missing.len();
                let there = images.complete(*partial).unwrap();
                assert_eq!(there.pieces().unwrap(), image.pieces().unwrap());
                travelled
            }
        }
    }

    #[test]
    fn a_piece_travels_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![7; 4 * PIECE + 4096];
        bytes[PIECE..2 * PIECE].fill(0);
        bytes[0] = 1;
        bytes[2 * PIECE] = 2;
        let (mut here, first) = (images(dir.path()), captured(&bytes));
        assert_eq!(bring(&mut here, &first), 4, "the piece of zeros stays");
        assert_eq!(bring(&mut here, &first), 0);
        // Another executor of the same worker finds it.
        assert_eq!(bring(&mut images(dir.path()), &first), 0);
        bytes[3 * PIECE + 5] = 9;
        assert_eq!(bring(&mut here, &captured(&bytes)), 1);
    }

    #[test]
    fn what_is_not_the_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let image = captured(&[1; 2 * PIECE]);
        let mut here = images(dir.path());
        let sound = manifest(&image);
        for length in [0, PIECE as u64, 3 * PIECE as u64, u64::MAX] {
            assert!(here.find(v1::ImageManifest { length, ..sound.clone() }).is_err(), "{length}");
        }
        let Found::Partial(mut partial) = here.find(sound).unwrap() else { panic!("it is new") };
        assert!(partial.take(&[2; PIECE]).unwrap_err().why.contains("changed on its way"));
        assert!(here.complete(*partial).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
