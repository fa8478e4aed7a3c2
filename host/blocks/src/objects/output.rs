//! Output to an object store: nothing shows until the job commits, and nothing is copied.
//!
//! An attempt (`attempt.rs`) uploads the parts of `OUT/part-P`, and doesn't complete the upload: no store shows such an object. What the
//! upload is called and which parts it has is its record, `OUT/_temporary/TOKEN/attempt-S-P-A`. The driver's commit completes the uploads of the attempts that
//! it accepted, writes `_SUCCESS`, and gives the others up. So do Hadoop's "magic" S3A committer and its `.pending` files.
//!
//! `OUT/_temporary/open` says who writes. A later try of the same driver replaces it, then gives up and removes what the earlier one left.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::attempt::ObjectTarget;
use super::reader::small;
use super::uploads::Uploads;
use super::{Location, Objects, Store};
use crate::error::{Error, Result};
use crate::output::{Accepted, Attempts, TEMPORARY, attempted};
use crate::parts::{PART_NAME, Parts};
use crate::writer::{MARKER, MAX_MARKER, Marker, Token, Writer};

/// The longest record that is read.
const MAX_RECORD: u64 = 4 << 20;
/// How often uploads are listed: 1000 at a time.
const MAX_LISTS: usize = 100;
/// Requests at a time, of a commit.
const AT_ONCE: usize = 16;

/// What an attempt's record says.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// The store's name of the upload.
    pub upload: String,
    /// The store's names of its parts, in their order.
    pub parts: Vec<String>,
    /// All parts are there.
    pub whole: bool,
    /// What the object is called in its output: another try may have named its files otherwise.
    pub name: String,
}

/// What the attempts need, too.
pub(super) struct Place {
    pub objects: Arc<Objects>,
    pub store: Arc<dyn ObjectStore>,
    pub uploads: Arc<dyn MultipartStore>,
    begun: Option<Arc<Uploads>>,
    pub location: Location,
    pub parts: Parts,
    /// The name of its attempts.
    pub token: Token,
}

impl Place {
    pub fn open(
        objects: &Arc<Objects>,
        location: Location,
        parts: &Parts,
        token: Token,
    ) -> Result<Self> {
        let Store { objects: store, uploads, begun } = objects.store(&location)?;
        let Some(uploads) = uploads else {
            return Err(Error::bad(&location.as_path(), "can't be written to: only s3:// can"));
        };
        if location.key.is_root() {
            return Err(Error::bad(&location.as_path(), "is a whole bucket: give a key in it"));
        }
        let (objects, parts) = (objects.clone(), parts.clone());
        Ok(Self { objects, store, uploads, begun, location, parts, token })
    }

    /// Where a partition's object will be.
    pub fn part(&self, partition: u32) -> Key {
        self.location.key.clone().join(self.parts.name(partition))
    }

    /// What is written here is below this.
    fn temporary(&self) -> Key {
        self.location.key.clone().join(TEMPORARY)
    }

    /// While it is there, the output is open.
    pub fn marker(&self) -> Key {
        self.temporary().join(MARKER)
    }

    fn success(&self) -> Key {
        self.location.key.clone().join("_SUCCESS")
    }

    /// The records of this output's attempts are below this.
    fn attempts(&self) -> Key {
        self.temporary().join(self.token.as_str())
    }

    pub fn record(&self, attempt: &str) -> Key {
        self.attempts().join(attempt)
    }

    pub fn over(&self) -> Error {
        Error::bad(&self.location.as_path(), "is no longer written to: its job is over")
    }
}

/// An output in the making. Dropped before its commit, it is removed, with all that was made for it.
pub(crate) struct ObjectOutput {
    place: Arc<Place>,
    marker: Marker,
    accepted: Accepted,
    /// What a commit began to publish.
    published: Attempts,
    committed: bool,
}

impl ObjectOutput {
    pub fn open(
        objects: &Arc<Objects>,
        location: Location,
        parts: &Parts,
        writer: &Writer,
    ) -> Result<Self> {
        let marker = Marker::new(writer).map_err(Error::io("making", &location.as_path()))?;
        let place = Arc::new(Place::open(objects, location, parts, marker.token.clone())?);
        let claimed = place.objects.wait("making", &place.location, {
            let (place, writer, marker) = (place.clone(), writer.clone(), marker.clone());
            async move { claim(&place, &writer, &marker).await }
        })?;
        let at = place.location.as_path();
        match claimed {
            Claimed::Yes => {}
            Claimed::IsOpen => return Err(Error::Unfinished(at)),
            Claimed::Exists => return Err(Error::Exists(at)),
        }
        let (accepted, published) = (Accepted::default(), Attempts::new());
        Ok(Self { place, marker, accepted, published, committed: false })
    }

    pub fn token(&self) -> &Token {
        &self.place.token
    }

