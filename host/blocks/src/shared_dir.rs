//! Folders that other users may write in: executors of a cluster may be others than their driver.

use std::ffi::OsStr;
use std::io;

use cap_std::fs::Dir;
use rustix::fs::Mode;
use rustix::thread::UnshareFlags;

/// A folder that others get through, and can't list.
pub(crate) const PASSAGE: u32 = 0o711;
/// A folder that others make files in, and can't take away those of others.
pub(crate) const SHARED: u32 = 0o1777;

/// Makes a folder with just these permissions, whatever this process usually keeps from others. It may not change them later: the walls around it
/// forbid that. Where a thread can have no mask of its own (containers may forbid it), others may be kept out.
pub(crate) fn make(parent: &Dir, name: &OsStr, mode: u32) -> io::Result<()> {
    let make = || {
        match own_mask() {
            Ok(()) => drop(rustix::process::umask(Mode::empty())),
            Err(error) => tracing::warn!(
                "executors that are other users may be kept from writing: no thread can have a mask of its own here: {error}"
            ),
        }
        Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?)
    };
    // What a thread keeps from others is else all threads', which make files meanwhile.
    std::thread::scope(|scope| {
        let made =
            std::thread::Builder::new().name("shared-dir".into()).spawn_scoped(scope, make)?;
        made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes it panicked")))
    })
}

/// From now on this thread's mask is its own, and so are its root and its current folder.
#[allow(unsafe_code)]
fn own_mask() -> io::Result<()> {
    // SAFETY: it is unsafe for the sake of `FILES`, by which threads come to have descriptors that others don't. This has none of that.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_has_the_permissions_that_were_asked_for_and_no_other_has() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(place.path(), cap_std::ambient_authority()).unwrap();
        make(&dir, "shared".as_ref(), SHARED).unwrap();
        make(&dir, "passage".as_ref(), PASSAGE).unwrap();
        dir.create_dir("usual").unwrap();
        let mode = |name: &str| {
            std::fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!((mode("shared"), mode("passage")), (SHARED, PASSAGE));
        assert_eq!(mode("usual") & 0o022, 0, "the mask of this thread is what it was");
        let again = make(&dir, "shared".as_ref(), SHARED).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
