//! Users of a worker's processes, if root started the worker: one for each application, which the driver on a worker is that it belongs to, and some
//! for what compiles.
//!
//! Which of them that is follows from the number that the master gave it: so it is the same one on all workers whose users are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
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
/// How many of them compile, at the same time.
pub const COMPILERS: u32 = 2;

impl FromStr for UserRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.trim().parse::<u32>().ok();
        let range = text.split_once('-').and_then(|(f, l)| Some((parse(f)?, parse(l)?)));
        match range {
            Some((first, last)) if first > 0 && first < last && last <= MOST => {
                let range = Self { first, last };
                if range.for_applications() == 0 {
                    return Err(format!(
                        "`{text}` has too few users: {COMPILERS} are for what compiles jobs, and each application has one"
                    ));
                }
                Ok(range)
            }
            _ => Err(format!(
                "`{text}` isn't FIRST-LAST, two numbers of users from 1 to {MOST}, as 2010000000-2010099999"
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
    /// The users of what compiles.
    pub fn compilers(self) -> Vec<u32> {
        (self.first..self.first + COMPILERS).collect()
    }

    /// How many are left for applications.
    fn for_applications(self) -> u32 {
        (self.last - self.first + 1).saturating_sub(COMPILERS)
    }

    /// One of an application's, and those after it, all around.
    fn beginning_with(self, number: u32) -> impl Iterator<Item = u32> {
        let (count, first) = (self.for_applications(), self.first + COMPILERS);
        (0..count).map(move |n| {
            let at = (u64::from(number) + u64::from(n)) % u64::from(count.max(1));
            // Less than `count`.
            first + at as u32
        })
    }

    /// Whether they are nobody's so far, run the program, and reach the folder where the worker keeps everything. The error is for whoever started it.
    pub fn check(&self, work_dir: &Path, program: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can start a worker that gives its processes other users".into());
        }
        for file in ["/etc/passwd", "/etc/group"] {
            let listed = fs::read_to_string(file).unwrap_or_default();
            if let Some((name, number)) = self.taken(&listed) {
                return Err(format!("{number} is `{name}` in {file}; choose others"));
            }
        }
        for file in ["/etc/subuid", "/etc/subgid"] {
            let listed = fs::read_to_string(file).unwrap_or_default();
            if let Some((name, first, last)) = self.lent(&listed) {
                return Err(format!(
                    "{first}-{last} are for containers of `{name}` in {file}; choose others"
                ));
            }
        }
        reachable(work_dir)?;
        // In a container there may be fewer users than numbers.
        [self.first, self.last].into_iter().try_for_each(|user| runs(program, user))
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

    /// Those who have some of them for containers of their own, as /etc/subuid lists them.
    fn lent<'a>(&self, listed: &'a str) -> Option<(&'a str, u64, u64)> {
        let read = |line: &'a str| {
            let mut fields = line.split(':');
            let (name, first) = (fields.next()?, fields.next()?.trim().parse::<u64>().ok()?);
            let count = fields.next()?.trim().parse::<u64>().ok()?.checked_sub(1)?;
            Some((name, first, first.checked_add(count)?))
        };
        let mut all = listed.lines().filter_map(read);
        all.find(|(_, first, last)| {
            *first <= u64::from(self.last) && u64::from(self.first) <= *last
        })
    }
}

/// Which users a worker's processes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutorUids {
    /// Of [`USUAL`], if root started it and they can be.
    #[default]
    Usual,
    /// The worker's.
    None,
    /// One of these, whatever stands in the way.
    Of(UserRange),
}

/// Nobody's: they lie above what systemd gives to containers (524288 to 1879048191) and what SSSD gives to a directory's users (200000 to 2000200000), and
/// below what systemd keeps for others' files (from 2147352576).
pub const USUAL: UserRange = UserRange { first: 2_010_000_000, last: 2_139_999_999 };

/// What compiles for root's `rsubmit`: the one before those.
pub const RSUBMITS_COMPILER: u32 = USUAL.first - 1;

impl FromStr for ExecutorUids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::Of).map_err(|why| format!("{why}, nor `none`")),
        }
    }
}

impl ExecutorUids {
    /// Those that they are; or why they are the worker's. The error is for whoever started it.
    pub fn choose(
        self,
        work_dir: &Path,
        program: &Path,
    ) -> Result<Result<UserRange, String>, String> {
        const WORKERS: &str = "they run as this worker's user";
        match self {
            Self::Of(range) => match range.check(work_dir, program) {
                Ok(()) => Ok(Ok(range)),
                Err(why) => Err(format!("--executor-uids {range}: {why}")),
            },
            Self::Usual if rustix::process::geteuid().is_root() => {
                let checked = USUAL.check(work_dir, program);
                Ok(checked.map(|()| USUAL).map_err(|why| format!("{WORKERS}: {why}")))
            }
            Self::Usual | Self::None => Ok(Err(WORKERS.into())),
        }
    }
}

/// Whether a user can run the program of a worker's processes.
fn runs(program: &Path, user: u32) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg("--version").current_dir("/").env_clear().uid(user).gid(user);
    let tried = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let why = match tried {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "user {user} can't run {}: {why}; install it where all users reach it, and choose users that this system, or container, has",
        program.display()
    ))
}

