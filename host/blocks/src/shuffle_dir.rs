//! Shuffle output as files that belong to a worker: they outlive the executor that wrote them, and are read by others.
//!
//! One file for each attempt of a map task, `S/P-A` (stage, partition, attempt). It is written under another name and renamed when it is
//! complete, so that a crash leaves no half of one. All numbers are little-endian:
//!
//! | part | what |
//! |---|---|
//! | head | the magic number, 8 bytes |
//! | data | the blocks, those of one reduce partition next to each other |
//! | spans | for each block: its partition, its stored length, its length before compression (0: as stored), a CRC-32 of its bytes and that; 4 bytes each |
//! | directory | for each partition, and one beyond the last: where its data begins (8 bytes), its first span (4), and a CRC-32 of both and the partition |
//! | foot | where spans and directory begin (8 each), partitions, codec (4 each), a CRC-32 of these, the magic number again |

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ingle_core::ids::StageId;
use ingle_core::memory::Reservation;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::disk::{Disk, DiskCharge};
use crate::error::{Error, Result};

/// How many stages were dropped here.
static DROPPED: AtomicU64 = AtomicU64::new(0);

const MAGIC: [u8; 8] = *b"INGLSHF1";
const SPAN: u64 = 16;
const ENTRY: u64 = 16;
const FOOT: u64 = 36;
const BUFFER: usize = 256 << 10;
/// Blocks next to each other are read together, up to so many bytes.
const READ_TOGETHER: usize = 1 << 20;
/// The longest block; a guest can't hand over more at once.
pub const MAX_BLOCK: u32 = 256 << 20;
/// Spans that are read at once.
const SPANS: usize = 4096;
/// Spans that a writer has room for at first.
const FIRST_SPANS: usize = 64;
/// What a span costs its writer, with its place in the directory.
const SPAN_CHARGE: u64 = 32;
/// Less than this isn't worth compressing.
const MIN_COMPRESSED: usize = 128;

/// How shuffle output is compressed, block by block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Fast.
    Lz4,
    /// Better, at its fastest level.
    Zstd,
}

impl Compression {
    /// Its number in files and messages.
    pub fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The one with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|c| c.number() == number)
    }

    /// A block in fewer bytes; none if that doesn't save anything.
    fn compress(self, block: &[u8]) -> Option<Vec<u8>> {
        let compressed = match self {
            _ if block.len() < MIN_COMPRESSED => return None,
            Self::None => return None,
            Self::Lz4 => lz4_flex::block::compress(block),
            Self::Zstd => zstd::bulk::compress(block, 1).ok()?,
        };
        (compressed.len() < block.len()).then_some(compressed)
    }

    /// Fills `into`, which is as long as the block was.
    fn decompress(self, stored: &[u8], into: &mut [u8]) -> bool {
        let length = match self {
            Self::None => None,
            Self::Lz4 => lz4_flex::block::decompress_into(stored, into).ok(),
            Self::Zstd => zstd::bulk::decompress_to_buffer(stored, into).ok(),
        };
        length == Some(into.len())
    }
}

/// A block as it is stored, on its way from one machine to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteBlock {
    /// The map task that made it.
    pub map: u32,
    /// Its bytes, compressed or not.
    pub stored: Bytes,
    /// Its length before compression; 0 if it wasn't compressed.
    pub raw_len: u32,
    /// How it was compressed: [`Compression::number`].
    pub codec: u32,
    /// CRC-32 of the stored bytes and `raw_len`.
    pub crc: u32,
}

impl RemoteBlock {
    /// How many bytes it has when it is read.
    pub fn len(&self) -> usize {
        if self.raw_len > 0 { self.raw_len as usize } else { self.stored.len() }
    }

    /// Whether it has none; no writer makes such a block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is as it was written.
    pub fn is_sound(&self) -> bool {
        self.len() <= MAX_BLOCK as usize && checksum(&self.stored, self.raw_len) == self.crc
    }

    /// The block, if it is sound, into `buffer` if it must be decompressed; none if that fails.
    pub(crate) fn open<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        if self.raw_len == 0 {
            return Some(&self.stored);
        }
        buffer.clear();
        if buffer.capacity() < self.raw_len as usize {
            // No longer than it is charged for, and nothing in it need be copied.
            *buffer = Vec::with_capacity(self.raw_len as usize);
        }
        buffer.resize(self.raw_len as usize, 0);
        let codec = Compression::from_number(self.codec)?;
        codec.decompress(&self.stored, buffer).then_some(buffer)
    }
}

/// What is known of a block before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The map task that made it.
    pub map: u32,
    /// Its length as it is stored.
    pub stored_len: u32,
    /// As in [`RemoteBlock`].
    pub raw_len: u32,
    /// As there.
    pub codec: u32,
    /// As there.
    pub crc: u32,
}

