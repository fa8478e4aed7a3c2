//! One slot: takes tasks, runs each in an instance of the job, reports how it ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use ingle_core::ids::{StageId, TaskId};
use ingle_core::memory::{Account, MemoryUse};
use ingle_core::scheduler::TaskLaunch;
use ingle_proto::v1;
use ingle_proto::v1::task_end::Outcome;
use ingle_sandbox::host::TaskHost;
use ingle_sandbox::{FailureKind, GuestFailure, GuestMemory, LogSink, TaskInstance};

use super::guest::Guest;
use super::hosted::Hosted;
use super::images::NoImage;
use super::log::SlotLog;
use super::queue::{Cancelled, GivenUp, Work};
use super::time::Excess;
use super::{Executor, Stage};
use crate::driver::Made;
use crate::protocol;

/// Works until the executor's queue is closed.
pub fn run(executor: &Arc<Executor>, slot: usize) {
    let log = Arc::new(SlotLog::new(executor.options.log.clone()));
    let sink: Arc<dyn LogSink> = log.clone();
    executor.queue.begin(slot);
    let mut slot_state = Slot { executor, slot, log, sink, kept: None };
    loop {
        let (work, cancelled) = executor.queue.take(slot);
        match work {
            Work::Run(launch) => slot_state.task(launch, cancelled),
            Work::Killed(task) => killed(executor, task),
            Work::Look => {}
            Work::End => break,
        }
        slot_state.let_go();
    }
}

struct Slot<'a> {
    executor: &'a Arc<Executor>,
    slot: usize,
    log: Arc<SlotLog>,
    sink: Arc<dyn LogSink>,
    kept: Option<Kept>,
}

/// An instance that waits for the next task of its stage.
struct Kept {
    stage: Arc<Stage>,
    instance: TaskInstance,
}

/// How a task ended, and what it made.
struct Ended {
    outcome: Outcome,
    made: Made,
}

impl Ended {
    /// What was told to stop did, or won't: a failure if that is its own fault.
    fn stopped(excess: Option<&Excess>) -> Self {
        excess.map_or_else(Self::killed, |excess| Self::failed(excess.to_string()))
    }

    fn killed() -> Self {
        Self { outcome: Outcome::Killed(v1::Killed {}), made: Made::default() }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::because(message.into(), false)
    }

    /// Any task would have failed here.
    fn at_fault(message: String) -> Self {
        Self::because(message, true)
    }

    fn because(message: String, executor_at_fault: bool) -> Self {
        let failed = v1::TaskFailed { message, retryable: true, executor_at_fault };
        Self { outcome: Outcome::Failed(failed), made: Made::default() }
    }
}

