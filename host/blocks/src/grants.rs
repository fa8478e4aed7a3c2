//! Capabilities on paths: what `--allow-read` and `--allow-write` gave, opened once, and nothing else.
//!
//! A guest's path is made absolute and cut lexically, so that `..` is gone before a grant is looked for. The rest of it is
//! then opened beneath the grant's own descriptor by cap-std, so no symbolic link leads out either.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::objects::{self, Location, Objects, S3Options, is_url, local};
use crate::offer::{self, Offer, VOLUMES};

/// The longest path that the system takes.
const MAX_PATH: usize = 4096;

const READ: (&str, &str) = ("reading", "--allow-read");
const WRITE: (&str, &str) = ("writing", "--allow-write");

/// What a job may read and write.
pub struct Grants {
    /// Where relative paths begin.
    cwd: PathBuf,
    read: Vec<Grant>,
    write: Vec<Grant>,
    /// What is granted of object stores, and the way to them.
    read_objects: Vec<Location>,
    write_objects: Vec<Location>,
    objects: Arc<Objects>,
    /// Folders and URLs that the job itself published: it may read them without a grant of their own.
    published: RwLock<Vec<PathBuf>>,
    /// The folder of files that came with the job.
    shipped: Mutex<Option<TempDir>>,
}

/// Where a job finds the files that came with it, from its working directory.
pub const SHIPPED: &str = "files";

struct Grant {
    /// As the user wrote it, absolute and normal.
    path: PathBuf,
    /// Where that leads to, of what exists: what is granted is this.
    real: PathBuf,
    dir: Dir,
    /// The way from `dir` to what is granted: nothing for a folder, a name for a file, and for what didn't exist yet the
    /// names from its nearest ancestor that did.
    inner: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Missing,
}

/// A granted path, to be opened beneath a granted folder.
pub struct Resolved<'a> {
    /// The folder.
    pub dir: &'a Dir,
    /// The way from it, never empty (`.` is the folder itself).
    pub path: PathBuf,
    /// The absolute path, for messages.
    pub full: PathBuf,
    /// The flag that granted it.
    pub(crate) flag: &'static str,
    /// Nothing of `path` existed when it was granted, so a link in it is nobody's wish.
    pub(crate) was_missing: bool,
}

/// A folder that a guest finds open, for WASI.
#[derive(Debug)]
pub struct Preopen {
    /// Opened when it was granted: what its path leads to later doesn't matter.
    pub dir: Dir,
    /// What the guest calls it.
    pub guest: String,
    /// Granted for reading.
    pub read: bool,
    /// Granted for writing.
    pub write: bool,
}

impl Grants {
    /// Opens what was granted; relative paths, now and later, begin at the working directory of now.
    pub fn new(allow_read: &[PathBuf], allow_write: &[PathBuf]) -> Result<Self> {
        let cwd = std::env::current_dir()
            .map_err(Error::io("finding the working directory", ".".as_ref()))?;
        Self::new_in(&cwd, allow_read, allow_write)
    }

    /// As [`Grants::new`], with another working directory.
    pub fn new_in(cwd: &Path, allow_read: &[PathBuf], allow_write: &[PathBuf]) -> Result<Self> {
        Self::of(&Offer::default(), cwd, allow_read, allow_write)
    }