/// Blocks at an output's beginning, and what they have, as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// How many.
    pub blocks: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// An application's shuffle output on one worker. Clones share it.
#[derive(Clone, Debug)]
pub struct ShuffleDir {
    path: Arc<PathBuf>,
    /// What is charged for what this process stored there, if anything is.
    disk: Option<Disk>,
    charged: Arc<Mutex<HashMap<StageId, DiskCharge>>>,
}

impl ShuffleDir {
    /// The folder, made if need be, for this user alone.
    pub fn create(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(Error::io("making the folder for shuffle output", path))?;
        Ok(Self::open_existing(path))
    }

    /// A folder that others write to.
    pub fn open_existing(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()), disk: None, charged: Arc::default() }
    }

    /// Charges a disk for what is written from now on.
    pub(crate) fn charging(self, disk: &Disk) -> Self {
        Self { disk: Some(disk.clone()), ..self }
    }

    /// The folder of a stage's output, there as long as there is some.
    fn folder(&self, stage: StageId) -> PathBuf {
        self.path.join(stage.0.to_string())
    }

    fn file(&self, stage: StageId, map: u32, attempt: u32) -> PathBuf {
        self.folder(stage).join(format!("{map}-{attempt}"))
    }

    /// Opens a file, through no link: executors write to the folder, and whoever reads may be able to read more than they.
    fn open_file(&self, stage: StageId, map: u32, attempt: u32) -> io::Result<(File, PathBuf)> {
        let path = self.file(stage, map, attempt);
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let below = path.strip_prefix(parent).map_err(io::Error::other)?;
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, folder, Mode::empty())?;
        // A pipe that lies there keeps nobody waiting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(parent, below, flags, Mode::empty(), resolve)?;
        Ok((File::from(file), path))
    }

    /// Begins a file. Partitions are written in their order.
    pub(crate) fn write(
        &self,
        stage: StageId,
        map: u32,
        attempt: u32,
        partitions: u32,
        compression: Compression,
        charge: Reservation,
    ) -> Result<MapFileWriter> {
        let path = self.file(stage, map, attempt);
        let temporary = path.with_extension("tmp");
        let opened = File::create(&temporary).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // The stage's first.
            match DirBuilder::new().mode(0o700).create(self.folder(stage)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => File::create(&temporary),
            }
        });
        let file = opened.map_err(Error::io("writing shuffle output", &temporary))?;
        let mut writer = MapFileWriter {
            path,
            temporary,
            file: BufWriter::with_capacity(BUFFER, file),
            at: 0,
            spans: Vec::new(),
            directory: Vec::new(),
            partitions,
            partition: 0,
            compression,
            charge,
            stored: self.disk.as_ref().map(Disk::charge),
            dir: self.clone(),
            stage,
        };
        writer.put(&MAGIC)?;
        Ok(writer)
    }

    /// Opens some partitions of one attempt's output.
    pub(crate) fn open(
        &self,
        stage: StageId,
        map: u32,
        attempt: u32,
        partitions: Range<u32>,
    ) -> Result<MapFile> {
        let missing = Error::MissingOutput { stage, map, attempt, whole: false };
        let opened = self
            .open_file(stage, map, attempt)
            .and_then(|(file, path)| MapFile::read(file, &path, map, partitions));
        opened.map_err(|why| {
            tracing::warn!("{missing} ({why})");
            missing
        })
    }

    /// Removes a stage's output. Those who read it now may go on.
    pub fn drop_stage(&self, stage: StageId) {
        let folder = self.folder(stage);
        let (aside, charged) = {
            // What is committed before is in the folder, and charged; what would be later finds no folder.
            let mut charged = self.charged.lock();
            let number = DROPPED.fetch_add(1, Ordering::Relaxed);
            let aside = folder.with_extension(format!("dropped-{}-{number}", std::process::id()));
            let moved = fs::rename(&folder, &aside);
            (moved.map_or(folder, |()| aside), charged.remove(&stage))
        };
        // There may be none; another executor of this worker may be as quick; and what stays goes with the application.
        let _ = fs::remove_dir_all(aside);
        // And those of executors that ended meanwhile.
        let dropped = format!("{}.dropped-", stage.0);
        for left in fs::read_dir(&*self.path).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(&dropped) {
                let _ = fs::remove_dir_all(left.path());
            }
        }
        drop(charged);
    }
}

/// A file in the making. Dropped before its commit, it is removed.
pub(crate) struct MapFileWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    at: u64,
    spans: Vec<[u32; 4]>,
    /// Of each partition that has blocks: where its data begins, and its first span.
    directory: Vec<(u32, u64, u32)>,
    partitions: u32,
    partition: u32,
    compression: Compression,
    charge: Reservation,
    /// For the file.
    stored: Option<DiskCharge>,
    dir: ShuffleDir,
    stage: StageId,
}

