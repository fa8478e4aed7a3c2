//! Reading a split: blocks of whole lines, or a file as it is.
//!
//! The split `start..end` owns the lines that *begin* in it. So it skips through the first newline at `start - 1` or later,
//! and reads through the first at `end - 1` or later: the next split skips just that. Offsets are those of the
//! decompressed file.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ingle_core::memory::{Account, MemoryPool, MemoryUse, Reservation};
use ingle_core::size::ByteSize;
use memchr::{memchr, memchr_iter, memrchr};

use crate::error::{Error, Result};
use crate::grants::Grants;
use crate::input::{self, Compression};
use crate::sources::{Framing, SourceFile, Split};

/// How splits are read.
#[derive(Clone)]
pub struct ReadOptions {
    /// What buffers are charged to.
    pub pool: MemoryPool,
    /// What they are counted on beside that.
    pub account: Option<Arc<Account>>,
    /// The length of a block, about.
    pub block: usize,
    /// The longest line that is read, at least a block.
    pub max_line: usize,
    /// Hears of every byte that is read from disk.
    pub bytes_read: Arc<AtomicU64>,
}

impl ReadOptions {
    /// Blocks of 1 MiB, lines up to 128 MiB.
    pub fn new(pool: MemoryPool) -> Self {
        let (account, bytes_read) = (None, Arc::default());
        Self { pool, account, block: 1 << 20, max_line: 128 << 20, bytes_read }
    }

    /// An empty charge for a buffer.
    pub(crate) fn charge(&self) -> Reservation {
        let mut charge = self.pool.reservation(MemoryUse::Input);
        if let Some(account) = &self.account {
            charge.count_on(account);
        }
        charge
    }
}

/// The longest header line.
const MAX_HEADER: usize = 1 << 20;
/// What is read at a time when the end of a line is near: where a split ends, and for a header.
const STEP: usize = 64 << 10;

/// What a guest may ask about its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitDescription<'a> {
    /// The file.
    pub path: &'a Path,
    /// Where in the file the first block begins.
    pub offset: u64,
    /// The file's first line as it is, with its line end, for `LinesWithHeader`.
    pub header: &'a [u8],
}

/// An open split.
pub struct SplitReader {
    grants: Arc<Grants>,
    file: SourceFile,
    is_lines: bool,
    header: Vec<u8>,
    /// Where the first block begins.
    offset: u64,
    /// No line of this split begins here or later.
    end: u64,
    block: usize,
    max_line: usize,
    stream: Stream,
}

impl SplitReader {
    pub(crate) fn open(
        grants: &Arc<Grants>,
        file: &SourceFile,
        split: Split,
        framing: Framing,
        options: &ReadOptions,
    ) -> Result<Self> {
        let compression = Compression::of(&file.path);
        let is_whole = framing == Framing::WholeFiles || compression != Compression::None;
        let end = if is_whole { u64::MAX } else { split.end };
        let mut header = Vec::new();
        let mut stream;
        if split.start == 0 {
            stream = Stream::open(grants, file, 0, options)?;
            if framing == Framing::LinesWithHeader {
                header = stream.take_header(&file.path)?;
            }
        } else {
            let mut start = split.start;
            if framing == Framing::LinesWithHeader {
                let mut head = Stream::open(grants, file, 0, options)?;
                header = head.take_header(&file.path)?;
                start = start.max(header.len() as u64);
            }
            stream = Stream::open(grants, file, start - 1, options)?;
            stream.skip_line(&file.path, end, options.block)?;
        }
        Ok(Self {
            grants: grants.clone(),
            file: file.clone(),
            is_lines: framing != Framing::WholeFiles,
            header,
            offset: stream.at + stream.given as u64,
            end,
            block: options.block.max(1),
            max_line: options.max_line.max(options.block),
            stream,
        })
    }