    /// As [`Grants::new_in`], on a host that doesn't offer everything.
    pub fn of(
        offer: &Offer,
        cwd: &Path,
        allow_read: &[PathBuf],
        allow_write: &[PathBuf],
    ) -> Result<Self> {
        let cwd = normal(Path::new("/"), cwd)?;
        let open = |paths: &[PathBuf], (_, flag)| -> Result<(Vec<Grant>, Vec<Location>)> {
            let (mut grants, mut objects) = (Vec::new(), Vec::new());
            for path in paths {
                match path.to_str().filter(|text| is_url(text)) {
                    Some(url) => {
                        let location = Location::parse(url)?;
                        offer.permit_store(&location, flag)?;
                        objects.push(location);
                    }
                    None => match path.to_str().and_then(offer::named) {
                        Some(named) => grants.push(Grant::open_volume(offer, named, flag)?),
                        None => {
                            let grant = Grant::open(&cwd, path, flag)?;
                            offer.permit(&grant.whereabouts(), flag, &grant.path)?;
                            if grant.kind == Kind::Missing {
                                // A process of the job reaches all of the folder that is there.
                                offer.permit_around(&grant.reached(), flag, &grant.path)?;
                            }
                            grants.push(grant);
                        }
                    },
                }
            }
            Ok((grants, objects))
        };
        let (read, read_objects) = open(allow_read, READ)?;
        let (write, write_objects) = open(allow_write, WRITE)?;
        Ok(Self {
            cwd,
            read,
            write,
            read_objects,
            write_objects,
            objects: Arc::new(Objects::new(S3Options::default(), offer.net.clone())),
            published: RwLock::default(),
            shipped: Mutex::default(),
        })
    }

    /// How S3 is reached, and as whom.
    pub fn with_s3(mut self, options: S3Options) -> Result<Self> {
        let reachable = self.objects.reachable().clone();
        let mut granted = self.read_objects.iter().chain(&self.write_objects);
        let endpoint = options.endpoint.as_deref().and_then(objects::address);
        if let Some(address) = endpoint.filter(|address| !reachable.has(*address))
            && granted.any(Location::is_of_s3)
        {
            let what = format!("s3:// at {address}");
            return Err(Error::Invalid(reachable.refusal(what)));
        }
        self.objects = Arc::new(Objects::new(options, reachable));
        Ok(self)
    }

    #[cfg(test)]
    pub(crate) fn with_objects(mut self, objects: Objects) -> Self {
        self.objects = Arc::new(objects);
        self
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whether the job may read something of an object store.
    pub(crate) fn may_read(&self, location: &Location) -> Result<()> {
        let own = |path: &PathBuf| {
            let published = path.to_str().map(Location::parse);
            published.is_some_and(|own| own.is_ok_and(|own| location.is_in(&own)))
        };
        let written = self.write_objects.iter().any(|grant| location.is_in(grant));
        if self.read_objects.iter().any(|grant| location.is_in(grant))
            || written && self.published.read().iter().any(own)
        {
            return Ok(());
        }
        let (verb, flag) = READ;
        Err(Error::NotAllowed { verb, flag, path: location.as_path() })
    }

    /// What the job may write to an object store; none if the path is one of this machine.
    pub(crate) fn object_to_write(&self, path: &str) -> Result<Option<(&Arc<Objects>, Location)>> {
        if !is_url(path) {
            return Ok(None);
        }
        let location = Location::parse(path)?;
        if self.write_objects.iter().any(|grant| location.is_in(grant)) {
            return Ok(Some((&self.objects, location)));
        }
        let (verb, flag) = WRITE;
        Err(Error::NotAllowed { verb, flag, path: location.as_path() })
    }

    /// Puts files that came with the job into a folder of their own in `scratch`, and lets the job read them as `files/NAME`.
    ///
    /// Others of the application may write in `scratch`, who may have been broken out of, and this process has no walls yet: the folder is opened
    /// once, through no link, and no link in it, nor what has its name later, is written or granted.
    pub fn ship(&mut self, files: &[(String, Vec<u8>)], scratch: &Path) -> Result<()> {
        let folder = tempfile::Builder::new()
            .prefix("ingle-files-")
            .tempdir_in(scratch)
            .map_err(Error::io("making a folder for --files in", scratch))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, folder.path(), flags, Mode::empty());
        let opened = opened
            .map_err(|e| Error::io("opening a folder for --files,", folder.path())(e.into()))?;
        let dir = Dir::from_std_file(opened.into());
        for (name, bytes) in files {
            let is_name = Path::new(name).file_name() == Some(name.as_ref());
            if !is_name || has_nul(name.as_ref()) {
                return Err(Error::Invalid(format!("{name:?} is no name for a file of --files")));
            }
            let mut new = OpenOptions::new();
            let file = dir.open_with(name, new.write(true).create_new(true));
            let written = file.and_then(|mut file| file.write_all(bytes));
            written.map_err(Error::io("writing", &folder.path().join(name)))?;
        }
        let path = normal(&self.cwd, Path::new(SHIPPED))?;
        let real = whereabouts(&dir).unwrap_or_else(|| folder.path().to_owned());
        self.read.push(Grant { path, real, dir, inner: PathBuf::new(), kind: Kind::Folder });
        self.shipped = Mutex::new(Some(folder));
        Ok(())
    }

