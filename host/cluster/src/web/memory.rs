//! What an executor took, as a page shows it.

use ingle_core::memory::{MemoryUse, Usage};
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use maud::{Markup, html};
use serde::Serialize;

use super::html::memory;
use crate::protocol;

/// What an executor said last.
#[derive(Clone, Serialize)]
pub struct Used {
    /// The most that was charged to its memory at once, in bytes.
    peak: u64,
    now: Bytes,
    /// When the most was charged.
    at_peak: Bytes,
    /// The most of each use, whenever that was.
    most: Bytes,
    cached: Cached,
    /// Blocks that went to disk.
    spilled: u64,
}

/// Bytes by use.
#[derive(Clone, Serialize)]
struct Bytes {
    total: u64,
    guests: u64,
    images: u64,
    shuffle: u64,
    cache: u64,
    input: u64,
}

/// Cached partitions, and the bytes of their blocks.
#[derive(Clone, Serialize)]
struct Cached {
    partitions: u64,
    in_memory: u64,
    on_disk: u64,
}

impl From<Usage> for Bytes {
    fn from(usage: Usage) -> Self {
        Self {
            total: usage.total(),
            guests: usage.of(MemoryUse::Guest),
            images: usage.of(MemoryUse::Image),
            shuffle: usage.of(MemoryUse::Shuffle),
            cache: usage.of(MemoryUse::Cache),
            input: usage.of(MemoryUse::Input),
        }
    }
}

impl From<v1::ExecutorUse> for Used {
    fn from(used: v1::ExecutorUse) -> Self {
        let v1::CachedUse { partitions, in_memory, on_disk } = used.cached.unwrap_or_default();
        let [now, at_peak, most] = [used.now, used.at_peak, used.most].map(protocol::usage);
        Self {
            peak: at_peak.total(),
            now: now.into(),
            at_peak: at_peak.into(),
            most: most.into(),
            cached: Cached { partitions, in_memory, on_disk },
            spilled: used.spilled,
        }
    }
}

/// What it has now of its room, and the most it had.
pub fn brief(used: Option<&Used>, room: u64) -> Markup {
    match used {
        Some(used) => html! { (memory(used.now.total, room)) " · peak " (ByteSize(used.peak)) },
        None => html! { (ByteSize(room)) },
    }
}

/// What it is used for, most uses left out that never were: now, and at most.
pub fn by_use(used: &Used) -> Markup {
    let Used { now, most, cached, spilled, .. } = used;
    let uses = [
        (MemoryUse::Guest, now.guests, most.guests),
        (MemoryUse::Image, now.images, most.images),
        (MemoryUse::Shuffle, now.shuffle, most.shuffle),
        (MemoryUse::Cache, now.cache, most.cache),
        (MemoryUse::Input, now.input, most.input),
    ];
    html! {
        @for (what, now, most) in uses.into_iter().filter(|(.., most)| *most > 0) {
            div { (what.words()) " " (ByteSize(now)) ", peak " (ByteSize(most)) }
        }
        @if cached.partitions > 0 {
            div {
                (cached.partitions) " partitions cached: " (ByteSize(cached.in_memory)) " in memory, "
                (ByteSize(cached.on_disk)) " on disk"
            }
        }
        @if *spilled > 0 { div { (ByteSize(*spilled)) " spilled" } }
    }
}
