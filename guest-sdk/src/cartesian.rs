//! The plan of `cartesian`.

use std::rc::Rc;

use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::Result;
use crate::host;
use crate::plan::{Lineage, Plan};
use crate::task::{BLOCK, Records, Room, TaskScope, done};

/// Each record of one dataset with each of another.
pub struct Cartesian<P, Q> {
    left: Rc<P>,
    right: Rc<Q>,
}

impl<P, Q> Cartesian<P, Q> {
    pub(crate) fn new(left: Rc<P>, right: Rc<Q>) -> Self {
        Cartesian { left, right }
    }
}

impl<T, U, P, Q> Plan for Cartesian<P, Q>
where
    T: Clone + 'static,
    U: Record + Clone,
    P: Plan<Item = T>,
    Q: Plan<Item = U>,
{
    type Item = (T, U);

    fn partitions(&self) -> usize {
        // Too many for any host are refused when a job starts.
        self.left.partitions().saturating_mul(self.right.partitions())
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = (T, U)> + 'static {
        let rights = self.right.partitions().max(1);
        let right =
            Held::of(Rc::clone(&self.right).compute(partition % rights, Rc::clone(&task)), &task);
        let left = Rc::clone(&self.left).compute(partition / rights, Rc::clone(&task));
        right.with_each(left, &task)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.rearranged(|lineage| {
            self.left.lineage(lineage);
            self.right.lineage(lineage);
        });
        lineage.operator("cartesian");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.left.prepare(ctx)?;
        self.right.prepare(ctx)
    }
}

/// Records that are read again and again.
struct Held<U> {
    /// The first of them.
    in_memory: Rc<Vec<U>>,
    /// All others, if they are too many for memory.
    run: Option<u32>,
}

impl<U: Record + Clone> Held<U> {
    fn of(records: impl Iterator<Item = U>, task: &Rc<TaskScope>) -> Self {
        let (mut in_memory, room) = (Vec::new(), Room::new(task));
        let (mut run, mut buffer) = (None, Vec::new());
        records.for_each(|record| match run {
            None => {
                in_memory.push(record);
                if room.is_full() {
                    run = Some(host::create_run());
                }
            }
            Some(run) => {
                done(codec::encode(&record, &mut buffer));
                if buffer.len() >= BLOCK {
                    host::write_run(run, &buffer);
                    buffer.clear();
                }
            }
        });
        if let (Some(run), false) = (run, buffer.is_empty()) {
            host::write_run(run, &buffer);
        }
        Held { in_memory: Rc::new(in_memory), run }
    }

    /// Each of `lefts` with each of these: in their order, unless there is a run, which is read once for as many of them as memory holds.
    fn with_each<T, I>(
        self,
        lefts: I,
        task: &Rc<TaskScope>,
    ) -> impl Iterator<Item = (T, U)> + 'static + use<T, U, I>
    where
        T: Clone + 'static,
        I: Iterator<Item = T> + 'static,
    {
        let (one_by_one, in_batches) = match self.run {
            None => (Some(each_with_all(lefts, self.in_memory)), None),
            Some(run) => {
                let batches = batches(lefts, Rc::clone(task)).flat_map(move |batch| {
                    let kept = Rc::clone(&self.in_memory);
                    let kept = (0..kept.len()).map(move |at| kept[at].clone());
                    let put_away = Records::of(host::open_run(run));
                    each_with_all(kept.chain(put_away), batch).map(|(right, left)| (left, right))
                });
                (None, Some(batches))
            }
        };
        one_by_one.into_iter().flatten().chain(in_batches.into_iter().flatten())
    }
}

fn each_with_all<T: Clone, U: Clone>(
    each: impl Iterator<Item = T>,
    all: Rc<Vec<U>>,
) -> impl Iterator<Item = (T, U)> {
    each.flat_map(move |one| {
        let all = Rc::clone(&all);
        (0..all.len()).map(move |at| (one.clone(), all[at].clone()))
    })
}

/// As many records at a time as there is room for.
fn batches<T>(
    mut records: impl Iterator<Item = T>,
    task: Rc<TaskScope>,
) -> impl Iterator<Item = Rc<Vec<T>>> {
    std::iter::from_fn(move || {
        let room = Room::new(&task);
        let mut batch = vec![records.next()?];
        while !room.is_full()
            && let Some(record) = records.next()
        {
            batch.push(record);
        }
        Some(Rc::new(batch))
    })
}
