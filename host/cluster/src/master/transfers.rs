//! Jobs on their way into the master and out of it: few at a time, none of them in its memory, and none that stands still.

use std::io::{Seek, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ingle_proto::v1;
use ingle_sandbox::{ComponentHash, MAX_COMPONENT_BYTES};
use parking_lot::Mutex;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_util::io::ReaderStream;
use tonic::{Status, Streaming};

use super::components::Components;
use crate::rpc::PIECE;

/// In each direction.
const AT_ONCE: usize = 32;
/// How long one waits for its turn, and for a peer that neither sends nor takes anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file on its way out. It is read as its peer takes it, so that what nobody takes is nowhere.
pub struct Outgoing(Arc<Mutex<Option<Open>>>);

struct Open {
    chunks: ReaderStream<File>,
    /// When the peer last took something.
    last: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Stream for Outgoing {
    type Item = Result<v1::Chunk, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.0.lock();
        let Some(open) = shared.as_mut() else {
            let late = Status::deadline_exceeded("the job was not taken for too long");
            return Poll::Ready(Some(Err(late)));
        };
        let chunk = ready!(Pin::new(&mut open.chunks).poll_next(context));
        open.last = Instant::now();
        Poll::Ready(chunk.map(|chunk| match chunk {
            Ok(data) => Ok(v1::Chunk { data }),
            Err(error) => Err(Status::internal(format!("reading the job: {error}"))),
        }))
    }
}

/// A peer that takes nothing isn't asked again: somebody must take its turn away.
async fn close_if_stalled(open: Weak<Mutex<Option<Open>>>, patience: Duration) {
    loop {
        tokio::time::sleep(patience).await;
        let Some(open) = open.upgrade() else { return };
        let mut shared = open.lock();
        if shared.as_ref().is_some_and(|open| open.last.elapsed() >= patience) {
            *shared = None;
            return;
        }
    }
}

#[derive(Clone)]
pub struct Transfers {
    components: Components,
    incoming: Arc<Semaphore>,
    outgoing: Arc<Semaphore>,
    patience: Duration,
}

impl Transfers {
    pub fn new(components: Components) -> Self {
        let room = || Arc::new(Semaphore::new(AT_ONCE));
        Self { components, incoming: room(), outgoing: room(), patience: PATIENCE }
    }

    pub fn has(&self, hash: ComponentHash) -> bool {
        self.components.has(hash)
    }

    /// Sends a job's file as fast as it is taken.
    pub async fn send(&self, hash: ComponentHash) -> Result<Outgoing, Status> {
        let turn = self.turn(&self.outgoing).await?;
        let file = self.components.read(hash);
        let file = file.ok_or_else(|| Status::not_found("the master doesn't have that job"))?;
        let chunks = ReaderStream::with_capacity(File::from_std(file), PIECE);
        let open = Arc::new(Mutex::new(Some(Open { chunks, last: Instant::now(), _turn: turn })));
        tokio::spawn(close_if_stalled(Arc::downgrade(&open), self.patience));
        Ok(Outgoing(open))
    }

    /// Takes a job's file, and keeps it if it is what its name says.
    pub async fn take(&self, mut chunks: Streaming<v1::ComponentChunk>) -> Result<(), Status> {
        let _turn = self.turn(&self.incoming).await?;
        let failed = |error: std::io::Error| {
            Status::failed_precondition(format!("the master can't keep the job: {error}"))
        };
        let kept = self.components.begin().map_err(failed)?;
        let mut file = File::from_std(kept.as_file().try_clone().map_err(failed)?);
        let (mut name, mut length) = (None, 0);
        loop {
            let next = timeout(self.patience, chunks.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("nothing more of the job came"));
            let Some(chunk) = next?? else { break };
            if name.is_none() {
                name = Some(super::service::hash(&chunk.hash)?);
            }
            length += chunk.data.len();
            if length > MAX_COMPONENT_BYTES {
                return Err(Status::invalid_argument("the job is larger than a job may be"));
            }
            file.write_all(&chunk.data).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let components = self.components.clone();
        let keep = tokio::task::spawn_blocking(move || {
            kept.as_file().seek(SeekFrom::Start(0)).map_err(failed)?;
            let is = ComponentHash::of_file(kept.as_file()).map_err(failed)?;
            if Some(is) != name {
                return Err(Status::failed_precondition("the job isn't what its hash says"));
            }
            components.keep(is, kept).map_err(failed)
        });
        keep.await.map_err(|e| Status::internal(e.to_string()))?
    }

    async fn turn(&self, room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
        match timeout(self.patience, room.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Status::resource_exhausted(format!(
                "{AT_ONCE} jobs are on their way at the moment, and no more can be: try again later"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio_stream::StreamExt;

    use super::*;

    /// Transfers of little patience, with one job.
    fn transfers(dir: &tempfile::TempDir) -> (Transfers, ComponentHash) {
        let components = Components::open(dir.path()).unwrap();
        let (hash, mut file) = (ComponentHash::of(b"job"), components.begin().unwrap());
        file.write_all(b"job").unwrap();
        components.keep(hash, file).unwrap();
        let patience = Duration::from_millis(50);
        (Transfers { patience, ..Transfers::new(components) }, hash)
    }

    #[tokio::test]
    async fn a_turn_ends_with_its_stream() {
        let dir = tempfile::tempdir().unwrap();
        let (mut transfers, hash) = transfers(&dir);
        transfers.patience = PATIENCE;
        let mut sent = transfers.send(hash).await.unwrap();
        assert_eq!(transfers.outgoing.available_permits(), AT_ONCE - 1);
        assert_eq!(sent.next().await.unwrap().unwrap().data, &b"job"[..]);
        assert!(sent.next().await.is_none());
        drop(sent);
        assert_eq!(transfers.outgoing.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn who_takes_nothing_loses_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let (transfers, hash) = transfers(&dir);
        let mut all = Vec::new();
        for _ in 0..AT_ONCE {
            all.push(transfers.send(hash).await.unwrap());
        }
        while transfers.outgoing.available_permits() < AT_ONCE {
            tokio::time::sleep(transfers.patience).await;
        }
        let late = all.pop().unwrap().next().await.unwrap().unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    }
}
