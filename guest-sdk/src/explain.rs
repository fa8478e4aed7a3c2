//! The plan of a dataset in words.

use std::collections::HashMap;
use std::fmt::Write;

use crate::dataset::Dataset;
use crate::plan::{Lineage, Plan};

impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Prints the stages that would compute this dataset, with their inputs and operators. Nothing is computed.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// ctx.range(0..4, 2).map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b).explain();
    /// # Ok::<(), Error>(())
    /// ```
    pub fn explain(&self) {
        print!("{}", self.explanation());
    }

    /// What [`explain`](Dataset::explain) prints.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let sums = ctx.range(0..4, 2).map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b).values();
    /// assert_eq!(
    ///     sums.explanation(),
    ///     "stage 0 (reduce_by_key): 2 tasks\n    range -> map -> reduce_by_key\n\
    ///      stage 1 (result): 4 tasks, reads stage 0\n    values\n"
    /// );
    /// # Ok::<(), Error>(())
    /// ```
    pub fn explanation(&self) -> String {
        let mut stages = Stages::default();
        let lineage = Lineage::of(|lineage| self.plan.lineage(lineage));
        let tasks = self.plan.pieces().map_or(self.num_partitions(), |pieces| pieces.len());
        stages.add("result", &lineage, tasks);
        stages.text
    }
}

#[derive(Default)]
struct Stages {
    text: String,
    /// The place of each shuffle's stage in the text, by the shuffle's number.
    numbers: HashMap<u32, usize>,
    count: usize,
}

impl Stages {
    /// Adds a stage after those that it reads; gives its number.
    fn add(&mut self, name: &str, lineage: &Lineage, tasks: usize) -> usize {
        let mut inputs: Vec<String> = Vec::new();
        for dependency in &lineage.shuffles {
            let known = self.numbers.get(&dependency.number()).copied();
            let stage = known.unwrap_or_else(|| {
                self.add(dependency.name(), &dependency.lineage(), dependency.tasks())
            });
            self.numbers.insert(dependency.number(), stage);
            inputs.push(format!("stage {stage}"));
        }
        let number = self.count;
        self.count += 1;
        // Writing to a string can't fail.
        let _ = write!(self.text, "stage {number} ({name}): {tasks} tasks");
        if !inputs.is_empty() {
            let _ = write!(self.text, ", reads {}", inputs.join(", "));
        }
        let _ = writeln!(self.text, "\n    {}", lineage.operators.join(" -> "));
        number
    }
}
