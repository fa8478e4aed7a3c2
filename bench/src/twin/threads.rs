//! Work shared among threads: each takes the next piece when it is done with its last.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// How many threads a twin uses.
pub type Threads = NonZero<usize>;

/// Runs `work` for every number below `pieces`, each thread on a state of its own; gives the states.
///
/// After a failure no further piece is begun.
pub fn fold<S: Send>(
    threads: Threads,
    pieces: usize,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut state = start();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(state);
            }
            if let Err(error) = work(&mut state, piece) {
                next.store(pieces, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads.get()).map(|_| scope.spawn(worker)).collect();
        running.into_iter().map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Maps items on all threads; results are in the items' order.
pub fn map<T: Send, R: Send>(
    threads: Threads,
    items: Vec<T>,
    work: impl Fn(usize, T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let states = fold(threads, items.len(), Vec::new, |done, i| {
        let item =
            items.get(i).and_then(|m| m.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(item) = item {
            done.push((i, work(i, item)?));
        }
        Ok(())
    })?;
    let mut done: Vec<_> = states.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Threads = NonZero::new(3).unwrap();

    #[test]
    fn every_piece_is_done_once() {
        let done = fold(THREE, 100, Vec::new, |done, i| {
            done.push(i);
            Ok(())
        });
        let states = done.unwrap();
        let mut all = states.concat();
        all.sort_unstable();
        assert_eq!((states.len(), all), (3, (0..100).collect()));
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let squares = map(THREE, (0..50u64).collect(), |_, n| Ok(n * n)).unwrap();
        assert_eq!(squares, (0..50).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_is_what_comes_back() {
        let failed =
            map(
                THREE,
                (0..50).collect(),
                |_, n| if n == 7 { anyhow::bail!("seven") } else { Ok(n) },
            );
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
