//! The driver's way into the engine.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::accumulator::{Accumulate, Accumulator, Ledger};
use crate::broadcast::Broadcast;
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host;
#[cfg(feature = "parquet")]
use crate::parquet::{ParquetFile, Predicate};
use crate::sources::{CsvFile, JsonLines, Parallelized, RangeOf, TextFile, WholeFiles};
use crate::tasks::{self, TaskResults};

/// What a job makes its datasets and tasks with. A cheap handle: clones are the same context.
#[derive(Clone)]
pub struct Context {
    shared: Rc<Shared>,
}

struct Shared {
    numbers: Cell<u32>,
    parallelism: usize,
    ledger: Ledger,
}

impl Context {
    /// The context of a driver that starts.
    pub(crate) fn new() -> Result<Context> {
        let parallelism = match host::setting("ingle.default.parallelism") {
            None => host::default_parallelism() as usize,
            Some(text) => match text.parse() {
                Ok(n) if n > 0 => n,
                _ => {
                    let hint =
                        "give a whole number of at least 1: --conf ingle.default.parallelism=8";
                    return Err(told(format!("ingle.default.parallelism is `{text}`; {hint}")));
                }
            },
        };
        let shared = Shared {
            numbers: Cell::new(0),
            parallelism: parallelism.max(1),
            ledger: Ledger::default(),
        };
        Ok(Context { shared: Rc::new(shared) })
    }

    /// A context that runs jobs in this thread and process, for a job's own tests.
    #[cfg(not(target_family = "wasm"))]
    pub fn local() -> Context {
        Context::local_with([])
    }

    /// As [`Context::local`], with settings as `--conf` would give them. `ingle.local.spill-every=N` makes operators that
    /// hold many records spill after every N. A thread has one set of settings: those of the context that was made last.
    ///
    /// # Panics
    ///
    /// If a setting makes no sense.
    #[cfg(not(target_family = "wasm"))]
    pub fn local_with<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Context {
        host::reset(settings);
        match Context::new() {
            Ok(ctx) => ctx,
            Err(error) => panic!("{error}"),
        }
    }

    /// Refuses to work in a task, where there is no engine to ask.
    pub(crate) fn check_role(&self, action: &str) -> Result<()> {
        if !host::is_task() {
            return Ok(());
        }
        Err(told(format!(
            "`{action}` was called in a task; datasets and actions belong to the driver. Collect what the closure needs \
             before, and capture that"
        )))
    }