    /// What is granted, to be read and to be written: of what doesn't exist yet, its nearest folder that does. It is what was opened: what has
    /// its path by now may be another job's doing. What can't be opened is left out.
    pub fn reach(&self) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
        let reach = |grants: &[Grant]| grants.iter().filter_map(|g| g.reach().ok()).collect();
        (reach(&self.read), reach(&self.write))
    }

    /// Whether anything of an object store was granted.
    pub fn reach_stores(&self) -> bool {
        !self.read_objects.is_empty() || !self.write_objects.is_empty()
    }

    /// Removes the files that came with the job.
    pub fn unship(&self) {
        let shipped = self.shipped.lock().take();
        drop(shipped);
    }

    /// A path that the job may read.
    pub fn resolve_read(&self, path: &str) -> Result<Resolved<'_>> {
        self.read(&self.absolute(path)?)
    }

    /// As [`Grants::resolve_read`], of a path that is absolute and normal.
    pub(crate) fn read(&self, full: &Path) -> Result<Resolved<'_>> {
        let own = self.published.read().iter().any(|p| full.starts_with(p));
        find(&self.read, full, READ)
            .or_else(|refusal| if own { find(&self.write, full, WRITE) } else { Err(refusal) })
    }

    /// A path that the job may write.
    pub fn resolve_write(&self, path: &str) -> Result<Resolved<'_>> {
        find(&self.write, &self.absolute(path)?, WRITE)
    }

    /// Lets the job read what it published.
    pub fn publish(&self, full: &Path) {
        let mut published = self.published.write();
        if !published.iter().any(|path| path == full) {
            published.push(full.to_owned());
        }
    }

    /// The folders that the job published.
    pub fn published(&self) -> Vec<PathBuf> {
        self.published.read().clone()
    }

    /// A guest's path, absolute and normal.
    pub(crate) fn absolute(&self, path: &str) -> Result<PathBuf> {
        match offer::named(path) {
            Some(named) => normal(&self.cwd, &offer::guest_path(named)),
            None => normal(&self.cwd, Path::new(local(path))),
        }
    }

    /// The granted folders that exist, by their absolute paths and by those from the working directory, so that a guest finds
    /// them by either.
    pub fn preopens(&self) -> Result<Vec<Preopen>> {
        let mut named: BTreeMap<PathBuf, (&Grant, PathBuf)> = BTreeMap::new();
        // The more precise one has a name, should there be two for it.
        let mut grants: Vec<_> = self.read.iter().chain(&self.write).collect();
        grants.sort_by_key(|grant| grant.path.components().count());
        for grant in grants.into_iter().filter(|grant| grant.kind == Kind::Folder) {
            named.insert(grant.path.clone(), (grant, PathBuf::new()));
            if let Ok(below) = grant.path.strip_prefix(&self.cwd) {
                named.insert(or_dot(below), (grant, PathBuf::new()));
            } else if let Ok(down) = self.cwd.strip_prefix(&grant.path)
                && !grant.path.starts_with(VOLUMES)
            {
                named.insert(or_dot(Path::new("")), (grant, down.to_owned()));
            }
        }
        let covers = |grants: &[Grant], full: &Path| {
            grants.iter().any(|g| g.kind == Kind::Folder && full.starts_with(&g.real))
        };
        let preopens = named.into_iter().map(|(guest, (grant, down))| {
            // By where links lead: a grant of a folder is none of what a link in it points to.
            let full = grant.real.join(&down);
            let opened = grant.dir.open_dir(or_dot(&down));
            Ok(Preopen {
                dir: opened.map_err(Error::io("opening what is granted,", &full))?,
                guest: guest.to_string_lossy().into_owned(),
                read: covers(&self.read, &full),
                write: covers(&self.write, &full),
            })
        });
        preopens.collect()
    }
}

