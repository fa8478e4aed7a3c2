//! What must hold after every event.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::event::StageOutput;
use super::explain::Waits;
use super::partitions::State;
use super::stage::Stage;
use crate::ids::{JobId, StageId};

impl Scheduler {
    /// Verifies the whole state against its invariants: for tests, since it looks at everything.
    ///
    /// # Panics
    ///
    /// If one doesn't hold.
    pub fn check(&self) {
        self.executors.check();
        self.check_executors();
        for (&id, stage) in &self.stages {
            self.check_links(id, stage);
            check_partitions(id, stage);
        }
        self.check_needs();
        self.check_ready();
        self.jobs.keys().for_each(|job| self.check_alive(*job));
    }

    /// No slot is granted beyond the look-ahead, and each running task is where its stage thinks it is.
    fn check_executors(&self) {
        let mut listed = 0;
        for (id, executor) in self.executors.iter() {
            let most = u64::from(executor.slots()) * (u64::from(self.policy.max_lookahead) + 1);
            assert!(executor.load() as u64 <= most, "{id} has {} tasks", executor.load());
            for (position, (task, launched)) in (0..).zip(executor.running()) {
                assert!(*launched <= self.now, "{task} is from the future");
                let stage = self.stages.get(&task.stage);
                let at = stage.and_then(|s| s.partitions.running_at(task.partition, task.attempt));
                assert_eq!(at, Some((id, position)), "{task} runs on {id}");
                listed += 1;
            }
        }
        let tasks = |s: &Stage| s.partitions.running() as usize + s.partitions.copies();
        let running: usize = self.stages.values().map(tasks).sum();
        assert_eq!(running, listed, "tasks that run, and those that executors have");
    }

    fn check_links(&self, id: StageId, stage: &Stage) {
        let mut missing = 0;
        for parent in &stage.parents {
            let at = self.stages.get(parent).unwrap_or_else(|| panic!("{id} lost its {parent}"));
            assert!(at.children.contains(&id), "{parent} doesn't know {id}");
            missing += usize::from(!at.has_output());
        }
        assert_eq!(stage.missing_parents, missing, "missing inputs of {id}");
        for child in &stage.children {
            let knows = self.stages.get(child).is_some_and(|c| c.parents.contains(&id));
            assert!(knows, "{child} doesn't read {id}");
        }
        let settled = !stage.dropped || !stage.needs.is_empty() || stage.partitions.done() == 0;
        assert!(settled, "{id} keeps output that was dropped");
    }

    /// The counted needs are what a walk over each job's stages finds.
    fn check_needs(&self) {
        let mut expected: BTreeMap<StageId, BTreeMap<JobId, usize>> = BTreeMap::new();
        for (&job, of) in &self.jobs {
            let mut work = vec![of.stage];
            while let Some(id) = work.pop() {
                let reasons = expected.entry(id).or_default().entry(job).or_default();
                *reasons += 1;
                let stage = self.stages.get(&id).unwrap_or_else(|| panic!("{job} lost its {id}"));
                if *reasons == 1 && !stage.has_output() {
                    work.extend(&stage.parents);
                }
            }
        }
        for (id, stage) in &self.stages {
            let expected = expected.remove(id).unwrap_or_default();
            assert_eq!(stage.needs, expected, "jobs that need {id}");
        }
    }

    /// The queue holds just what can be launched, and nothing in it could be launched now, once anything may.
    fn check_ready(&self) {
        let ready: BTreeSet<_> = self.stages.iter().filter_map(|(id, s)| s.rank(*id)).collect();
        assert_eq!(self.ready, ready, "ready stages");
        let mut idle = self.executors.idle_after(None).filter(|_| self.min_registered.is_none());
        while let Some(executor) = idle {
            for (_, _, id) in &ready {
                let asker = self.asker(executor);
                let left = self.stages.get(id).is_some_and(|s| s.partitions.has_work_for(asker));
                assert!(!left, "{executor} is idle and could run {id}");
            }
            idle = self.executors.idle_after(Some(executor));
        }
    }

    /// A live job has something running, or waits for something that will come, and says for what.
    fn check_alive(&self, job: JobId) {
        let explanation = self.explain(job).map(|e| e.stages).unwrap_or_default();
        let moves = explanation.iter().any(|(stage, waits)| match waits {
            Waits::Tasks => stage.running > 0,
            Waits::Turn(other) => *other < job && self.jobs.contains_key(other),
            Waits::Executors => self.executors.count() == 0,
            Waits::Slots => self.executors.iter().any(|(_, executor)| executor.load() > 0),
            Waits::OtherExecutor => self.executors.usable() > 1,
            Waits::Holder | Waits::Registered { .. } => self.next_tick().is_some(),
            Waits::Excluded => self.executors.usable() == 0 && self.next_tick().is_some(),
            Waits::Draining => self.executors.count() > 0 && self.executors.usable() == 0,
            Waits::Inputs(_) => false,
        });
        assert!(moves, "{job} is stuck: {explanation:?}");
    }
}

/// The counts are those of the states, and what waits is queued once.
fn check_partitions(id: StageId, stage: &Stage) {
    let partitions = &stage.partitions;
    let (mut running, mut done, mut waiting) = (0, Vec::new(), Vec::new());
    for (partition, _, state) in partitions.states() {
        match state {
            State::Waiting => waiting.push(partition),
            State::Running { .. } => running += 1,
            State::Done { .. } => done.push(partition),
        }
    }
    assert_eq!(partitions.running(), running, "running tasks of {id}");
    assert_eq!(partitions.done() as usize, done.len(), "finished tasks of {id}");
    let mut chained: Vec<_> = partitions.chained().collect();
    chained.sort_unstable();
    assert_eq!(chained, done, "finished tasks of {id}, by their makers");
    for (partition, copy) in partitions.copies_running() {
        let of = partitions.states().find(|(p, ..)| *p == partition);
        let apart = of.is_some_and(|(_, attempt, state)| match state {
            State::Running { executor, .. } => executor != copy.executor && attempt != copy.attempt,
            State::Waiting | State::Done { .. } => false,
        });
        assert!(apart, "the copy of partition {partition} of {id} is no second task of it");
    }
    let mut queued: Vec<_> = partitions.queued().chain(partitions.kept()).collect();
    queued.sort_unstable();
    assert_eq!(queued, waiting, "queued partitions of {id}");
    assert!(running == 0 || !stage.needs.is_empty(), "{id} runs for nobody");
    let between_runs = stage.output == StageOutput::Results && stage.needs.is_empty();
    assert!(!between_runs || done.is_empty(), "{id} keeps results of a run that is over");
}
