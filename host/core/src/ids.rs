//! The names of things: plain numbers that can't be mistaken for one another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, " {}"), self.0)
            }
        }
    )*};
}

ids! {
    /// A running action of a driver.
    JobId "job";
    /// A stage of an application, and its shuffle output.
    StageId "stage";
    /// A process, or in local mode a set of threads, that runs tasks.
    ExecutorId "executor";
    /// An opened source.
    SourceId "source";
    /// A cached dataset.
    CacheId "cache";
    /// A folder that is being written.
    OutputId "output";
    /// A picture of the driver's memory.
    ImageId "image";
}

/// A machine of the cluster, as its master numbers it. Map outputs belong to workers, and outlive the executors that made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{}", self.0)
    }
}

/// One try at computing one partition of a stage. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The stage.
    pub stage: StageId,
    /// The partition that the task computes, from 0.
    pub partition: u32,
    /// 0 for the first try.
    pub attempt: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, partition {}, attempt {}", self.stage, self.partition, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_words() {
        assert_eq!(JobId(3).to_string(), "job 3");
        let task = TaskId { stage: StageId(2), partition: 7, attempt: 0 };
        assert_eq!(task.to_string(), "stage 2, partition 7, attempt 0");
    }
}
