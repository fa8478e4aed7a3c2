//! A running action.

use crate::accumulator::Ledger;
use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::{Result, told};
use crate::host::{self, Output, TaskResult};
use crate::plan::Lineage;
use crate::stage::{self, Body, Entry, Last};

/// One action: its last stage runs, and its results come as tasks end. Dropped early, it is cancelled.
pub(crate) struct Job {
    id: Option<u32>,
    stage: u32,
    ledger: Ledger,
    _entry: Entry,
}

impl Job {
    pub(crate) fn start(
        ctx: &Context,
        name: &str,
        lineage: Lineage,
        tasks: usize,
        output: Output,
        body: Body,
    ) -> Result<Job> {
        let entry = Entry::register(body);
        let stage = stage::define(Last { name, lineage, tasks, output, entry: &entry })?;
        let mut job = Job { id: None, stage, ledger: ctx.ledger(), _entry: entry };
        job.id = Some(host::run(stage).map_err(told)?);
        Ok(job)
    }

    /// The results that came since, in order of completion; none when the job is done.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<TaskResult>>> {
        let Some(id) = self.id else { return Ok(None) };
        // An error ends the job as well: it is not to be cancelled then.
        self.id = None;
        let mut results = host::next(id).map_err(told)?;
        if results.is_empty() {
            return Ok(None);
        }
        self.id = Some(id);
        for result in &mut results {
            for (accumulator, update) in std::mem::take(&mut result.updates) {
                self.ledger.add(accumulator, &update)?;
            }
        }
        Ok(Some(results))
    }

    /// Waits for the job's end; each task gave one value. In order of partition.
    pub(crate) fn values<R: Record>(mut self, tasks: usize) -> Result<Vec<R>> {
        let mut values: Vec<Option<R>> = Vec::new();
        values.resize_with(tasks, || None);
        while let Some(results) = self.next()? {
            for result in results {
                if let Some(value) = values.get_mut(result.partition as usize) {
                    *value = Some(codec::decode(&result.value).map_err(told)?);
                }
            }
        }
        let found = values.into_iter().collect::<Option<Vec<R>>>();
        found.ok_or_else(|| {
            told("the host ended a job without the results of all its tasks".to_owned())
        })
    }

    /// Waits for the job's end.
    pub(crate) fn wait(mut self) -> Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // A task drops only its own copy of what the driver holds.
        if host::is_task() {
            return;
        }
        if let Some(id) = self.id {
            host::cancel(id);
        }
        host::drop_stage(self.stage);
    }
}
