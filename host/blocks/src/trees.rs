//! Folders whose contents somebody else made, who may mean harm: nested without end, closed to everybody, with links that lead elsewhere.
//!
//! Known libraries, and the standard one, remove them by recursion, with a descriptor open for each level: a process that nests deep enough ends
//! whoever tidies up after it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, chmodat, fchmod, fstat, openat, renameat, unlinkat,
};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder in a folder, through no link, and gives its owner leave to list and change it if that lacks it.
pub fn enter(parent: impl AsFd, name: impl Arg + Copy) -> Result<Dir> {
    let open = || openat(&parent, name, FOLDER.union(OFlags::RDONLY), Mode::empty());
    let folder = match open() {
        Err(Errno::ACCESS) => {
            allow(&parent, name)?;
            open()?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(fstat(&folder)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // If it is somebody else's, so is what is in it.
        let _ = fchmod(&folder, mode | Mode::RWXU);
    }
    Dir::new(folder)
}

/// Gives a folder's owner leave to list and change it.
fn allow(parent: impl AsFd, name: impl Arg) -> Result<()> {
    // Held meanwhile: a link that takes its place isn't followed.
    let held = openat(parent, name, FOLDER.union(OFlags::PATH), Mode::empty())?;
    let held_at = format!("/proc/self/fd/{}", held.as_raw_fd());
    chmodat(CWD, held_at, Mode::RWXU, AtFlags::empty())
}

/// The next entry of a folder, but for itself and the one that it is in.
pub fn next(entries: &mut Dir) -> Option<Result<CString>> {
    loop {
        match entries.read()? {
            Err(Errno::INTR) => {}
            Err(error) => return Some(Err(error)),
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Ok(entry) => return Some(Ok(entry.file_name().to_owned())),
        }
    }
}

/// Removes a folder, or a file, with all that is in it, as long as it may go on. What lies in its folders is moved up to it, one by one, and emptied
/// there: however deep they are, that takes two descriptors, no path and no stack. Nobody else may write there. If there is none, that is as good.
pub fn remove(path: &Path, may_go_on: &dyn Fn() -> bool) -> Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Who may remove no file there may still remove a folder.
        Err(Errno::ISDIR | Errno::ACCESS | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = enter(CWD, path)?;
    let mut removal = Removal { top: top.fd()?, next: 0, changed: false, may_go_on };
    loop {
        removal.changed = false;
        let emptied = removal.empty_all();
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was moved up in the meantime, or didn't fit.
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.changed && may_go_on() => {}
            Err(error) => return Err(emptied.err().unwrap_or(error)),
        }
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// Names for what is moved up.
    next: u64,
    /// Anything was removed or moved.
    changed: bool,
    may_go_on: &'a dyn Fn() -> bool,
}

impl Removal<'_> {
    /// Each entry of the top once. The error: of one that stays.
    fn empty_all(&mut self) -> Result<()> {
        let (mut entries, mut all) = (Dir::read_from(self.top)?, Ok(()));
        while let Some(name) = self.next(&mut entries)? {
            all = all.and(self.empty(&name));
        }
        all
    }

    fn next(&self, entries: &mut Dir) -> Result<Option<CString>> {
        if !(self.may_go_on)() {
            return Err(Errno::INTR);
        }
        match next(entries) {
            // A folder that is gone has nothing.
            None | Some(Err(Errno::NOENT)) => Ok(None),
            Some(entry) => entry.map(Some),
        }
    }

    /// Removes an entry of the top: a folder once what is in it is gone, or moved up.
    fn empty(&mut self, name: &CStr) -> Result<()> {
        if self.unlink(self.top, name)? {
            return Ok(());
        }
        let mut entries = match enter(self.top, name) {
            Err(Errno::NOENT) => return Ok(()),
            entered => entered?,
        };
        let mut all = Ok(());
        while let Some(inner) = self.next(&mut entries)? {
            let folder = entries.fd()?;
            let gone = match self.unlink(folder, &inner) {
                Ok(false) => self.move_up(folder, &inner),
                gone => gone.map(|_| ()),
            };
            all = all.and(gone);
        }
        self.unlink(self.top, name).map(|_| ()).and(all)
    }

    /// Removes a file or an empty folder; false: it isn't empty.
    fn unlink(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
        let removed = match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => unlinkat(folder, name, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Ok(()) => {
                self.changed = true;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let mut allowed = false;
        loop {
            let up = format!("{}", self.next);
            match renameat(folder, name, self.top, up) {
                Ok(()) => {
                    self.changed = true;
                    return Ok(());
                }
                Err(Errno::NOENT) => return Ok(()),
                // Something has that name already.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => self.next += 1,
                // Only who may change a folder can move it.
                Err(Errno::ACCESS) if !allowed => {
                    allow(folder, name)?;
                    allowed = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;

    use rustix::fs::mkdirat;
    use rustix::process::{Gid, Uid};

    use super::*;

    /// Where many folders are quickly made and removed, if there is such a place.
    fn place() -> tempfile::TempDir {
        let in_memory = tempfile::tempdir_in("/dev/shm");
        in_memory.or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// Folders in each other, deeper than any path can say, with a file in the last one.
    fn nest(top: &Path, depth: usize, mode: Mode) {
        let name = "x".repeat(200);
        let mut folder: OwnedFd = fs::File::open(top).unwrap().into();
        for _ in 0..depth {
            mkdirat(&folder, &*name, Mode::RWXU).unwrap();
            let inner = openat(&folder, &*name, FOLDER, Mode::empty()).unwrap();
            fchmod(&folder, mode).unwrap();
            folder = inner;
        }
        let file = openat(&folder, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::io::write(file, b"x").unwrap();
    }

    /// As a user who has no rights but those of files' owners.
    fn as_somebody(what: impl FnOnce() + Send) {
        let somebody = move || {
            if rustix::process::geteuid().is_root() {
                // Of this thread only.
                rustix::thread::set_thread_gid(Gid::from_raw(65_534)).unwrap();
                rustix::thread::set_thread_uid(Uid::from_raw(65_534)).unwrap();
            }
            what();
        };
        std::thread::scope(|scope| scope.spawn(somebody).join()).unwrap();
    }

    #[test]
    fn what_is_nested_without_end_goes_with_its_folder() {
        let place = place();
        let folder = place.path().join("folder");
        fs::create_dir_all(folder.join("wide/er")).unwrap();
        // Names that are given to what is moved up.
        (0..4).for_each(|n| fs::create_dir_all(folder.join(format!("{n}/0"))).unwrap());
        fs::write(folder.join("wide/4"), "").unwrap();
        nest(&folder, 20_000, Mode::RWXU);
        remove(&folder, &|| true).unwrap();
        assert!(!folder.exists());
        remove(&folder, &|| true).unwrap();
        fs::write(&folder, "").unwrap();
        remove(&folder, &|| true).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (folder, other) = (place.path().join("folder"), place.path().join("other"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(&other, folder.join("a/b/link")).unwrap();
        remove(&folder, &|| true).unwrap();
        std::os::unix::fs::symlink(&other, &folder).unwrap();
        remove(&folder, &|| true).unwrap();
        assert!(other.join("kept").exists() && !folder.is_symlink());
    }

    #[test]
    fn folders_that_their_owner_may_not_enter_go_too() {
        let place = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(place.path(), open).unwrap();
        as_somebody(|| {
            for mode in
                [Mode::empty(), Mode::RUSR, Mode::WUSR | Mode::XUSR, Mode::RUSR | Mode::XUSR]
            {
                let folder = place.path().join(format!("{mode:?}"));
                fs::create_dir(&folder).unwrap();
                nest(&folder, 10, mode);
                remove(&folder, &|| true).unwrap();
                assert!(!folder.exists(), "{mode:?}");
            }
        });
    }

    #[test]
    fn what_cannot_be_removed_is_said_and_the_rest_goes() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root makes what others can't remove");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(place.path(), open).unwrap();
        let folder = place.path().join("folder");
        let gone: Vec<_> = (0..9).map(|n| folder.join(format!("goes-{n}"))).collect();
        gone.iter().for_each(|gone| fs::create_dir_all(gone.join("x")).unwrap());
        let kept = folder.join("kept");
        fs::create_dir_all(kept.join("x")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&kept, private).unwrap();
        for theirs in
            gone.iter().flat_map(|gone| [gone.join("x"), gone.clone()]).chain([folder.clone()])
        {
            std::os::unix::fs::chown(theirs, Some(65_534), Some(65_534)).unwrap();
        }
        as_somebody(|| assert!(remove(&folder, &|| true).is_err()));
        assert!(kept.join("x").exists() && !gone.iter().any(|gone| gone.exists()));
    }

    #[test]
    fn who_is_stopped_says_so() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("folder");
        fs::create_dir_all(folder.join("a/b/c")).unwrap();
        let stopped = remove(&folder, &|| false);
        assert_eq!(stopped, Err(Errno::INTR));
        assert!(folder.exists());
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(remove(&file.join("below"), &|| true), Err(Errno::NOTDIR));
    }
}
