//! Output folders of this machine: nothing shows in one until the job commits, and an aborted one is gone.
//!
//! A task writes `OUT/_temporary/TOKEN/attempt-S-P-A`, wherever it runs, by its stage, partition and attempt. The driver accepts one attempt for each
//! partition; its commit moves these to `OUT/part-P` and writes `_SUCCESS` last. So attempts may race, and come late, as they like. Executors of a
//! cluster may be other users than the driver: they can make files in `TOKEN`, whose name is a secret of the job's, for nobody else can list what it lies in.
//!
//! `OUT/_temporary/open` says who writes. A later try of the same driver moves what is there out of the way, and begins anew; an earlier one
//! that still ran would find nothing where it wants to publish.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use crate::error::{Error, Result};
use crate::grants::{Grants, Resolved};
use crate::output::{Accepted, TEMPORARY, attempted};
use crate::parts::{PART_NAME, Parts};
use crate::shared_dir;
use crate::writer::{MARKER, MAX_MARKER, Marker, Token, Writer};

const BUFFER: usize = 256 << 10;

/// A folder that a job is writing. Dropped before its commit, it is removed, with all that was made for it.
pub(crate) struct FolderOutput {
    grants: Arc<Grants>,
    folder: Arc<Folder>,
    marker: Marker,
    made: Made,
}

/// What the attempts share with their output, and may still hold when it is gone.
struct Folder {
    full: PathBuf,
    dir: Dir,
    /// `_temporary/TOKEN`
    attempts: Dir,
    accepted: Accepted,
    parts: Parts,
}

impl Folder {
    /// Where a partition's file will be.
    fn part(&self, partition: u32) -> PathBuf {
        self.full.join(self.parts.name(partition))
    }

    fn over(&self) -> Error {
        Error::bad(&self.full, "is no longer written to: its job is over")
    }
}

impl FolderOutput {
    /// Makes the folder. Folders above it are made too, as far as the grant goes.
    pub fn open(grants: &Arc<Grants>, path: &str, parts: &Parts, writer: &Writer) -> Result<Self> {
        let found = grants.resolve_write(path)?;
        let full = found.full.clone();
        let Some(name) = found.path.file_name() else {
            return Err(Error::Exists(full));
        };
        let mut made = Made::default();
        let parent = made.parents(&found).map_err(found.failed("making"))?;
        let marker = Marker::new(writer).map_err(found.failed("making"))?;
        let cleared = clear_earlier(&parent, name, writer);
        cleared.map_err(found.failed("removing what an earlier try left of"))?;
        let made_now = made.folder(&parent, name, &marker, writer.has_others);
        let (dir, attempts) = made_now.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if is_unfinished(&parent, name) => {
                Error::Unfinished(full.clone())
            }
            io::ErrorKind::AlreadyExists => Error::Exists(full.clone()),
            _ => found.failed("making")(error),
        })?;
        let accepted = Accepted::default();
        Ok(Self {
            grants: grants.clone(),
            folder: Arc::new(Folder { full, dir, attempts, accepted, parts: parts.clone() }),
            marker,
            made,
        })
    }

    pub fn token(&self) -> &Token {
        &self.marker.token
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder.full
    }

    pub fn parts(&self) -> &Parts {
        &self.folder.parts
    }

    /// For tasks of this process.
    pub fn target(&self) -> FolderTarget {
        FolderTarget(self.folder.clone())
    }

    /// This attempt's file counts, unless one of the partition was accepted before.
    pub fn accept(&self, stage: u32, partition: u32, attempt: u32) {
        self.folder.accepted.add(stage, partition, attempt);
    }

    /// Publishes the files of all accepted attempts, then writes `_SUCCESS`.
    pub fn commit(mut self) -> Result<()> {
        let Folder { full, dir, attempts, accepted, parts } = &*self.folder;
        for (partition, (stage, attempt)) in accepted.close() {
            let name = parts.name(partition);
            let moved = rename_new(attempts, &attempted(stage, partition, attempt), dir, &name);
            let is_new = moved.map_err(Error::io("publishing", &full.join(&name)))?;
            if !is_new {
                return Err(Error::Exists(full.join(name)));
            }
        }
        // What others may read tells nothing of where they could write: that is there a moment longer.
        let usual = Mode::from_raw_mode(0o666);
        let told = self.marker.told();
        told.and_then(|told| write_new(dir, "_SUCCESS".as_ref(), &told, usual))
            .map_err(Error::io("writing", &full.join("_SUCCESS")))?;
        self.grants.publish(full);
        self.made.keep();
        if let Err(error) = dir.remove_dir_all(TEMPORARY) {
            tracing::warn!(%error, folder = %full.display(), "what other attempts wrote is left there");
        }
        Ok(())
    }
}

