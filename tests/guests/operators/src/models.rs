//! What operators should come to, by plain programs.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use ingle::Record;
use ingle::prelude::*;
use serde::{Deserialize, Serialize};

use crate::records::{self, Records};

/// How many records, and a sum of them in which their order is no matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    pub count: u64,
    hashes: u64,
}

impl Sum {
    fn add(self, record: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        Self { count: self.count + 1, hashes: self.hashes.wrapping_add(hasher.finish()) }
    }

    fn join(self, other: Self) -> Self {
        Self { count: self.count + other.count, hashes: self.hashes.wrapping_add(other.hashes) }
    }
}

/// What an operator came to.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub name: &'static str,
    pub sum: Sum,
}

pub fn sum<T: Record + Hash>(dataset: &Dataset<T, impl Plan<Item = T>>) -> Result<Sum> {
    dataset.aggregate(Sum::default(), Sum::add, Sum::join)
}

type Groups = BTreeMap<String, (Vec<u64>, Vec<u64>)>;

/// In the order in which the operators run.
pub fn all(records: Records) -> Vec<Found> {
    let lefts: Vec<_> = (0..records.lefts()).map(|n| records.left(n)).collect();
    let rights: Vec<_> = (0..records.rights()).map(|n| records.right(n)).collect();
    let mut groups = Groups::new();
    for (key, n) in &lefts {
        groups.entry(key.clone()).or_default().0.push(*n);
    }
    for (key, n) in &rights {
        groups.entry(key.clone()).or_default().1.push(*n);
    }

    let mut all = Vec::new();
    let mut model = |name, sum| all.push(Found { name, sum });
    model("join", joined(&groups, |left, right| Some((left?, right?))));
    model("left_outer_join", joined(&groups, |left, right| Some((left?, right))));
    model("right_outer_join", joined(&groups, |left, right| Some((left, right?))));
    model("full_outer_join", joined(&groups, |left, right| Some((left, right))));
    let without = joined(&groups, |left, right| if right.is_none() { left } else { None });
    model("subtract_by_key", without);
    model("cogroup", of(&groups));

    let (left_keys, right_keys): (BTreeSet<_>, BTreeSet<_>) =
        (lefts.iter().map(|pair| &pair.0).collect(), rights.iter().map(|pair| &pair.0).collect());
    model("subtract", of(lefts.iter().map(|pair| &pair.0).filter(|key| !right_keys.contains(key))));
    model("intersection", of(left_keys.intersection(&right_keys)));
    let few: Vec<_> =
        rights.iter().map(|pair| &pair.0).filter(|key| records::is_rare(key)).collect();
    let some = lefts.iter().map(|pair| pair.1).filter(|n| n % 16 == 0);
    model("cartesian", of(some.flat_map(|n| few.iter().map(move |key| (n, *key)))));

    let placed = of(lefts.iter().map(|(key, n)| (true, key, n)));
    model("partition_by", placed);
    let sums = groups.iter().map(|(key, (lefts, rights))| {
        let sum = lefts.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n));
        let lefts = if lefts.is_empty() { Vec::new() } else { vec![sum] };
        (key.clone(), (lefts, rights.clone()))
    });
    let in_place = joined(&sums.collect(), |left, right| Some((left, right)));
    model("join of what lies in place", in_place);
    model("repartition_and_sort_within_partitions", placed);
    all
}

fn of(records: impl IntoIterator<Item: Hash>) -> Sum {
    records.into_iter().fold(Sum::default(), Sum::add)
}

/// A full outer join, of which `part` takes something.
fn joined<T: Hash>(groups: &Groups, part: impl Fn(Option<u64>, Option<u64>) -> Option<T>) -> Sum {
    let padded = |values: &[u64]| -> Vec<Option<u64>> {
        if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
    };
    let mut sum = Sum::default();
    for (key, (lefts, rights)) in groups {
        for left in padded(lefts) {
            for right in padded(rights) {
                if let Some(part) = part(left, right) {
                    sum = sum.add((key, part));
                }
            }
        }
    }
    sum
}