/// A path that isn't empty: `.` is the folder itself.
fn or_dot(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

impl Grant {
    fn reach(&self) -> rustix::io::Result<OwnedFd> {
        if self.kind != Kind::File {
            return rustix::io::fcntl_dupfd_cloexec(&self.dir, 0);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, &self.inner, flags, Mode::empty())?;
        // One that took its place is none of what was granted.
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Directory | FileType::Symlink => Err(Errno::NOENT),
            _ => Ok(file),
        }
    }

    fn open(cwd: &Path, typed: &Path, flag: &'static str) -> Result<Self> {
        let path = normal(
            cwd,
            Path::new(typed.to_str().map_or(typed.as_os_str(), |t| local(t).as_ref())),
        )?;
        if path.starts_with(VOLUMES) {
            return Err(Error::Invalid(format!(
                "{flag}={}: what is below {VOLUMES} is a job's name for volumes; write {flag}=volume:NAME",
                path.display()
            )));
        }
        // The user's own links count: what they lead to is what is granted.
        let real = fs::canonicalize(&path);
        let (dir, inner, kind) = match real {
            Ok(real) if real.is_dir() => (real, PathBuf::new(), Kind::Folder),
            Ok(real) => match (real.parent(), real.file_name()) {
                (Some(parent), Some(name)) => (parent.to_owned(), name.into(), Kind::File),
                _ => (real, PathBuf::new(), Kind::Folder),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && flag == WRITE.1 => {
                let parent = path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
                let missing = path.strip_prefix(parent).unwrap_or(&path).to_owned();
                let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
                (parent, missing, Kind::Missing)
            }
            Err(error) => return Err(Error::io("opening what is granted,", &path)(error)),
        };
        let real = joined(&dir, &inner);
        let dir = Dir::open_ambient_dir(&dir, ambient_authority())
            .map_err(Error::io("opening what is granted,", &path))?;
        Ok(Self { path, real, dir, inner, kind })
    }

    /// Opens a volume, or what is in it: no link leads out of that, whoever made it.
    fn open_volume(offer: &Offer, named: &str, flag: &'static str) -> Result<Self> {
        let (name, below) = offer::split(named);
        let volume = offer.volume(name, flag)?;
        if volume.read_only && flag == WRITE.1 {
            return Err(Error::Invalid(format!(
                "the volume {name} can only be read on this host: write to another, or give it without :ro"
            )));
        }
        let path = joined(&offer::guest_path(name), &below);
        let failed = path.clone();
        let root = Dir::open_ambient_dir(&volume.path, ambient_authority())
            .map_err(Error::io("opening a volume,", &volume.path))?;
        let home = whereabouts(&root).unwrap_or_else(|| volume.path.clone());
        if below.as_os_str().is_empty() {
            return Ok(Self { path, real: home, dir: root, inner: below, kind: Kind::Folder });
        }
        let (reached, inner, kind) = match root.canonicalize(&below) {
            Ok(real) if root.is_dir(or_dot(&real)) => (real, PathBuf::new(), Kind::Folder),
            Ok(real) => match (real.parent(), real.file_name()) {
                (Some(parent), Some(name)) => (parent.to_owned(), name.into(), Kind::File),
                _ => (real, PathBuf::new(), Kind::Folder),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && flag == WRITE.1 => {
                let there = below.ancestors().skip(1).find(|above| root.is_dir(or_dot(above)));
                let there = there.unwrap_or(Path::new(""));
                let missing = below.strip_prefix(there).unwrap_or(&below).to_owned();
                let there = root.canonicalize(or_dot(there)).map_err(opening(
                    "opening a volume,",
                    &failed,
                    flag,
                ))?;
                (there, missing, Kind::Missing)
            }
            Err(error) => return Err(opening("opening what is granted,", &failed, flag)(error)),
        };
        let dir = root.open_dir(or_dot(&reached));
        let dir = dir.map_err(opening("opening what is granted,", &failed, flag))?;
        let at = whereabouts(&dir).unwrap_or_else(|| home.join(&reached));
        Ok(Self { path, real: joined(&at, &inner), dir, inner, kind })
    }

    /// Where its open folder is now.
    fn reached(&self) -> PathBuf {
        whereabouts(&self.dir).unwrap_or_else(|| {
            let below = self.inner.components().count();
            self.real.ancestors().nth(below).unwrap_or(&self.real).to_owned()
        })
    }

    /// Where what is granted is now, whoever moved it since its path was looked at.
    fn whereabouts(&self) -> PathBuf {
        whereabouts(&self.dir).map_or_else(|| self.real.clone(), |at| joined(&at, &self.inner))
    }
}

/// The kernel's name for an open folder.
fn whereabouts(opened: impl AsFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())).ok()
}

