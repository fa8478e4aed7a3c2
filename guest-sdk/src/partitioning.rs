//! Where records lie by their keys, and how operators agree on it.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

use crate::context::Context;
use crate::table;

/// By what the keys of records decide in which partition they lie.
///
/// Two datasets whose partitionings are equal are joined without a shuffle.
#[derive(Clone)]
pub struct Partitioning {
    partitions: usize,
    by: By,
}

#[derive(Clone)]
enum By {
    Hash,
    /// A [`Function`] of the key, whose type only those know who know the key's.
    Function {
        function: Rc<dyn Any>,
        /// Known of functions that capture nothing: then they are the same if their types are.
        name: Option<TypeId>,
    },
}

struct Function<K>(Box<dyn Fn(&K) -> usize>);

/// Gives a key's partition by its hash, for [`Dataset::partition_by`](crate::Dataset::partition_by): as `reduce_by_key` and its kin do.
/// Any other number of the key's own would do as well, but for those no shuffle is spared.
///
/// ```
/// # use ingle::prelude::*;
/// # let ctx = Context::local();
/// let placed = ctx.range(0..8, 2).map(|n| (n, ())).partition_by_with_partitions(by_hash, 8);
/// let sums = placed.map_values(|()| 1).reduce_by_key_with_partitions(|a, b| a + b, 8);
/// assert!(!sums.explanation().contains("stage 2"), "one shuffle, not two");
/// assert_eq!(by_hash(&7), by_hash(&7));
/// # Ok::<(), Error>(())
/// ```
pub fn by_hash<K: Hash + 'static>(key: &K) -> usize {
    table::hash_of(key) as usize
}

fn type_of<F: 'static>(_: &F) -> TypeId {
    TypeId::of::<F>()
}

impl Partitioning {
    /// By the keys' hashes.
    pub(crate) fn hash(partitions: usize) -> Partitioning {
        Partitioning { partitions: partitions.max(1), by: By::Hash }
    }

    /// By a function, whose result is taken modulo the number of partitions.
    pub(crate) fn function<K, F>(partitions: usize, f: F) -> Partitioning
    where
        K: Hash + 'static,
        F: Fn(&K) -> usize + 'static,
    {
        let partitions = partitions.max(1);
        if type_of(&f) == type_of(&by_hash::<K>) {
            return Partitioning::hash(partitions);
        }
        let name = (size_of::<F>() == 0).then(|| type_of(&f));
        let function = Rc::new(Function::<K>(Box::new(f)));
        Partitioning { partitions, by: By::Function { function, name } }
    }

    /// What an operator makes of its inputs where nobody said how many partitions: as an input lies already, if that is in no
    /// fewer than the default.
    pub(crate) fn of_inputs<const N: usize>(
        ctx: &Context,
        inputs: [Option<Partitioning>; N],
    ) -> Partitioning {
        let mut chosen = Partitioning::hash(ctx.default_parallelism());
        let mut is_default = true;
        for input in inputs.into_iter().flatten() {
            if input.partitions > chosen.partitions
                || is_default && input.partitions == chosen.partitions
            {
                (chosen, is_default) = (input, false);
            }
        }
        chosen
    }

    /// How many partitions there are: at least 1.
    ///
    /// ```
    /// fn cut_by_key(plan: &impl ingle::Plan) -> Option<usize> {
    ///     plan.partitioning().map(|partitioning| partitioning.partitions())
    /// }
    /// ```
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// What finds keys' partitions. None if keys are of another type.
    pub(crate) fn placer<K: Hash + 'static>(&self) -> Option<Placer<K>> {
        let by = match &self.by {
            By::Hash => None,
            By::Function { function, .. } => Some(Rc::clone(function).downcast().ok()?),
        };
        Some(Placer { partitions: self.partitions, by })
    }
}

impl PartialEq for Partitioning {
    fn eq(&self, other: &Partitioning) -> bool {
        let is_same = match (&self.by, &other.by) {
            (By::Hash, By::Hash) => true,
            (
                By::Function { function, name },
                By::Function { function: others, name: others_name },
            ) => Rc::ptr_eq(function, others) || name.is_some() && name == others_name,
            _ => false,
        };
        is_same && self.partitions == other.partitions
    }
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Hash => "hash",
            By::Function { .. } => "function",
        };
        f.debug_struct("Partitioning")
            .field("partitions", &self.partitions)
            .field("by", &by)
            .finish()
    }
}

/// Finds the partitions of keys.
pub(crate) struct Placer<K> {
    partitions: usize,
    /// None: by hash.
    by: Option<Rc<Function<K>>>,
}

impl<K: Hash + 'static> Placer<K> {
    #[inline]
    pub(crate) fn place(&self, key: &K) -> usize {
        match &self.by {
            None => table::place(key, self.partitions),
            Some(function) => (function.0)(key) % self.partitions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parity(n: &u32) -> usize {
        *n as usize % 2
    }

    #[test]
    fn the_same_function_is_the_same_partitioning() {
        let by = |partitions| Partitioning::function(partitions, parity);
        assert_eq!(by(4), by(4));
        assert_ne!(by(4), by(5));
        assert_ne!(by(4), Partitioning::hash(4));
        assert_eq!(Partitioning::function(4, by_hash::<u32>), Partitioning::hash(4));
    }

    #[test]
    fn closures_that_capture_are_the_same_only_as_one() {
        let by = |modulus: u32| Partitioning::function(4, move |n: &u32| (n % modulus) as usize);
        let one = by(3);
        assert_eq!(one, one.clone());
        assert_ne!(one, by(3));
    }

    #[test]
    fn closures_that_capture_nothing_are_told_apart() {
        let one = Partitioning::function(4, |n: &u32| *n as usize);
        let other = Partitioning::function(4, |n: &u32| *n as usize + 1);
        assert_ne!(one, other);
    }

    #[test]
    fn inputs_decide_if_they_are_in_as_many_partitions_as_the_default() {
        let ctx = Context::local_with([("ingle.default.parallelism", "4")]);
        let (hash, own) = (Partitioning::hash, |n| Some(Partitioning::function(n, parity)));
        assert_eq!(Partitioning::of_inputs(&ctx, [None, None]), hash(4));
        assert_eq!(Partitioning::of_inputs(&ctx, [Some(hash(3)), own(2)]), hash(4));
        assert_eq!(Partitioning::of_inputs(&ctx, [None, own(4)]), own(4).unwrap());
        assert_eq!(Partitioning::of_inputs(&ctx, [own(4), Some(hash(4))]), own(4).unwrap());
        assert_eq!(Partitioning::of_inputs(&ctx, [own(4), Some(hash(5))]), hash(5));
    }

    #[test]
    fn functions_of_other_keys_place_nothing() {
        let own = Partitioning::function(3, parity);
        assert!(own.placer::<u64>().is_none());
        let placed = own.placer::<u32>().map(|placer| [4, 5].map(|key| placer.place(&key)));
        assert_eq!(placed, Some([0, 1]));
    }
}
