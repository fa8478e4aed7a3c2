//! What an executor may store on its disk, and what it has there: counted before it is written, given back when it goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::size::ByteSize;

use crate::error::{Error, Result};
use crate::pace::Pace;

/// Of what is free at first, so much may be used, in percent, unless somebody says how much.
const USUAL: u64 = 90;
/// So much of a file system stays free for others, in percent, or half of what is free at first.
const KEPT: u64 = 5;
/// After so many bytes it is looked whether that is so.
const LOOK: u64 = 8 << 20;

/// A disk's use. Clones share it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limit: u64,
    /// How to get more.
    advice: &'static str,
    /// The same of a share that changes.
    share: AtomicU64,
    advice_of_share: &'static str,
    /// Stays free for others.
    kept: u64,
    used: AtomicU64,
    /// Charged since the file system was looked at.
    unseen: AtomicU64,
    /// How fast it is written; none: as fast as can be.
    pace: Option<Pace>,
}

/// A disk's use is bounded, and the bound is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of disk: {asked} more don't fit into {limit}: {used} are in use for shuffle output, spilled and cached blocks; {advice}"
)]
pub struct OutOfDisk {
    /// What was to be written.
    pub asked: ByteSize,
    /// What may be used.
    pub limit: ByteSize,
    /// What is used.
    pub used: ByteSize,
    /// How to get more.
    pub advice: String,
}

/// What a file system has free for whoever asks, and its size; none where it doesn't say.
fn space(dir: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// What may be used of the file system of a folder if nobody says how much.
pub fn usual_disk(dir: &Path) -> u64 {
    space(dir).map_or(u64::MAX, |(free, _)| free / 100 * USUAL)
}

impl Disk {
    /// Of so many bytes in a folder. `advice` says how to get more.
    pub fn new(dir: &Path, limit: u64, advice: &'static str) -> Self {
        Self::shared(dir, limit, advice, u64::MAX, "", None)
    }

    /// As [`Disk::new`], but no more than a `share` that may change, with advice of its own. Who writes more than `rate` bytes in a
    /// second owes time, which tasks pay ([`crate::BlockStore::pay_for_writes`]).
    pub fn shared(
        dir: &Path,
        limit: u64,
        advice: &'static str,
        share: u64,
        advice_of_share: &'static str,
        rate: Option<u64>,
    ) -> Self {
        let kept = space(dir).map_or(0, |(free, all)| (all / 100 * KEPT).min(free / 2));
        Self(Arc::new(Inner {
            dir: dir.to_owned(),
            limit,
            advice,
            share: AtomicU64::new(share),
            advice_of_share,
            kept,
            used: AtomicU64::new(0),
            unseen: AtomicU64::new(0),
            pace: rate.map(Pace::new),
        }))
    }

    /// So much may be used from now on. What is used stays, though that be more.
    pub fn set_share(&self, share: u64) {
        self.0.share.store(share, Ordering::Relaxed);
    }

    /// What is used.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// So many bytes are written for tasks.
    pub(crate) fn note_write(&self, bytes: u64) {
        if let Some(pace) = &self.0.pace {
            pace.note(bytes);
        }
    }

    /// Waits as long as more was written than may be in that time, unless whoever waits is to stop.
    pub(crate) fn pay(&self, is_stopped: impl Fn() -> bool) {
        if let Some(pace) = &self.0.pace {
            pace.pay(is_stopped);
        }
    }

    /// A charge of nothing so far.
    pub fn charge(&self) -> DiskCharge {
        DiskCharge { disk: self.clone(), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let Inner { limit, advice, share, advice_of_share, used, .. } = &*self.0;
        let (limit, advice) = match share.load(Ordering::Relaxed) {
            share if share < *limit => (share, *advice_of_share),
            _ => (*limit, *advice),
        };
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|used| OutOfDisk {
            asked: ByteSize(bytes),
            limit: ByteSize(limit),
            used: ByteSize(used),
            advice: advice.to_owned(),
        })?;
        self.look(bytes).inspect_err(|_| self.give_back(bytes))
    }

    /// Whether the file system has room beside what stays free: with less, others would be in want.
    fn look(&self, bytes: u64) -> Result<()> {
        let Inner { dir, kept, unseen, .. } = &*self.0;
        if unseen.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) < LOOK {
            return Ok(());
        }
        match space(dir) {
            Some((free, _)) if free < kept.saturating_add(bytes) => {
                let kept = ByteSize(*kept);
                let words = format!(
                    "No space left on device beside {kept}, which are kept free for others"
                );
                let source = std::io::Error::new(std::io::ErrorKind::StorageFull, words);
                Err(Error::Io { doing: "storing in", path: dir.clone(), source })
            }
            _ => {
                unseen.store(0, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are on a disk, or are going to be. Dropped, they are given back.
#[derive(Debug)]
pub struct DiskCharge {
    disk: Disk,
    bytes: u64,
}

impl DiskCharge {
    /// Asked before anything is written.
    pub fn grow(&mut self, bytes: u64) -> Result<()> {
        self.disk.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives some back, as far as there is some.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.disk.give_back(bytes);
    }

    /// The disk that is charged.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What it comes to.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes what another one has.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for DiskCharge {
    fn drop(&mut self) {
        self.disk.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_may_be_and_what_goes_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path(), 100, "raise ingle.executor.disk");
        let mut charge = disk.charge();
        charge.grow(60).unwrap();
        let refused = charge.grow(50).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "out of disk: 50 B more don't fit into 100 B: 60 B are in use for shuffle output, spilled and cached blocks; raise \
             ingle.executor.disk"
        );
        assert!(!refused.is_disk_full(), "it isn't the machine's fault");
        charge.shrink(20);
        let mut other = disk.charge();
        other.grow(60).unwrap();
        other.join(charge);
        assert_eq!((other.bytes(), disk.used()), (100, 100));
        drop(other);
        assert_eq!(disk.used(), 0);
        assert!(disk.charge().grow(u64::MAX).is_err());
    }

    #[test]
    fn a_share_grows_and_shrinks_and_is_never_more_than_all() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::shared(dir.path(), 100, "raise all", 50, "it is shared", None);
        let mut charge = disk.charge();
        let mut refused = |bytes| charge.grow(bytes).err().map(|e| e.to_string());
        assert!(refused(60).is_some_and(
            |why| why.contains("50 B: 0 B are in use") && why.ends_with("it is shared")
        ));
        disk.set_share(80);
        assert_eq!(refused(60), None);
        disk.set_share(40);
        assert!(refused(1).is_some_and(|why| why.contains("40 B: 60 B are in use")));
        disk.set_share(u64::MAX);
        assert!(
            refused(50).is_some_and(|why| why.contains("into 100 B") && why.ends_with("raise all"))
        );
        assert_eq!(refused(40), None);
        assert_eq!(disk.used(), 100);
    }

    #[test]
    fn some_of_the_file_system_stays_free() {
        let dir = tempfile::tempdir().unwrap();
        let (free, _) = space(dir.path()).unwrap();
        let disk = Disk::new(dir.path(), u64::MAX / 2, "");
        let mut charge = disk.charge();
        charge.grow(1).unwrap();
        let refused = charge.grow(free).unwrap_err();
        assert!(refused.is_disk_full() && refused.to_string().contains("kept free"), "{refused}");
        assert_eq!(disk.used(), 1);
    }
}