/// Whether other users get through all folders that a folder really lies in.
fn reachable(work_dir: &Path) -> Result<(), String> {
    // One that isn't there yet will be the worker's own: what is above counts.
    let there = work_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let real = fs::canonicalize(there).map_err(|e| format!("{}: {e}", there.display()))?;
    for dir in real.ancestors().skip(usize::from(there == work_dir)) {
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
    given: Mutex<BTreeMap<u32, Given>>,
}

/// Whose a user is.
struct Given {
    /// An application, or a driver with those that it made.
    owner: String,
    /// Which of these have something on this worker.
    ids: BTreeSet<String>,
}

impl Users {
    pub fn new(range: UserRange) -> Self {
        Self { range, given: Mutex::default() }
    }

    /// The user of an application or a driver, from now on until [`Users::free`]. `owner` is the driver that it belongs to, if that runs on a worker,
    /// else itself. The error: there is none.
    pub fn of(&self, id: &str, owner: &str) -> Result<u32, String> {
        let mut given = self.given.lock();
        if let Some((user, has)) = given.iter_mut().find(|(_, given)| given.owner == owner) {
            has.ids.insert(id.to_owned());
            return Ok(*user);
        }
        // A master's names end in a number that it never gives again.
        let number = owner.rsplit('-').next().and_then(|number| number.parse().ok());
        let mut from = self.range.beginning_with(number.unwrap_or(0));
        // Those of others may be in use long after them, where there are few.
        let user = from.find(|user| !given.contains_key(user));
        let user = user.ok_or_else(|| {
            format!(
                "all users of this worker's --executor-uids {} are other applications'; give it more",
                self.range
            )
        })?;
        let ids = BTreeSet::from([id.to_owned()]);
        given.insert(user, Given { owner: owner.to_owned(), ids });
        Ok(user)
    }

    /// It has no processes and no files any more.
    pub fn free(&self, id: &str) {
        self.given.lock().retain(|_, given| {
            given.ids.remove(id);
            !given.ids.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_from_nonsense() {
        let range: UserRange = "200000-200009".parse().unwrap();
        assert_eq!((range.first, range.last), (200_000, 200_009));
        for wrong in ["", "5", "0-5", "9-5", "5-5", "1-4294967295", "a-b", "1-2-3", "-5"] {
            let error = wrong.parse::<UserRange>().unwrap_err();
            assert!(error.contains("FIRST-LAST"), "{wrong}: {error}");
        }
        let few = "10-11".parse::<UserRange>().unwrap_err();
        assert!(few.contains("too few"), "{few}");
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
        let later = reachable(&relative.join("closed/later")).unwrap_err();
        assert!(later.contains("/closed to "), "{later}");
        open(&closed, 0o711);
        // What this repository lies in may be closed.
        let others = reachable(&relative.join("closed/work")).err().unwrap_or_default();
        assert!(!others.contains("/closed to "), "{others}");
    }

    #[test]
    fn each_has_one_of_its_own_and_the_same_on_every_worker() {
        let users = || Users::new("10-14".parse().unwrap());
        let (here, there) = (users(), users());
        // The first two compile.
        assert_eq!(here.of("app-20261125071500-0003", "app-20261125071500-0003"), Ok(12));
        let (driver, app) = ("driver-20261125071500-0004", "app-20261125071501-0005");
        assert_eq!(here.of(driver, driver), Ok(13));
        assert_eq!(there.of(app, driver), Ok(13), "its driver's, wherever that is");
        assert_eq!(here.of(app, driver), Ok(13));
        // Whoever would be one that another still is, is the next.
        assert_eq!(here.of("app-x-0007", "app-x-0007"), Ok(14));
        let none = here.of("app-x-0008", "app-x-0008").unwrap_err();
        assert!(none.contains("--executor-uids 10-14"), "{none}");
        here.free(driver);
        assert!(here.of("app-x-0008", "app-x-0008").is_err(), "its application is left");
        here.free(app);
        assert_eq!(here.of("app-x-0008", "app-x-0008"), Ok(13));
        // Another master's, of the same number: they have nothing in common.
        assert_eq!(there.of("driver-y-0004", "driver-y-0004"), Ok(14));
    }

    #[test]
    fn users_of_containers_are_not_taken() {
        let range: UserRange = "100000-200000".parse().unwrap();
        let listed = "nonsense\nal:300000:65536\nbo:165536:65536\n";
        assert_eq!(range.lent(listed), Some(("bo", 165_536, 231_071)));
        let after: UserRange = "231072-299999".parse().unwrap();
        assert_eq!(after.lent(listed), None);
    }

    #[test]
    fn nobody_needs_to_say_which_users() {
        assert_eq!("none".parse(), Ok(ExecutorUids::None));
        assert_eq!("10-19".parse(), Ok(ExecutorUids::Of("10-19".parse().unwrap())));
        let wrong = "some".parse::<ExecutorUids>().unwrap_err();
        assert!(wrong.contains("FIRST-LAST") && wrong.contains("`none`"), "{wrong}");
        let place = tempfile::tempdir().unwrap();
        let choose = |of: ExecutorUids| of.choose(place.path(), Path::new("/bin/true"));
        assert!(choose(ExecutorUids::None).unwrap().is_err());
        // Where they can't be, that is said.
        let closed = place.path().join("closed");
        fs::create_dir_all(closed.join("work")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let (dir, program) = (closed.join("work"), Path::new("/bin/true"));
        let why = ExecutorUids::Usual.choose(&dir, program).unwrap().unwrap_err();
        assert!(why.contains("this worker's user"), "{why}");
        let named = ExecutorUids::Of(USUAL).choose(&dir, program).unwrap_err();
        assert!(named.contains("--executor-uids 2010000000-2139999999: "), "{named}");
    }

    #[test]
    fn the_last_users_of_all_are_not_run_over() {
        let range: UserRange = format!("{}-{MOST}", MOST - 4).parse().unwrap();
        let all: Vec<_> = range.beginning_with(u32::MAX).collect();
        assert_eq!(all, [MOST - 2, MOST - 1, MOST]);
    }
}
