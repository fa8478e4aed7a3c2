//! The small side of a join: its values by key, in a table in the driver's memory. Tasks start from an image of that, and look into the
//! table without having built one.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use crate::actions::{Tasks, start};
use crate::codec::{Cursor, Record};
use crate::context::Context;
use crate::error::{Result, told};
use crate::host::Output;
use crate::join::side::Seen;
use crate::join::values::Values;
use crate::plan::Plan;
use crate::table::{Key, Passing, Table};
use crate::task::{Emitter, TaskScope, fail};

/// A record that has a key.
pub trait Pair {
    /// What it is found by.
    type Key;
    /// What the key has.
    type Value;
}

impl<K, T> Pair for (K, T) {
    type Key = K;
    type Value = T;
}

/// Keys with their values.
type Known<R> = Table<<R as Pair>::Key, Values<<R as Pair>::Value>>;

/// By how much a dataset may be larger, encoded, than what was taken for small.
const ENCODED: u64 = 2;
/// And in memory, where a record of a few bytes takes some fifty.
const HELD: u64 = 4;

/// A dataset that the driver holds by key.
pub(crate) struct Small<P: Plan<Item: Pair>> {
    plan: Rc<P>,
    /// What it was taken for, at most; none of one that is to be held however large it is.
    limit: Option<u64>,
    /// None of one that is too large.
    known: OnceCell<Option<Rc<Known<P::Item>>>>,
}

impl<K: Key, T: Record + Clone, P: Plan<Item = (K, T)>> Small<P> {
    pub(crate) fn new(plan: &Rc<P>, limit: Option<u64>) -> Self {
        Small { plan: Rc::clone(plan), limit, known: OnceCell::new() }
    }

    /// Computes it, once, at the driver. `are_keys`: all that matters is which keys there are.
    pub(crate) fn prepare(&self, ctx: &Context, are_keys: bool) -> Result<()> {
        if self.known.get().is_none() {
            let known = match self.collect(ctx, are_keys)? {
                Some(parts) => self.table(parts, are_keys)?,
                None => None,
            };
            // Nobody else sets it: drivers have one thread.
            let _ = self.known.set(known.map(Rc::new));
        }
        Ok(())
    }

    /// Whether it was computed, and is too large.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self.known.get(), Some(None))
    }

    /// Its encoded pairs, by partition; none if they are too many.
    fn collect(&self, ctx: &Context, are_keys: bool) -> Result<Option<Vec<Vec<u8>>>> {
        if self.plan.partitions() == 0 {
            return Ok(Some(Vec::new()));
        }
        let most = self.limit.map_or(u64::MAX, |limit| limit.saturating_mul(ENCODED));
        let body = move |plan: Rc<P>, partition, task: &Rc<TaskScope>, emitter: &mut Emitter| {
            let mut seen = are_keys.then(|| Seen::new(task));
            // Where it is too large, nobody wants the rest.
            let _ = plan.compute(partition, Rc::clone(task)).try_for_each(|(key, value)| {
                if seen.as_mut().is_none_or(|seen| seen.is_new(&key)) {
                    emitter.push_pair(&key, &value);
                }
                match emitter.bytes() > most {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
        };
        let (mut job, tasks) =
            start(ctx, "broadcast", &self.plan, Tasks::Pieces, Output::Results, body)?;
        let mut parts = vec![Vec::new(); tasks];
        let mut bytes = 0;
        while let Some(results) = job.next()? {
            for result in results {
                bytes += result.value.len() as u64;
                if let Some(part) = parts.get_mut(result.partition as usize) {
                    *part = result.value;
                }
            }
            if bytes > most {
                return Ok(None);
            }
        }
        Ok(Some(parts))
    }

    /// The table of all pairs, each key's in the order of partitions; none if it is too large.
    fn table(&self, parts: Vec<Vec<u8>>, are_keys: bool) -> Result<Option<Known<(K, T)>>> {
        let most = self.limit.map_or(u64::MAX, |limit| limit.saturating_mul(HELD));
        let mut table: Known<(K, T)> = Table::new();
        let mut values = 0;
        for part in parts {
            let mut cursor = Cursor::new(part);
            while !cursor.is_empty() {
                let key: K = cursor.decode().map_err(told)?;
                let value: T = cursor.decode().map_err(told)?;
                table.upsert(&key, |known| {
                    let mut known = known.unwrap_or(Values::None);
                    if !are_keys || known.len() == 0 {
                        known.add(value);
                    }
                    known
                });
                values += size_of::<T>() as u64;
                if table.bytes() as u64 + values > most {
                    return Ok(None);
                }
                if table.is_at_bound() {
                    return Err(told(TOO_MANY_KEYS.to_owned()));
                }
            }
        }
        Ok(Some(table))
    }

    /// What `out` makes of each of the pairs and each value that its key has here, or none.
    pub(crate) fn meet<S, O, I, F>(
        &self,
        pairs: I,
        out: F,
    ) -> impl Iterator<Item = (K, O)> + 'static + use<K, T, P, S, O, I, F>
    where
        I: Iterator<Item = (K, S)> + 'static,
        K: Clone,
        S: Clone + 'static,
        O: 'static,
        F: Fn(S, Option<T>) -> Option<O> + Copy + 'static,
    {
        let Some(Some(known)) = self.known.get() else {
            fail("a join's small side was not computed");
        };
        let (passed, known, mut passing) = (Rc::clone(known), Rc::clone(known), Passing::new());
        let mut pairs = pairs;
        let found = std::iter::from_fn(move || passing.next(&mut pairs, &passed));
        found.flat_map(move |(key, value, place)| {
            match place.and_then(|place| Some((place, known.at(place)?))) {
                None => Met::Once(out(value, None).map(|out| (key, out))),
                Some((_, Values::One(with))) => {
                    Met::Once(out(value, Some(with.clone())).map(|out| (key, out)))
                }
                Some((place, _)) => {
                    let (pair, known) = (Some((key, value)), Rc::clone(&known));
                    Met::Each { pair, known, place, at: 0, out }
                }
            }
        })
    }
}

const TOO_MANY_KEYS: &str =
    "the keys of a join's small side take more than 1 GiB; `join` shuffles such a dataset";

/// What comes of a pair.
enum Met<K, S, T, O, F> {
    Once(Option<(K, O)>),
    /// Its key has several values. They are looked up one by one: to share them would be a change of pages that all tasks have.
    Each {
        pair: Option<(K, S)>,
        known: Rc<Table<K, Values<T>>>,
        place: usize,
        at: usize,
        out: F,
    },
}

impl<K, S, T, O, F> Iterator for Met<K, S, T, O, F>
where
    K: Key + Clone,
    S: Clone,
    T: Clone,
    F: Fn(S, Option<T>) -> Option<O>,
{
    type Item = (K, O);

    #[inline]
    fn next(&mut self) -> Option<(K, O)> {
        match self {
            Met::Once(out) => out.take(),
            Met::Each { pair, known, place, at, out } => loop {
                let values = known.at(*place)?;
                let with = values.get(*at)?.clone();
                *at += 1;
                // Nothing is cloned for the last time that it is needed.
                let (key, value) = if *at == values.len() { pair.take()? } else { pair.clone()? };
                if let Some(out) = out(value, Some(with)) {
                    return Some((key, out));
                }
            },
        }
    }
}
