//! What an executor in a process of its own tells its driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ingle_blocks::BlockStore;
use ingle_core::ids::ExecutorId;
use ingle_core::memory::MemoryPool;
use ingle_proto::v1;
use ingle_proto::v1::executor_report::Report;
use ingle_sandbox::{LogSink, Stream};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use crate::driver::{Made, Reports};
use crate::rpc::PIECE;
use crate::{protocol, reported};

/// Reports that wait to be sent, and their bytes; whoever has more to say waits.
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 16 << 20;
/// Reports in one message, and their bytes, about.
pub const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// Results up to this go with the report of their task's end.
const INLINE: usize = 256 << 10;
/// What a change to an accumulator has beside its value.
const UPDATE: usize = 16;
/// How often the driver hears what the executor takes, if tasks don't end more often.
const EVERY: Duration = Duration::from_secs(1);

/// Gathers reports and sends them in batches.
/// A report that waits, and its part of the room for such.
type Waiting = (Report, Option<OwnedSemaphorePermit>);

pub struct Reporter {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    runtime: Handle,
    /// Held back while the executor starts: nobody waits then.
    watched: Mutex<Option<(BlockStore, MemoryPool)>>,
    dropped_lines: AtomicU64,
}

impl Reporter {
    /// A reporter, and the stream of what it sends. Needs a tokio runtime.
    pub fn new() -> (Arc<Self>, ReceiverStream<v1::ExecutorReports>) {
        let (queue, mut reports) = mpsc::channel(WAITING);
        let (send, messages) = mpsc::channel(2);
        let reporter = Arc::new(Self {
            queue,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            runtime: Handle::current(),
            watched: Mutex::default(),
            dropped_lines: AtomicU64::new(0),
        });
        let this = Arc::downgrade(&reporter);
        tokio::spawn(async move {
            let (mut batch, mut told): (Vec<Waiting>, _) = (Vec::new(), None);
            let mut tick = tokio::time::interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let first = tokio::select! {
                    first = reports.recv() => match first {
                        Some(first) => Some(first),
                        None => break,
                    },
                    _ = tick.tick() => None,
                };
                let mut bytes = first.as_ref().map_or(0, |(first, _)| size(first));
                batch.extend(first);
                while batch.len() < BATCH
                    && bytes < BATCH_BYTES
                    && let Ok(next) = reports.try_recv()
                {
                    bytes += size(&next.0);
                    batch.push(next);
                }
                let Some(reporter) = this.upgrade() else { break };
                let (reports, room): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                let message = reporter.message(reports);
                drop(reporter);
                let is_news = !message.reports.is_empty() || message.used != told;
                told = message.used;
                if is_news && send.send(message).await.is_err() {
                    break;
                }
                drop(room);
            }
        });
        (reporter, ReceiverStream::new(messages))
    }

    /// From now on messages say what the executor took.
    pub fn watch(&self, store: BlockStore, pool: MemoryPool) {
        *self.watched.lock() = Some((store, pool));
    }

    fn message(&self, reports: Vec<Report>) -> v1::ExecutorReports {
        let mut reports: Vec<_> =
            reports.into_iter().map(|report| v1::ExecutorReport { report: Some(report) }).collect();
        let dropped = self.dropped_lines.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            reports.push(v1::ExecutorReport { report: Some(Report::DroppedLines(dropped)) });
        }
        v1::ExecutorReports { reports: reported::encode(&reports), used: self.used() }
    }

    fn used(&self) -> Option<v1::ExecutorUse> {
        let watched = self.watched.lock();
        let (store, pool) = watched.as_ref()?;
        Some(protocol::executor_use(pool, store.stats().spilled))
    }

    /// Sends a report, from a thread of the runtime.
    pub fn tell(&self, report: Report) {
        // Only at the start and the end, when nothing waits.
        let _ = self.queue.try_send((report, None));
    }

    /// Waits until all has been taken by the stream.
    pub async fn flush(&self) {
        while self.queue.capacity() < WAITING {
            tokio::task::yield_now().await;
        }
        // What was taken last may not be on its way yet.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    /// Sends a report from a slot, which waits if the driver is slow.
    fn wait(&self, report: Report) {
        // One that is longer than all of it has all of it for itself.
        let bytes = size(&report).min(WAITING_BYTES) as u32;
        let room = self.runtime.block_on(self.room.clone().acquire_many_owned(bytes));
        // Without a driver the process ends soon.
        let _ = self.queue.blocking_send((report, room.ok()));
    }
}

