//! What the kernel tells about this process's pages: `/proc/self/pagemap`, as its `admin-guide/mm/pagemap` describes it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Once, OnceLock};

use crate::ranges::PAGE;

/// An entry's bits: in memory; swapped out; and of a file (or of shared memory), not the process's own.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
const ENTRY: usize = size_of::<u64>();

/// Opened once. A failure is tried again: descriptors may have been short.
fn open() -> Option<&'static File> {
    static PAGEMAP: OnceLock<File> = OnceLock::new();
    match PAGEMAP.get() {
        Some(file) => Some(file),
        None => {
            let file = File::open("/proc/self/pagemap").ok()?;
            Some(PAGEMAP.get_or_init(|| file))
        }
    }
}

/// Opens it, for a process that won't be able to. Whether that worked is seen when it is used.
pub fn open_pagemap() {
    let _ = open();
}

/// Says that nobody counts what tasks change of large images.
pub fn warn_once() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "/proc/self/pagemap can't be read: what tasks change of a large captured table isn't charged to \
             --executor-memory"
        );
    });
}

/// Calls `see` with the number of each page, counted from `start`, that the process made its own in these bytes: written in a private
/// mapping of a file, or touched in one of no file. None where the kernel doesn't tell, or `see` has seen enough.
fn each_own_page(
    start: usize,
    length: usize,
    mut see: impl FnMut(u32) -> Option<()>,
) -> Option<()> {
    let pagemap = open()?;
    let mut buffer = [0; 4 << 10];
    let pages = length / PAGE;
    let mut page = 0;
    while page < pages {
        let some = (pages - page).min(buffer.len() / ENTRY);
        let entries = buffer.get_mut(..some * ENTRY)?;
        pagemap.read_exact_at(entries, ((start / PAGE + page) * ENTRY) as u64).ok()?;
        for (number, entry) in (page..).zip(entries.chunks_exact(ENTRY)) {
            let entry = u64::from_ne_bytes(entry.try_into().ok()?);
            if entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0 {
                see(u32::try_from(number).ok()?)?;
            }
        }
        page += some;
    }
    Some(())
}

/// The numbers of those pages, if they are no more than `most`.
pub fn own_pages(start: usize, length: usize, most: usize) -> Option<Vec<u32>> {
    let mut own = Vec::new();
    each_own_page(start, length, |page| {
        own.push(page);
        (own.len() <= most).then_some(())
    })?;
    Some(own)
}

/// How many they are.
pub fn count_own_pages(start: usize, length: usize) -> Option<u64> {
    let mut count = 0;
    each_own_page(start, length, |_| {
        count += 1;
        Some(())
    })?;
    Some(count)
}
