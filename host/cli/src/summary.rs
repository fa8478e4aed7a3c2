//! What a user is told of an application at its end.

use std::fmt::Write;
use std::time::Duration;

use ingle_cluster::{LargestTask, PeakMemory, Totals};
use ingle_core::size::ByteSize;

/// Two lines: what was done, and where the memory went. `capacity` is that of an executor.
pub fn summary(name: &str, wall: Duration, totals: &Totals, capacity: ByteSize) -> String {
    let Totals { tasks, failed, bytes_read, bytes_shuffled, .. } = *totals;
    let failed = match failed {
        0 => String::new(),
        1 => " (1 try failed)".to_owned(),
        n => format!(" ({n} tries failed)"),
    };
    format!(
        "{name}: {:.2} s, {tasks} tasks{failed}, {} read, {} shuffled\n{}",
        wall.as_secs_f64(),
        ByteSize(bytes_read),
        ByteSize(bytes_shuffled),
        memory(totals, capacity),
    )
}

fn memory(totals: &Totals, capacity: ByteSize) -> String {
    let mut line = "memory: ".to_owned();
    // Nothing fails that is written to a string.
    if let Some(PeakMemory { executor, executors, usage }) = &totals.peak {
        let _ = write!(line, "peak {} of {capacity}", ByteSize(usage.total()));
        if *executors > 1 {
            let _ = write!(line, " on {executor}, the most of {executors}");
        }
        if usage.total() > 0 {
            let _ = write!(line, " ({usage})");
        }
        line.push_str(", ");
    }
    if let Some(LargestTask { stage, name, partition, guest }) = &totals.largest {
        let guest = ByteSize(*guest);
        let _ = write!(line, "largest task {guest} ({stage}, {name}, partition {partition}), ");
    }
    let _ = write!(line, "{} spilled", ByteSize(totals.bytes_spilled));
    line
}

#[cfg(test)]
mod tests {
    use ingle_core::ids::{ExecutorId, StageId};
    use ingle_core::memory::{MemoryUse, Usage};

    use super::*;

    const CAPACITY: ByteSize = ByteSize(64 << 20);

    #[test]
    fn an_application_without_executors_took_nothing() {
        let totals = Totals { failed: 1, ..Totals::default() };
        let text = summary("job", Duration::from_millis(1234), &totals, CAPACITY);
        let lines =
            "job: 1.23 s, 0 tasks (1 try failed), 0 B read, 0 B shuffled\nmemory: 0 B spilled";
        assert_eq!(text, lines);
    }

    #[test]
    fn the_second_line_says_where_the_memory_went() {
        let usage = Usage::by(|what| match what {
            MemoryUse::Guest => 10 << 20,
            MemoryUse::Cache => 20 << 20,
            _ => 0,
        });
        let largest =
            LargestTask { stage: StageId(3), name: "sum".into(), partition: 17, guest: 5 << 20 };
        let peak = |executors| Some(PeakMemory { executor: ExecutorId(2), executors, usage });
        let totals = Totals {
            bytes_spilled: 1 << 20,
            peak: peak(1),
            largest: Some(largest),
            ..Totals::default()
        };
        assert_eq!(
            memory(&totals, CAPACITY),
            "memory: peak 30.0 MiB of 64.0 MiB (cached partitions 20.0 MiB, guests 10.0 MiB), largest task 5.0 MiB \
             (stage 3, sum, partition 17), 1.0 MiB spilled"
        );
        let totals = Totals { peak: peak(4), ..totals };
        let text = memory(&totals, CAPACITY);
        assert!(text.contains("of 64.0 MiB on executor 2, the most of 4 (cached"), "{text}");
    }
}
