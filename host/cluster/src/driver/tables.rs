//! Where shuffle outputs are, as executors are told: all of a stage's once, and then what changed. Encoded once for all that are told
//! the same, however many they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use ingle_core::ids::{ExecutorId, StageId};
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::map_outputs::Maker;

use crate::protocol::Home;

/// An output: its attempt, and who made it.
type Row = (u32, ExecutorId);

/// The tables of all stages.
#[derive(Default)]
pub struct Tables(HashMap<StageId, Table>);

/// Where a stage's outputs are.
#[derive(Default)]
struct Table {
    /// The scheduler's number of this state.
    version: u64,
    /// By task.
    rows: Vec<Row>,
    /// All of it as a message, once anybody wanted that.
    whole: Option<Bytes>,
    /// What it was before, and the tasks whose outputs have changed since then until the next; the oldest first.
    changes: VecDeque<(u64, Vec<u32>)>,
    /// All that changed since a version, as a message: mostly, many executors were told the same before.
    since: Option<(u64, Bytes)>,
}

impl Tables {
    /// What to tell an executor of a stage's outputs, which was told of the state `told` before, if anything. `version` is the number of the
    /// state that it is to know: `outputs` gives that, by task, and is looked at only if it is a new one.
    pub fn news(
        &mut self,
        stage: StageId,
        version: u64,
        outputs: impl Iterator<Item = (u32, u32, ExecutorId)>,
        told: Option<u64>,
        homes: &BTreeMap<ExecutorId, Home>,
    ) -> Option<Bytes> {
        let table = self.0.entry(stage).or_default();
        if table.version != version {
            table.update(version, outputs.map(|(_, attempt, executor)| (attempt, executor)));
        }
        if told == Some(version) {
            return None;
        }
        if let Some((since, message)) = &table.since
            && Some(*since) == told
        {
            return Some(message.clone());
        }
        let changed = told.and_then(|told| Some((told, table.changed_since(told)?)));
        let Some((told, changed)) = changed else {
            let whole = || message(stage, table.rows.iter().copied(), None, homes);
            return Some(table.whole.get_or_insert_with(whole).clone());
        };
        if changed.is_empty() {
            return None;
        }
        let rows = changed.iter().filter_map(|task| table.rows.get(*task as usize).copied());
        let message = message(stage, rows, Some(&changed), homes);
        table.since = Some((told, message.clone()));
        Some(message)
    }

    /// Nobody reads a stage's outputs any more.
    pub fn forget(&mut self, stage: StageId) {
        self.0.remove(&stage);
    }
}

impl Table {
    fn update(&mut self, version: u64, rows: impl Iterator<Item = Row>) {
        let rows: Vec<_> = rows.collect();
        let pairs = (0..).zip(self.rows.iter().zip(&rows));
        let changed: Vec<u32> =
            pairs.filter(|(_, (old, new))| old != new).map(|(task, _)| task).collect();
        if self.rows.len() == rows.len() {
            self.changes.push_back((self.version, changed));
        } else {
            self.changes.clear();
        }
        (self.version, self.rows, self.whole, self.since) = (version, rows, None, None);
        // Beyond that, all of it isn't much more.
        let mut kept: usize = self.changes.iter().map(|(_, changed)| 1 + changed.len()).sum();
        while kept > self.rows.len() / 2
            && let Some((_, changed)) = self.changes.pop_front()
        {
            kept -= 1 + changed.len();
        }
    }

