//! How the executors of an application share what it may store on a worker: who means well is refused what is too much, and not ended for it.
//!
//! An executor says again and again what it has, and is answered with its share: that, and an equal part of what is free, for it, for the others, and
//! for those that may still come. What is promised to the others isn't free. What ended executors left is found by the worker's look (`disk`); until that
//! is done, it is what they said last.

use std::collections::BTreeMap;

/// Of all applications.
#[derive(Debug, Default)]
pub struct Shares(BTreeMap<String, Application>);

#[derive(Debug, Default)]
struct Application {
    executors: BTreeMap<u32, Executor>,
    /// What lies here, and is none of theirs.
    left: u64,
    /// What a look found, as long as not all of them have said since what they had.
    found: Option<u64>,
}

#[derive(Debug, Default)]
struct Executor {
    /// What it said last that it has.
    has: u64,
    /// What it may have.
    share: u64,
    /// The least and the most that it said since the last look began.
    least: u64,
    most: u64,
    /// It said something since the last look was done.
    said: bool,
}

impl Shares {
    /// An executor begins. Gives its share of `limit`, if so many `more` may still come. It may have that though others were promised it:
    /// they are soon told otherwise.
    pub fn begins(&mut self, application: &str, executor: u32, limit: u64, more: u64) -> u64 {
        let all = self.0.entry(application.to_owned()).or_default();
        all.executors.insert(executor, Executor::default());
        let share = all.free(limit) / all.count(more);
        all.promise(executor, share)
    }

    /// An executor says what it has. Gives its share from now on; none if there is no such executor.
    pub fn says(
        &mut self,
        application: &str,
        executor: u32,
        has: u64,
        limit: u64,
        more: u64,
    ) -> Option<u64> {
        let all = self.0.get_mut(application)?;
        let this = all.executors.get_mut(&executor)?;
        (this.least, this.most) = (this.least.min(has), this.most.max(has));
        (this.has, this.said) = (has, true);
        if all.executors.values().all(|executor| executor.said) {
            all.settle();
        }
        let free = all.free(limit);
        let others = all.executors.iter().filter(|(other, _)| **other != executor);
        let promised = others.map(|(_, other)| other.share.saturating_sub(other.has));
        let promised = promised.fold(0, u64::saturating_add);
        let part = free.saturating_sub(promised).min(free / all.count(more));
        Some(all.promise(executor, has.saturating_add(part)))
    }

    /// An executor ended; what it stored stays.
    pub fn ends(&mut self, application: &str, executor: u32) {
        let Some(all) = self.0.get_mut(application) else { return };
        if let Some(gone) = all.executors.remove(&executor) {
            all.left = all.left.saturating_add(gone.has);
        }
    }

    /// An application is over.
    pub fn forget(&mut self, application: &str) {
        self.0.remove(application);
    }

    /// It is begun to look at what an application has.
    pub fn look_begins(&mut self, application: &str) {
        let Some(all) = self.0.get_mut(application) else { return };
        all.settle();
        for executor in all.executors.values_mut() {
            (executor.least, executor.most) = (executor.has, executor.has);
        }
    }

    /// It has so much.
    pub fn look_ends(&mut self, application: &str, found: u64) {
        let Some(all) = self.0.get_mut(application) else { return };
        all.found = Some(found);
        all.executors.values_mut().for_each(|executor| executor.said = false);
        if all.executors.is_empty() {
            all.settle();
        }
    }
}

impl Application {
    /// What a look found is believed. How much of it was the executors' at that moment isn't known if that changed meanwhile: what was known before
    /// stays, if it may still be so.
    fn settle(&mut self) {
        let Some(found) = self.found.take() else { return };
        let others = |theirs: fn(&Executor) -> u64| {
            found.saturating_sub(self.executors.values().map(theirs).fold(0, u64::saturating_add))
        };
        let (least, most) = (others(|executor| executor.most), others(|executor| executor.least));
        self.left = self.left.clamp(least, most);
    }

    fn free(&self, limit: u64) -> u64 {
        let all = self.executors.values().map(|executor| executor.has);
        limit.saturating_sub(all.fold(self.left, u64::saturating_add))
    }

    /// Those who share it.
    fn count(&self, more: u64) -> u64 {
        (self.executors.len() as u64).saturating_add(more).max(1)
    }

