//! Records of JSON lines.

use std::marker::PhantomData;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::Result;
use crate::host::{self, Framing};
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::str::{Block, decode_from};
use crate::task::{Blocks, TaskScope, fail};

/// The plan of [`Context::json_lines`].
pub struct JsonLines<T> {
    files: Files,
    record: PhantomData<fn() -> T>,
}

impl<T> JsonLines<T> {
    pub(crate) fn open(ctx: &Context, path: &str, partitions: usize) -> Result<JsonLines<T>> {
        let files = Files::open(ctx, "json_lines", path, Framing::Lines, partitions)?;
        Ok(JsonLines { files, record: PhantomData })
    }
}

impl<T: DeserializeOwned + 'static> Plan for JsonLines<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.files.splits()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        let reader = self.files.open_split(partition);
        let mut offset = 0;
        Blocks::of(reader).flat_map(move |block| {
            let start = offset;
            offset += block.len() as u64;
            records(reader, Rc::new(block), start)
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

/// The records of one block of whole lines, which lies `start` bytes into the split. Blank lines are none.
fn records<T: DeserializeOwned>(reader: u32, block: Block, start: u64) -> impl Iterator<Item = T> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(rest @ [_, ..]) = block.get(at..) {
            let begin = at;
            let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
            at += line.len() + 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            // Strings of type `Str` share the block.
            decode_from(&block);
            return match serde_json::from_slice(line) {
                Ok(record) => Some(record),
                Err(error) => refuse(reader, start + begin as u64, &error),
            };
        }
        None
    })
}

/// Ends the task for a line that is no record, so far into its split.
fn refuse(reader: u32, at: u64, error: &serde_json::Error) -> ! {
    let split = host::describe(reader);
    let line = host::line_number(reader, split.offset + at);
    // It knows of this one line only, so its own number of it would mislead.
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    fail(format_args!("{}, line {line}, column {}: {text}", split.path, error.column()))
}
