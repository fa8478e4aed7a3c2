//! `wasi:filesystem` where the engine's own has no bound: what a task writes is counted, and a folder is listed entry by entry.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::p2::bindings::sync::filesystem::types::HostDescriptor as _;
use wasmtime_wasi::p2::{
    DynOutputStream, FsResult, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::host::Stop;
use crate::linker::State;

/// Asked before a guest writes to a file.
pub trait FileWrites: Send + Sync {
    /// So many more bytes are about to be written. An error ends the guest.
    fn allow(&self, more: u64) -> Result<(), Stop>;
}

/// A driver's writes have no bound but its disk.
pub struct Unbounded;

impl FileWrites for Unbounded {
    fn allow(&self, _: u64) -> Result<(), Stop> {
        Ok(())
    }
}

/// Who is asked before an instance writes to files: whoever it works for at that moment, whenever the file was opened. Nobody before its first task:
/// what code does that runs as it is made is done for no task.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<Option<Arc<dyn FileWrites>>>>);

impl Asked {
    pub fn set(&self, whom: Option<Arc<dyn FileWrites>>) {
        *self.0.lock() = whom;
    }

    fn allow(&self, more: u64) -> Result<(), Stop> {
        match &*self.0.lock() {
            Some(asked) => asked.allow(more),
            None => Err(Stop::Misuse("it wrote to a file before its task began".into())),
        }
    }
}

/// A file's stream whose bytes are counted.
struct Counted {
    stream: DynOutputStream,
    writes: Asked,
}

impl Counted {
    fn count(&self, bytes: &Bytes) -> StreamResult<()> {
        self.writes.allow(bytes.len() as u64).map_err(|stop| StreamError::Trap(stop.into()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Counted {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Counted {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.count(&bytes)?;
        self.stream.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.count(&bytes)?;
        self.stream.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// A folder that is being listed: it holds one buffer of the kernel's, however many entries there are.
struct Listing(rustix::fs::Dir);

impl Listing {
    fn of(folder: &std::fs::File) -> Result<Self, ErrorCode> {
        // Its own description, for that has a position.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(folder, ".", flags, Mode::empty()).map_err(code)?;
        Ok(Self(rustix::fs::Dir::new(own).map_err(code)?))
    }

    fn next(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        let folder = &mut self.0;
        loop {
            let Some(entry) = folder.read() else { return Ok(None) };
            let entry = entry.map_err(code)?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems don't say.
                FileType::Unknown => {
                    let fd = folder.fd().map_err(code)?;
                    match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        // Removed since.
                        Err(rustix::io::Errno::NOENT) => continue,
                        Err(error) => return Err(code(error)),
                    }
                }
                known => known,
            };
            let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
            return Ok(Some(DirectoryEntry { type_: described(kind), name }));
        }
    }
}

fn code(error: rustix::io::Errno) -> ErrorCode {
    std::io::Error::from(error).into()
}

fn described(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
}

/// Of the version that the engine has.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

type Cx<'a> = StoreContextMut<'a, State>;

impl State {
    fn counted(
        &mut self,
        stream: FsResult<Resource<DynOutputStream>>,
    ) -> Result<Result<Resource<DynOutputStream>, ErrorCode>> {
        let stream = match stream {
            Ok(stream) => self.table.delete(stream)?,
            Err(error) => return Ok(Err(error.downcast()?)),
        };
        let counted: DynOutputStream = Box::new(Counted { stream, writes: self.writes.clone() });
        Ok(Ok(self.table.push(counted)?))
    }
}

/// In the place of the engine's own functions.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    let mut l = linker.instance(INTERFACE)?;
    link_writes(&mut l)?;
    link_listings(&mut l)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_writes(l: &mut LinkerInstance<'_, State>) -> Result<()> {
    l.func_wrap(
        "[method]descriptor.write",
        |mut cx: Cx<'_>, (file, bytes, offset): (Resource<Descriptor>, Vec<u8>, u64)| {
            let state = cx.data_mut();
            state.writes.allow(bytes.len() as u64)?;
            let mut files = state.filesystem();
            match files.write(file, bytes, offset) {
                Ok(written) => Ok((Ok(written),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        },
    )?;
    l.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut cx: Cx<'_>, (file, offset): (Resource<Descriptor>, u64)| {
            let state = cx.data_mut();
            let stream = state.filesystem().write_via_stream(file, offset);
            Ok((state.counted(stream)?,))
        },
    )?;
    l.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut cx: Cx<'_>, (file,): (Resource<Descriptor>,)| {
            let state = cx.data_mut();
            let stream = state.filesystem().append_via_stream(file);
            Ok((state.counted(stream)?,))
        },
    )
}

fn link_listings(l: &mut LinkerInstance<'_, State>) -> Result<()> {
    l.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut cx, rep| {
        cx.data_mut().table.delete(Resource::<Listing>::new_own(rep))?;
        Ok(())
    })?;
    l.func_wrap(
        "[method]descriptor.read-directory",
        |mut cx: Cx<'_>, (folder,): (Resource<Descriptor>,)| {
            let table = &mut cx.data_mut().table;
            let listing = match table.get(&folder)? {
                Descriptor::Dir(folder) => Listing::of(&folder.dir),
                Descriptor::File(_) => Err(ErrorCode::NotDirectory),
            };
            match listing {
                Ok(listing) => Ok((Ok(table.push(listing)?),)),
                Err(error) => Ok((Err(error),)),
            }
        },
    )?;
    l.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut cx: Cx<'_>, (listing,): (Resource<Listing>,)| {
            Ok((cx.data_mut().table.get_mut(&listing)?.next(),))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Sum(AtomicU64);

    impl FileWrites for Sum {
        fn allow(&self, more: u64) -> Result<(), Stop> {
            self.0.fetch_add(more, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Takes everything.
    struct File;

    #[wasmtime_wasi::async_trait]
    impl Pollable for File {
        async fn ready(&mut self) {}
    }

    #[wasmtime_wasi::async_trait]
    impl OutputStream for File {
        fn write(&mut self, _: Bytes) -> StreamResult<()> {
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(1 << 20)
        }
    }

    #[test]
    fn a_file_that_stays_open_is_written_on_the_account_of_whose_task_it_is() {
        let writes = Asked::default();
        let mut file = Counted { stream: Box::new(File), writes: writes.clone() };
        let early = file.write(Bytes::from_static(b"early"));
        assert!(matches!(early, Err(StreamError::Trap(_))), "nobody has a task yet");
        let tasks = [(); 2].map(|()| Arc::new(Sum::default()));
        for (at, task) in tasks.iter().enumerate() {
            writes.set(Some(task.clone()));
            file.write(Bytes::from(vec![0; 10 + at])).unwrap();
            file.write_zeroes(100).unwrap();
        }
        assert_eq!(tasks.map(|task| task.0.load(Ordering::Relaxed)), [110, 111]);
        writes.set(None);
        assert!(file.write(Bytes::from_static(b"late")).is_err());
    }
}