    /// The tasks whose outputs have changed since a version, in order; none if that isn't known any more.
    fn changed_since(&self, version: u64) -> Option<Vec<u32>> {
        let from = self.changes.iter().position(|(before, _)| *before == version)?;
        let changes = self.changes.range(from..).flat_map(|(_, changed)| changed.iter().copied());
        Some(changes.collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// All rows of a table, or those of some tasks.
fn message(
    stage: StageId,
    rows: impl Iterator<Item = Row>,
    tasks: Option<&[u32]>,
    homes: &BTreeMap<ExecutorId, Home>,
) -> Bytes {
    let mut message = v1::MapOutputs { stage: stage.0, ..v1::MapOutputs::default() };
    let mut places = BTreeMap::new();
    for (attempt, executor) in rows {
        let place = *places.entry(executor).or_insert_with(|| {
            let home = homes.get(&executor);
            message.makers.push(Maker {
                executor: executor.0,
                worker: home.map(|home| home.address.clone()).unwrap_or_default(),
                worker_id: home.map_or(0, |home| home.worker.0),
            });
            message.makers.len() as u32 - 1
        });
        message.maker.push(place);
        message.attempt.push(attempt);
    }
    if message.attempt.iter().all(|attempt| *attempt == 0) {
        message.attempt.clear();
    }
    message.task = tasks.unwrap_or_default().to_vec();
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use ingle_core::ids::WorkerId;

    use super::*;

    const STAGE: StageId = StageId(3);

    /// So many executors, each on a worker of its own.
    fn homes(count: u32) -> BTreeMap<ExecutorId, Home> {
        let home = |id| Home { worker: WorkerId(id), address: format!("host-{id}:7078") };
        (0..count).map(|id| (ExecutorId(id), home(id))).collect()
    }

    /// What an executor believes, which does what messages say.
    #[derive(Default)]
    struct Reader {
        told: Option<u64>,
        rows: Vec<Row>,
        bytes: usize,
    }

    impl Reader {
        fn looks(&mut self, tables: &mut Tables, version: u64, rows: &[Row]) {
            let outputs = (0..).zip(rows).map(|(task, row)| (task, row.0, row.1));
            let news = tables.news(STAGE, version, outputs, self.told, &homes(8));
            self.told = Some(version);
            if let Some(news) = news {
                self.bytes += news.len();
                self.hears(&v1::MapOutputs::decode(news).unwrap());
            }
            assert_eq!(self.rows, rows);
        }

        fn hears(&mut self, message: &v1::MapOutputs) {
            for (at, maker) in message.maker.iter().enumerate() {
                let attempt = message.attempt.get(at).copied().unwrap_or(0);
                let row = (attempt, ExecutorId(message.makers[*maker as usize].executor));
                match message.task.get(at) {
                    Some(task) => self.rows[*task as usize] = row,
                    None if at < self.rows.len() => self.rows[at] = row,
                    None => self.rows.push(row),
                }
            }
        }
    }

    #[test]
    fn whoever_looks_whenever_knows_all_and_is_told_little() {
        let mut tables = Tables::default();
        let mut rows: Vec<Row> = (0..1000).map(|task| (0, ExecutorId(task % 8))).collect();
        let mut readers: Vec<_> = (0..10).map(|_| Reader::default()).collect();
        let mut number = 7u32;
        let mut random = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number >> 16
        };
        let mut version = 1000;
        for _ in 0..200 {
            for _ in 0..random() % 20 {
                let row = &mut rows[random() as usize % 1000];
                *row = (row.0 + 1, ExecutorId(random() % 8));
            }
            version += u64::from(random() % 3);
            version += 1;
            for reader in &mut readers {
                if random() % 4 == 0 {
                    reader.looks(&mut tables, version, &rows);
                }
            }
        }
        let often = readers[0].bytes;
        let mut fresh = Reader::default();
        fresh.looks(&mut tables, version, &rows);
        println!("{often} bytes for who looked often, {} for all", fresh.bytes);
        assert!(often < 8 * fresh.bytes);
        let kept: usize = tables.0[&STAGE].changes.iter().map(|(_, tasks)| tasks.len()).sum();
        assert!(kept <= 500, "{kept} changes are kept");
        tables.forget(STAGE);
        fresh.told = None;
        fresh.looks(&mut tables, version + 1, &rows);
    }

    #[test]
    fn who_was_told_the_same_shares_its_message() {
        let mut tables = Tables::default();
        let mut rows: Vec<_> = (0..100).map(|task| (task, 0, ExecutorId(task % 8))).collect();
        let mut news = |version, told, rows: &[(u32, u32, ExecutorId)]| {
            tables.news(STAGE, version, rows.iter().copied(), told, &homes(8))
        };
        let first = news(5, None, &rows).unwrap();
        assert_eq!(first.as_ptr(), news(5, None, &rows).unwrap().as_ptr());
        assert_eq!(news(5, Some(5), &rows), None);
        rows[9].1 = 1;
        let change = news(7, Some(5), &rows).unwrap();
        assert_eq!(change.as_ptr(), news(7, Some(5), &rows).unwrap().as_ptr());
        assert!(change.len() < first.len() / 2, "{} of {}", change.len(), first.len());
        assert!(news(7, Some(4), &rows).unwrap().len() >= first.len(), "of that nobody knows");
    }
}
