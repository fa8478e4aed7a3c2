//! What survives the master: records by key, in one file that a crash doesn't harm.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ingle_core::master::{Action, Key, Record};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records-5");

/// The store.
pub struct Store(Database);

impl Store {
    /// Opens it, or makes it.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| {
            format!(
                "the master's state in {}: {e}; choose another folder with --dir",
                dir.display()
            )
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(&e))?;
        let database = Database::create(dir.join("master.redb")).map_err(|e| failed(&e))?;
        Ok(Self(database))
    }

    /// All records. One that can't be read is left out, and said.
    pub fn load(&self) -> Result<Vec<Record>, String> {
        let failed = |e: redb::Error| format!("reading the master's state: {e}");
        let read = self.0.begin_read().map_err(|e| failed(e.into()))?;
        let table = match read.open_table(RECORDS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table.map_err(|e| failed(e.into()))?,
        };
        let mut records = Vec::new();
        for entry in table.iter().map_err(|e| failed(e.into()))? {
            let (key, value) = entry.map_err(|e| failed(e.into()))?;
            match postcard::from_bytes(value.value()) {
                Ok(record) => records.push(record),
                Err(error) => tracing::error!("the record {} is unreadable: {error}", key.value()),
            }
        }
        Ok(records)
    }

    /// Stores what the actions say, all or nothing; returns once it is on disk.
    pub fn apply(&self, actions: &[Action]) -> Result<(), String> {
        let failed = |e: redb::Error| format!("writing the master's state: {e}");
        let write = self.0.begin_write().map_err(|e| failed(e.into()))?;
        {
            let mut table = write.open_table(RECORDS).map_err(|e| failed(e.into()))?;
            for action in actions {
                match action {
                    Action::Persist(record) => {
                        let value = postcard::to_allocvec(record).map_err(|e| e.to_string())?;
                        let key = name(record.key());
                        table.insert(&*key, &*value).map_err(|e| failed(e.into()))?;
                    }
                    Action::Forget(key) => {
                        table.remove(&*name(*key)).map_err(|e| failed(e.into()))?;
                    }
                    _ => {}
                }
            }
        }
        write.commit().map_err(|e| failed(e.into()))
    }
}

/// Names sort as they were given.
fn name(key: Key) -> String {
    match key {
        Key::Numbers => "numbers".into(),
        Key::Worker(id) => format!("worker-{:010}", id.0),
        Key::App(id) => id.to_string(),
        Key::Driver(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ingle_core::ids::WorkerId;

    use super::*;

    #[test]
    fn what_was_stored_is_there_after_a_restart_and_what_was_forgotten_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let worker = |id| Record::Worker {
            id: WorkerId(id),
            address: "a:1".into(),
            cores: 2,
            memory: 3,
            instance: 4,
            draining: false,
        };
        let numbers = Record::Numbers { workers: 2, names: 7 };
        let store = Store::open(dir.path()).unwrap();
        assert!(store.load().unwrap().is_empty());
        let all = [numbers.clone(), worker(1), worker(2)].map(Action::Persist);
        store.apply(&all).unwrap();
        store.apply(&[Action::Forget(Key::Worker(WorkerId(1)))]).unwrap();
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().load().unwrap(), [numbers, worker(2)]);
    }

    #[test]
    fn two_masters_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        assert!(Store::open(dir.path()).err().unwrap().contains("--dir"));
    }
}
