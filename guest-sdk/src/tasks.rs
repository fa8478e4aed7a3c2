//! Plain tasks: work that is no dataset.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::rc::Rc;

use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::{Error, Result, told};
use crate::host::{Output, TaskResult};
use crate::job::Job;
use crate::plan::Lineage;
use crate::task::{Emitter, fail};

pub(crate) fn run<R: Record>(
    ctx: &Context,
    range: Range<u64>,
    f: impl Fn(u64) -> R + 'static,
) -> Result<Vec<R>> {
    let tasks = count(&range)?;
    if tasks == 0 {
        return Ok(Vec::new());
    }
    submit(ctx, range.start, tasks, f)?.values(tasks)
}

pub(crate) fn start<R: Record>(
    ctx: &Context,
    range: Range<u64>,
    f: impl Fn(u64) -> R + 'static,
) -> Result<TaskResults<R>> {
    let tasks = count(&range)?;
    let job = if tasks == 0 { None } else { Some(submit(ctx, range.start, tasks, f)?) };
    Ok(TaskResults { job, start: range.start, ready: VecDeque::new(), result: PhantomData })
}

fn count(range: &Range<u64>) -> Result<usize> {
    let tasks = range.end.saturating_sub(range.start);
    u32::try_from(tasks).map(|tasks| tasks as usize).map_err(|_| {
        told(format!("{tasks} tasks are too many for one job; cut the range into parts"))
    })
}

fn submit<R: Record>(
    ctx: &Context,
    first: u64,
    tasks: usize,
    f: impl Fn(u64) -> R + 'static,
) -> Result<Job> {
    ctx.check_role("run_tasks")?;
    let lineage = Lineage::of(|lineage| lineage.operator("run_tasks"));
    let body = move |task: &Rc<crate::task::TaskScope>| {
        let mut emitter = Emitter::new();
        emitter.push(&f(first + u64::from(task.context().partition)));
        emitter.finish();
    };
    Job::start(ctx, "run_tasks", lineage, tasks, Output::Results, Rc::new(body))
}

/// What a closure returned; its error ends the task.
pub(crate) fn succeeded<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(format_args!("{error:#}")),
    }
}

/// The results of tasks as they end; made by [`Context::run_tasks_unordered`]. After an error there are no more. Dropped early, it
/// stops the rest.
///
/// ```
/// # use ingle::prelude::*;
/// # let ctx = Context::local();
/// let mut squares = Vec::new();
/// for result in ctx.run_tasks_unordered(0..3, |n| n * n)? {
///     let (_number, square) = result?;
///     squares.push(square);
/// }
/// squares.sort();
/// assert_eq!(squares, [0, 1, 4]);
/// # Ok::<(), Error>(())
/// ```
pub struct TaskResults<R> {
    job: Option<Job>,
    start: u64,
    ready: VecDeque<TaskResult>,
    result: PhantomData<fn() -> R>,
}

impl<R: Record> TaskResults<R> {
    fn advance(&mut self) -> Result<Option<(u64, R)>> {
        while self.ready.is_empty() {
            let Some(job) = &mut self.job else { return Ok(None) };
            match job.next() {
                Ok(Some(results)) => self.ready.extend(results),
                Ok(None) => self.job = None,
                Err(error) => {
                    self.job = None;
                    return Err(error);
                }
            }
        }
        let Some(result) = self.ready.pop_front() else { return Ok(None) };
        let value = codec::decode(&result.value).map_err(told)?;
        Ok(Some((self.start + u64::from(result.partition), value)))
    }
}

impl<R: Record> Iterator for TaskResults<R> {
    type Item = Result<(u64, R), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
