//! A worker's folder: applications' data, components and their compiled code, and logs.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::{rotated, users};
use crate::prune;
use ingle_blocks::trees;

/// Applications and drivers whose logs are kept, the latest.
const LOGS: usize = 200;
/// The longest name of an application or a driver.
const MAX_ID: usize = 64;
/// What is in these is removed when a worker starts, and when it ends.
const PASSING: [&str; 2] = ["apps", "spill"];
/// How long a worker that ends spends with that. The next one removes the rest.
const TIDYING: Duration = Duration::from_secs(10);

/// The folder of one worker. No two workers share one.
pub struct Folders {
    root: PathBuf,
    applications: Mutex<BTreeSet<String>>,
    /// A name for what is set aside next.
    aside: AtomicU64,
    /// The worker is over: what isn't removed stays.
    ended: AtomicBool,
    _lock: File,
}

impl Folders {
    /// Opens it, and sets aside what an earlier worker's applications left: nothing that they did keeps this one from starting.
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
        let this = Self {
            root: root.to_owned(),
            applications: Mutex::default(),
            aside: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            _lock: file,
        };
        let removed = this.removed();
        if let Err(error) = make(&removed) {
            // What is left is removed where it is.
            tracing::warn!("{}: {error}", removed.display());
        }
        for left in PASSING.map(|dir| this.root.join(dir)) {
            // One that can't be moved, as what is mounted there, is emptied where it is.
            let left = this.set_aside(&left).unwrap_or(left);
            if left.parent() == Some(root) {
                this.remove(left);
            }
        }
        for dir in ["apps", "components", "code", "logs", "spill"] {
            let dir = this.root.join(dir);
            let made = make(&dir).or_else(|_| {
                // A full disk may be full of what is left.
                this.remove_left();
                make(&dir)
            });
            made.map_err(|e| failed(&dir, e))?;
        }
        Ok(this)
    }

    /// Where what is to be removed lies until it is. Nobody but this worker gets there.
    fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// Takes something away from where it is. The error: it is still there.
    fn set_aside(&self, path: &Path) -> Result<PathBuf, Errno> {
        loop {
            let name = self.aside.fetch_add(1, Ordering::Relaxed).to_string();
            let aside = self.removed().join(name);
            match rustix::fs::rename(path, &aside) {
                Ok(()) => return Ok(aside),
                Err(Errno::NOENT) => return Ok(path.to_owned()),
                // An earlier worker's.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes something; gives it back if it, or a part of it, can't be removed.
    fn remove(&self, path: PathBuf) -> Option<PathBuf> {
        match trees::remove(&path, &|| !self.ended.load(Ordering::Relaxed)) {
            Ok(()) => None,
            Err(error) => {
                if !self.ended.load(Ordering::Relaxed) {
                    tracing::warn!("{} could not be removed: {error}", path.display());
                }
                Some(path)
            }
        }
    }

    /// Removes something that others may have filled, out of their sight. Gives what stays, for [`Folders::remove_again`].
    fn dispose(&self, path: PathBuf) -> Option<PathBuf> {
        let aside = self.set_aside(&path);
        self.remove(aside.unwrap_or(path))
    }

    /// Tries once more to remove what couldn't be removed.
    pub fn remove_again(&self, left: PathBuf) -> Option<PathBuf> {
        self.remove(left)
    }

    /// Removes what was set aside, also by earlier workers.
    pub fn remove_left(&self) {
        for left in fs::read_dir(self.removed()).into_iter().flatten().flatten() {
            self.remove(left.path());
        }
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

    /// The folder of an application that has something here.
    pub fn of_application(&self, id: &str) -> PathBuf {
        self.root.join("apps").join(id)
    }

    /// Applications that have something here.
    pub fn applications(&self) -> Vec<String> {
        self.applications.lock().iter().cloned().collect()
    }

    /// An application is over. Gives what couldn't be removed.
    pub fn forget(&self, id: &str) -> Option<PathBuf> {
        let known = self.applications.lock().remove(id);
        known.then(|| self.dispose(self.of_application(id))).flatten()
    }

    /// The worker is over. It doesn't take long: the next worker removes what is left.
    pub fn remove_all(&self) {
        let until = Instant::now() + TIDYING;
        self.applications.lock().clear();
        let may_go_on = || Instant::now() < until;
        for dir in PASSING {
            let dir = self.root.join(dir);
            let aside = self.set_aside(&dir);
            // Where that was isn't told any more; what is left is the next worker's.
            let _ = trees::remove(aside.as_deref().unwrap_or(&dir), &may_go_on);
        }
        for left in fs::read_dir(self.removed()).into_iter().flatten().flatten() {
            let _ = trees::remove(&left.path(), &may_go_on);
        }
        // Those who remove something now stop as well.
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn components(&self) -> PathBuf {
        self.root.join("components")
    }

    pub fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    /// Where a try of a driver puts what doesn't fit into its memory.
    pub fn spill(&self, driver: &str, attempt: u32) -> PathBuf {
        self.root.join("spill").join(format!("{driver}-{attempt}"))
    }

    /// As [`Folders::spill`], made.
    pub fn new_spill(&self, driver: &str, attempt: u32) -> Result<PathBuf, String> {
        check(driver)?;
        let dir = self.spill(driver, attempt);
        make(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
        Ok(dir)
    }

    /// That try is over, however it ended. Gives what couldn't be removed.
    pub fn forget_spill(&self, driver: &str, attempt: u32) -> Option<PathBuf> {
        check(driver).ok()?;
        self.dispose(self.spill(driver, attempt))
    }

    /// Where an application's or a driver's logs are, made if need be; the oldest of the others go, but for those of what `runs`.
    pub fn new_logs(&self, id: &str, runs: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
        check(id)?;
        let dir = self.root.join("logs").join(id);
        if !dir.exists() {
            make(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
            let runs = |dir: &Path| dir.file_name().and_then(|id| id.to_str()).is_some_and(&runs);
            // Written by this worker alone.
            prune::oldest(&self.root.join("logs"), LOGS, |dir| {
                if !runs(&dir) {
                    self.remove(dir);
                }
            });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::nests::{nest, place};

    #[test]
    fn what_an_application_had_goes_with_it_and_its_logs_stay() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let dir = folders.application("app-1").unwrap();
        fs::write(dir.join("data"), "x").unwrap();
        let logs = folders.new_logs("app-1", |_| false).unwrap();
        assert_eq!(folders.applications(), ["app-1"]);
        assert!(folders.shuffle("app-1").is_some() && folders.shuffle("app-2").is_none());
        assert_eq!(folders.forget("app-1"), None);
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
        assert_eq!(folders.forget_spill("driver-1", 0), None);
        assert!(!dirs[0].exists() && dirs[1].exists());
        drop(folders);
        Folders::open(root.path()).unwrap();
        assert!(!dirs[1].exists(), "an earlier worker's");
    }

    #[test]
    fn what_a_broken_out_executor_nested_keeps_no_worker_from_starting() {
        let root = place();
        let folders = Folders::open(root.path()).unwrap();
        let removed = || fs::read_dir(root.path().join("removed")).unwrap().count();
        for id in ["app-1", "app-2"] {
            nest(&folders.application(id).unwrap(), 20_000);
        }
        assert_eq!(folders.forget("app-1"), None);
        assert_eq!(removed(), 0);
        drop(folders);
        let folders = Folders::open(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path().join("apps")).unwrap().count(), 0);
        assert!(removed() > 0, "it is removed later");
        folders.remove_left();
        assert_eq!(removed(), 0);
        nest(&folders.application("app-3").unwrap(), 20_000);
        folders.new_spill("driver-1", 0).unwrap();
        folders.remove_all();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 5, "lock, and what stays");
    }

    #[test]
    fn what_cannot_be_removed_is_given_back() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        // A folder that is none.
        fs::write(root.path().join("file"), "").unwrap();
        let left = folders.remove_again(root.path().join("file/below")).unwrap();
        fs::remove_file(root.path().join("file")).unwrap();
        assert_eq!(folders.remove_again(left), None);
    }

    #[test]
    fn no_id_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        for id in ["", "..", "../x", "a/b", "A", &"x".repeat(100)] {
            assert!(
                folders.application(id).is_err() && folders.new_logs(id, |_| false).is_err(),
                "{id}"
            );
            assert!(folders.new_spill(id, 0).is_err(), "{id}");
            assert!(folders.logs(id).is_none());
        }
    }

    #[test]
    fn only_so_many_logs_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let runs = |id: &str| id == "app-1";
        for i in 0..LOGS + 3 {
            folders.new_logs(&format!("app-{i}"), runs).unwrap();
        }
        // One of what runs stays beside the latest.
        assert_eq!(fs::read_dir(root.path().join("logs")).unwrap().count(), LOGS + 1);
        assert_eq!(folders.all_logs().len(), LOGS + 1);
        assert!(folders.logs("app-1").is_some() && folders.logs("app-0").is_none());
    }

    #[test]
    fn the_latest_logs_are_named_first() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        for id in ["app-2-1", "driver-1-1", "app-3-1"] {
            folders.new_logs(id, |_| false).unwrap();
        }
        fs::write(root.path().join("logs/No id"), "").unwrap();
        assert_eq!(folders.all_logs(), ["app-3-1", "app-2-1", "driver-1-1"]);
    }
}