/// As `join`, but nothing is added for nothing: no slash at the end.
fn joined(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) }
}

/// The most precise grant that covers a path.
fn find<'a>(
    grants: &'a [Grant],
    full: &Path,
    (verb, flag): (&'static str, &'static str),
) -> Result<Resolved<'a>> {
    let covering = grants
        .iter()
        .filter(|g| full.starts_with(&g.path) && (g.kind != Kind::File || full == g.path));
    let Some(grant) = covering.max_by_key(|g| g.path.components().count()) else {
        return Err(Error::NotAllowed { verb, flag, path: full.to_owned() });
    };
    let below = full.strip_prefix(&grant.path).unwrap_or(Path::new(""));
    let mut path = grant.inner.clone();
    path.extend(below.components());
    Ok(Resolved {
        dir: &grant.dir,
        path: or_dot(&path),
        full: full.to_owned(),
        flag,
        was_missing: grant.kind == Kind::Missing,
    })
}

impl Resolved<'_> {
    /// For `map_err`: the system's answer, or that a link led out of the grant.
    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> Error + '_ {
        opening(doing, &self.full, self.flag)
    }
}

/// As [`Error::io`], of something opened through cap-std.
pub(crate) fn opening<'a>(
    doing: &'static str,
    path: &'a Path,
    flag: &'static str,
) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| {
        // cap-std's own refusal has no number of the system's.
        if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
            return Error::Escapes { flag, path: path.to_owned() };
        }
        Error::io(doing, path)(error)
    }
}

/// An absolute path without `.` and `..`. At the root, `..` stays there.
fn normal(cwd: &Path, path: &Path) -> Result<PathBuf> {
    let text = path.as_os_str();
    if text.is_empty() {
        return Err(Error::Invalid("a path is empty".into()));
    }
    let joined = cwd.join(path);
    let too_long = joined.as_os_str().len() > MAX_PATH
        || joined.components().any(|c| c.as_os_str().len() > 255);
    if too_long {
        return Err(Error::Invalid(format!(
            "a path of {} bytes is too long: {MAX_PATH} are allowed, and 255 for one name",
            joined.as_os_str().len()
        )));
    }
    if has_nul(text) {
        return Err(Error::Invalid("a path holds a zero byte".into()));
    }
    let mut normal = PathBuf::from("/");
    for part in joined.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(normal)
}

fn has_nul(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&0)
}

#[cfg(test)]
mod tests;
