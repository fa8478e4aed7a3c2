//! What goes wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use ingle_core::ids::{CacheId, ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{Event, Outcome, TaskEnd};
use rand::Rng;

use super::{Next, World};
use crate::audit::Location;
use crate::plan;

impl World {
    pub(super) fn lose(&mut self, id: ExecutorId) {
        if !self.vanish(id) {
            return;
        }
        let outputs_lost = self.rng.random_bool(self.weather.rots);
        if outputs_lost || self.rng.random_bool(self.weather.rots) {
            let gone = self.audit.outputs().filter(|(.., at)| at.0 == id);
            self.rotten.extend(gone.map(|(stage, partition, at)| (stage, partition, at.1)));
        }
        let reason = "lost in the storm".into();
        self.tell(Event::ExecutorLost { executor: id, reason, outputs_lost });
    }

    /// Takes an executor out of the world; what it last said may still be under way. Says whether it was there.
    fn vanish(&mut self, id: ExecutorId) -> bool {
        let Some(executor) = self.executors.remove(&id) else { return false };
        self.audit.executor_gone(id);
        let delay = self.rng.random_range(0..10_000);
        self.after(delay, Next::Tell(Event::TasksEnded { executor: id, ended: executor.outbox }));
        true
    }

    pub(super) fn lose_worker(&mut self, worker: WorkerId) {
        let homes = &self.homes;
        let ever: BTreeSet<_> =
            homes.iter().filter(|(_, home)| **home == worker).map(|(id, _)| *id).collect();
        let mut there = 0;
        for &id in &ever {
            there += usize::from(self.vanish(id));
        }
        let gone = self.audit.outputs().filter(|(.., at)| ever.contains(&at.0));
        self.rotten.extend(gone.map(|(stage, partition, at)| (stage, partition, at.1)));
        self.tell(Event::WorkerLost { worker, reason: "swept away".into() });
        for _ in 0..there {
            let again = self.now.as_micros() as u64 + self.rng.random_range(0..20_000);
            self.plan_executor(again);
        }
    }

    pub(super) fn drain(&mut self, executor: ExecutorId) {
        if self.executors.contains_key(&executor) {
            let worker = self.homes[&executor];
            self.tell(Event::WorkerDraining { worker });
            let there = self.executors.keys().copied().filter(|id| self.homes[id] == worker);
            for id in there.collect::<Vec<_>>() {
                self.retire(id);
            }
        }
    }

    /// An executor that drains goes when it has nothing to do; what it made stays.
    pub(super) fn retire(&mut self, executor: ExecutorId) {
        if !self.executors.contains_key(&executor) {
            return;
        }
        if self.scheduler.drained().any(|id| id == executor) {
            self.vanish(executor);
            let reason = "it isn't needed".into();
            self.tell(Event::ExecutorLost { executor, reason, outputs_lost: false });
        } else {
            self.after(1_000, Next::Retire(executor));
        }
    }

    /// One stage's output at one executor goes bad, or one partition of it; sometimes the executor says so.
    pub(super) fn rot(&mut self) {
        let outputs: Vec<_> = self.audit.outputs().collect();
        if outputs.is_empty() {
            return;
        }
        let (stage, only, (executor, _)) = outputs[self.rng.random_range(0..outputs.len())];
        let whole = self.rng.random_bool(0.5);
        let is_gone = |(of, partition, at): &&(StageId, u32, Location)| {
            *of == stage && at.0 == executor && (whole || *partition == only)
        };
        let gone = outputs.iter().filter(is_gone);
        self.rotten.extend(gone.clone().map(|(of, partition, at)| (*of, *partition, at.1)));
        if self.rng.random_bool(0.3) {
            let partitions = gone.map(|(_, partition, _)| *partition).collect();
            self.tell(Event::OutputLost { stage, partitions });
        }
    }

    /// An event about things that don't exist, or not so.
    pub(super) fn nonsense(&mut self) -> Event {
        const FAR: u32 = u32::MAX;
        let near = self.rng.random_range(0..12);
        match self.rng.random_range(0..12) {
            0 => Event::JobCancelled { job: JobId(FAR) },
            1 => Event::StageDropped { stage: StageId(FAR) },
            2 => Event::OutputLost { stage: StageId(near), partitions: vec![FAR] },
            3 => Event::OutputLost { stage: StageId(FAR), partitions: vec![0] },
            4 => Event::ExecutorLost {
                executor: ExecutorId(FAR),
                reason: String::new(),
                outputs_lost: true,
            },
            5 => Event::JobSubmitted { job: JobId(0), stage: StageId(near) },
            6 => Event::StageDefined {
                stage: StageId(0),
                spec: plan::stages(&mut self.rng).remove(0),
            },
            7 => Event::Tick,
            8 => Event::WorkerLost { worker: WorkerId(FAR), reason: String::new() },
            10 => Event::CacheDropped { cache: CacheId(near) },
            9 => Event::WorkerDraining { worker: WorkerId(FAR) },
            _ => {
                let task = TaskId { stage: StageId(near), partition: near, attempt: FAR };
                let stored = vec![(CacheId(FAR), FAR)];
                let end =
                    TaskEnd { task, run_time: Duration::MAX, outcome: Outcome::Killed, stored };
                Event::TasksEnded { executor: ExecutorId(near), ended: vec![end] }
            }
        }
    }
}
