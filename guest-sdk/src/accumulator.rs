//! Accumulators: what tasks add to and the driver reads.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::rc::Rc;

use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::{Result, told};
use crate::{host, task};

/// What an accumulator may hold: something that two parts of can be made one, in any order.
pub trait Accumulate: Record + Clone {
    /// Adds another part.
    fn accumulate(&mut self, other: Self);
}

macro_rules! accumulate_numbers {
    ($($number:ty)*) => {$(
        impl Accumulate for $number {
            fn accumulate(&mut self, other: Self) {
                *self += other;
            }
        }
    )*};
}

accumulate_numbers!(i32 i64 isize u32 u64 usize f32 f64);

/// A list, in no order that can be relied on.
impl<T: Record + Clone> Accumulate for Vec<T> {
    fn accumulate(&mut self, other: Self) {
        self.extend(other);
    }
}

impl<T: Record + Clone + Ord> Accumulate for BTreeSet<T> {
    fn accumulate(&mut self, other: Self) {
        self.extend(other);
    }
}

impl<T, S> Accumulate for HashSet<T, S>
where
    T: Record + Clone + Hash + Eq,
    S: BuildHasher + Clone + Default + 'static,
{
    fn accumulate(&mut self, other: Self) {
        self.extend(other);
    }
}

/// What both have is accumulated.
impl<K: Record + Clone + Ord, V: Accumulate> Accumulate for BTreeMap<K, V> {
    fn accumulate(&mut self, other: Self) {
        for (key, part) in other {
            match self.get_mut(&key) {
                Some(known) => known.accumulate(part),
                None => drop(self.insert(key, part)),
            }
        }
    }
}

/// What both have is accumulated.
impl<K, V, S> Accumulate for HashMap<K, V, S>
where
    K: Record + Clone + Hash + Eq,
    V: Accumulate,
    S: BuildHasher + Clone + Default + 'static,
{
    fn accumulate(&mut self, other: Self) {
        for (key, part) in other {
            match self.get_mut(&key) {
                Some(known) => known.accumulate(part),
                None => drop(self.insert(key, part)),
            }
        }
    }
}

/// Each part by itself: a sum and a count.
impl<A: Accumulate, B: Accumulate> Accumulate for (A, B) {
    fn accumulate(&mut self, other: Self) {
        self.0.accumulate(other.0);
        self.1.accumulate(other.1);
    }
}

/// A value that tasks add to and the driver reads; made by [`Context::accumulator`].
///
/// A task's additions count once, if and when it succeeds, however often it was tried. They reach the driver with the results of the action
/// that ran the task. What is computed again, because a later action needs it again or a worker was lost, is added again: to count
/// exactly, add in an action ([`for_each`](crate::Dataset::for_each)).
pub struct Accumulator<T> {
    number: u32,
    name: Rc<str>,
    value: Rc<RefCell<T>>,
}

impl<T> Clone for Accumulator<T> {
    fn clone(&self) -> Self {
        let (name, value) = (Rc::clone(&self.name), Rc::clone(&self.value));
        Accumulator { number: self.number, name, value }
    }
}

impl<T: fmt::Debug> fmt::Debug for Accumulator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator")
            .field("name", &self.name)
            .field("value", &self.value.borrow())
            .finish()
    }
}

impl<T: Accumulate> Accumulator<T> {
    pub(crate) fn new(ctx: &Context, name: &str, zero: T) -> Accumulator<T> {
        let name: Rc<str> = name.into();
        let value = Rc::new(RefCell::new(zero));
        // What nobody has any more, nobody reads.
        let (of, merged) = (Rc::clone(&name), Rc::downgrade(&value));
        let number = ctx.ledger().enter(Box::new(move |update| {
            if let Some(merged) = merged.upgrade() {
                let part = codec::decode(update);
                let failed = |error| told(format!("accumulator `{of}`: {error}"));
                merged.borrow_mut().accumulate(part.map_err(failed)?);
            }
            Ok(())
        }));
        Accumulator { number, name, value }
    }