    pub fn parts(&self) -> &Parts {
        &self.place.parts
    }

    pub fn location(&self) -> &Location {
        &self.place.location
    }

    pub fn target(&self) -> ObjectTarget {
        ObjectTarget::new(self.place.clone(), self.accepted.clone())
    }

    pub fn accept(&self, stage: u32, partition: u32, attempt: u32) {
        self.accepted.add(stage, partition, attempt);
    }

    pub fn commit(mut self) -> Result<()> {
        self.published = self.accepted.close();
        let place = &self.place;
        let publishing = publish(place.clone(), self.marker.clone(), self.published.clone());
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
        let (place, marker) = (self.place.clone(), self.marker.clone());
        let published = std::mem::take(&mut self.published);
        let removed = self.place.objects.wait("removing", &self.place.location, async move {
            if !is_ours(&place, &marker).await? {
                return clear(&place, &place.attempts(), &Attempts::new()).await;
            }
            // What a commit that failed completed.
            let part = |partition: &u32| Ok(place.part(*partition));
            let mut made: Vec<_> = published.keys().map(part).collect();
            made.extend([Ok(place.success()), Ok(place.marker())]);
            delete(&*place.store, made).await?;
            clear_all(&place, &Attempts::new()).await
        });
        if let Err(error) = removed {
            tracing::warn!(%error, output = %self.place.location, "an unfinished output could not be removed");
        }
    }
}

/// What became of an attempt to open an output.
enum Claimed {
    Yes,
    /// Somebody writes it, or did.
    IsOpen,
    Exists,
}

/// Puts our marker, of this text, where nothing is, or where an earlier try of ours left something.
async fn claim(place: &Place, writer: &Writer, marker: &Marker) -> object_store::Result<Claimed> {
    // Of several at once, one makes it.
    let put = async |mode| match put_marker(place, &place.marker(), marker, mode).await {
        Ok(false) => Ok(Claimed::IsOpen),
        put => put.map(|_| Claimed::Yes),
    };
    let open = read_marker(place, &place.marker()).await?;
    let done = read_marker(place, &place.success()).await?;
    let is_left = |found: &Found| found.0.as_ref().is_some_and(|m| m.is_left_for(writer));
    let claimed = match (open, done) {
        (Some(open), _) if is_left(&open) => put(PutMode::Update(open.1)).await?,
        (None, Some(done)) if is_left(&done) => put(PutMode::Create).await?,
        (Some(_), None) => return Ok(Claimed::IsOpen),
        (_, Some(_)) => return Ok(Claimed::Exists),
        (None, None) => {
            let key = &place.location.key;
            let below = place.store.list(Some(key)).next().await.transpose()?;
            let itself = match place.store.head(key).await {
                Err(object_store::Error::NotFound { .. }) => None,
                head => Some(head?),
            };
            return match below.or(itself) {
                Some(_) => Ok(Claimed::Exists),
                None => put(PutMode::Create).await,
            };
        }
    };
    if let Claimed::Yes = claimed {
        delete(&*place.store, vec![Ok(place.success())]).await?;
        clear_all(place, &Attempts::new()).await?;
        let listed = place.store.list_with_delimiter(Some(&place.location.key)).await?;
        let parts = listed.objects.into_iter().map(|meta| meta.location);
        let parts =
            parts.filter(|key| key.filename().is_some_and(|name| name.starts_with(PART_NAME)));
        delete(&*place.store, parts.map(Ok).collect()).await?;
    }
    Ok(claimed)
}

/// Puts our marker somewhere. False if somebody else was first.
async fn put_marker(
    place: &Place,
    key: &Key,
    marker: &Marker,
    mode: PutMode,
) -> object_store::Result<bool> {
    let text = marker.text().map_err(|e| broken(e.to_string()))?;
    match place.store.put_opts(key, text.into(), mode.into()).await {
        // Perhaps by this very request: if its answer is lost, it is sent again.
        Err(
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
        ) => {
            let found = read_marker(place, key).await?;
            Ok(found.is_some_and(|(found, _)| found.as_ref() == Some(marker)))
        }
        put => put.map(|_| true),
    }
}

/// A marker, if it can be read, and the version of its object.
pub(super) type Found = (Option<Marker>, UpdateVersion);

pub(super) async fn read_marker(place: &Place, key: &Key) -> object_store::Result<Option<Found>> {
    let found = match place.store.get(key).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: None };
    if found.meta.size > MAX_MARKER {
        return Ok(Some((None, version)));
    }
    Ok(Some((Marker::read(&small(found, MAX_MARKER).await?), version)))
}

/// Whether no later try took the output over.
async fn is_ours(place: &Place, marker: &Marker) -> object_store::Result<bool> {
    for key in [place.marker(), place.success()] {
        if let Some((found, _)) = read_marker(place, &key).await? {
            return Ok(found.as_ref() == Some(marker));
        }
    }
    Ok(true)
}

