//! Pages that every instance of a job writes at once, mapped ahead of it.
//!
//! A page fault costs far more than a page that is mapped in passing (2.4 µs here, under a hypervisor), and a fresh
//! instance takes about twenty: its data segments, its stack, what a fork of the driver writes first. The first instance shows
//! which; later ones get them by one call for each run of pages.

#![allow(unsafe_code)]

use std::sync::OnceLock;

use rustix::mm::Advice;

use crate::memory::PAGE;
use crate::written::private_pages;

/// More pages than this are not usual: they are what one instance did.
const MAX_PAGES: usize = 64;

/// Runs of pages as (offset, length) in bytes. Empty until something was learned.
#[derive(Default)]
pub struct Usual(OnceLock<Vec<(usize, usize)>>);

impl Usual {
    /// Learns from `length` bytes at `start`, the first time.
    pub fn learn(&self, start: usize, length: usize) {
        self.0.get_or_init(|| {
            let pages = private_pages(start, length).unwrap_or_default();
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for page in pages.into_iter().take(MAX_PAGES) {
                let offset = page as usize * PAGE;
                match runs.last_mut() {
                    Some((from, length)) if *from + *length == offset => *length += PAGE,
                    _ => runs.push((offset, PAGE)),
                }
            }
            runs
        });
    }

    /// Maps the usual pages among `length` bytes at `start`, which are writable and belong to one memory.
    pub fn populate(&self, start: usize, length: usize) {
        let Some(runs) = self.0.get() else { return };
        for (offset, run) in runs.iter().filter(|(offset, run)| offset + run <= length) {
            // SAFETY: a part of a live memory of ours; its contents stay as they are. Failing costs page faults.
            let _ = unsafe {
                rustix::mm::madvise((start + offset) as *mut _, *run, Advice::LinuxPopulateWrite)
            };
        }
    }
}