    /// What it is called: for people; several may have one name.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.accumulator("blank lines", 0).name(), "blank lines");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds to it, in a task or in the driver. A task holds what it added as one part, and sends that when it ends.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.accumulator("total", 1);
    /// let seen = total.clone();
    /// ctx.range(0..4, 2).for_each(move |n| seen.add(n))?;
    /// total.add(10);
    /// assert_eq!(total.value(), 17);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn add(&self, part: T) {
        self.change(part, |part| part, T::accumulate);
    }

    fn change<X>(&self, part: X, first: impl FnOnce(X) -> T, more: impl FnOnce(&mut T, X)) {
        if !host::is_task() {
            return more(&mut self.value.borrow_mut(), part);
        }
        PENDING.with_borrow_mut(|pending| {
            // A number belongs to one accumulator, so the types agree.
            let known = pending.get_mut(&self.number).map(|sum| &mut **sum as &mut dyn Any);
            match known.and_then(|sum| sum.downcast_mut::<Sum<T>>()) {
                Some(known) => more(&mut known.0, part),
                None => drop(pending.insert(self.number, Box::new(Sum(first(part))))),
            }
        });
    }

    /// A clone of what it is now: what the driver added, and the tasks whose results it has. Tasks see what it was when they were forked.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.accumulator("total", 0);
    /// let seen = total.clone();
    /// let numbers = ctx.range(0..4, 2).map(move |n| {
    ///     seen.add(n);
    ///     n
    /// });
    /// assert_eq!(total.value(), 0);
    /// numbers.count()?;
    /// numbers.count()?;
    /// assert_eq!(total.value(), 12);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn value(&self) -> T {
        self.value.borrow().clone()
    }
}

impl<T: Record + Clone> Accumulator<Vec<T>> {
    /// Adds one item to the list, in a task or in the driver, as [`add`](Accumulator::add) of a list of one, but makes none. The items must
    /// fit in the driver's memory, in no order that can be relied on.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let odd = ctx.accumulator("odd", Vec::new());
    /// let seen = odd.clone();
    /// ctx.range(0..4, 1).for_each(move |n| {
    ///     if n % 2 == 1 {
    ///         seen.push(n);
    ///     }
    /// })?;
    /// assert_eq!(odd.value(), [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn push(&self, item: T) {
        self.change(item, |item| vec![item], Vec::push);
    }
}

thread_local! {
    /// What the running task added, sent when it ends.
    static PENDING: RefCell<BTreeMap<u32, Box<dyn Pending>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A sum whose type is forgotten.
trait Pending: Any {
    fn encode(&self) -> Result<Vec<u8>, String>;
}

struct Sum<T>(T);

impl<T: Accumulate> Pending for Sum<T> {
    fn encode(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        codec::encode(&self.0, &mut bytes).map(|()| bytes)
    }
}

/// Sends what the task added.
pub(crate) fn flush() {
    for (number, sum) in PENDING.take() {
        host::accumulate(number, &task::done(sum.encode()));
    }
}

/// Forgets what a task added that ended by unwinding.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn forget() {
    PENDING.take();
}

type Merge = Box<dyn Fn(&[u8]) -> Result<()>>;

/// The driver's accumulators, by number.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Rc<RefCell<Vec<Merge>>>);

impl Ledger {
    fn enter(&self, merge: Merge) -> u32 {
        let mut entries = self.0.borrow_mut();
        entries.push(merge);
        entries.len() as u32 - 1
    }

    pub(crate) fn add(&self, accumulator: u32, update: &[u8]) -> Result<()> {
        match self.0.borrow().get(accumulator as usize) {
            Some(merge) => merge(update),
            None => Err(told(format!(
                "a task added to accumulator {accumulator}, which the driver does not have"
            ))),
        }
    }
}
