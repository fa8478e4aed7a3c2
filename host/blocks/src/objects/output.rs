//! Output to an object store: nothing shows until the job commits, and nothing is copied.
//!
//! An attempt uploads the parts of `OUT/part-P`, and doesn't complete the upload: no store shows such an object. What the upload is called
//! and which parts it has is its record, `OUT/_temporary/attempt-S-P-A`. The driver's commit completes the uploads of the attempts that
//! it accepted, gives the others up, and writes `_SUCCESS` last. So do Hadoop's "magic" S3A committer and its `.pending` files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::{Location, Objects, Store};
use crate::error::{Error, Result};
use crate::output::{Accepted, Attempts, TEMPORARY, attempted, part};

/// All parts but the last: some stores want them alike, and S3 at least 5 MiB.
const PART: usize = 8 << 20;
/// As many parts as S3 takes of one object.
const MAX_PARTS: usize = 10_000;
const FIRST_BUFFER: usize = 256 << 10;
/// The longest record that is read.
const MAX_RECORD: u64 = 4 << 20;
/// Requests at a time, of a commit.
const AT_ONCE: usize = 16;
/// Made first: while it is there, the output is open.
const MARKER: &str = "open";

/// What an attempt's record says.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The store's name of the upload.
    upload: String,
    /// The store's names of its parts, in their order.
    parts: Vec<String>,
    /// All parts are there.
    whole: bool,
}

/// What the attempts need, too.
struct Place {
    objects: Arc<Objects>,
    store: Arc<dyn ObjectStore>,
    uploads: Arc<dyn MultipartStore>,
    location: Location,
}

impl Place {
    fn open(objects: &Arc<Objects>, location: Location) -> Result<Self> {
        let Store { objects: store, uploads } = objects.store(&location)?;
        let Some(uploads) = uploads else {
            return Err(Error::bad(&location.as_path(), "can't be written to: only s3:// can"));
        };
        if location.key.is_root() {
            return Err(Error::bad(&location.as_path(), "is a whole bucket: give a key in it"));
        }
        Ok(Self { objects: objects.clone(), store, uploads, location })
    }

    fn temporary(&self, name: &str) -> Key {
        self.location.key.clone().join(TEMPORARY).join(name)
    }

    fn over(&self) -> Error {
        Error::bad(&self.location.as_path(), "is no longer written to: its job is over")
    }
}

/// An output in the making. Dropped before its commit, it is removed, with all that was made for it.
pub(crate) struct ObjectOutput {
    place: Arc<Place>,
    accepted: Accepted,
    /// What a commit began to publish.
    published: Attempts,
    committed: bool,
}