impl Drop for FolderOutput {
    fn drop(&mut self) {
        // `made` removes the folders after this.
        self.folder.accepted.close();
    }
}

/// Where tasks write an output's files. Clones share it.
#[derive(Clone)]
pub(crate) struct FolderTarget(Arc<Folder>);

impl FolderTarget {
    /// An output that a driver elsewhere opened, by its path.
    pub fn open(grants: &Grants, path: &str, parts: &Parts, token: &Token) -> Result<Self> {
        let found = grants.resolve_write(path)?;
        let dir = found.dir.open_dir(&found.path).map_err(found.failed("opening"))?;
        let attempts = open_way(&dir, TEMPORARY.as_ref())
            .and_then(|temporary| open_own(&temporary, token.as_str().as_ref()))
            .map_err(found.failed("opening the output"))?;
        let (full, accepted, parts) = (found.full.clone(), Accepted::default(), parts.clone());
        Ok(Self(Arc::new(Folder { full, dir, attempts, accepted, parts })))
    }

    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// The file of one attempt at a partition.
    pub fn attempt(&self, stage: u32, partition: u32, attempt: u32) -> Result<FolderFile> {
        let folder = self.0.clone();
        let name = attempted(stage, partition, attempt);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let file = match folder.accepted.while_open(|| folder.attempts.open_with(&name, &options)) {
            None => return Err(folder.over()),
            // The driver's process removed it.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(folder.over());
            }
            Some(opened) => opened.map_err(Error::io("making", &folder.part(partition)))?,
        };
        let writer = BufWriter::with_capacity(BUFFER, file.into_std());
        Ok(FolderFile { folder, partition, name, writer, finished: false })
    }
}

/// A partition's file, by one attempt. Dropped before it is finished, it is removed.
pub(crate) struct FolderFile {
    folder: Arc<Folder>,
    partition: u32,
    name: String,
    writer: BufWriter<File>,
    finished: bool,
}

impl FolderFile {
    pub fn path(&self) -> PathBuf {
        self.folder.part(self.partition)
    }

    /// Adds bytes to the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.writer.write_all(bytes);
        written.map_err(|error| self.failed(error))
    }

    /// The attempt is done: its file is whole, for the driver to accept or not.
    pub fn finish(mut self) -> Result<()> {
        let flushed = self.writer.flush();
        flushed.map_err(|error| self.failed(error))?;
        self.finished = true;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io("writing", &self.path())(error)
    }
}

impl Drop for FolderFile {
    fn drop(&mut self) {
        if !self.finished {
            // Gone already if the whole output was removed.
            let _ = self.folder.attempts.remove_file(&self.name);
        }
    }
}

/// Renames without replacing: false if the name is taken.
fn rename_new(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<bool> {
    let renamed =
        match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
            // Some file systems (NFS) only know the old call; a link is as exclusive.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                match from_dir.hard_link(from, to_dir, to) {
                    Ok(()) => from_dir.remove_file(from),
                    // Another user's file can't be linked, and where it goes is this job's own.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        rename_if_free(from_dir, from.as_ref(), to_dir, to.as_ref())
                    }
                    Err(error) => Err(error),
                }
            }
            done => done.map_err(io::Error::from),
        };
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Folders that were made, to be removed on drop: each the folder that holds it, and its name there.
#[derive(Default)]
struct Made {
    /// Innermost last. Others may have put something in them meanwhile; then they stay.
    parents: Vec<(Dir, PathBuf)>,
    /// The output itself goes with all it holds, as long as it is the folder that was made.
    output: Option<(Dir, PathBuf, Id)>,
}