fn size(report: &Report) -> usize {
    match report {
        Report::Part(part) => part.data.len(),
        Report::Ended(end) => {
            let updates = end.updates.iter().map(|update| update.value.len() + UPDATE);
            end.result.as_ref().map_or(0, Vec::len) + updates.sum::<usize>()
        }
        Report::Log(lines) => lines.text.len(),
        _ => 0,
    }
}

impl Reports for Reporter {
    fn ended(&self, _: ExecutorId, ended: Vec<(v1::TaskEnd, Made)>) {
        ended.into_iter().for_each(|(end, made)| self.one_ended(end, made));
    }
}

impl Reporter {
    fn one_ended(&self, mut end: v1::TaskEnd, made: Made) {
        let update = |(accumulator, value)| v1::AccumulatorUpdate { accumulator, value };
        end.updates = made.updates.list.into_iter().map(update).collect();
        if let Some(result) = made.result {
            match result.load() {
                Ok(value) => {
                    let mut rest = &value[..];
                    while rest.len() > INLINE {
                        let (now, later) = rest.split_at(rest.len().min(PIECE));
                        let data = Bytes::copy_from_slice(now);
                        self.wait(Report::Part(v1::ResultPart { task: end.task, data }));
                        rest = later;
                    }
                    end.result = Some(rest.to_vec());
                }
                Err(error) => {
                    let message = format!("its result can't be sent to the driver: {error}");
                    let failed =
                        v1::TaskFailed { message, retryable: true, executor_at_fault: false };
                    end.outcome = Some(v1::task_end::Outcome::Failed(failed));
                }
            }
        }
        self.wait(Report::Ended(end));
    }
}

/// What tasks print: to this process's own streams, which the worker keeps, and to the driver if it wants to show it.
pub struct RemoteLog {
    pub to: Option<Arc<Reporter>>,
}

impl LogSink for RemoteLog {
    fn write(&self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
        match stream {
            Stream::Stdout => std::io::stdout().lock().write_all(bytes)?,
            Stream::Stderr => std::io::stderr().lock().write_all(bytes)?,
        }
        if let Some(reporter) = &self.to {
            let lines = v1::LogLines { stderr: stream == Stream::Stderr, text: bytes.to_vec() };
            // A task needn't wait for a terminal far away.
            if reporter.queue.try_send((Report::Log(lines), None)).is_err() {
                reporter.dropped_lines.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio_stream::StreamExt;

    use super::*;
    use crate::reported::Reported;

    #[test]
    fn what_waits_for_a_slow_driver_is_bounded_by_its_bytes() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (reporter, mut messages) = runtime.block_on(async { Reporter::new() });
        let told = Arc::new(AtomicUsize::new(0));
        const PARTS: usize = 100;
        let slot = std::thread::spawn({
            let (reporter, told) = (reporter.clone(), told.clone());
            move || {
                for at in 0..PARTS {
                    let data = Bytes::from(vec![at as u8; PIECE]);
                    reporter.wait(Report::Part(v1::ResultPart { task: None, data }));
                    told.fetch_add(1, Ordering::Release);
                }
                // One that is longer than the room there is.
                let data = Bytes::from(vec![0; WAITING_BYTES + 1]);
                reporter.wait(Report::Part(v1::ResultPart { task: None, data }));
            }
        });
        // Two messages wait for the driver and one for these, of 4 MiB each or a little more.
        let most = (WAITING_BYTES + 3 * (BATCH_BYTES + PIECE)) / PIECE;
        let mut came = 0;
        while told.load(Ordering::Acquire) < WAITING_BYTES / PIECE {
            std::thread::yield_now();
        }
        // Time for more of them, if nothing held them.
        std::thread::sleep(Duration::from_millis(100));
        runtime.block_on(async {
            while came <= PARTS {
                let waiting = told.load(Ordering::Acquire).saturating_sub(came);
                assert!(waiting <= most, "{waiting} wait");
                let message = messages.next().await.unwrap();
                for report in Reported::new(message.reports) {
                    let Some(Report::Part(part)) = report.unwrap().report else { panic!("a part") };
                    assert!(came == PARTS || part.data.iter().all(|byte| *byte == came as u8));
                    came += 1;
                }
                tokio::task::yield_now().await;
            }
        });
        slot.join().unwrap();
    }
}