async fn publish(
    place: Arc<Place>,
    marker: Marker,
    accepted: Attempts,
) -> object_store::Result<()> {
    let check = |is_ours| match is_ours {
        true => Ok(()),
        false => Err(broken("a later try of its driver took it over".into())),
    };
    check(is_ours(&place, &marker).await?)?;
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
            let record = place.record(&attempted(stage, partition, attempt));
            let record = read_record(&place, &record).await?;
            let key = place.part(partition);
            let parts = record.parts.into_iter().map(|content_id| PartId { content_id }).collect();
            if !record.whole {
                return Err(broken("an accepted part was never written to its end".into()));
            }
            match place.uploads.complete_multipart(&key, &record.upload, parts).await {
                // It was completed if it is there: if the answer is lost, the request is sent again.
                Err(object_store::Error::NotFound { .. }) => match place.store.head(&key).await {
                    Err(object_store::Error::NotFound { .. }) => {
                        Err(broken(format!("somebody else gave up the upload of {key}")))
                    }
                    head => head.map(|_| ()),
                },
                completed => completed.map(|_| ()),
            }
        });
    }
    // Also after a failure: what is under way would show after all was removed.
    while let Some(one) = running.join_next().await {
        done = done.and(one?);
    }
    done?;
    check(is_ours(&place, &marker).await?)?;
    check(put_marker(&place, &place.success(), &marker, PutMode::Create).await?)?;
    // It is done. The marker goes first, so that no more attempts begin.
    let cleared = async {
        delete(&*place.store, vec![Ok(place.marker())]).await?;
        clear_all(&place, &accepted).await
    };
    if let Err(error) = cleared.await {
        tracing::warn!(%error, output = %place.location, "what other attempts wrote is left there");
    }
    Ok(())
}

/// Gives up the uploads of all attempts whose records are below a key, but the accepted ones, and removes the records.
async fn clear(place: &Place, below: &Key, accepted: &Attempts) -> object_store::Result<()> {
    let record =
        |(p, (stage, attempt)): (&u32, &(u32, u32))| place.record(&attempted(*stage, *p, *attempt));
    let accepted: BTreeSet<_> = accepted.iter().map(record).collect();
    let mut listed = place.store.list(Some(below));
    let mut found = Vec::new();
    while let Some(meta) = listed.next().await {
        found.push(meta?.location);
    }
    let marker = place.marker();
    found.retain(|key| *key != marker);
    for record in &found {
        if accepted.contains(record) {
            continue;
        }
        if let Ok(record) = read_record(place, record).await {
            let key = place.location.key.clone().join(record.name);
            if let Err(error) = give_up(place, &key, &record.upload).await {
                tracing::warn!(%error, %key, "an upload could not be given up");
            }
        }
    }
    delete(&*place.store, found.into_iter().map(Ok).collect()).await
}

/// As [`clear`], of all that is below the output, also of what has no record. Accepted attempts must be completed, and nobody else be
/// writing.
async fn clear_all(place: &Place, accepted: &Attempts) -> object_store::Result<()> {
    clear(place, &place.temporary(), accepted).await?;
    if let Err(error) = give_up_unknown(place).await {
        // Keys that suffice for the rest may not for this, and some stores list no uploads.
        tracing::debug!(%error, "uploads without a record can't be looked for");
    }
    Ok(())
}

/// Gives up the uploads that have no record: whoever began them was killed before it wrote one.
async fn give_up_unknown(place: &Place) -> object_store::Result<()> {
    let Some(begun) = &place.begun else { return Ok(()) };
    // Those that a store goes on to list, though they are given up, are its own matter.
    for _ in 0..MAX_LISTS {
        let found = begun.list(&place.location.key, PART_NAME).await?;
        if found.is_empty() {
            break;
        }
        for (key, upload) in found {
            give_up(place, &key, &upload).await?;
        }
    }
    Ok(())
}

/// Gives up an upload, unless it is completed or given up already.
pub(super) async fn give_up(place: &Place, key: &Key, upload: &String) -> object_store::Result<()> {
    match place.uploads.abort_multipart(key, upload).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        done => done,
    }
}

pub(super) async fn delete(
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

pub(super) fn broken(why: String) -> object_store::Error {
    object_store::Error::Generic { store: "an output", source: why.into() }
}

async fn read_record(place: &Place, key: &Key) -> object_store::Result<Record> {
    let found = place.store.get(key).await?;
    if found.meta.size > MAX_RECORD {
        return Err(broken(format!("the record {key} is too long")));
    }
    let bytes = small(found, MAX_RECORD).await?;
    serde_json::from_slice(&bytes).map_err(|e| broken(format!("the record {key}: {e}")))
}
