//! Images of the driver's memory, brought to an executor piece by piece.
//!
//! An image lies in a file of the application's folder on its worker, under the hash of its manifest, for all of the application's
//! executors there. Pieces that the images before had, and those that are all zeros, don't travel. Where most of them are where they
//! were, only the others are in a file, which this executor alone has: nothing is copied.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingle_blocks::{Disk, DiskCharge};
use ingle_core::memory::MemoryPool;
use ingle_proto::v1;
use ingle_sandbox::{ComponentHash, Image, Layer, PIECE, PieceHash, ZERO_PIECE};

/// Images whose pieces are looked through for the next one's.
const REMEMBERED: usize = 2;
/// A wasm32 memory, in pieces.
const MAX_PIECES: usize = (4 << 30) / PIECE;
/// In more parts than this an image is put together in one file: each is a mapping, in each task.
const MAX_PARTS: usize = 256;

/// Where images are put together.
pub struct Images {
    dir: PathBuf,
    component: ComponentHash,
    pool: MemoryPool,
    executor: u32,
    recent: VecDeque<Recent>,
    files: Vec<Kept>,
    disk: Option<Disk>,
}

/// An image that is here.
struct Recent {
    hashes: Arc<[PieceHash]>,
    length: u64,
    /// The file that each piece is in.
    layers: Vec<Arc<Layer>>,
}

/// A file of this executor's. It loses its name once none of the recent images is in it: who has it open goes on, and whoever wants it then makes
/// it anew.
struct Kept {
    layer: Arc<Layer>,
    path: PathBuf,
    /// Whether it has one, after all.
    named: bool,
    _charge: Option<DiskCharge>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.named {
            // Another executor may have made the same, and have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Recent {
    /// Where each piece is, by its hash.
    fn pieces(&self) -> impl Iterator<Item = (&PieceHash, (&Layer, usize))> {
        let pieces = self.hashes.iter().zip(&self.layers).enumerate();
        pieces.map(|(place, (hash, layer))| (hash, (&**layer, place)))
    }

    /// For each piece of an image, the layer that has it at its place.
    fn same(&self, length: u64, hashes: &[PieceHash]) -> Vec<Option<Arc<Layer>>> {
        let pairs = self.hashes.iter().zip(&self.layers).zip(hashes);
        let mut layers: Vec<_> =
            pairs.map(|((known, layer), hash)| (known == hash).then(|| layer.clone())).collect();
        if length != self.length {
            // A file may end in the middle of its last piece, which is that of another length all the same if both are zero.
            layers.truncate((length.min(self.length) / PIECE as u64) as usize);
        }
        layers.resize(hashes.len(), None);
        layers
    }
}

/// An image that is being put together.
pub struct Partial {
    manifest: v1::ImageManifest,
    hashes: Arc<[PieceHash]>,
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    /// By piece, the layer of an image before that has it; of none if the image is to be whole.
    layers: Vec<Option<Arc<Layer>>>,
    /// The pieces that must be brought, in the order in which they are asked for.
    pub missing: Vec<u32>,
    next: usize,
    charge: Option<DiskCharge>,
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
        Self {
            dir,
            component,
            pool,
            executor,
            recent: VecDeque::new(),
            files: Vec::new(),
            disk: None,
        }
    }