    pub(crate) fn next_number(&self) -> u32 {
        self.shared.numbers.replace(self.shared.numbers.get() + 1)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// A setting given by `--conf key=value` or a properties file.
    pub fn setting(&self, key: &str) -> Option<String> {
        if host::is_task() { None } else { host::setting(key) }
    }

    /// Into how many partitions wide operators cut where nothing else is said: `ingle.default.parallelism`, else the number of
    /// task slots.
    pub fn default_parallelism(&self) -> usize {
        self.shared.parallelism
    }

    /// A dataset of the driver's own values, cut into partitions of about the same size. Tasks find them in the driver's image.
    pub fn parallelize<T, I>(&self, items: I, partitions: usize) -> Dataset<T, Parallelized<T>>
    where
        T: Clone + 'static,
        I: IntoIterator<Item = T>,
    {
        Dataset::new(self, Parallelized::new(items.into_iter().collect(), partitions))
    }

    /// A dataset of whole numbers, cut into partitions of about the same size.
    pub fn range(&self, range: Range<u64>, partitions: usize) -> Dataset<u64, RangeOf> {
        Dataset::new(self, RangeOf::new(range, partitions))
    }

    /// The lines of a file, of a folder's files (without hidden ones and those that start with `_`), or of a glob's.
    /// Line ends are taken off; `.gz` and `.zst` files are decompressed.
    pub fn text_file(&self, path: impl AsRef<str>) -> Result<Dataset<crate::Str, TextFile>> {
        self.text_file_with_partitions(path, 0)
    }

    /// As [`Context::text_file`], in at least so many partitions if the files can be cut so.
    pub fn text_file_with_partitions(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<crate::Str, TextFile>> {
        Ok(Dataset::new(self, TextFile::open(self, path.as_ref(), partitions)?))
    }

    /// Files as `(path, bytes)`, one partition each.
    pub fn whole_files(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<(String, Vec<u8>), WholeFiles>> {
        self.whole_files_with_partitions(path, 0)
    }

    /// As [`Context::whole_files`]; a file is never cut, so more partitions than files can't be had.
    pub fn whole_files_with_partitions(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<(String, Vec<u8>), WholeFiles>> {
        Ok(Dataset::new(self, WholeFiles::open(self, path.as_ref(), partitions)?))
    }

    /// The rows of CSV files whose first line names the columns. A row becomes a `T` by serde; fields are matched by
    /// name. No field may contain a line break.
    pub fn csv_file<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<T, CsvFile<T>>> {
        self.csv_file_with_partitions(path, 0)
    }

    /// As [`Context::csv_file`], in at least so many partitions if the files can be cut so.
    pub fn csv_file_with_partitions<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<T, CsvFile<T>>> {
        Ok(Dataset::new(self, CsvFile::open(self, path.as_ref(), partitions)?))
    }

    /// The records of files that have a JSON value in each line (as [`save_as_json`](crate::Dataset::save_as_json) writes them). A line
    /// becomes a `T` by serde; blank lines are skipped. Strings of type [`Str`](crate::Str) share the block that was read, where nothing in them
    /// is escaped. A line that is no `T` fails its task, with file, line and column.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.json").to_str().unwrap().to_owned();
    /// #[derive(serde::Deserialize)]
    /// struct Event {
    ///     user: String,
    ///     minutes: u64,
    /// }
    ///
    /// std::fs::write(&path, "{\"user\": \"ann\", \"minutes\": 3}\n{\"user\": \"ann\", \"minutes\": 4}\n")?;
    /// # let ctx = Context::local();
    /// let minutes = ctx.json_lines::<Event>(&path)?.map(|event| (event.user, event.minutes));
    /// assert_eq!(minutes.reduce_by_key(|a, b| a + b).collect()?, [("ann".to_owned(), 7)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn json_lines<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<T, JsonLines<T>>> {
        self.json_lines_with_partitions(path, 0)
    }

    /// As [`Context::json_lines`], in at least so many partitions if the files can be cut so.
    pub fn json_lines_with_partitions<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<T, JsonLines<T>>> {
        Ok(Dataset::new(self, JsonLines::open(self, path.as_ref(), partitions)?))
    }

    /// The rows of Parquet files, by serde. Behind the feature `parquet`.
    ///
    /// Of a struct, only the columns that it names are read; a tuple takes all columns in their order, a map all by their names, and
    /// what is one value the only column. Columns may be nested: groups become structs, lists `Vec`s, maps maps. A column that may be
    /// null is an `Option`; a field that is one may also be missing. Text becomes a `String` or the name of an enum's variant, days and times are
    /// the whole numbers that the file has for them (nanoseconds, of the old `INT96`), decimals numbers or text.
    ///
    /// A partition has whole row groups. Pages may be compressed by snappy, zstd, gzip or lz4.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(serde::Deserialize)]
    /// struct Trip {
    ///     miles: f64,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("trips").to_str().unwrap().to_owned();
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # struct All { driver: String, miles: f64 }
    /// # let ctx = Context::local();
    /// # let trips = [1.5, 2.0].map(|miles| All { driver: "ann".into(), miles });
    /// # ctx.parallelize(trips, 1).save_as_parquet(&path)?;
    /// // The drivers' names aren't even read.
    /// assert_eq!(ctx.parquet_file::<Trip>(&path)?.map(|trip| trip.miles).sum()?, 3.5);
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg(feature = "parquet")]
    pub fn parquet_file<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<T, ParquetFile<T>>> {
        self.parquet_file_with_partitions(path, 0)
    }

    /// As [`Context::parquet_file`], in at least so many partitions; those beyond the number of row groups are empty.
    #[cfg(feature = "parquet")]
    pub fn parquet_file_with_partitions<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<T, ParquetFile<T>>> {
        Ok(Dataset::new(self, ParquetFile::open(self, path.as_ref(), None, partitions)?))
    }

    /// As [`Context::parquet_file`], of the rows for which a condition on columns holds, be they wanted otherwise or not. Row groups
    /// whose statistics tell that none holds there aren't read.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// use ingle::parquet::col;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("squares").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.range(0..1000, 4).map(|n| (n, n * n)).save_as_parquet(&path)?;
    /// let some = col("_1").ge(10).and(col("_2").lt(145));
    /// let squares = ctx.parquet_file_where::<(u64, u64)>(&path, some)?;
    /// assert_eq!(squares.collect()?, [(10, 100), (11, 121), (12, 144)]);
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg(feature = "parquet")]
    pub fn parquet_file_where<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
        predicate: Predicate,
    ) -> Result<Dataset<T, ParquetFile<T>>> {
        self.parquet_file_where_with_partitions(path, predicate, 0)
    }