impl Made {
    /// Opens the folder that shall hold the output, making what is missing.
    fn parents(&mut self, found: &Resolved<'_>) -> io::Result<Dir> {
        let mut dir = found.dir.try_clone()?;
        let mut way = PathBuf::new();
        for name in found.path.parent().unwrap_or(Path::new("")) {
            way.push(name);
            // Each time from the top: a link in between may lead up, if not out. Where nothing was when it was granted, a
            // link is somebody's trick.
            let opened =
                if found.was_missing { open_own(&dir, name) } else { found.dir.open_dir(&way) };
            dir = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = dir.try_clone()?;
                    dir.create_dir(name)?;
                    self.parents.push((parent, name.into()));
                    open_own(&dir, name)?
                }
                opened => opened?,
            };
        }
        Ok(dir)
    }

    /// Makes the output itself, and the folder of its attempts. It is never there without its marker, whenever this process is killed.
    fn folder(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        marker: &Marker,
        has_others: bool,
    ) -> io::Result<(Dir, Dir)> {
        let holder = parent.try_clone()?;
        let aside = aside()?;
        parent.create_dir(&aside)?;
        let token = marker.token.as_str();
        let make = || {
            let dir = open_own(parent, aside.as_ref())?;
            match has_others {
                true => shared_dir::make(&dir, TEMPORARY.as_ref(), shared_dir::PASSAGE)?,
                false => dir.create_dir(TEMPORARY)?,
            }
            let temporary = open_own(&dir, TEMPORARY.as_ref())?;
            // It tells the secret.
            let private = Mode::RUSR | Mode::WUSR;
            write_new(&temporary, MARKER.as_ref(), marker, private)?;
            match has_others {
                true => shared_dir::make(&temporary, token.as_ref(), shared_dir::SHARED)?,
                false => temporary.create_dir(token)?,
            }
            let attempts = open_own(&temporary, token.as_ref())?;
            let id = id_of(&dir)?;
            rename_new_dir(parent, aside.as_ref(), name)?;
            Ok((dir, attempts, id))
        };
        let made = make().inspect_err(|_: &io::Error| {
            // As empty as it is, it harms nobody.
            let _ = parent.remove_dir_all(&aside);
        });
        let (dir, attempts, id) = made?;
        self.output = Some((holder, name.into(), id));
        Ok((dir, attempts))
    }

    fn keep(&mut self) {
        self.parents.clear();
        self.output = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some((holder, name, id)) = self.output.take()
            && id_at(&holder, name.as_os_str()).is_ok_and(|there| there == id)
            && let Err(error) = holder.remove_dir_all(&name)
        {
            tracing::warn!(%error, folder = %name.display(), "an unfinished output could not be removed");
        }
        while let Some((holder, name)) = self.parents.pop() {
            if holder.remove_dir(name).is_err() {
                break;
            }
        }
    }
}

/// Opens a folder that we made ourselves, so not by a link.
fn open_own(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    open_with(dir, name, OFlags::RDONLY)
}

/// The same, also if it can't be listed: what lies in it can be opened, by who knows its name.
fn open_way(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    open_with(dir, name, OFlags::PATH)
}

fn open_with(dir: &Dir, name: &OsStr, how: OFlags) -> io::Result<Dir> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    Ok(Dir::from_std_file(opened.into()))
}

/// Device and inode.
type Id = (u64, u64);

fn id_of(dir: &Dir) -> io::Result<Id> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn id_at(parent: &Dir, name: &OsStr) -> io::Result<Id> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What an output is called before it is whole, or when it goes: not by its own token, for others may list what it lies in.
fn aside() -> io::Result<String> {
    Ok(format!(".ingle-{}", Token::random()?))
}

/// Renames a folder within another one, without replacing.
fn rename_new_dir(parent: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match rustix::fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        // Some file systems (NFS) only know the old call, which replaces what is empty.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            rename_if_free(parent, from, parent, to)
        }
        done => Ok(done?),
    }
}

/// Renames unless the name is taken, where nobody else takes names.
fn rename_if_free(from_dir: &Dir, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
    match id_at(to_dir, to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => from_dir.rename(from, to_dir, to),
        Err(error) => Err(error),
    }
}

fn write_new(dir: &Dir, name: &Path, marker: &Marker, mode: Mode) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode.as_raw_mode());
    dir.open_with(name, &options)?.write_all(&marker.text()?)
}

/// What an output says of its writer; none if that is nothing.
fn read_marker(output: &Dir) -> Option<Marker> {
    let open = Path::new(TEMPORARY).join(MARKER);
    let file = output.open("_SUCCESS").or_else(|_| output.open(open)).ok()?;
    let mut text = Vec::new();
    file.take(MAX_MARKER).read_to_end(&mut text).ok()?;
    Marker::read(&text)
}

fn is_unfinished(parent: &Dir, name: &OsStr) -> bool {
    open_own(parent, name).is_ok_and(|dir| dir.exists(TEMPORARY) && !dir.exists("_SUCCESS"))
}

/// Removes what an earlier try of the same driver left, if there is that and nothing else. At no instant is a part of it there.
fn clear_earlier(parent: &Dir, name: &OsStr, writer: &Writer) -> io::Result<()> {
    // A file, a link, or nothing is none of an output.
    let Ok(left) = open_own(parent, name) else { return Ok(()) };
    if !read_marker(&left).is_some_and(|marker| marker.is_left_for(writer)) {
        return Ok(());
    }
    for entry in left.entries()? {
        let entry = entry?.file_name();
        let entry = entry.to_string_lossy();
        if entry != TEMPORARY && entry != "_SUCCESS" && !entry.starts_with(PART_NAME) {
            return Ok(());
        }
    }
    let (id, aside) = (id_of(&left)?, aside()?);
    parent.rename(name, parent, &aside)?;
    if id_at(parent, aside.as_ref())? != id {
        // A try that is later still was quicker.
        return rename_new_dir(parent, aside.as_ref(), name);
    }
    parent.remove_dir_all(aside)
}
