//! Where datasets begin.

mod csv;
mod files;
mod json;
mod memory;
mod text;

pub use self::csv::CsvFile;
pub use self::files::WholeFiles;
pub use self::json::JsonLines;
pub use self::memory::{Parallelized, RangeOf};
pub use self::text::TextFile;

use crate::context::Context;
use crate::error::{Result, told};
use crate::host::{self, Framing};
use crate::plan::Lineage;
use crate::task::done;

/// An opened source of files.
pub(crate) struct Files {
    source: host::Source,
    name: String,
    /// Whether files are compressed, as far as their path tells.
    is_compressed: bool,
}

impl Files {
    pub(crate) fn open(
        ctx: &Context,
        operator: &str,
        path: &str,
        framing: Framing,
        min_splits: usize,
    ) -> Result<Files> {
        ctx.check_role(operator)?;
        let source = host::open_source(path, framing, u32::try_from(min_splits)?).map_err(told)?;
        let is_compressed = [".gz", ".zst"].iter().any(|extension| path.ends_with(extension));
        Ok(Files { source, name: format!("{operator} {path}"), is_compressed })
    }

    pub(crate) fn splits(&self) -> usize {
        self.source.splits as usize
    }

    pub(crate) fn open_split(&self, split: usize) -> u32 {
        done(host::open_split(self.source.id, split as u32))
    }

    /// Of a folder some files may be compressed all the same: it is but a hint.
    pub(crate) fn bytes_hint(&self) -> Option<u64> {
        (!self.is_compressed).then_some(self.source.bytes)
    }

    pub(crate) fn lineage(&self, lineage: &mut Lineage) {
        lineage.source(self.source.id);
        lineage.operator(self.name.clone());
    }
}