    /// As [`Context::parquet_file_where`], in at least so many partitions; see [`Context::parquet_file_with_partitions`].
    #[cfg(feature = "parquet")]
    pub fn parquet_file_where_with_partitions<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
        predicate: Predicate,
        partitions: usize,
    ) -> Result<Dataset<T, ParquetFile<T>>> {
        Ok(Dataset::new(self, ParquetFile::open(self, path.as_ref(), Some(predicate), partitions)?))
    }

    /// A value that tasks add to and the driver reads: a number, a list, a set, a map of what can be added up, or a type of the job's own. The
    /// name is for people.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let blank = ctx.accumulator("blank lines", 0u64);
    /// let long = ctx.accumulator("long words", Vec::new());
    /// let (count, list) = (blank.clone(), long.clone());
    /// let lines = ctx.parallelize(["to be", "", "questionable"].map(String::from), 2);
    /// lines.for_each(move |line| {
    ///     count.add(u64::from(line.is_empty()));
    ///     line.split(' ').filter(|word| word.len() > 9).for_each(|word| list.push(word.to_owned()));
    /// })?;
    /// assert_eq!(blank.value(), 1);
    /// assert_eq!(long.value(), ["questionable"]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// Whatever two parts of can be made one, in any order, can be accumulated:
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Highest(u64);
    ///
    /// impl ingle::Accumulate for Highest {
    ///     fn accumulate(&mut self, other: Highest) {
    ///         self.0 = self.0.max(other.0);
    ///     }
    /// }
    ///
    /// # let ctx = Context::local();
    /// let highest = ctx.accumulator("highest", Highest(0));
    /// let seen = highest.clone();
    /// ctx.parallelize([3, 9, 4], 2).for_each(move |n| seen.add(Highest(n)))?;
    /// assert_eq!(highest.value().0, 9);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn accumulator<T: Accumulate>(&self, name: &str, zero: T) -> Accumulator<T> {
        Accumulator::new(self, name, zero)
    }

    /// A value that tasks read, behind a cheap handle.
    ///
    /// Closures may capture anything, so it isn't needed to bring a value to tasks: it lies in the driver's memory, of which an executor holds one
    /// copy, whatever the number of its tasks. A handle spares the clones where several closures read a large value.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// use std::collections::HashMap;
    ///
    /// # let ctx = Context::local();
    /// let names = ctx.broadcast(HashMap::from([(1, "one"), (2, "two")]));
    /// let numbers = ctx.parallelize([2, 1, 3], 2);
    /// let known = names.clone();
    /// let named = numbers.filter(move |n| known.contains_key(n)).map(move |n| names[&n].to_owned());
    /// assert_eq!(named.collect()?, ["two", "one"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn broadcast<T: 'static>(&self, value: T) -> Broadcast<T> {
        Broadcast::new(value)
    }

    /// Runs a closure once for each number, in tasks of their own, and gives what they returned, in order.
    pub fn run_tasks<R: Record>(
        &self,
        range: Range<u64>,
        f: impl Fn(u64) -> R + 'static,
    ) -> Result<Vec<R>> {
        tasks::run(self, range, f)
    }

    /// As [`Context::run_tasks`]; an `Err` fails its task with that text.
    pub fn try_run_tasks<R: Record>(
        &self,
        range: Range<u64>,
        f: impl Fn(u64) -> Result<R> + 'static,
    ) -> Result<Vec<R>> {
        tasks::run(self, range, move |i| tasks::succeeded(f(i)))
    }

    /// As [`Context::run_tasks`], but gives `(number, result)` pairs as tasks end. Dropped early, it stops the rest.
    pub fn run_tasks_unordered<R: Record>(
        &self,
        range: Range<u64>,
        f: impl Fn(u64) -> R + 'static,
    ) -> Result<TaskResults<R>> {
        tasks::start(self, range, f)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("default_parallelism", &self.shared.parallelism)
            .finish_non_exhaustive()
    }
}
