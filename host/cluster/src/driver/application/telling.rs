//! What executors are told of stages, and that they may forget them.

use std::collections::BTreeSet;

use ingle_core::ids::{CacheId, ExecutorId, OutputId, SourceId, StageId, WorkerId};
use ingle_proto::v1;
use ingle_proto::v1::executor_command::{Command, DropCache, Forget};
use ingle_sandbox::host::Output;

use super::{Core, Executor, Told};
use crate::protocol;

/// What of a source goes in one message, about.
const PART: usize = 4 << 20;

impl Core {
    /// Makes sure that an executor knows all that it must of a stage whose tasks it is given, and where their inputs are now.
    pub(super) fn describe(&mut self, executor: ExecutorId, id: StageId) {
        let to = self.executors.get_mut(&executor);
        let (Some(to), Some(stage)) = (to, self.stages.get_mut(&id)) else { return };
        let send = |command| to.link.send(protocol::command(command), None);
        for input in stage.description.inputs.iter().filter_map(|input| input.input.as_ref()) {
            use v1::stage_input::Input;
            match *input {
                Input::Shuffle(v1::ShuffleInput { stage, .. }) => {
                    let parent = StageId(stage);
                    let version = self.scheduler.outputs_version(parent);
                    let told = to.outputs.insert(parent, version);
                    if told != Some(version)
                        && let Some(outputs) = self.scheduler.outputs(parent)
                        && let Some(news) =
                            self.tables.news(parent, version, outputs, told, &self.homes)
                    {
                        send(Command::MapOutputs(news));
                    }
                }
                Input::Source(id) if to.link.is_elsewhere() && to.told.insert(Told::Source(id)) => {
                    if let Some(source) = self.opened.source(SourceId(id)) {
                        let published = self.opened.grants().published();
                        let source = protocol::source_message(SourceId(id), &source, &published);
                        let parts = protocol::cut(source, PART);
                        parts.into_iter().for_each(|part| send(Command::Source(part)));
                    }
                }
                Input::Cached(id) if to.link.is_elsewhere() && to.told.insert(Told::Cache(id)) => {
                    if let Some(level) = self.opened.cache(CacheId(id)) {
                        let level = protocol::level_message(level).into();
                        send(Command::Cache(v1::CacheDescription { cache: id, level }));
                        // A stage that was defined before may still look into it, and would store it anew.
                        if self.opened.is_dropped(CacheId(id)) {
                            send(Command::DropCache(DropCache { cache: id }));
                        }
                    }
                }
                Input::Source(_) | Input::Cached(_) => {}
            }
        }
        if let Output::Files(id) = stage.output
            && to.link.is_elsewhere()
            && to.told.insert(Told::Output(id))
            && let Some(place) = self.opened.output_place(OutputId(id))
        {
            send(Command::Output(protocol::output_message(id, place)));
        }
        if to.described.insert(id) {
            if let Output::Shuffle(_) = stage.output
                && stage.workers.insert(to.worker)
                && let Some(left) = self.left.get_mut(&to.worker)
            {
                // Else it would go with what is to come.
                left.remove(&id);
            }
            let describe = Command::Describe(stage.description.clone());
            to.link.send(protocol::command(describe), stage.image.clone());
        }
    }

    /// Has what is left of a stage removed: by whoever knows it, and where nobody does any more, by one executor of each worker that may have
    /// output of it, now or when there is one.
    pub(super) fn forget_at_executors(&mut self, stage: StageId) {
        self.tables.forget(stage);
        let mut left = match self.stages.get_mut(&stage) {
            Some(stage) => std::mem::take(&mut stage.workers),
            None => BTreeSet::new(),
        };
        for to in self.executors.values_mut() {
            // Some know only where its outputs were.
            if to.outputs.remove(&stage).is_some() | to.described.remove(&stage) {
                to.forget(stage);
                left.remove(&to.worker);
            }
        }
        if left.is_empty() {
            return;
        }
        for to in self.executors.values() {
            if left.remove(&to.worker) {
                to.forget(stage);
            }
        }
        for worker in left {
            self.left.entry(worker).or_default().insert(stage);
        }
    }

    /// The first executor on a worker after a while removes what was left there.
    pub(super) fn remove_left(&mut self, executor: ExecutorId, worker: WorkerId) {
        let left = self.left.remove(&worker).unwrap_or_default();
        if let Some(to) = self.executors.get(&executor) {
            left.into_iter().for_each(|stage| to.forget(stage));
        }
    }

    /// Nothing is left on a worker that is lost.
    pub(super) fn forget_left(&mut self, worker: WorkerId) {
        self.left.remove(&worker);
        for stage in self.stages.values_mut() {
            stage.workers.remove(&worker);
        }
    }
}

impl Executor {
    fn forget(&self, stage: StageId) {
        self.link.send(protocol::command(Command::Forget(Forget { stage: stage.0 })), None);
    }
}
