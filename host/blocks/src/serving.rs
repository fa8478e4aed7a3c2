//! Shuffle output for those who read it from another worker, piece by piece.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use ingle_core::ids::StageId;

use crate::error::{Error, Result};
use crate::shuffle_dir::{Had, Head, MapFile, ShuffleDir};

impl ShuffleDir {
    /// The next stored blocks of some partitions of some outputs, each a map task and its attempt, in this order: whole ones, at least
    /// one, and no more than `bytes` if that isn't longer. Of the first output those that were `had` are left out.
    pub fn serve(
        &self,
        stage: StageId,
        partitions: Range<u32>,
        outputs: Vec<(u32, u32)>,
        had: Had,
        bytes: u64,
    ) -> Serving {
        let (dir, outputs) = (self.clone(), outputs.into_iter());
        Serving { dir, stage, partitions, outputs, had, bytes, served: 0, open: None, begun: None }
    }
}

/// What one who reads from elsewhere gets at a time. It holds no more than a piece, however long a block is.
#[derive(Debug)]
pub struct Serving {
    dir: ShuffleDir,
    stage: StageId,
    partitions: Range<u32>,
    outputs: std::vec::IntoIter<(u32, u32)>,
    had: Had,
    bytes: u64,
    served: u64,
    open: Option<(MapFile, u32)>,
    /// The block whose pieces are on their way, and how many of its bytes are still to come.
    begun: Option<(Head, usize)>,
}

/// What a block costs who asked for it, beside its bytes: there may be many of them.
pub const BLOCK_COST: u64 = 256;

/// A part of what is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// Bytes of a block, from where the last piece of it ended.
    Piece(Head, Bytes),
    /// There are more blocks, for the next time.
    More,
}

impl Serving {
    /// The next piece, of at most so many bytes; none at the end. The first error is the last.
    pub fn next(&mut self, most: usize) -> Result<Option<Served>> {
        loop {
            if self.open.is_none() {
                let Some((map, attempt)) = self.outputs.next() else { return Ok(None) };
                let mut file = self.dir.open(self.stage, map, attempt, self.partitions.clone())?;
                let passed = file.pass(std::mem::take(&mut self.had));
                passed.map_err(|error| self.missing(&file, attempt, &error))?;
                self.open = Some((file, attempt));
            }
            let Some((mut file, attempt)) = self.open.take() else { continue };
            let next = self.piece(&mut file, most);
            let next = next.map_err(|error| self.missing(&file, attempt, &error))?;
            if next == Some(Served::More) {
                self.outputs = Vec::new().into_iter();
            } else if next.is_some() {
                self.open = Some((file, attempt));
            }
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn piece(&mut self, file: &mut MapFile, most: usize) -> io::Result<Option<Served>> {
        let (head, left) = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let Some(head) = file.head()? else { return Ok(None) };
                let bytes = u64::from(head.stored_len) + BLOCK_COST;
                if self.served > 0 && self.served + bytes > self.bytes {
                    return Ok(Some(Served::More));
                }
                self.served += bytes;
                (head, head.stored_len as usize)
            }
        };
        let length = left.min(most.max(1));
        let (_, together) = file.lacks(length);
        let bytes = file.take(length, together)?;
        self.begun = (left > length).then_some((head, left - length));
        Ok(Some(Served::Piece(head, bytes)))
    }

    fn missing(&self, file: &MapFile, attempt: u32, why: &io::Error) -> Error {
        tracing::warn!("reading {}: {why}", file.path().display());
        Error::MissingOutput { stage: self.stage, map: file.map(), attempt, whole: false }
    }
}