    fn promise(&mut self, executor: u32, share: u64) -> u64 {
        // None is one that nobody bounds.
        let share = share.max(1);
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.share = share;
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "app-1";

    #[test]
    fn executors_have_no_more_together_than_their_application_may() {
        let mut shares = Shares::default();
        assert_eq!(shares.begins(APP, 0, 100, 1), 50);
        assert_eq!(shares.begins(APP, 1, 100, 0), 50);
        // What the other was promised isn't this one's.
        assert_eq!(shares.says(APP, 0, 40, 100, 0), Some(50));
        // This one needs it less.
        assert_eq!(shares.says(APP, 1, 0, 100, 0), Some(30));
        assert_eq!(shares.says(APP, 0, 40, 100, 0), Some(70));
        assert_eq!(shares.says(APP, 1, 10, 100, 0), Some(30));
        assert_eq!(shares.says(APP, 2, 10, 100, 0), None);
        assert_eq!(shares.says("app-2", 0, 10, 100, 0), None);
        // Another application has as much for itself.
        assert_eq!(shares.begins("app-2", 0, 100, 0), 100);
    }

    #[test]
    fn one_that_is_alone_gets_all_by_and_by() {
        let mut shares = Shares::default();
        let mut share = shares.begins(APP, 0, 1 << 20, 15);
        assert_eq!(share, 1 << 16);
        for _ in 0..200 {
            let next = shares.says(APP, 0, share, 1 << 20, 15).unwrap();
            assert!(next >= share && next <= 1 << 20);
            share = next;
        }
        assert!(share > (1 << 20) - 16, "{share}");
    }

    #[test]
    fn what_one_left_is_counted_before_and_after_somebody_looked() {
        let mut shares = Shares::default();
        shares.begins(APP, 0, 100, 0);
        shares.says(APP, 0, 60, 100, 0);
        shares.ends(APP, 0);
        assert_eq!(shares.begins(APP, 1, 100, 0), 40);
        // Half of it went with its process.
        shares.look_begins(APP);
        shares.look_ends(APP, 30);
        assert_eq!(shares.says(APP, 1, 0, 100, 0), Some(70));
        // It was looked for long, and more was written meanwhile, and removed: that is nobody's who is gone.
        shares.look_begins(APP);
        shares.says(APP, 1, 50, 100, 0);
        shares.says(APP, 1, 10, 100, 0);
        shares.look_ends(APP, 80);
        assert_eq!(shares.says(APP, 1, 20, 100, 0), Some(70));
        // As well what it says only after that.
        shares.look_begins(APP);
        shares.look_ends(APP, 90);
        assert_eq!(shares.says(APP, 1, 60, 100, 0), Some(70));
        // What was left is removed.
        shares.look_begins(APP);
        shares.look_ends(APP, 60);
        assert_eq!(shares.says(APP, 1, 60, 100, 0), Some(100));
        shares.ends(APP, 1);
        shares.look_begins(APP);
        shares.look_ends(APP, 0);
        assert_eq!(shares.begins(APP, 2, 100, 0), 100);
    }

    #[test]
    fn who_grows_while_it_is_looked_gets_nothing_of_what_others_left() {
        let mut shares = Shares::default();
        shares.begins(APP, 0, 100, 0);
        shares.says(APP, 0, 40, 100, 0);
        shares.ends(APP, 0);
        shares.begins(APP, 1, 100, 0);
        // It was seen without what it says only later: 40 of 60 are the other one's still.
        shares.look_begins(APP);
        shares.look_ends(APP, 60);
        assert_eq!(shares.says(APP, 1, 50, 100, 0), Some(60));
        // Of what the other one left, most is gone, and no more than 10 can be there.
        shares.look_begins(APP);
        shares.says(APP, 1, 60, 100, 0);
        shares.look_ends(APP, 60);
        assert_eq!(shares.says(APP, 1, 60, 100, 0), Some(90));
    }

    #[test]
    fn nonsense_gives_little_and_an_application_that_is_over_is_forgotten() {
        let mut shares = Shares::default();
        shares.begins(APP, 0, 100, u64::MAX);
        assert_eq!(shares.says(APP, 0, u64::MAX, 100, 0), Some(u64::MAX));
        assert_eq!(shares.begins(APP, 1, 100, 0), 1);
        shares.ends(APP, 0);
        shares.ends(APP, 1);
        shares.look_begins(APP);
        shares.look_ends(APP, u64::MAX);
        assert_eq!(shares.begins(APP, 1, 100, 0), 1);
        shares.forget(APP);
        assert!(shares.0.is_empty());
        shares.look_ends(APP, 1);
        assert!(shares.0.is_empty());
    }
}