    /// The next block; none at the end. A block of lines ends with a newline, except perhaps the last of a file.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>> {
        self.stream.drop_given(self.block);
        let given = if self.is_lines { self.whole_lines()? } else { self.any_bytes()? };
        self.stream.given = given;
        Ok(self.stream.buffer.get(..given).filter(|block| !block.is_empty()))
    }

    /// How many bytes of the buffer the next block of a whole file has.
    fn any_bytes(&mut self) -> Result<usize> {
        self.stream.fill(&self.file.path, self.block)?;
        self.check_length()?;
        Ok(self.stream.filled)
    }

    /// How many bytes of the buffer the next block of whole lines has, once enough of them are there.
    fn whole_lines(&mut self) -> Result<usize> {
        let stream = &mut self.stream;
        if stream.at >= self.end {
            return Ok(0);
        }
        // From here on a newline is the last of this split.
        let last = usize::try_from(self.end - stream.at - 1).unwrap_or(usize::MAX);
        loop {
            let before_end = usize::try_from(self.end - stream.at).unwrap_or(usize::MAX);
            let target = if stream.filled < self.block.min(before_end) {
                self.block.min(before_end)
            } else if stream.without_newline < stream.filled {
                stream.filled
            } else if stream.filled >= before_end {
                stream.filled + STEP.min(self.block)
            } else {
                stream.filled.saturating_add(self.block).min(before_end)
            };
            stream.fill(&self.file.path, target.min(self.max_line + 1))?;

            let (from, text) = (stream.without_newline, stream.text());
            let begin = from.max(last).min(text.len());
            if let Some(i) = memchr(b'\n', text.get(begin..).unwrap_or_default()) {
                return Ok(begin + i + 1);
            }
            if let Some(i) = memrchr(b'\n', text.get(from..).unwrap_or_default()) {
                let given = from + i + 1;
                stream.without_newline = stream.filled - given;
                return Ok(given);
            }
            stream.without_newline = stream.filled;
            if stream.at_end {
                break;
            }
            if stream.filled > self.max_line {
                let limit = ByteSize(self.max_line as u64);
                let problem = format!("has a line longer than {limit}, from byte {}", stream.at);
                return Err(Error::bad(&self.file.path, problem));
            }
        }
        self.check_length()?;
        self.stream.without_newline = 0;
        Ok(self.stream.filled)
    }

    /// A plain file that ends early was cut while it was read.
    fn check_length(&self) -> Result<()> {
        let read = self.stream.at + self.stream.filled as u64;
        let is_plain = Compression::of(&self.file.path) == Compression::None;
        if is_plain && self.stream.at_end && read < self.file.len {
            return Err(input::changed(&self.file.path, self.file.len));
        }
        Ok(())
    }

    /// What a guest may ask about the split.
    pub fn describe(&self) -> SplitDescription<'_> {
        SplitDescription { path: &self.file.path, offset: self.offset, header: &self.header }
    }

    /// The number, from 1, of the line at an offset. Reads the file up to there.
    pub fn line_number(&self, offset: u64) -> Result<u64> {
        let path = &self.file.path;
        let uncounted = Arc::default();
        let mut rest = input::open(&self.grants, &self.file, 0, &uncounted)?.take(offset);
        let mut buffer = vec![0; STEP];
        let mut number = 1;
        loop {
            let n = read(&mut rest, &mut buffer).map_err(|e| input::failed(path, e))?;
            if n == 0 {
                return Ok(number);
            }
            number += memchr_iter(b'\n', buffer.get(..n).unwrap_or_default()).count() as u64;
        }
    }
}

/// A file's decompressed bytes through one buffer that is reused.
struct Stream {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// How many bytes of the buffer are there, from its start.
    filled: usize,
    /// Of these, how many were handed out and go with the next call.
    given: usize,
    /// Of the bytes after those, how many are known to hold no newline.
    without_newline: usize,
    /// Where in the file the buffer begins.
    at: u64,
    at_end: bool,
    charge: Reservation,
}

impl Stream {
    fn open(
        grants: &Grants,
        file: &SourceFile,
        offset: u64,
        options: &ReadOptions,
    ) -> Result<Self> {
        let mut charge = options.charge();
        charge.grow(input::memory(&file.path))?;
        let input = input::open(grants, file, offset, &options.bytes_read)?;
        let buffer = Vec::new();
        Ok(Self {
            input,
            buffer,
            filled: 0,
            given: 0,
            without_newline: 0,
            at: offset,
            at_end: false,
            charge,
        })
    }

    fn text(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Reads until `target` bytes are there, or the file ends.
    fn fill(&mut self, path: &Path, target: usize) -> Result<()> {
        if target > self.buffer.len() {
            self.make_room(target)?;
        }
        while !self.at_end
            && let Some(space @ [_, ..]) = self.buffer.get_mut(self.filled..target)
        {
            let n = read(&mut *self.input, space).map_err(|e| input::failed(path, e))?;
            self.filled += n;
            self.at_end = n == 0;
        }
        Ok(())
    }

    /// Grows by half at least, so that a long line isn't copied over and over.
    fn make_room(&mut self, target: usize) -> Result<()> {
        if target > self.buffer.capacity() {
            let capacity = target.max(self.buffer.capacity() / 2 * 3);
            self.charge.grow((capacity - self.buffer.capacity()) as u64)?;
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.resize(target, 0);
        Ok(())
    }

    /// Forgets what was handed out, and after a long line its room.
    fn drop_given(&mut self, block: usize) {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        self.at += self.given as u64;
        self.given = 0;
        let before = self.buffer.capacity();
        if before / 2 > block && self.filled <= block {
            self.buffer.truncate(block);
            self.buffer.shrink_to(block);
            self.charge.shrink((before - self.buffer.capacity()) as u64);
        }
    }

    /// The file's first line.
    fn take_header(&mut self, path: &Path) -> Result<Vec<u8>> {
        loop {
            let scanned = self.filled;
            self.fill(path, scanned + STEP)?;
            let newline = memchr(b'\n', self.text().get(scanned..).unwrap_or_default());
            let len = match newline {
                Some(i) => scanned + i + 1,
                None if self.at_end => self.filled,
                None => 0,
            };
            if len.max(scanned) > MAX_HEADER {
                let limit = ByteSize(MAX_HEADER as u64);
                return Err(Error::bad(
                    path,
                    format!("has a first line longer than {limit}: is it a table?"),
                ));
            }
            if len > 0 || self.at_end {
                self.given = len;
                self.charge.grow(len as u64)?;
                return Ok(self.text().get(..len).unwrap_or_default().to_vec());
            }
        }
    }

    /// Skips through the first newline, or to `end` if there is none before.
    fn skip_line(&mut self, path: &Path, end: u64, block: usize) -> Result<()> {
        while self.at < end && !self.at_end {
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            self.fill(path, left.min(block).min(STEP))?;
            let newline = memchr(b'\n', self.text());
            self.given = newline.map_or(self.filled, |i| i + 1);
            if newline.is_some() {
                break;
            }
            self.drop_given(block);
        }
        Ok(())
    }
}

fn read(input: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
