//! Files as a whole.

use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::host::{self, Framing};
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::task::{Blocks, TaskScope};

/// The plan of [`Context::whole_files`].
pub struct WholeFiles {
    files: Files,
}

impl WholeFiles {
    pub(crate) fn open(ctx: &Context, path: &str, partitions: usize) -> Result<WholeFiles> {
        Ok(WholeFiles {
            files: Files::open(ctx, "whole_files", path, Framing::WholeFiles, partitions)?,
        })
    }
}

impl Plan for WholeFiles {
    type Item = (String, Vec<u8>);

    fn partitions(&self) -> usize {
        self.files.splits()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        std::iter::once_with(move || {
            let reader = self.files.open_split(partition);
            let path = host::describe(reader).path;
            let mut bytes = Vec::new();
            for block in Blocks::of(reader) {
                bytes.extend_from_slice(&block);
            }
            (path, bytes)
        })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.files.lineage(lineage);
    }

    fn prepare(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn bytes_hint(&self) -> Option<u64> {
        self.files.bytes_hint()
    }
}
