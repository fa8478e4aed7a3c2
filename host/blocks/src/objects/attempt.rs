//! What one attempt at a partition writes: the parts of an upload, and its record.

use std::path::PathBuf;
use std::sync::Arc;

use ingle_core::memory::{Account, MemoryPool, MemoryUse, Reservation};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::output::{Place, Record, broken, delete, give_up, read_marker};
use super::{Location, Objects};
use crate::error::{Error, Result};
use crate::output::{Accepted, attempted};
use crate::parts::Parts;
use crate::writer::Token;

/// All parts but the last: some stores want them alike, and S3 at least 5 MiB.
const PART: usize = 8 << 20;
/// As many parts as S3 takes of one object.
const MAX_PARTS: usize = 10_000;
const FIRST_BUFFER: usize = 256 << 10;

/// Where tasks write. Clones share it.
#[derive(Clone)]
pub(crate) struct ObjectTarget {
    place: Arc<Place>,
    accepted: Accepted,
}

impl ObjectTarget {
    pub(super) fn new(place: Arc<Place>, accepted: Accepted) -> Self {
        Self { place, accepted }
    }

    /// An output that a driver elsewhere opened.
    pub fn open(
        objects: &Arc<Objects>,
        location: Location,
        parts: &Parts,
        token: &Token,
    ) -> Result<Self> {
        let place = Arc::new(Place::open(objects, location, parts, token.clone())?);
        Ok(Self { place, accepted: Accepted::default() })
    }

    pub fn parts(&self) -> &Parts {
        &self.place.parts
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
        let name = place.record(&attempted(stage, partition, attempt));
        let key = place.part(partition);
        let begun = place.objects.wait("writing", &place.location, {
            let (place, key, name) = (place.clone(), key.clone(), name.clone());
            async move {
                let upload = place.uploads.create_multipart(&key).await?;
                // Known before it has a part, so that it can be given up, whatever becomes of this process.
                let record = Record {
                    upload,
                    parts: Vec::new(),
                    whole: false,
                    name: place.parts.name(partition),
                };
                let put = place.store.put(&name, encode(&record)?).await;
                if put.is_ok() && is_open(&place).await? {
                    return Ok(Some(record));
                }
                withdraw(&place, &key, &name, &record.upload).await?;
                put.map(|_| None)
            }
        })?;
        let Some(record) = begun else { return Err(place.over()) };
        let buffer = Vec::with_capacity(FIRST_BUFFER);
        Ok(ObjectFile { place, key, name, record, buffer, charge })
    }
}

/// Whether more may be added to an output; asked when a record is written. Who ends the output, perhaps in another process, removes the
/// marker first and then all records: one that comes too late for that is seen here.
async fn is_open(place: &Place) -> object_store::Result<bool> {
    let open = read_marker(place, &place.marker()).await?.and_then(|found| found.0);
    Ok(open.is_some_and(|open| open.token == place.token))
}

/// Removes what there is of an attempt.
async fn withdraw(
    place: &Place,
    key: &Key,
    record: &Key,
    upload: &String,
) -> object_store::Result<()> {
    give_up(place, key, upload).await?;
    delete(&*place.store, vec![Ok(record.clone())]).await
}

fn encode(record: &Record) -> object_store::Result<PutPayload> {
    serde_json::to_vec(record).map(PutPayload::from).map_err(|e| broken(e.to_string()))
}

/// A partition's object, by one attempt. Dropped before it is finished, it is given up.
pub(crate) struct ObjectFile {
    place: Arc<Place>,
    key: Key,
    /// Where its record is.
    name: Key,
    record: Record,
    buffer: Vec<u8>,
    charge: Reservation,
}

impl ObjectFile {
    /// What it holds is counted on an account.
    pub fn count_on(&mut self, account: &Arc<Account>) {
        self.charge.count_on(account);
    }

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
        let (place, key) = (self.place.clone(), self.name.clone());
        let put = async move {
            place.store.put(&key, bytes).await?;
            let is_open = is_open(&place).await?;
            if !is_open {
                // The upload is given up already, by the record before this one.
                delete(&*place.store, vec![Ok(key)]).await?;
            }
            Ok(is_open)
        };
        match self.place.objects.wait("writing", &self.place.location, put)? {
            true => Ok(()),
            false => Err(self.place.over()),
        }
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
            withdraw(&place, &key, &name, &upload).await
        });
        if let Err(error) = given_up {
            // The driver gives it up at the end.
            tracing::debug!(%error, "an upload is left for now");
        }
    }
}
