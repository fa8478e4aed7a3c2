//! Actions that write files: one for each task, published together when all are done.

use std::any::Any;
use std::fmt::Display;
use std::io::{self, Write};
use std::rc::Rc;

use serde::Serialize;

use crate::actions::{JobHandle, Tasks, start};
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host::{self, Output, OutputSpec};
use crate::plan::Plan;
use crate::str::Str;
use crate::task::{BLOCK, Emitter, TaskScope, done};

/// How files are compressed as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip: files end in `.gz`, and everything reads them.
    Gzip,
    /// By zstd: files end in `.zst`; smaller than by gzip, and quicker to make and to read.
    Zstd,
}

/// Each writes a folder with a file for each partition, `part-NNNNN`, and `_SUCCESS` when all is done. The folder must not
/// exist; nothing shows in it before the end. Of a join, a partition that is much larger than others may come in several files, one after
/// the other; of operators by key, many that are tiny in one.
impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Writes text files, a record a line.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.range(0..4, 2).save_as_text_file(&path)?;
    /// assert_eq!(std::fs::read_to_string(format!("{path}/part-00001"))?, "2\n3\n");
    /// assert_eq!(ctx.text_file(&path)?.collect()?, ["0", "1", "2", "3"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_text_file(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Display,
    {
        self.save_text(path.as_ref(), Compression::None)?.wait()
    }

    /// As [`Dataset::save_as_text_file`], compressed: `part-NNNNN.gz` or `.zst`, which [`text_file`](crate::Context::text_file) reads again.
    /// The host compresses them; such files can't be cut, so that each is one partition when it is read.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.range(0..1000, 2).save_as_text_file_compressed(&path, Compression::Gzip)?;
    /// assert!(std::fs::exists(format!("{path}/part-00001.gz"))?);
    /// assert_eq!(ctx.text_file(&path)?.count()?, 1000);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_text_file_compressed(
        &self,
        path: impl AsRef<str>,
        compression: Compression,
    ) -> Result<()>
    where
        T: Display,
    {
        self.save_text(path.as_ref(), compression)?.wait()
    }

    pub(super) fn save_text(&self, path: &str, compression: Compression) -> Result<JobHandle<()>>
    where
        T: Display,
    {
        let spec = OutputSpec { path, extension: "", compression };
        self.save("save_as_text_file", spec, Tasks::Pieces, |plan, partition, task, emitter| {
            plan.compute(partition, Rc::clone(task)).for_each(|record| {
                match (&record as &dyn Any).downcast_ref::<Str>() {
                    // Most lines are such, and formatting takes longer than copying.
                    Some(line) => {
                        emitter.buffer().extend_from_slice(line.as_bytes());
                        emitter.buffer().push(b'\n');
                    }
                    None => done(writeln!(emitter.buffer(), "{record}")),
                }
                emitter.flush_if_full();
            });
        })
    }

    /// Writes JSON files, a record a line, which [`json_lines`](crate::Context::json_lines) reads again.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(Clone, serde::Serialize)]
    /// struct City {
    ///     name: String,
    ///     people: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.parallelize([City { name: "Ulm".into(), people: 126_000 }], 1).save_as_json(&path)?;
    /// let written = std::fs::read_to_string(format!("{path}/part-00000"))?;
    /// assert_eq!(written, "{\"name\":\"Ulm\",\"people\":126000}\n");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_json(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Serialize,
    {
        self.save_json(path.as_ref(), Compression::None)?.wait()
    }

    /// As [`Dataset::save_as_json`], compressed; see [`Dataset::save_as_text_file_compressed`].
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// ctx.range(0..3, 1).map(|n| (n, n * n)).save_as_json_compressed(&path, Compression::Zstd)?;
    /// assert_eq!(ctx.json_lines::<(u64, u64)>(&path)?.collect()?, [(0, 0), (1, 1), (2, 4)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_json_compressed(
        &self,
        path: impl AsRef<str>,
        compression: Compression,
    ) -> Result<()>
    where
        T: Serialize,
    {
        self.save_json(path.as_ref(), compression)?.wait()
    }

    pub(super) fn save_json(&self, path: &str, compression: Compression) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        let spec = OutputSpec { path, extension: "", compression };
        self.save("save_as_json", spec, Tasks::Pieces, |plan, partition, task, emitter| {
            plan.compute(partition, Rc::clone(task)).for_each(|record| {
                done(serde_json::to_writer(&mut *emitter.buffer(), &record));
                emitter.buffer().push(b'\n');
                emitter.flush_if_full();
            });
        })
    }

    /// Writes CSV files. A struct's field names head each file; tuples have no header.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(Clone, serde::Serialize)]
    /// struct City {
    ///     name: String,
    ///     people: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let cities = [("Ulm", 126_000), ("Halle, Saale", 242_000)];
    /// let cities = cities.map(|(name, people)| City { name: name.into(), people });
    /// ctx.parallelize(cities, 1).save_as_csv(&path)?;
    /// let written = std::fs::read_to_string(format!("{path}/part-00000"))?;
    /// assert_eq!(written, "name,people\nUlm,126000\n\"Halle, Saale\",242000\n");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_csv(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Serialize,
    {
        self.save_csv(path.as_ref(), Compression::None)?.wait()
    }

    /// As [`Dataset::save_as_csv`], compressed; see [`Dataset::save_as_text_file_compressed`].
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct City {
    ///     name: String,
    ///     people: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let cities = [City { name: "Ulm".into(), people: 126_000 }];
    /// ctx.parallelize(cities.clone(), 1).save_as_csv_compressed(&path, Compression::Gzip)?;
    /// assert_eq!(ctx.csv_file::<City>(&path)?.collect()?, cities);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_csv_compressed(
        &self,
        path: impl AsRef<str>,
        compression: Compression,
    ) -> Result<()>
    where
        T: Serialize,
    {
        self.save_csv(path.as_ref(), compression)?.wait()
    }

    pub(super) fn save_csv(&self, path: &str, compression: Compression) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        let spec = OutputSpec { path, extension: "", compression };
        self.save("save_as_csv", spec, Tasks::Pieces, |plan, partition, task, emitter| {
            let mut writer =
                csv::WriterBuilder::new().buffer_capacity(BLOCK).from_writer(Emitted(emitter));
            plan.compute(partition, Rc::clone(task))
                .for_each(|record| done(writer.serialize(record)));
            done(writer.flush());
        })
    }

    pub(crate) fn save(
        &self,
        action: &'static str,
        spec: OutputSpec<'_>,
        tasks: Tasks,
        write: impl Fn(Rc<P>, usize, &Rc<TaskScope>, &mut Emitter) + 'static,
    ) -> Result<JobHandle<()>> {
        self.ctx.check_role(action)?;
        let folder = Folder::open(spec)?;
        let to = Output::Files(folder.output);
        let job = match tasks.are_none(&*self.plan) {
            true => None,
            false => Some(start(&self.ctx, action, &self.plan, tasks, to, write)?),
        };
        Ok(JobHandle::new(move || {
            if let Some((job, _)) = job {
                job.wait()?;
            }
            folder.commit()
        }))
    }
}

/// An output that is removed when dropped, unless it was committed.
struct Folder {
    output: u32,
    is_committed: bool,
}

impl Folder {
    fn open(spec: OutputSpec<'_>) -> Result<Folder> {
        Ok(Folder { output: host::open_output(spec).map_err(told)?, is_committed: false })
    }

    fn commit(mut self) -> Result<()> {
        // One that can't be committed is gone as well.
        self.is_committed = true;
        host::commit_output(self.output).map_err(told)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A task drops only its own copy of what the driver holds.
        if !self.is_committed && !host::is_task() {
            host::drop_output(self.output);
        }
    }
}

/// What is written becomes the task's output.
pub(crate) struct Emitted<'a>(pub &'a mut Emitter);

impl Write for Emitted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.buffer().extend_from_slice(bytes);
        self.0.flush_if_full();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
