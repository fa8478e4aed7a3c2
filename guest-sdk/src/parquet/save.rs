//! Saving a dataset as Parquet.

use std::rc::Rc;
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::basic::{Compression, GzipLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, TypePtr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cells::Kind;
use super::file::words;
use super::gather::{Columns, Gathered, Values};
use super::shape::{Form, Node};
use super::write::add;
use super::{infer, schema};
use crate::actions::{self, JobHandle, Tasks};
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host::OutputSpec;
use crate::plan::Plan;
use crate::task::{Emitter, Room, TaskScope, done, fail};

/// A row group is written when so much of it is gathered, or before, if the task has no room for more.
const ROW_GROUP: usize = 64 << 20;

/// How the pages of Parquet files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParquetCodec {
    /// Not at all.
    None,
    /// Quick, and read by everything.
    #[default]
    Snappy,
    /// Quicker still to read; `LZ4_RAW` of the format, which older readers don't know.
    Lz4,
    /// Smaller, and slower.
    Gzip,
}

/// How Parquet files are written, for [`Dataset::save_as_parquet_with`].
///
/// ```
/// use ingle::parquet::{ParquetCodec, ParquetOptions};
///
/// let options = ParquetOptions::new().codec(ParquetCodec::Gzip).row_group_rows(100_000);
/// ```
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    codec: ParquetCodec,
    row_group_rows: usize,
}

impl Default for ParquetOptions {
    fn default() -> ParquetOptions {
        ParquetOptions { codec: ParquetCodec::default(), row_group_rows: usize::MAX }
    }
}

impl ParquetOptions {
    /// Compressed by snappy, in row groups of about 64 MiB before that.
    pub fn new() -> ParquetOptions {
        ParquetOptions::default()
    }

    /// How pages are compressed.
    pub fn codec(mut self, codec: ParquetCodec) -> ParquetOptions {
        self.codec = codec;
        self
    }

    /// The most rows of a row group. Smaller ones let more of a file be left out that nobody asks for, and more tasks share it.
    pub fn row_group_rows(mut self, rows: usize) -> ParquetOptions {
        self.row_group_rows = rows.max(1);
        self
    }
}

/// Each writes a folder with a file for each partition, `part-NNNNN.parquet`, and `_SUCCESS` when all is done, as
/// [`save_as_text_file`](Dataset::save_as_text_file) does, with more files where tasks share partitions, or fewer where a task computes several. Behind the feature `parquet`.
impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Writes Parquet files. The type decides the columns: the fields of a struct by their names, those of a tuple as `_1`, `_2`, …; anything
    /// else is the one column `value`. An `Option` may be null, what isn't one is required. Structs in it, lists, maps and enums of plain
    /// names may be fields; a `Vec<u8>` is bytes.
    ///
    /// The type says this by its `Deserialize`, so that all files have one schema whatever is in them, those of empty partitions too. What
    /// has none to tell (serde's `flatten` and `untagged`, JSON values) is refused before anything runs.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct City {
    ///     name: String,
    ///     people: Option<u32>,
    ///     tags: Vec<String>,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let cities = [
    ///     City { name: "Ulm".into(), people: Some(126_000), tags: vec!["minster".into()] },
    ///     City { name: "Lost".into(), people: None, tags: vec![] },
    /// ];
    /// ctx.parallelize(cities.clone(), 2).save_as_parquet(&path)?;
    /// assert!(std::fs::exists(format!("{path}/part-00001.parquet"))?);
    /// assert_eq!(ctx.parquet_file::<City>(&path)?.collect()?, cities);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_parquet(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        self.save_as_parquet_with(path, &ParquetOptions::new())
    }

    /// As [`Dataset::save_as_parquet`], with another codec, or smaller row groups.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// use ingle::parquet::{ParquetCodec, ParquetOptions};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let options = ParquetOptions::new().codec(ParquetCodec::Lz4).row_group_rows(100);
    /// ctx.range(0..1000, 1).map(|n| (n, n * n)).save_as_parquet_with(&path, &options)?;
    /// // The ten row groups of the file go to four tasks.
    /// let squares = ctx.parquet_file_with_partitions::<(u64, u64)>(&path, 4)?;
    /// assert_eq!((squares.num_partitions(), squares.count()?), (4, 1000));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_parquet_with(
        &self,
        path: impl AsRef<str>,
        options: &ParquetOptions,
    ) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        self.save_parquet(path.as_ref(), options)?.wait()
    }

    /// As [`Dataset::save_as_parquet`], without waiting for it; see [`Dataset::save_as_text_file_async`].
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..10, 2);
    /// let saved = numbers.save_as_parquet_async(&path)?;
    /// let sum = numbers.sum()?;
    /// saved.wait()?;
    /// assert_eq!(ctx.parquet_file::<u64>(&path)?.sum()?, sum);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_parquet_async(&self, path: impl AsRef<str>) -> Result<JobHandle<()>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.save_parquet(path.as_ref(), &ParquetOptions::new())
    }

    fn save_parquet(&self, path: &str, options: &ParquetOptions) -> Result<JobHandle<()>>
    where
        T: Serialize + DeserializeOwned,
    {
        let name = std::any::type_name::<T>();
        let unknown = |text| told(format!("save_as_parquet: {name} can't be a row: {text}"));
        let root = infer::record::<T>().map_err(unknown)?;
        let schema = schema::of(&root).map_err(unknown)?;
        let is_struct = matches!(root.kind, Some(infer::Kind::Struct(_))) && !root.is_optional;
        let options = options.clone();
        let compression = actions::Compression::None;
        let spec = OutputSpec { path, extension: ".parquet", compression };
        self.save("save_as_parquet", spec, Tasks::Pieces, move |plan, partition, task, emitter| {
            let mut file = File::new(&schema, is_struct, &options, task, emitter);
            plan.compute(partition, Rc::clone(task)).for_each(|record| file.add(&record));
            file.finish();
        })
    }
}