impl Slot<'_> {
    /// Runs a task and reports its end.
    fn task(&mut self, launch: TaskLaunch, cancelled: Cancelled) {
        let started = Instant::now();
        self.log.begin(launch.task, cancelled.clone());
        let mut metrics = v1::TaskMetrics::default();
        let account = Arc::default();
        // A bug of the host's must not leave the driver waiting for ever.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.execute(launch, &cancelled, &account, &mut metrics)
        }));
        let mut ended = ended.unwrap_or_else(|panic| {
            self.kept = None;
            Ended::failed(format!("the executor itself failed: {}", words(&*panic)))
        });
        self.log.end();
        let failed = !matches!(ended.outcome, Outcome::Succeeded(_));
        if failed && cancelled.is_stopped() {
            ended = Ended::stopped(cancelled.excess());
        }
        drop(cancelled);
        add_memory(&mut metrics, &account);
        metrics.run_nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.executor.queue.finish(self.slot) {
            report(self.executor, launch.task, metrics, ended);
        }
    }

    fn execute(
        &mut self,
        launch: TaskLaunch,
        cancelled: &Cancelled,
        account: &Arc<Account>,
        metrics: &mut v1::TaskMetrics,
    ) -> Ended {
        let Some(stage) = self.executor.stage(launch.task.stage) else {
            let NoImage { why, disk_is_full } = self.executor.why_unknown(launch.task.stage);
            return Ended::because(why, disk_is_full);
        };
        let mut instance = match self.instance(&stage, cancelled) {
            Ok(instance) => instance,
            Err(failure) => return self.failed(failure),
        };
        let guest = Guest::new(self.executor, &stage, launch, cancelled.clone(), account);
        let guest = match guest {
            Ok(guest) => guest,
            Err(message) => return Ended::failed(message),
        };
        cancelled.enter_host(false);
        let guest = Hosted::new(guest, cancelled.clone());
        let (host, ended) = instance.run(stage.description.entry, Box::new(guest));
        cancelled.enter_host(true);
        // Before it is kept, and put back.
        let GuestMemory { own, own_pages } = instance.memory();
        (metrics.peak_guest, metrics.peak_own_pages) = (own, own_pages);
        let guest = host.and_then(own_guest);
        if let Some(guest) = &guest {
            metrics.bytes_read = guest.bytes_read();
            metrics.bytes_shuffled = guest.bytes_shuffled();
        }
        match (ended, guest) {
            (Ok(()), Some(_)) if cancelled.is_stopped() => Ended::killed(),
            (Ok(()), Some(guest)) => {
                // Before what may wait for a disk or a store: what it made its own isn't looked at any more.
                let instance = self.put_back(instance);
                match guest.finish() {
                    Ok(made) => {
                        self.executor.options.store.pay_for_writes(|| cancelled.is_stopped());
                        // The stage may have been forgotten while the task committed: nobody would free its output again.
                        if self.executor.stage(launch.task.stage).is_none() {
                            self.executor.options.store.drop_stage(launch.task.stage);
                        }
                        self.kept = instance.map(|instance| Kept { stage, instance });
                        Ended { outcome: Outcome::Succeeded(v1::Succeeded {}), made }
                    }
                    Err(error) if error.is_disk_full() => Ended::at_fault(error.to_string()),
                    Err(error) => Ended::failed(error.to_string()),
                }
            }
            (Ok(()), None) => Ended::failed("the executor itself failed: it lost a task's host"),
            (Err(failure), _) => self.failed(failure),
        }
    }

    /// The kept instance if it is one of this stage, else a new one.
    fn instance(
        &mut self,
        stage: &Arc<Stage>,
        cancelled: &Cancelled,
    ) -> Result<TaskInstance, GuestFailure> {
        if let Some(kept) = self.kept.take_if(|kept| Arc::ptr_eq(&kept.stage, stage)) {
            return Ok(kept.instance);
        }
        self.kept = None;
        let options = &self.executor.options;
        let told = cancelled.clone();
        // A module's start is the guest's code, and may never end.
        cancelled.enter_host(false);
        let made = options.job.task_instance(
            stage.image.clone(),
            &options.pool,
            &options.capabilities,
            &self.sink,
            move || told.is_stopped(),
        );
        cancelled.enter_host(true);
        made
    }

    /// The instance for another task, if it can be one.
    fn put_back(&self, mut instance: TaskInstance) -> Option<TaskInstance> {
        (self.executor.options.reuse && instance.reset()).then_some(instance)
    }

    /// Drops an instance whose stage is gone: it holds memory, and the stage's image.
    fn let_go(&mut self) {
        let is_gone = |kept: &mut Kept| {
            let id = StageId(kept.stage.description.stage);
            self.executor.stage(id).is_none_or(|now| !Arc::ptr_eq(&now, &kept.stage))
        };
        drop(self.kept.take_if(is_gone));
    }

    fn failed(&self, failure: GuestFailure) -> Ended {
        match failure.kind {
            FailureKind::Cancelled => Ended::killed(),
            FailureKind::FetchFailed { stage, partition, attempt, whole } => {
                let outputs = self.executor.outputs(StageId(stage));
                let maker = outputs.and_then(|o| o.makers.get(partition as usize).copied());
                let executor = maker.unwrap_or(self.executor.options.id).0;
                let missed = v1::FetchFailed { stage, partition, executor, attempt, whole };
                Ended { outcome: Outcome::FetchFailed(missed), made: Made::default() }
            }
            FailureKind::Machine => Ended::at_fault(failure.to_string()),
            FailureKind::Exit(_) | FailureKind::Failed => Ended::failed(failure.to_string()),
        }
    }
}

/// The guest's host as what it is.
fn own_guest(host: Box<dyn TaskHost>) -> Option<Guest> {
    let hosted: Box<Hosted> = (host as Box<dyn Any>).downcast().ok()?;
    Some(hosted.into_guest())
}

/// What the host held for a task, and holds still.
fn add_memory(metrics: &mut v1::TaskMetrics, account: &Account) {
    let (now, most) = (account.now(), account.most());
    metrics.bytes_spilled = account.spilled();
    metrics.peak_shuffle = most.of(MemoryUse::Shuffle);
    metrics.peak_cache = most.of(MemoryUse::Cache);
    metrics.peak_input = most.of(MemoryUse::Input);
    metrics.held_shuffle = now.of(MemoryUse::Shuffle);
    metrics.held_cache = now.of(MemoryUse::Cache);
}

/// Reports the end of a task that doesn't end.
pub fn given_up(executor: &Executor, given_up: &GivenUp) {
    let ended = Ended::stopped(given_up.excess.as_ref());
    report(executor, given_up.task, v1::TaskMetrics::default(), ended);
}

/// Reports a task as killed.
fn killed(executor: &Executor, task: TaskId) {
    report(executor, task, v1::TaskMetrics::default(), Ended::killed());
}

fn report(executor: &Executor, task: TaskId, metrics: v1::TaskMetrics, ended: Ended) {
    let end = v1::TaskEnd {
        task: Some(protocol::task_message(task)),
        metrics: Some(metrics),
        outcome: Some(ended.outcome),
        stored: protocol::stored_messages(&ended.made.stored),
        ..v1::TaskEnd::default()
    };
    // Without a driver nobody wants to know.
    if let Some(driver) = executor.options.reports.upgrade() {
        driver.ended(executor.options.id, vec![(end, ended.made)]);
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}
