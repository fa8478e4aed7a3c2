//! How long a task may run, and what becomes of one that was told to stop.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a task that was told to stop may take to, in its own code.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// And in its host's, which may wait for a slow disk or store, and ends the task when it comes back.
pub const HOST_PATIENCE: Duration = Duration::from_secs(30);

/// How long one try of a task may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskTime {
    /// From its beginning to its end.
    pub wall: Option<Duration>,
    /// Of its slot's processor.
    pub processor: Option<Duration>,
}

/// What a running task took so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub wall: Duration,
    /// None: it can't be told.
    pub processor: Option<Duration>,
}

/// More than a task may take, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess(pub String);

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TaskTime {
    /// Whether any time is bounded.
    pub fn is_bounded(&self) -> bool {
        self.wall.is_some() || self.processor.is_some()
    }

    /// How often to look, so that nobody gets much more.
    pub fn period(&self) -> Option<Duration> {
        let least = self.wall.into_iter().chain(self.processor).min()?;
        Some((least / 20).clamp(Duration::from_millis(10), Duration::from_secs(1)))
    }

    /// Whether a task took more than it may.
    pub fn judge(&self, taken: Taken) -> Result<(), Excess> {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        if let Some(most) = self.wall
            && taken.wall > most
        {
            let (took, most) = (seconds(taken.wall), seconds(most));
            return Err(Excess(format!(
                "it ran for {took}, longer than ingle.task.timeout allows, {most}; raise that, or use more partitions"
            )));
        }
        match (self.processor, taken.processor) {
            (Some(most), Some(took)) if took > most => {
                let (took, most) = (seconds(took), seconds(most));
                Err(Excess(format!(
                    "it took {took} of processor time, more than ingle.task.cpuTimeout allows, {most}; raise that, or use \
                     more partitions"
                )))
            }
            (Some(_), None) => Err(Excess(
                "its processor time can't be read on this machine, and ingle.task.cpuTimeout bounds it; leave that out"
                    .into(),
            )),
            _ => Ok(()),
        }
    }
}

/// A task that was told to stop.
#[derive(Clone, Copy, Debug)]
pub struct Stopping {
    /// When it was told.
    since: Instant,
    /// When it was last seen in its host, or told.
    quiet: Instant,
}

/// Why one that was told to stop won't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// It calls nothing.
    Silent,
    /// Its host doesn't come back.
    InHost,
}

impl Stopping {
    pub fn new(now: Instant) -> Self {
        Self { since: now, quiet: now }
    }

    /// Whether it is to be given up: asked as long as it runs.
    pub fn look(&mut self, now: Instant, in_host: bool) -> Option<Stuck> {
        if in_host {
            self.quiet = now;
            let waited = now.saturating_duration_since(self.since);
            return (waited >= HOST_PATIENCE).then_some(Stuck::InHost);
        }
        let silent = now.saturating_duration_since(self.quiet);
        (silent >= PATIENCE).then_some(Stuck::Silent)
    }
}

/// The processor time of a thread, for others to read.
#[derive(Debug)]
pub struct ThreadClock(File);

impl ThreadClock {
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/schedstat").map(Self)
    }

    /// What the thread took since it began, but for the last milliseconds. None: it is gone, or the kernel doesn't say.
    pub fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(wall: u32, processor: u32) -> Taken {
        Taken { wall: SECOND * wall, processor: Some(SECOND * processor) }
    }

    #[test]
    fn each_time_has_its_own_bound_and_words() {
        let none = TaskTime::default();
        assert_eq!((none.judge(taken(9999, 9999)), none.period()), (Ok(()), None));
        let both = TaskTime { wall: Some(SECOND * 10), processor: Some(SECOND * 5) };
        assert_eq!((both.judge(taken(10, 5)), both.period()), (Ok(()), Some(SECOND / 4)));
        let wall = both.judge(taken(12, 1)).unwrap_err().to_string();
        assert!(wall.contains("ran for 12.0 s, longer than ingle.task.timeout allows, 10.0 s"));
        let processor = both.judge(taken(9, 6)).unwrap_err().to_string();
        assert!(processor.contains("6.0 s of processor time") && processor.contains("cpuTimeout"));
    }

    #[test]
    fn processor_time_that_cannot_be_read_is_no_way_out() {
        let bounded = TaskTime { wall: None, processor: Some(SECOND) };
        let unknown = Taken { wall: SECOND, processor: None };
        assert!(bounded.judge(unknown).unwrap_err().to_string().contains("can't be read"));
        assert_eq!(TaskTime { processor: None, ..bounded }.judge(unknown), Ok(()));
    }

    #[test]
    fn one_that_waits_in_its_host_is_given_longer() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut silent = Stopping::new(start);
        assert_eq!(silent.look(after(499), false), None);
        assert_eq!(silent.look(after(500), false), Some(Stuck::Silent));

        let mut waits = Stopping::new(start);
        assert_eq!(waits.look(after(10_000), true), None);
        // It came back just now, and has as long as any other to end.
        assert_eq!(waits.look(after(10_400), false), None);
        assert_eq!(waits.look(after(10_500), false), Some(Stuck::Silent));

        let mut for_ever = Stopping::new(start);
        assert_eq!(for_ever.look(after(29_999), true), None);
        assert_eq!(for_ever.look(after(30_000), true), Some(Stuck::InHost));
    }

    #[test]
    fn a_thread_that_works_is_seen_to_by_others() {
        let clock = ThreadClock::of_this_thread().unwrap();
        let mut n = 0u64;
        while clock.read().unwrap() < Duration::from_millis(20) {
            n = std::hint::black_box(n.wrapping_add(1));
        }
        let other = std::thread::spawn(move || clock.read()).join().unwrap();
        assert!(other.unwrap() >= Duration::from_millis(20), "{n}");
    }
}
