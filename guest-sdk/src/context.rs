//! The driver's way into the engine.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::accumulator::{Accumulate, Accumulator, Ledger};
use crate::broadcast::Broadcast;
use crate::checkpoint::Checkpoints;
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host;
#[cfg(feature = "parquet")]
use crate::parquet::{ParquetFile, Predicate};
use crate::settings::Thresholds;
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
    thresholds: Thresholds,
    ledger: Ledger,
    checkpoints: RefCell<Option<Checkpoints>>,
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
            thresholds: Thresholds::read()?,
            ledger: Ledger::default(),
            checkpoints: RefCell::default(),
        };
        Ok(Context { shared: Rc::new(shared) })
    }

    /// A context that runs jobs in this thread and process, for a job's own tests. Native builds only. Nothing leaves memory but output
    /// files, and each action runs as it is started.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// let ctx = Context::local();
    /// assert_eq!(ctx.range(0..10, 2).sum()?, 45);
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg(not(target_family = "wasm"))]
    pub fn local() -> Context {
        Context::local_with([])
    }

    /// As [`Context::local`], with settings as `--conf` would give them. `ingle.local.spill-every=N` makes operators that hold many records
    /// spill after every N. A thread has one set of settings: those of the context that was made last.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// let ctx = Context::local_with([("ingle.default.parallelism", "2"), ("ingle.local.spill-every", "3")]);
    /// let groups = ctx.range(0..100, 4).map(|n| (n % 10, n)).group_by_key();
    /// assert_eq!((groups.num_partitions(), groups.count()?), (2, 10));
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Says under which folder [`checkpoint`](Dataset::checkpoint) stores datasets: one that all executors reach, and that the job may
    /// write to (`--allow-write`).
    ///
    /// It gets a folder for each checkpoint, by a name that no other run uses. They stay when the job is over: remove them then.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("checkpoints").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.set_checkpoint_dir(&path);
    /// let numbers = ctx.range(0..4, 2).checkpoint()?;
    /// assert_eq!(numbers.collect()?, [0, 1, 2, 3]);
    /// assert_eq!(std::fs::read_dir(&path)?.count(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_checkpoint_dir(&self, dir: impl AsRef<str>) {
        *self.shared.checkpoints.borrow_mut() = Some(Checkpoints::under(dir.as_ref()));
    }

    /// The folder of checkpoints and that of the next one, if there is one for them.
    pub(crate) fn next_checkpoint(&self) -> Option<(String, String)> {
        self.shared.checkpoints.borrow_mut().as_mut().map(Checkpoints::next)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// A setting given by `--conf key=value` or a properties file; in tasks always none: capture what they need.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// let ctx = Context::local_with([("app.limit", "3")]);
    /// let limit: u64 = ctx.setting("app.limit").context("set app.limit")?.parse()?;
    /// assert_eq!(ctx.range(0..10, 2).filter(move |n| *n < limit).count()?, 3);
    /// assert_eq!(ctx.setting("app.other"), None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn setting(&self, key: &str) -> Option<String> {
        if host::is_task() { None } else { host::setting(key) }
    }

    /// Into how many partitions wide operators cut where nothing else is said: `ingle.default.parallelism`, else the number of task slots;
    /// natively 4.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// let ctx = Context::local_with([("ingle.default.parallelism", "3")]);
    /// assert_eq!(ctx.default_parallelism(), 3);
    /// assert_eq!(ctx.range(0..10, 1).distinct().num_partitions(), 3);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn default_parallelism(&self) -> usize {
        self.shared.parallelism
    }

    /// The sizes by which plans are made.
    pub(crate) fn thresholds(&self) -> Thresholds {
        self.shared.thresholds
    }

    /// A dataset of the driver's own values, cut into partitions of about the same size. Tasks find them in the driver's image, and clone
    /// each as they come to it. They take the driver's memory, as long as the dataset lives; large inputs are better read from files.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let letters = ctx.parallelize(['a', 'b', 'c'], 2);
    /// assert_eq!(letters.glom().collect()?, [vec!['a'], vec!['b', 'c']]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn parallelize<T, I>(&self, items: I, partitions: usize) -> Dataset<T, Parallelized<T>>
    where
        T: Clone + 'static,
        I: IntoIterator<Item = T>,
    {
        Dataset::new(self, Parallelized::new(items.into_iter().collect(), partitions))
    }

    /// A dataset of whole numbers, cut into partitions of about the same size. Nobody holds them: tasks count.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(3..8, 2).glom().collect()?, [vec![3, 4], vec![5, 6, 7]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn range(&self, range: Range<u64>, partitions: usize) -> Dataset<u64, RangeOf> {
        Dataset::new(self, RangeOf::new(range, partitions))
    }

    /// The lines of a file, of a folder's files (without hidden ones and those that start with `_`), or of a glob's. Line ends are taken
    /// off; `.gz` and `.zst` files are decompressed.
    ///
    /// Files are listed now, and read by tasks. They are cut at line ends by their size, but not compressed ones. A task holds a block of
    /// its part at a time, which its lines share. It fails where the text isn't UTF-8, unless `ingle.text.invalid-utf8=replace`.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("poem.txt").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, "to be\nor not\n")?;
    /// let lines = ctx.text_file(&path)?;
    /// assert_eq!(lines.collect()?, ["to be", "or not"]);
    /// assert_eq!(lines.flat_map(|line| line.words()).count()?, 4);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no such file, no file that matches, or the job may not read it (`--allow-read`).
    pub fn text_file(&self, path: impl AsRef<str>) -> Result<Dataset<crate::Str, TextFile>> {
        self.text_file_with_partitions(path, 0)
    }

    /// As [`Context::text_file`], in at least so many partitions if the files can be cut so.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("poem.txt").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, "to be\nor not\n")?;
    /// assert_eq!(ctx.text_file_with_partitions(&path, 2)?.num_partitions(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn text_file_with_partitions(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<crate::Str, TextFile>> {
        Ok(Dataset::new(self, TextFile::open(self, path.as_ref(), partitions)?))
    }

    /// Files as `(path, bytes)`, one partition each; listed as by [`text_file`](Context::text_file). A task holds its file in memory,
    /// decompressed.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.bin").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, [1, 2, 3])?;
    /// assert_eq!(ctx.whole_files(&path)?.values().collect()?, [vec![1, 2, 3]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn whole_files(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<(String, Vec<u8>), WholeFiles>> {
        self.whole_files_with_partitions(path, 0)
    }

    /// As [`Context::whole_files`]; a file is never cut, so more partitions than files can't be had.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.bin").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, [1, 2, 3])?;
    /// assert_eq!(ctx.whole_files_with_partitions(&path, 8)?.num_partitions(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn whole_files_with_partitions(
        &self,
        path: impl AsRef<str>,
        partitions: usize,
    ) -> Result<Dataset<(String, Vec<u8>), WholeFiles>> {
        Ok(Dataset::new(self, WholeFiles::open(self, path.as_ref(), partitions)?))
    }

    /// The rows of CSV files whose first line names the columns. A row becomes a `T` by serde; fields are matched by name. No field may
    /// contain a line break.
    ///
    /// Files are listed, cut and held as by [`text_file`](Context::text_file). A row that is no `T`, or has not as many fields as the first
    /// line, fails its task, with file and line.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("ages.csv").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// #[derive(serde::Deserialize)]
    /// struct Person {
    ///     name: String,
    ///     age: u32,
    /// }
    ///
    /// std::fs::write(&path, "age,name\n31,ann\n28,bob\n")?;
    /// let people = ctx.csv_file::<Person>(&path)?;
    /// let names = people.filter(|person| person.age > 30).map(|person| person.name);
    /// assert_eq!(names.collect()?, ["ann"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn csv_file<T: DeserializeOwned + 'static>(
        &self,
        path: impl AsRef<str>,
    ) -> Result<Dataset<T, CsvFile<T>>> {
        self.csv_file_with_partitions(path, 0)
    }

    /// As [`Context::csv_file`], in at least so many partitions if the files can be cut so.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("ages.csv").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, "age,name\n31,ann\n28,bob\n")?;
    /// let rows = ctx.csv_file_with_partitions::<(u32, String)>(&path, 2)?;
    /// assert_eq!((rows.num_partitions(), rows.keys().sum()?), (2, 59));
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("numbers.json").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// std::fs::write(&path, "[1]\n[2, 3]\n")?;
    /// let lists = ctx.json_lines_with_partitions::<Vec<u32>>(&path, 2)?;
    /// assert_eq!((lists.num_partitions(), lists.flat_map(|list| list).sum()?), (2, 6));
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Runs a closure once for each number, in tasks of their own, and gives what they returned, in order. Runs now; all results must fit
    /// in the driver's memory. A task that fails is tried again, and calls the closure again.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.run_tasks(1..4, |n| n * n)?, [1, 4, 9]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a task failed as often as it may, by a panic for example; then the others are stopped. If there are more than 4,294,967,295
    /// numbers.
    pub fn run_tasks<R: Record>(
        &self,
        range: Range<u64>,
        f: impl Fn(u64) -> R + 'static,
    ) -> Result<Vec<R>> {
        tasks::run(self, range, f)
    }

    /// As [`Context::run_tasks`]; an `Err` fails its task with that text.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let error = ctx.try_run_tasks(0..2, |n| -> Result<u64> { bail!("{n} is bad") }).unwrap_err();
    /// assert!(error.to_string().contains("0 is bad"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_run_tasks<R: Record>(
        &self,
        range: Range<u64>,
        f: impl Fn(u64) -> Result<R> + 'static,
    ) -> Result<Vec<R>> {
        tasks::run(self, range, move |i| tasks::succeeded(f(i)))
    }

    /// As [`Context::run_tasks`], but gives `(number, result)` pairs as tasks end. Dropped early, it stops the rest.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let mut found = ctx.run_tasks_unordered(1..100, |n| n % 7 == 0)?;
    /// let first = found.find(|result| matches!(result, Ok((_, true))));
    /// assert!(first.transpose()?.is_some_and(|(n, _)| n % 7 == 0));
    /// # Ok::<(), Error>(())
    /// ```
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