/// A file in the making.
struct File<'a> {
    writer: SerializedFileWriter<actions::Emitted<'a>>,
    root: Node,
    columns: Columns,
    rows: usize,
    most_rows: usize,
    room: Room,
}

impl<'a> File<'a> {
    fn new(
        schema: &TypePtr,
        is_struct: bool,
        options: &ParquetOptions,
        task: &Rc<TaskScope>,
        emitter: &'a mut Emitter,
    ) -> File<'a> {
        let compression = match options.codec {
            ParquetCodec::None => Compression::UNCOMPRESSED,
            ParquetCodec::Snappy => Compression::SNAPPY,
            ParquetCodec::Lz4 => Compression::LZ4_RAW,
            ParquetCodec::Gzip => Compression::GZIP(GzipLevel::default()),
        };
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("ingle version ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let to = actions::Emitted(emitter);
        let writer = SerializedFileWriter::new(to, Arc::clone(schema), Arc::new(properties));
        let writer = written(writer);
        let gathered = gathered(writer.schema_descr());
        let Some(root) = root(schema, is_struct) else { fail("its records are nested too deep") };
        File {
            writer,
            root,
            columns: Columns { gathered, bytes: 0 },
            rows: 0,
            most_rows: options.row_group_rows,
            room: Room::new(task),
        }
    }

    fn add(&mut self, record: &impl Serialize) {
        if let Err(error) = add(record, &self.root, &mut self.columns) {
            fail(format_args!("save_as_parquet: {error}"));
        }
        self.rows += 1;
        let is_full = self.rows >= self.most_rows || self.columns.bytes >= ROW_GROUP;
        if is_full || self.room.is_full() {
            self.write_group();
        }
    }

    fn write_group(&mut self) {
        let (writer, columns) = (&mut self.writer, &mut self.columns);
        let mut write = || -> ParquetResult<()> {
            let mut group = writer.next_row_group()?;
            for gathered in &mut columns.gathered {
                let Some(mut column) = group.next_column()? else { break };
                gathered.write(column.untyped())?;
                column.close()?;
            }
            group.close().map(drop)
        };
        written(write());
        (self.columns.bytes, self.rows) = (0, 0);
        self.room.renew();
    }

    fn finish(mut self) {
        if self.rows > 0 {
            self.write_group();
        }
        written(self.writer.close());
    }
}

fn written<R>(result: ParquetResult<R>) -> R {
    done(result.map_err(|error| format!("save_as_parquet: {}", words(&error))))
}

/// All fields of a record, or the one that it is.
fn root(schema: &TypePtr, is_struct: bool) -> Option<Node> {
    let mut leaf = 0;
    let fields = schema.get_fields().iter().map(|field| Node::of(field, &mut leaf));
    let mut fields = fields.collect::<Option<Vec<_>>>()?;
    if !is_struct {
        return fields.pop();
    }
    let form = Form::Struct(fields);
    Some(Node { name: String::new(), optional: None, defined: 0, leaves: 0..leaf, form })
}

fn gathered(schema: &SchemaDescriptor) -> Vec<Gathered> {
    let of = |column: &parquet::schema::types::ColumnDescPtr| {
        let values = match column.physical_type() {
            Physical::BOOLEAN => Values::Bool(Vec::new()),
            Physical::INT32 => Values::I32(Vec::new()),
            Physical::INT64 => Values::I64(Vec::new()),
            Physical::FLOAT => Values::F32(Vec::new()),
            Physical::DOUBLE => Values::F64(Vec::new()),
            // No other is made.
            _ => Values::Bytes(Vec::new()),
        };
        Gathered::new(values, Kind::of(column) == Kind::Unsigned)
    };
    schema.columns().iter().map(of).collect()
}
