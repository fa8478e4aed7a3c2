//! Users of a worker's processes: one for each application and each driver, if root started the worker and named some.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use parking_lot::Mutex;

/// Numbers of users and of groups, as FIRST-LAST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    first: u32,
    last: u32,
}

/// The highest; the next one means nobody in particular.
const MOST: u32 = u32::MAX - 1;

impl FromStr for UserRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.trim().parse::<u32>().ok();
        let range = text.split_once('-').and_then(|(f, l)| Some((parse(f)?, parse(l)?)));
        match range {
            Some((first, last)) if first > 0 && first <= last && last <= MOST => {
                Ok(Self { first, last })
            }
            _ => Err(format!(
                "`{text}` isn't FIRST-LAST, two numbers of users from 1 to {MOST}, as 200000-200999"
            )),
        }
    }
}

impl fmt::Display for UserRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl UserRange {
    /// Whether they are nobody's so far, and can reach the folder where the worker keeps everything. The error is for whoever started it.
    pub fn check(&self, work_dir: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can start a worker that gives its processes other users".into());
        }
        for file in ["/etc/passwd", "/etc/group"] {
            let listed = fs::read_to_string(file).unwrap_or_default();
            if let Some((name, number)) = self.taken(&listed) {
                return Err(format!("{number} is `{name}` in {file}; choose others"));
            }
        }
        reachable(work_dir)
    }

    /// One of those that are listed, as /etc/passwd does.
    fn taken<'a>(&self, listed: &'a str) -> Option<(&'a str, u32)> {
        let read = |line: &'a str| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, fields.nth(1)?.parse().ok()?))
        };
        let mut all = listed.lines().filter_map(read);
        all.find(|(_, number)| (self.first..=self.last).contains(number))
    }
}

/// Whether other users get through all folders that a folder really lies in.
fn reachable(work_dir: &Path) -> Result<(), String> {
    let real = fs::canonicalize(work_dir).map_err(|e| format!("{}: {e}", work_dir.display()))?;
    for dir in real.ancestors().skip(1) {
        let meta = fs::metadata(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if meta.mode() & 0o001 == 0 {
            return Err(format!(
                "other users can't get through {} to {}: choose another folder with --work-dir, or `chmod o+x` it",
                dir.display(),
                work_dir.display()
            ));
        }
    }
    Ok(())
}

/// Lets other users through a folder, to what is theirs in it.
pub fn let_through(dir: &Path) -> Result<(), String> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711))
        .map_err(|e| format!("letting other users through {}: {e}", dir.display()))
}

/// Makes a folder a user's.
pub fn give(dir: &Path, user: u32) -> Result<(), String> {
    std::os::unix::fs::chown(dir, Some(user), Some(user))
        .map_err(|e| format!("giving {} to user {user}: {e}", dir.display()))
}

/// Those users, and who has which.
pub struct Users {
    range: UserRange,
    given: Mutex<Given>,
}

struct Given {
    /// Not what was someone's just now, as long as there are others: something of theirs may be left somewhere.
    next: u32,
    of: BTreeMap<String, u32>,
}

impl Users {
    pub fn new(range: UserRange) -> Self {
        Self { range, given: Mutex::new(Given { next: range.first, of: BTreeMap::new() }) }
    }

    /// The user of an application or a driver, from now on until [`Users::free`].
    pub fn of(&self, id: &str) -> Result<u32, String> {
        let UserRange { first, last } = self.range;
        let mut given = self.given.lock();
        if let Some(user) = given.of.get(id) {
            return Ok(*user);
        }
        let taken: std::collections::BTreeSet<u32> = given.of.values().copied().collect();
        let next = given.next;
        let user = (next..=last).chain(first..next).find(|user| !taken.contains(user));
        let user = user.ok_or_else(|| {
            format!(
                "all users of this worker's --executor-uids {} are other applications'; give it more",
                self.range
            )
        })?;
        given.next = if user == last { first } else { user + 1 };
        given.of.insert(id.to_owned(), user);
        Ok(user)
    }

    /// It has no processes and no files any more.
    pub fn free(&self, id: &str) {
        self.given.lock().of.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_from_nonsense() {
        let range: UserRange = "200000-200009".parse().unwrap();
        assert_eq!((range.first, range.last), (200_000, 200_009));
        for wrong in ["", "5", "0-5", "9-5", "1-4294967295", "a-b", "1-2-3", "-5"] {
            let error = wrong.parse::<UserRange>().unwrap_err();
            assert!(error.contains("FIRST-LAST"), "{wrong}: {error}");
        }
    }

    #[test]
    fn users_that_somebody_is_are_not_taken() {
        let range: UserRange = "100-200".parse().unwrap();
        let listed = "root:x:0:0:root:/root:/bin/sh\nnonsense\nmail:x:150:8::/:/x\n";
        assert_eq!(range.taken(listed), Some(("mail", 150)));
        assert_eq!("151-200".parse::<UserRange>().unwrap().taken(listed), None);
    }

    #[test]
    fn a_folder_that_others_cannot_reach_is_told_however_it_is_named() {
        let place = tempfile::tempdir_in(".").unwrap();
        let (closed, dir) = (place.path().join("closed"), place.path().join("closed/work"));
        fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink(fs::canonicalize(&dir).unwrap(), place.path().join("link"))
            .unwrap();
        let open = |dir: &Path, mode| {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        };
        open(place.path(), 0o755);
        open(&closed, 0o700);
        let here = fs::canonicalize(".").unwrap();
        let of = fs::canonicalize(place.path()).unwrap();
        let relative = of.strip_prefix(here).unwrap();
        for named in ["closed/work", "link"] {
            let why = reachable(&relative.join(named)).unwrap_err();
            assert!(why.contains("/closed to ") && why.contains("--work-dir"), "{why}");
        }
        open(&closed, 0o711);
        // What this repository lies in may be closed.
        let others = reachable(&relative.join("closed/work")).err().unwrap_or_default();
        assert!(!others.contains("/closed to "), "{others}");
    }

    #[test]
    fn each_has_one_of_its_own_and_none_comes_again_soon() {
        let users = Users::new("10-12".parse().unwrap());
        assert_eq!(users.of("a"), Ok(10));
        assert_eq!(users.of("b"), Ok(11));
        assert_eq!(users.of("a"), Ok(10));
        users.free("a");
        assert_eq!(users.of("c"), Ok(12));
        assert_eq!(users.of("d"), Ok(10));
        let none = users.of("e").unwrap_err();
        assert!(none.contains("--executor-uids 10-12"), "{none}");
        users.free("b");
        assert_eq!(users.of("e"), Ok(11));
    }
}