impl MapFileWriter {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(stored) = &mut self.stored {
            let after = self.at + bytes.len() as u64;
            if after > stored.bytes() {
                let more = (after - stored.bytes()).max(BUFFER as u64);
                stored.grow(more)?;
                stored.disk().note_write(more);
            }
        }
        let put = self.file.write_all(bytes);
        put.map_err(Error::io("writing shuffle output", &self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// From now on blocks are of this partition.
    pub fn begin(&mut self, partition: u32) -> Result<()> {
        if partition >= self.partitions {
            return Err(Error::Invalid(format!("there is no partition {partition}")));
        }
        self.partition = partition;
        Ok(())
    }

    pub fn push(&mut self, block: &[u8]) -> Result<()> {
        if self.spans.len() == self.spans.capacity() {
            let more = self.spans.capacity().max(FIRST_SPANS);
            self.charge.grow(more as u64 * SPAN_CHARGE)?;
            self.spans.reserve_exact(more);
        }
        if self.directory.last().is_none_or(|(last, ..)| *last < self.partition) {
            self.directory.push((self.partition, self.at, self.spans.len() as u32));
        }
        let compressed = self.compression.compress(block);
        let (stored, raw) = match &compressed {
            Some(compressed) => (&compressed[..], block.len() as u32),
            None => (block, 0),
        };
        self.spans.push([self.partition, stored.len() as u32, raw, checksum(stored, raw)]);
        self.put(stored)
    }

    /// Makes the file readable, all at once.
    pub fn commit(mut self) -> Result<()> {
        let (spans_at, count) = (self.at, self.spans.len() as u32);
        for span in std::mem::take(&mut self.spans) {
            for number in span {
                self.put(&number.to_le_bytes())?;
            }
        }
        let directory_at = self.at;
        let mut begun = std::mem::take(&mut self.directory).into_iter().peekable();
        for partition in 0..=self.partitions {
            // One without blocks begins where the next one does.
            while begun.peek().is_some_and(|(begun, ..)| *begun < partition) {
                begun.next();
            }
            let (_, offset, span) = begun.peek().copied().unwrap_or((partition, spans_at, count));
            self.put(&entry(partition, offset, span))?;
        }
        let mut foot = Vec::with_capacity(FOOT as usize);
        foot.extend_from_slice(&spans_at.to_le_bytes());
        foot.extend_from_slice(&directory_at.to_le_bytes());
        foot.extend_from_slice(&self.partitions.to_le_bytes());
        foot.extend_from_slice(&self.compression.number().to_le_bytes());
        foot.extend_from_slice(&crc32fast::hash(&foot).to_le_bytes());
        foot.extend_from_slice(&MAGIC);
        self.put(&foot)?;
        self.file.flush().map_err(Error::io("writing shuffle output", &self.path))?;
        // A stage that is dropped at this moment is so before, or after both.
        let mut charged = self.dir.charged.lock();
        let renamed = fs::rename(&self.temporary, &self.path);
        renamed.map_err(Error::io("writing shuffle output", &self.path))?;
        if let Some(mut stored) = self.stored.take() {
            stored.shrink(stored.bytes().saturating_sub(self.at));
            match charged.entry(self.stage) {
                Entry::Occupied(mut all) => all.get_mut().join(stored),
                Entry::Vacant(first) => {
                    first.insert(stored);
                }
            }
        }
        Ok(())
    }
}

impl Drop for MapFileWriter {
    fn drop(&mut self) {
        // Gone already if it was committed.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn checksum(stored: &[u8], raw_len: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(stored);
    crc.update(&raw_len.to_le_bytes());
    crc.finalize()
}

fn entry(partition: u32, offset: u64, span: u32) -> [u8; ENTRY as usize] {
    let mut entry = [0; ENTRY as usize];
    entry[..8].copy_from_slice(&offset.to_le_bytes());
    entry[8..12].copy_from_slice(&span.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&entry[..12]);
    crc.update(&partition.to_le_bytes());
    entry[12..].copy_from_slice(&crc.finalize().to_le_bytes());
    entry
}

/// Partitions next to each other of a file that is read.
#[derive(Debug)]
pub(crate) struct MapFile {
    file: File,
    path: PathBuf,
    map: u32,
    codec: u32,
    partitions: Range<u32>,
    /// Spans that were read, where the others are, and how many.
    spans: std::vec::IntoIter<[u32; 4]>,
    spans_at: u64,
    spans_left: u32,
    /// Where what isn't read yet begins and ends.
    at: u64,
    end: u64,
    /// Bytes that were read ahead.
    ahead: Bytes,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its {what} is damaged"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl MapFile {
    fn read(file: File, path: &Path, map: u32, partitions: Range<u32>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut foot = [0; FOOT as usize];
        let foot_at = length.checked_sub(FOOT).ok_or_else(|| damaged("foot"))?;
        file.read_exact_at(&mut foot, foot_at)?;
        let (spans_at, directory_at) = (u64_at(&foot, 0), u64_at(&foot, 8));
        let (all, codec) = (u32_at(&foot, 16), u32_at(&foot, 20));
        let is_sound = foot[28..] == MAGIC
            && u32_at(&foot, 24) == crc32fast::hash(&foot[..24])
            && spans_at <= directory_at
            && directory_at.checked_add((u64::from(all) + 1) * ENTRY) == Some(foot_at);
        if !is_sound {
            return Err(damaged("foot"));
        }
        if partitions.is_empty() || partitions.end > all {
            return Err(damaged("number of partitions"));
        }
        let read = |partition: u32| {
            let mut found = [0; ENTRY as usize];
            file.read_exact_at(&mut found, directory_at + u64::from(partition) * ENTRY)?;
            let (at, span) = (u64_at(&found, 0), u32_at(&found, 8));
            let is_sound = found == entry(partition, at, span);
            if is_sound { Ok((at, span)) } else { Err(damaged("directory")) }
        };
        let (at, first) = read(partitions.start)?;
        let (end, last) = read(partitions.end)?;
        let is_sound = at <= end
            && end <= spans_at
            && first <= last
            && spans_at + u64::from(last) * SPAN <= directory_at;
        if !is_sound {
            return Err(damaged("directory"));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            map,
            codec,
            partitions,
            spans: Vec::new().into_iter(),
            spans_at: spans_at + u64::from(first) * SPAN,
            spans_left: last - first,
            at,
            end,
            ahead: Bytes::new(),
        })
    }

    /// What is known of the next block; none after the last, which ends where the partitions do.
    fn next_span(&mut self) -> io::Result<Option<[u32; 4]>> {
        if self.spans.as_slice().is_empty() {
            let count = SPANS.min(self.spans_left as usize);
            let mut raw = vec![0; count * SPAN as usize];
            self.file.read_exact_at(&mut raw, self.spans_at)?;
            self.spans_at += raw.len() as u64;
            self.spans_left -= count as u32;
            let spans = raw.chunks_exact(SPAN as usize);
            let spans: Vec<_> =
                spans.map(|span| [0, 4, 8, 12].map(|at| u32_at(span, at))).collect();
            self.spans = spans.into_iter();
        }
        let span = self.spans.next();
        let is_sound = match span {
            None => self.at == self.end,
            Some([partition, stored, raw, _]) => {
                self.partitions.contains(&partition)
                    && u64::from(stored) <= self.end - self.at
                    && stored.max(raw) <= MAX_BLOCK
            }
        };
        if is_sound { Ok(span) } else { Err(damaged("index")) }
    }

    /// Leaves out blocks that whoever reads has.
    pub fn pass(&mut self, had: Had) -> io::Result<()> {
        if had.blocks > self.spans_left || had.bytes > self.end - self.at {
            return Err(damaged("index"));
        }
        self.spans_left -= had.blocks;
        self.spans_at += u64::from(had.blocks) * SPAN;
        self.at += had.bytes;
        Ok(())
    }

    /// What is known of the next block; none after the last. Then it is taken, in one piece or several.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        let span = self.next_span()?;
        let (map, codec) = (self.map, self.codec);
        Ok(span.map(|[_, stored_len, raw_len, crc]| Head { map, stored_len, raw_len, codec, crc }))
    }

    /// How many bytes must be read to take so many, and how many had better be, with what follows; none if they are there.
    pub fn lacks(&self, length: usize) -> (usize, usize) {
        if self.ahead.len() >= length {
            return (0, 0);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        (length, length.max(READ_TOGETHER).min(left))
    }

    /// Takes the next bytes. If they aren't there, so many are read.
    pub fn take(&mut self, length: usize, together: usize) -> io::Result<Bytes> {
        if self.ahead.len() < length {
            // What is ahead is read again: it is less than what is taken.
            self.ahead = Bytes::new();
            let mut buffer = vec![0; together.max(length)];
            self.file.read_exact_at(&mut buffer, self.at)?;
            self.ahead = buffer.into();
        }
        self.at += length as u64;
        Ok(self.ahead.split_to(length))
    }

    /// The most that its part of the index takes.
    pub fn index_bytes(&self) -> usize {
        SPANS.min(self.spans_left as usize).max(self.spans.as_slice().len()) * 2 * SPAN as usize
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The map task that made it.
    pub fn map(&self) -> u32 {
        self.map
    }
}
