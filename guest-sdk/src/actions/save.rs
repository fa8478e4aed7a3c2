//! Actions that write files: one for each partition, published together when all are done.

use std::fmt::Display;
use std::io::{self, Write};
use std::rc::Rc;

use serde::Serialize;

use crate::actions::{JobHandle, start};
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host::{self, Output};
use crate::plan::Plan;
use crate::task::{BLOCK, Emitter, TaskScope, done};

/// Each writes a folder with a file for each partition, `part-NNNNN`, and `_SUCCESS` when all is done. The folder must not
/// exist; nothing shows in it before the end.
impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Writes text files, a record a line.
    pub fn save_as_text_file(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Display,
    {
        self.save_text(path.as_ref())?.wait()
    }

    pub(super) fn save_text(&self, path: &str) -> Result<JobHandle<()>>
    where
        T: Display,
    {
        self.save("save_as_text_file", path, |plan, partition, task, emitter| {
            plan.compute(partition, Rc::clone(task)).for_each(|record| {
                done(writeln!(emitter.buffer(), "{record}"));
                emitter.flush_if_full();
            });
        })
    }

    /// Writes JSON files, a record a line.
    pub fn save_as_json(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Serialize,
    {
        self.save_json(path.as_ref())?.wait()
    }

    pub(super) fn save_json(&self, path: &str) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        self.save("save_as_json", path, |plan, partition, task, emitter| {
            plan.compute(partition, Rc::clone(task)).for_each(|record| {
                done(serde_json::to_writer(&mut *emitter.buffer(), &record));
                emitter.buffer().push(b'\n');
                emitter.flush_if_full();
            });
        })
    }

    /// Writes CSV files. A struct's field names head each file; tuples have no header.
    pub fn save_as_csv(&self, path: impl AsRef<str>) -> Result<()>
    where
        T: Serialize,
    {
        self.save_csv(path.as_ref())?.wait()
    }

    pub(super) fn save_csv(&self, path: &str) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        self.save("save_as_csv", path, |plan, partition, task, emitter| {
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
        path: &str,
        write: impl Fn(Rc<P>, usize, &Rc<TaskScope>, &mut Emitter) + 'static,
    ) -> Result<JobHandle<()>> {
        self.ctx.check_role(action)?;
        let folder = Folder::open(path)?;
        let (partitions, to) = (self.num_partitions(), Output::Files(folder.output));
        let job = match partitions {
            0 => None,
            _ => Some(start(&self.ctx, action, &self.plan, 0..partitions, to, write)?),
        };
        Ok(JobHandle::new(move || {
            if let Some(job) = job {
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
    fn open(path: &str) -> Result<Folder> {
        Ok(Folder { output: host::open_output(path).map_err(told)?, is_committed: false })
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
struct Emitted<'a>(&'a mut Emitter);

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
