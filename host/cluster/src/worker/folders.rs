//! A worker's folder: applications' data, components and their compiled code, and logs.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{disk, rotated, users};
use crate::prune;

/// Applications and drivers whose logs are kept, the latest.
const LOGS: usize = 200;
/// The longest name of an application or a driver.
const MAX_ID: usize = 64;

/// The folder of one worker. No two workers share one.
pub struct Folders {
    root: PathBuf,
    applications: Mutex<BTreeSet<String>>,
    _lock: File,
}

impl Folders {
    /// Opens it, and removes what an earlier worker's applications left.
    pub fn open(root: &Path) -> Result<Self, String> {
        let failed = |path: &Path, e| {
            format!("{}: {e}; choose another folder with --work-dir", path.display())
        };
        make(root).map_err(|e| failed(root, e))?;
        let lock = root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(|e| failed(&lock, e))?;
        file.try_lock().map_err(|_| {
            format!("another worker uses {}; give this one another --work-dir", root.display())
        })?;
        let this = Self { root: root.to_owned(), applications: Mutex::default(), _lock: file };
        for left in ["apps", "spill"].map(|dir| this.root.join(dir)) {
            if left.exists() {
                fs::remove_dir_all(&left).map_err(|e| failed(&left, e))?;
            }
        }
        for dir in ["apps", "components", "code", "logs", "spill"] {
            let dir = this.root.join(dir);
            make(&dir).map_err(|e| failed(&dir, e))?;
        }
        Ok(this)
    }

    /// Lets other users through to what is theirs, which is all in folders of one user each. Components, code and logs stay this worker's.
    pub fn let_users_through(&self) -> Result<(), String> {
        let dirs = [self.root.clone(), self.root.join("apps"), self.root.join("spill")];
        dirs.iter().try_for_each(|dir| users::let_through(dir))
    }