impl ObjectOutput {
    pub fn open(objects: &Arc<Objects>, location: Location) -> Result<Self> {
        let place = Place::open(objects, location)?;
        let (store, key, marker) =
            (place.store.clone(), place.location.key.clone(), place.temporary(MARKER));
        let is_new = place.objects.wait("making", &place.location, async move {
            let below = store.list(Some(&key)).next().await.transpose()?;
            if below.is_some() {
                return Ok(false);
            }
            match store.head(&key).await {
                Ok(_) => return Ok(false),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            // Of several that find nothing there, one makes it.
            match store.put_opts(&marker, PutPayload::new(), PutMode::Create.into()).await {
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                put => put.map(|_| true),
            }
        })?;
        if !is_new {
            return Err(Error::Exists(place.location.as_path()));
        }
        let (accepted, published) = (Accepted::default(), Attempts::new());
        Ok(Self { place: Arc::new(place), accepted, published, committed: false })
    }

    pub fn location(&self) -> &Location {
        &self.place.location
    }

    pub fn target(&self) -> ObjectTarget {
        ObjectTarget { place: self.place.clone(), accepted: self.accepted.clone() }
    }

    pub fn accept(&self, stage: u32, partition: u32, attempt: u32) {
        self.accepted.add(stage, partition, attempt);
    }

    pub fn commit(mut self) -> Result<()> {
        self.published = self.accepted.close();
        let place = &self.place;
        let publishing = publish(place.clone(), self.published.clone());
        place.objects.wait("publishing", &place.location, publishing)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for ObjectOutput {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        self.accepted.close();
        let (place, published) = (self.place.clone(), std::mem::take(&mut self.published));
        let removed = self.place.objects.wait("removing", &self.place.location, async move {
            // What a commit that failed completed.
            let parts = published
                .keys()
                .map(|partition| Ok(place.location.key.clone().join(part(*partition))));
            delete(&*place.store, parts.collect()).await?;
            clear(&place, &Attempts::new()).await
        });
        if let Err(error) = removed {
            tracing::warn!(%error, output = %self.place.location, "an unfinished output could not be removed");
        }
    }
}

async fn publish(place: Arc<Place>, accepted: Attempts) -> object_store::Result<()> {
    let mut running: JoinSet<object_store::Result<()>> = JoinSet::new();
    let mut done = Ok(());
    for (&partition, &(stage, attempt)) in &accepted {
        if running.len() >= AT_ONCE
            && let Some(one) = running.join_next().await
        {
            done = done.and(one?);
        }
        if done.is_err() {
            break;
        }
        let place = place.clone();
        running.spawn(async move {
            let record = read_record(&place, &attempted(stage, partition, attempt)).await?;
            let key = place.location.key.clone().join(part(partition));
            let parts = record.parts.into_iter().map(|content_id| PartId { content_id }).collect();
            if !record.whole {
                return Err(broken("an accepted part was never written to its end".into()));
            }
            place.uploads.complete_multipart(&key, &record.upload, parts).await.map(|_| ())
        });
    }
    // Also after a failure: what is under way would show after all was removed.
    while let Some(one) = running.join_next().await {
        done = done.and(one?);
    }
    done?;
    clear(&place, &accepted).await?;
    let success = place.location.key.clone().join("_SUCCESS");
    place.store.put_opts(&success, PutPayload::new(), PutMode::Create.into()).await.map(|_| ())
}

/// Gives up the uploads of all attempts but the accepted ones, and removes all records; the marker goes first, so that no more come.
async fn clear(place: &Place, accepted: &Attempts) -> object_store::Result<()> {
    let accepted: BTreeSet<_> =
        accepted.iter().map(|(p, (stage, attempt))| attempted(*stage, *p, *attempt)).collect();
    delete(&*place.store, vec![Ok(place.temporary(MARKER))]).await?;
    let mut listed = place.store.list(Some(&place.location.key.clone().join(TEMPORARY)));
    let mut found = Vec::new();
    while let Some(meta) = listed.next().await {
        found.push(meta?.location);
    }
    for key in &found {
        let name = key.filename().unwrap_or_default();
        // `attempt-S-P-A`
        let partition = name.split('-').nth(2).and_then(|p| p.parse().ok());
        let (Some(partition), false) = (partition, accepted.contains(name)) else {
            continue;
        };
        if let Ok(record) = read_record(place, name).await {
            let key = place.location.key.clone().join(part(partition));
            // It may be given up already.
            let _ = place.uploads.abort_multipart(&key, &record.upload).await;
        }
    }
    delete(&*place.store, found.into_iter().map(Ok).collect()).await
}

async fn delete(
    store: &dyn ObjectStore,
    keys: Vec<object_store::Result<Key>>,
) -> object_store::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut deleted = store.delete_stream(Box::pin(tokio_stream::iter(keys)));
    while let Some(done) = deleted.next().await {
        match done {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn broken(why: String) -> object_store::Error {
    object_store::Error::Generic { store: "an output", source: why.into() }
}

async fn read_record(place: &Place, name: &str) -> object_store::Result<Record> {
    let found = place.store.get(&place.temporary(name)).await?;
    if found.meta.size > MAX_RECORD {
        return Err(broken(format!("the record {name} is too long")));
    }
    let bytes = found.bytes().await?;
    serde_json::from_slice(&bytes).map_err(|e| broken(format!("the record {name}: {e}")))
}

/// Where tasks write. Clones share it.
#[derive(Clone)]
pub(crate) struct ObjectTarget {
    place: Arc<Place>,
    accepted: Accepted,
}

impl ObjectTarget {
    /// An output that a driver elsewhere opened.
    pub fn open(objects: &Arc<Objects>, location: Location) -> Result<Self> {
        let place = Arc::new(Place::open(objects, location)?);
        Ok(Self { place, accepted: Accepted::default() })
    }

    pub fn attempt(
        &self,
        stage: u32,
        partition: u32,
        attempt: u32,
        pool: &MemoryPool,
    ) -> Result<ObjectFile> {
        let place = self.place.clone();
        if self.accepted.while_open(|| ()).is_none() {
            return Err(place.over());
        }
        let charge = pool.reserve(MemoryUse::Shuffle, FIRST_BUFFER as u64)?;
        let name = attempted(stage, partition, attempt);
        let key = place.location.key.clone().join(part(partition));
        let begun = place.objects.wait("writing", &place.location, {
            let (place, key, name) = (place.clone(), key.clone(), name.clone());
            async move {
                // The driver's process may have removed it.
                match place.store.head(&place.temporary(MARKER)).await {
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    marker => marker?,
                };
                let upload = place.uploads.create_multipart(&key).await?;
                // Known before it has a part, so that it can be given up, whatever becomes of this process.
                let record = Record { upload, parts: Vec::new(), whole: false };
                place.store.put(&place.temporary(&name), encode(&record)?).await?;
                Ok(Some(record))
            }
        })?;
        let Some(record) = begun else { return Err(place.over()) };
        let buffer = Vec::with_capacity(FIRST_BUFFER);
        Ok(ObjectFile { place, key, name, record, buffer, charge })
    }
}

fn encode(record: &Record) -> object_store::Result<PutPayload> {
    serde_json::to_vec(record).map(PutPayload::from).map_err(|e| broken(e.to_string()))
}

/// A partition's object, by one attempt. Dropped before it is finished, it is given up.
pub(crate) struct ObjectFile {
    place: Arc<Place>,
    key: Key,
    name: String,
    record: Record,
    buffer: Vec<u8>,
    charge: Reservation,
}

impl ObjectFile {
    pub fn path(&self) -> PathBuf {
        self.place.location.at(self.key.clone()).as_path()
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.buffer.len() == PART {
                self.send_part()?;
            }
            let some = bytes.len().min(PART - self.buffer.len());
            let (now, later) = bytes.split_at(some);
            self.make_room(some)?;
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn make_room(&mut self, more: usize) -> Result<()> {
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let capacity = needed.max(2 * self.buffer.capacity()).min(PART);
            let charged = self.charge.bytes();
            self.charge.grow((capacity as u64).saturating_sub(charged))?;
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        Ok(())
    }

    fn send_part(&mut self) -> Result<()> {
        let index = self.record.parts.len();
        if index == MAX_PARTS {
            let problem = "would be larger than 78 GiB: make more partitions of it";
            return Err(Error::bad(&self.path(), problem));
        }
        let (place, key, upload) =
            (self.place.clone(), self.key.clone(), self.record.upload.clone());
        // Still charged: as much will be needed for the next part.
        let bytes = PutPayload::from(std::mem::take(&mut self.buffer));
        let put = async move { place.uploads.put_part(&key, &upload, index, bytes).await };
        let sent = self.place.objects.wait("writing", &self.place.location, put)?;
        self.record.parts.push(sent.content_id);
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        self.record.whole = true;
        let written = self.write_record();
        self.record.whole = written.is_ok();
        written
    }

    fn write_record(&self) -> Result<()> {
        let bytes =
            encode(&self.record).map_err(|e| super::failed("writing", &self.place.location, e))?;
        let (store, key) = (self.place.store.clone(), self.place.temporary(&self.name));
        let put = async move { store.put(&key, bytes).await.map(|_| ()) };
        self.place.objects.wait("writing", &self.place.location, put)
    }
}

impl Drop for ObjectFile {
    fn drop(&mut self) {
        if self.record.whole {
            return;
        }
        let (place, key, name) = (self.place.clone(), self.key.clone(), self.name.clone());
        let upload = std::mem::take(&mut self.record.upload);
        let given_up = self.place.objects.wait("removing", &self.place.location, async move {
            place.uploads.abort_multipart(&key, &upload).await?;
            delete(&*place.store, vec![Ok(place.temporary(&name))]).await
        });
        if let Err(error) = given_up {
            // The driver gives it up at the end.
            tracing::debug!(%error, "an upload is left for now");
        }
    }
}
