//! Rows of CSV files.

use std::marker::PhantomData;
use std::rc::Rc;

use csv::{ReaderBuilder, StringRecord};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::Result;
use crate::host::{self, Framing};
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::task::{Blocks, TaskScope, fail};

/// The plan of [`Context::csv_file`].
pub struct CsvFile<T> {
    files: Files,
    row: PhantomData<fn() -> T>,
}

impl<T> CsvFile<T> {
    pub(crate) fn open(ctx: &Context, path: &str, partitions: usize) -> Result<CsvFile<T>> {
        let files = Files::open(ctx, "csv_file", path, Framing::LinesWithHeader, partitions)?;
        Ok(CsvFile { files, row: PhantomData })
    }
}

impl<T: DeserializeOwned + 'static> Plan for CsvFile<T> {
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
        let split = Rc::new(Split { reader, about: host::describe(reader) });
        let header = Rc::new(split.header());
        let mut offset = 0;
        Blocks::of(reader).flat_map(move |block| {
            let start = offset;
            offset += block.len() as u64;
            rows(Rc::clone(&split), Rc::clone(&header), block, start)
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

/// The rows of one block of whole lines, which lies `start` bytes into the split. Empty lines are no rows.
fn rows<T: DeserializeOwned>(
    split: Rc<Split>,
    header: Rc<StringRecord>,
    block: Vec<u8>,
    start: u64,
) -> impl Iterator<Item = T> {
    // Not flexible: a row with too few fields is an error, but only next to another row. So lengths are checked here.
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(std::io::Cursor::new(block));
    let mut record = StringRecord::new();
    std::iter::from_fn(move || {
        let at = reader.position().byte();
        let read = reader.read_record(&mut record);
        let refuse = |text: &str| -> ! {
            let rest = reader.get_ref().get_ref().iter().skip(at as usize);
            let empty_lines = rest.take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            split.refuse(start + at + empty_lines as u64, text)
        };
        match read {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => refuse(&explain(&error, &header)),
        }
        // Files are cut at any line, and so such a field might be.
        if memchr::memchr(b'\n', record.as_slice().as_bytes()).is_some() {
            refuse(
                "a field holds a line break, or its quote is never closed; a row must be one line",
            );
        }
        if record.len() != header.len() {
            refuse(&format!("the row has {} fields, the header {}", record.len(), header.len()));
        }
        match record.deserialize(Some(&header)) {
            Ok(row) => Some(row),
            Err(error) => refuse(&explain(&error, &header)),
        }
    })
}

/// What is wrong with a row, with the column's name.
fn explain(error: &csv::Error, header: &StringRecord) -> String {
    let (field, text) = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            (err.field().map(|field| field as usize), err.kind().to_string())
        }
        csv::ErrorKind::Utf8 { err, .. } => (Some(err.field()), "not UTF-8".to_owned()),
        _ => (None, error.to_string()),
    };
    match field.and_then(|field| header.get(field)) {
        Some(column) => format!("column `{column}`: {text}"),
        None => text,
    }
}

struct Split {
    reader: u32,
    about: host::Split,
}

impl Split {
    fn header(&self) -> StringRecord {
        let mut header = StringRecord::new();
        let bytes = self.about.header.as_slice();
        let mut reader = ReaderBuilder::new().has_headers(false).from_reader(bytes);
        if let Err(error) = reader.read_record(&mut header) {
            fail(format_args!("{}, line 1: {error}", self.about.path));
        }
        header
    }

    /// Ends the task for what is wrong so far into the split.
    fn refuse(&self, at: u64, text: &str) -> ! {
        let line = host::line_number(self.reader, self.about.offset + at);
        fail(format_args!("{}, line {line}: {text}", self.about.path))
    }
}
