//! Lines of text.

use std::rc::Rc;

use crate::context::Context;
use crate::error::{Result, told};
use crate::host::{self, Framing};
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::str::{Str, Text};
use crate::task::{Blocks, TaskScope, fail};

/// What becomes of bytes that aren't UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Fail,
    Replace,
}

const INVALID_UTF8: &str = "ingle.text.invalid-utf8";

impl Invalid {
    fn from_settings() -> Result<Invalid> {
        match host::setting(INVALID_UTF8).as_deref() {
            None | Some("fail") => Ok(Invalid::Fail),
            Some("replace") => Ok(Invalid::Replace),
            Some(other) => {
                Err(told(format!("{INVALID_UTF8} is `{other}`; it is `fail` or `replace`")))
            }
        }
    }
}

/// The plan of [`Context::text_file`].
pub struct TextFile {
    files: Files,
    invalid: Invalid,
}

impl TextFile {
    pub(crate) fn open(ctx: &Context, path: &str, partitions: usize) -> Result<TextFile> {
        let files = Files::open(ctx, "text_file", path, Framing::Lines, partitions)?;
        Ok(TextFile { files, invalid: Invalid::from_settings()? })
    }
}

impl Plan for TextFile {
    type Item = Str;

    fn partitions(&self) -> usize {
        self.files.splits()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = Str> + 'static {
        let reader = self.files.open_split(partition);
        let mut offset = 0;
        Blocks::of(reader).flat_map(move |block| {
            let length = block.len() as u64;
            let text = match String::from_utf8(block) {
                Ok(text) => text,
                Err(error) if self.invalid == Invalid::Replace => {
                    String::from_utf8_lossy(error.as_bytes()).into_owned()
                }
                Err(error) => refuse(reader, offset + error.utf8_error().valid_up_to() as u64),
            };
            offset += length;
            Text::new(text)
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

/// Ends the task for bytes that aren't UTF-8, so far into its split.
fn refuse(reader: u32, offset: u64) -> ! {
    let split = host::describe(reader);
    fail(format_args!(
        "{} is not UTF-8 at byte {}; to read it with U+FFFD in place of what is invalid: --conf {INVALID_UTF8}=replace",
        split.path,
        split.offset + offset
    ))
}
