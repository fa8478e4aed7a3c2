//! Accumulators: what tasks add to and the driver reads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
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

accumulate_numbers!(i32 i64 u32 u64 f32 f64);

impl<T: Record + Clone> Accumulate for Vec<T> {
    fn accumulate(&mut self, other: Self) {
        self.extend(other);
    }
}

/// A value that tasks add to and the driver reads; made by [`Context::accumulator`].
///
/// A task's additions count once, if and when it succeeds, however often it was tried.
pub struct Accumulator<T> {
    number: u32,
    value: Rc<RefCell<T>>,
}

impl<T> Clone for Accumulator<T> {
    fn clone(&self) -> Self {
        Accumulator { number: self.number, value: Rc::clone(&self.value) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Accumulator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator")
            .field("number", &self.number)
            .field("value", &self.value.borrow())
            .finish()
    }
}

impl<T: Accumulate> Accumulator<T> {
    pub(crate) fn new(ctx: &Context, zero: T) -> Accumulator<T> {
        let value = Rc::new(RefCell::new(zero));
        let merged = Rc::clone(&value);
        let number = ctx.ledger().enter(Box::new(move |update| {
            merged.borrow_mut().accumulate(codec::decode(update).map_err(told)?);
            Ok(())
        }));
        Accumulator { number, value }
    }

    /// Adds to it, in a task or in the driver.
    pub fn add(&self, part: T) {
        if !host::is_task() {
            return self.value.borrow_mut().accumulate(part);
        }
        PENDING.with_borrow_mut(|pending| match pending.get_mut(&self.number) {
            Some(known) => known.add(Box::new(part)),
            None => {
                pending.insert(self.number, Box::new(Sum(part)));
            }
        });
    }

    /// What was added by all tasks that succeeded. Tasks see what it was when they were forked.
    pub fn value(&self) -> T {
        self.value.borrow().clone()
    }
}

thread_local! {
    /// What the running task added, sent when it ends.
    static PENDING: RefCell<BTreeMap<u32, Box<dyn Pending>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A sum whose type is forgotten.
trait Pending {
    fn add(&mut self, part: Box<dyn std::any::Any>);
    fn encode(&self) -> Result<Vec<u8>, String>;
}

struct Sum<T>(T);

impl<T: Accumulate> Pending for Sum<T> {
    fn add(&mut self, part: Box<dyn std::any::Any>) {
        // A number belongs to one accumulator, so the types agree.
        if let Ok(part) = part.downcast::<T>() {
            self.0.accumulate(*part);
        }
    }

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