    /// An application's folder, made if need be.
    pub fn application(&self, id: &str) -> Result<PathBuf, String> {
        check(id)?;
        let dir = self.root.join("apps").join(id);
        make(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
        self.applications.lock().insert(id.to_owned());
        Ok(dir)
    }

    /// Where an application's shuffle output is; none if it has nothing here.
    pub fn shuffle(&self, id: &str) -> Option<PathBuf> {
        let known = self.applications.lock().contains(id);
        known.then(|| self.root.join("apps").join(id).join("shuffle"))
    }

    /// What an application has here, in bytes.
    pub fn size(&self, id: &str) -> u64 {
        disk::size(&self.root.join("apps").join(id))
    }

    /// Applications that have something here.
    pub fn applications(&self) -> Vec<String> {
        self.applications.lock().iter().cloned().collect()
    }

    /// An application is over.
    pub fn forget(&self, id: &str) {
        if self.applications.lock().remove(id) {
            remove(&self.root.join("apps").join(id));
        }
    }

    /// The worker is over.
    pub fn remove_all(&self) {
        for id in self.applications() {
            self.forget(&id);
        }
    }

    pub fn components(&self) -> PathBuf {
        self.root.join("components")
    }

    pub fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    fn spill(&self, driver: &str, attempt: u32) -> PathBuf {
        self.root.join("spill").join(format!("{driver}-{attempt}"))
    }

    /// Where a try of a driver puts what doesn't fit into its memory.
    pub fn new_spill(&self, driver: &str, attempt: u32) -> Result<PathBuf, String> {
        check(driver)?;
        let dir = self.spill(driver, attempt);
        make(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
        Ok(dir)
    }

    /// That try is over, however it ended.
    pub fn forget_spill(&self, driver: &str, attempt: u32) {
        if check(driver).is_ok() {
            remove(&self.spill(driver, attempt));
        }
    }

    /// Where an application's or a driver's logs are, made if need be; the oldest of the others go.
    pub fn new_logs(&self, id: &str) -> Result<PathBuf, String> {
        check(id)?;
        let dir = self.root.join("logs").join(id);
        if !dir.exists() {
            make(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
            prune::oldest(&self.root.join("logs"), LOGS, |dir| remove(&dir));
        }
        Ok(dir)
    }

    /// Removes logs of what ended, if they take too much, with logs of `size` each. `runs` is asked for what by its application's name and its
    /// own, and for the application by an empty one.
    pub fn bound_logs(&self, size: u64, runs: impl Fn(&str, &str) -> bool) {
        rotated::bound(&self.root.join("logs"), size, runs);
    }

    /// Applications and drivers that have any, the latest first.
    pub fn all_logs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("logs")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<_> = names.filter(|name| check(name).is_ok()).collect();
        // What stands behind what they are is when.
        ids.sort_by(|a, b| b.split_once('-').map(|p| p.1).cmp(&a.split_once('-').map(|p| p.1)));
        ids
    }

    /// Where they are, if there are any.
    pub fn logs(&self, id: &str) -> Option<PathBuf> {
        check(id).ok()?;
        Some(self.root.join("logs").join(id)).filter(|dir| dir.is_dir())
    }
}

/// A name that is a name, and no way out of a folder.
fn check(id: &str) -> Result<(), String> {
    let is_sound = !id.is_empty()
        && id.len() <= MAX_ID
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if is_sound { Ok(()) } else { Err("that is no id of an application or a driver".into()) }
}

fn make(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("{} could not be removed: {error}", dir.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_application_had_goes_with_it_and_its_logs_stay() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let dir = folders.application("app-1").unwrap();
        fs::write(dir.join("data"), "x").unwrap();
        let logs = folders.new_logs("app-1").unwrap();
        assert_eq!(folders.applications(), ["app-1"]);
        assert!(folders.shuffle("app-1").is_some() && folders.shuffle("app-2").is_none());
        folders.forget("app-1");
        assert!(!dir.exists() && logs.exists() && folders.applications().is_empty());
    }

    #[test]
    fn a_folder_is_one_workers_and_starts_clean() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let dir = folders.application("app-1").unwrap();
        assert!(Folders::open(root.path()).err().unwrap().contains("--work-dir"));
        drop(folders);
        Folders::open(root.path()).unwrap();
        assert!(!dir.exists(), "an earlier worker's");
    }

    #[test]
    fn what_a_driver_spilled_goes_with_it_or_with_its_worker() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let dirs = [0, 1].map(|attempt| folders.new_spill("driver-1", attempt).unwrap());
        dirs.iter().for_each(|dir| fs::write(dir.join("data"), "x").unwrap());
        folders.forget_spill("driver-1", 0);
        assert!(!dirs[0].exists() && dirs[1].exists());
        drop(folders);
        Folders::open(root.path()).unwrap();
        assert!(!dirs[1].exists(), "an earlier worker's");
    }

    #[test]
    fn no_id_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        for id in ["", "..", "../x", "a/b", "A", &"x".repeat(100)] {
            assert!(folders.application(id).is_err() && folders.new_logs(id).is_err(), "{id}");
            assert!(folders.new_spill(id, 0).is_err(), "{id}");
            assert!(folders.logs(id).is_none());
        }
    }

    #[test]
    fn only_so_many_logs_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        for i in 0..LOGS + 3 {
            folders.new_logs(&format!("app-{i}")).unwrap();
        }
        assert_eq!(fs::read_dir(root.path().join("logs")).unwrap().count(), LOGS);
        assert_eq!(folders.all_logs().len(), LOGS);
    }

    #[test]
    fn the_latest_logs_are_named_first() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        for id in ["app-2-1", "driver-1-1", "app-3-1"] {
            folders.new_logs(id).unwrap();
        }
        fs::write(root.path().join("logs/No id"), "").unwrap();
        assert_eq!(folders.all_logs(), ["app-3-1", "app-2-1", "driver-1-1"]);
    }
}
