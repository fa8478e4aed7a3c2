//! What keys have in two datasets.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// The values that a key has in one dataset. One alone, as most keys have, needs no place of its own on the heap.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Values<T> {
    None,
    One(T),
    Many(Rc<Vec<T>>),
}

impl<T: Clone> Values<T> {
    pub(crate) fn add(&mut self, value: T) {
        match self {
            Values::None => *self = Values::One(value),
            // Nobody shares it while values are added, so nothing is cloned.
            Values::Many(all) => Rc::make_mut(all).push(value),
            Values::One(_) => {
                if let Values::One(first) = std::mem::replace(self, Values::None) {
                    *self = Values::Many(Rc::new(vec![first, value]));
                }
            }
        }
    }

    pub(crate) fn append(&mut self, more: Values<T>) {
        match more {
            Values::None => {}
            Values::One(value) => self.add(value),
            Values::Many(values) => match self {
                Values::Many(all) => Rc::make_mut(all).extend(Rc::unwrap_or_clone(values)),
                _ => Rc::unwrap_or_clone(values).into_iter().for_each(|value| self.add(value)),
            },
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Values::None => 0,
            Values::One(_) => 1,
            Values::Many(values) => values.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        match self {
            Values::One(value) if at == 0 => Some(value),
            Values::Many(values) => values.get(at),
            _ => None,
        }
    }
}

/// What a key has in the right dataset.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rights<W> {
    pub values: Values<W>,
    /// Whether one of the left dataset had this key. Not where they are written: none has passed by then.
    #[serde(skip)]
    pub is_met: bool,
}

impl<W> Default for Rights<W> {
    fn default() -> Self {
        Rights { values: Values::None, is_met: false }
    }
}
