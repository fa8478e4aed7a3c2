//! Outputs, wherever they are: a folder of this machine, or a key of an object store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ingle_core::memory::{Account, MemoryPool};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::folder_output::{FolderFile, FolderOutput, FolderTarget};
use crate::grants::Grants;
use crate::objects::{ObjectFile, ObjectOutput, ObjectTarget};
use crate::parts::{Encoder, Parts};
use crate::writer::{Token, Writer};

/// What attempts write until the job commits is here.
pub(crate) const TEMPORARY: &str = "_temporary";

pub(crate) fn attempted(stage: u32, partition: u32, attempt: u32) -> String {
    format!("attempt-{stage}-{partition:05}-{attempt}")
}

/// By partition, the stage and attempt whose file counts.
pub(crate) type Attempts = BTreeMap<u32, (u32, u32)>;

/// Attempts that were accepted so far; none any more once that is closed. Clones share it.
#[derive(Clone)]
pub(crate) struct Accepted(Arc<Mutex<Option<Attempts>>>);

impl Default for Accepted {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Attempts::new()))))
    }
}

impl Accepted {
    /// The first of a partition counts.
    pub fn add(&self, stage: u32, partition: u32, attempt: u32) {
        if let Some(accepted) = self.0.lock().as_mut() {
            accepted.entry(partition).or_insert((stage, attempt));
        }
    }

    /// No more are accepted, nor begun in this process. None are left if it was closed before.
    pub fn close(&self) -> Attempts {
        self.0.lock().take().unwrap_or_default()
    }

    /// Does something that nobody closes it during; none if it is closed.
    pub fn while_open<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        self.0.lock().is_some().then(act)
    }
}

/// What a job is writing. Nothing shows in it until its commit; dropped before that, it is removed, with all that was made for it.
pub struct Output(Kind);

enum Kind {
    Folder(FolderOutput),
    Objects(ObjectOutput, Arc<Grants>),
}

impl Output {
    /// Makes it. It must not exist, but for what an earlier try of the same writer left. Folders above it are made too, as far as
    /// the grant goes.
    pub fn open(grants: &Arc<Grants>, path: &str, parts: &Parts, writer: &Writer) -> Result<Self> {
        Ok(Self(match grants.object_to_write(path)? {
            Some((objects, location)) => {
                let output = ObjectOutput::open(objects, location, parts, writer)?;
                Kind::Objects(output, grants.clone())
            }
            None => Kind::Folder(FolderOutput::open(grants, path, parts, writer)?),
        }))
    }

    /// How its files are named and compressed.
    pub fn parts(&self) -> &Parts {
        match &self.0 {
            Kind::Folder(folder) => folder.parts(),
            Kind::Objects(objects, _) => objects.parts(),
        }
    }

    /// What tasks elsewhere need to know of it beside its path.
    pub fn token(&self) -> &Token {
        match &self.0 {
            Kind::Folder(folder) => folder.token(),
            Kind::Objects(objects, _) => objects.token(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        match &self.0 {
            Kind::Folder(folder) => folder.path().to_owned(),
            Kind::Objects(objects, _) => objects.location().as_path(),
        }
    }

    /// For tasks of this process.
    pub fn target(&self) -> OutputTarget {
        OutputTarget(match &self.0 {
            Kind::Folder(folder) => Target::Folder(folder.target()),
            Kind::Objects(objects, _) => Target::Objects(objects.target()),
        })
    }

    /// This attempt's file counts, unless one of the partition was accepted before.
    pub fn accept(&self, stage: u32, partition: u32, attempt: u32) {
        match &self.0 {
            Kind::Folder(folder) => folder.accept(stage, partition, attempt),
            Kind::Objects(objects, _) => objects.accept(stage, partition, attempt),
        }
    }

    /// Publishes the files of all accepted attempts, then writes `_SUCCESS`.
    pub fn commit(self) -> Result<()> {
        match self.0 {
            Kind::Folder(folder) => folder.commit(),
            Kind::Objects(objects, grants) => {
                let location = objects.location().clone();
                objects.commit()?;
                grants.publish(&location.as_path());
                Ok(())
            }
        }
    }
}

/// Where tasks write an output's files. Clones share it.
#[derive(Clone)]
pub struct OutputTarget(Target);

#[derive(Clone)]
enum Target {
    Folder(FolderTarget),
    Objects(ObjectTarget),
}

impl OutputTarget {
    /// An output that a driver elsewhere opened, by its path.
    pub fn open(grants: &Grants, path: &str, parts: &Parts, token: &Token) -> Result<Self> {
        Ok(Self(match grants.object_to_write(path)? {
            Some((objects, location)) => {
                Target::Objects(ObjectTarget::open(objects, location, parts, token)?)
            }
            None => Target::Folder(FolderTarget::open(grants, path, parts, token)?),
        }))
    }

    /// The file of one attempt at a partition. What is buffered of it is charged to `pool`.
    pub fn attempt(
        &self,
        stage: u32,
        partition: u32,
        attempt: u32,
        pool: &MemoryPool,
    ) -> Result<OutputFile> {
        let (file, parts) = match &self.0 {
            Target::Folder(folder) => {
                (File::Folder(folder.attempt(stage, partition, attempt)?), folder.parts())
            }
            Target::Objects(objects) => {
                (File::Object(objects.attempt(stage, partition, attempt, pool)?), objects.parts())
            }
        };
        Ok(OutputFile { file, encoder: parts.encoder(pool)?.map(Box::new) })
    }
}

/// A partition's file, by one attempt. Dropped before it is finished, it is removed.
pub struct OutputFile {
    file: File,
    encoder: Option<Box<Encoder>>,
}

enum File {
    Folder(FolderFile),
    Object(ObjectFile),
}

impl OutputFile {
    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        if let File::Object(file) = &mut self.file {
            file.count_on(account);
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.count_on(account);
        }
        self
    }

    /// Adds bytes to the file, compressed if its output is.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = &mut self.file;
        match &mut self.encoder {
            None => file.write(bytes),
            Some(encoder) => {
                let path = file.path();
                encoder.add(bytes, |made| file.write(made), Error::io("compressing", &path))
            }
        }
    }

    /// The attempt is done: its file is whole, for the driver to accept or not.
    pub fn finish(mut self) -> Result<()> {
        if let Some(encoder) = self.encoder {
            let path = self.file.path();
            self.file.write(&encoder.finish().map_err(Error::io("compressing", &path))?)?;
        }
        match self.file {
            File::Folder(file) => file.finish(),
            File::Object(file) => file.finish(),
        }
    }
}

impl File {
    fn path(&self) -> PathBuf {
        match self {
            File::Folder(file) => file.path(),
            File::Object(file) => file.path(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            File::Folder(file) => file.write(bytes),
            File::Object(file) => file.write(bytes),
        }
    }
}