    /// Charges a disk for their files.
    pub fn charging(self, disk: Disk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Looks for an image, or for what of it is here.
    pub fn find(&mut self, manifest: v1::ImageManifest) -> Result<Found, NoImage> {
        let hashes = hashes(&manifest)?;
        let mut name = blake3::Hasher::new();
        name.update(&manifest.base.to_le_bytes()).update(&manifest.length.to_le_bytes());
        name.update(&manifest.hashes);
        let path = self.dir.join(name.finalize().to_hex().as_str());
        if let Ok(file) = File::open(&path) {
            let layer = Layer::new(file.into(), manifest.length as usize, manifest.length);
            let layers = vec![layer; hashes.len()];
            return Ok(Found::Whole(self.open(&manifest, hashes, layers)?));
        }
        let failed = NoImage::io("making an image of the driver in", &self.dir);
        fs::create_dir_all(&self.dir).map_err(&failed)?;
        let layers = self.layers(manifest.length, &hashes);
        let own = layers.iter().zip(&*hashes);
        let own = own.filter(|(layer, hash)| layer.is_none() && **hash != ZERO_PIECE).count();
        let mut charge = self.disk.as_ref().map(Disk::charge);
        if let Some(charge) = &mut charge {
            let charged = charge.grow((own * PIECE) as u64);
            charged.map_err(|error| NoImage {
                why: format!("an image of the driver: {error}"),
                disk_is_full: error.is_disk_full(),
            })?;
        }
        let temporary = path.with_extension(format!("{}.tmp", self.executor));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(&failed)?;
        let partial = Partial {
            charge,
            manifest,
            hashes: hashes.clone(),
            file,
            temporary,
            path,
            layers,
            missing: Vec::new(),
            next: 0,
            buffer: Vec::new(),
        };
        partial.file.set_len(partial.manifest.length).map_err(&failed)?;
        let mut partial = Box::new(partial);
        let known: HashMap<_, _> = self.recent.iter().flat_map(Recent::pieces).collect();
        for (place, hash) in hashes.iter().enumerate().filter(|(_, hash)| **hash != ZERO_PIECE) {
            if partial.layers[place].is_some() {
                continue;
            }
            let copied = known.get(hash).is_some_and(|(from, at)| {
                let mut buffer = vec![0; partial.piece_length(place)];
                from.read_at(&mut buffer, (at * PIECE) as u64).is_ok()
                    && partial.file.write_all_at(&buffer, (place * PIECE) as u64).is_ok()
            });
            if !copied {
                partial.missing.push(place as u32);
            }
        }
        Ok(Found::Partial(partial))
    }

    /// All pieces have come.
    pub fn complete(&mut self, mut partial: Partial) -> Result<Image, String> {
        if partial.next < partial.missing.len() {
            return Err("the driver sent only a part of its image".into());
        }
        let own = partial.layers.iter().filter(|layer| layer.is_none()).count();
        // A file with a part of the image is of use to nobody else, and loses its name with `partial`.
        let named = own == partial.layers.len();
        let (path, charge) = (partial.path.clone(), partial.charge.take());
        if named {
            fs::rename(&partial.temporary, &partial.path)
                .map_err(|e| format!("keeping {}: {e}", partial.path.display()))?;
        }
        let file = partial.file.try_clone().map_err(|e| e.to_string())?;
        let length = partial.manifest.length;
        let layer = Layer::new(file.into(), length as usize, length.min((own * PIECE) as u64));
        self.files.push(Kept { layer: layer.clone(), path, named, _charge: charge });
        let or_new = |known: &Option<Arc<Layer>>| known.as_ref().unwrap_or(&layer).clone();
        let layers = partial.layers.iter().map(or_new).collect();
        self.open(&partial.manifest, partial.hashes.clone(), layers)
    }

    /// For each piece of an image, the layer that has it at its place already, where that is so of most of them.
    fn layers(&self, length: u64, hashes: &[PieceHash]) -> Vec<Option<Arc<Layer>>> {
        let count = |layers: &Vec<Option<Arc<Layer>>>| layers.iter().flatten().count();
        let same = |recent: &Recent| recent.same(length, hashes);
        let best = self.recent.iter().map(same).max_by_key(count);
        let parts = |layers: &[Option<Arc<Layer>>]| {
            let at = |layer: &Option<Arc<Layer>>| layer.as_ref().map(Arc::as_ptr);
            layers.windows(2).filter(|two| at(&two[0]) != at(&two[1])).count() + 1
        };
        best.filter(|layers| 2 * count(layers) > hashes.len() && parts(layers) <= MAX_PARTS)
            .unwrap_or_else(|| vec![None; hashes.len()])
    }

    fn open(
        &mut self,
        manifest: &v1::ImageManifest,
        hashes: Arc<[PieceHash]>,
        layers: Vec<Arc<Layer>>,
    ) -> Result<Image, String> {
        let image =
            Image::from_layers(self.component, manifest.base, manifest.length, &layers, &self.pool)
                .map_err(|e| e.to_string())?;
        self.recent.push_back(Recent { hashes, length: manifest.length, layers });
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        let recent = &self.recent;
        let is_used = |file: &Kept| {
            recent.iter().flat_map(|image| &image.layers).any(|l| Arc::ptr_eq(l, &file.layer))
        };
        self.files.retain(is_used);
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
    fn what_lies_where_it_lay_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path(), 1 << 30, "");
        let mut here = images(dir.path()).charging(disk.clone());
        let used = |here: &Images| here.pool.usage().total();
        let mut bytes = vec![7; 8 * PIECE + 4096];
        (0..8).for_each(|piece| bytes[piece * PIECE] = piece as u8);
        bytes[8 * PIECE..].fill(0);
        let mut held = Vec::new();
        let mut bring = |here: &mut Images, bytes: &[u8]| {
            let image = captured(bytes);
            let Found::Partial(mut partial) = here.find(manifest(&image)).unwrap() else {
                panic!("it is new")
            };
            let mut buffer = Vec::new();
            for place in partial.missing.clone() {
                image.read_piece(place as usize, &mut buffer).unwrap();
                partial.take(&buffer).unwrap();
            }
            let there = here.complete(*partial).unwrap();
            assert_eq!(there.pieces().unwrap(), image.pieces().unwrap());
            let parts = there.parts().count();
            held.push(there);
            parts
        };
        assert_eq!(bring(&mut here, &bytes), 1);
        let whole = used(&here);
        // Two pieces change, and it grows by some zeros in the last one, and by a piece.
        bytes[3 * PIECE + 1] = 9;
        bytes[5 * PIECE + 1] = 9;
        bytes.resize(9 * PIECE, 0);
        bytes.resize(10 * PIECE, 1);
        assert_eq!(bring(&mut here, &bytes), 6);
        assert_eq!(used(&here) - whole, 4 * PIECE as u64);
        // On top of that.
        bytes[6 * PIECE] = 77;
        assert_eq!(bring(&mut here, &bytes), 7);
        assert_eq!(used(&here) - whole, 5 * PIECE as u64);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the first is for others");
        // Most of it is new.
        bytes[..6 * PIECE].fill(5);
        assert_eq!(bring(&mut here, &bytes), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        // Files go with the images that were in them.
        (10..15).for_each(|n| {
            bytes.fill(n);
            bring(&mut here, &bytes);
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), REMEMBERED);
        assert_eq!(disk.used(), (REMEMBERED * 10 * PIECE) as u64);
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
