//! An object's bytes from some place on, read ahead a little.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::{Found, Location, Objects, causes};
use crate::error::{Error, Result};

/// Pieces that wait for their reader, and how long one is at most.
const AHEAD: usize = 4;
const PIECE: usize = 128 << 10;
/// What a reader holds: what waits, and a piece at either end.
pub(crate) const MEMORY: u64 = ((AHEAD + 2) * PIECE) as u64;
/// How often an object whose stream breaks is asked for again without one more byte, and how long it takes from try to try.
const RETRIES: u32 = 3;
const WAIT: Duration = Duration::from_millis(200);

const CHANGED: &str = "changed while the job ran";

/// Why an object couldn't be read on, in words that follow its name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broke(pub String);

/// Reads an object from `offset`. It must be as it was when it was listed. `counter` hears of every byte.
pub(crate) fn open(
    objects: &Objects,
    location: &Location,
    listed: &Found,
    offset: u64,
    counter: &Arc<AtomicU64>,
) -> Result<Box<dyn Read + Send>> {
    let store = objects.store(location)?.objects;
    let (send, pieces) = mpsc::channel(AHEAD);
    let (location, listed) = (location.clone(), listed.clone());
    let left = listed.len.saturating_sub(offset);
    let stream = Stream { store, location, listed, at: offset, has_ranges: true, send };
    let runtime = objects.runtime().map_err(Error::io("reading", &stream.location.as_path()))?;
    runtime.spawn(stream.run());
    Ok(Box::new(Reader { pieces, piece: Bytes::new(), left, counter: counter.clone() }))
}

/// Reads a part of an object, all of which is there by its listing.
pub(crate) fn read_range(
    objects: &Objects,
    location: &Location,
    listed: &Found,
    range: Range<u64>,
) -> Result<Bytes> {
    let store = objects.store(location)?.objects;
    let (place, listed) = (location.clone(), listed.clone());
    let read = async move {
        let mut tries = 0;
        loop {
            let why = match get_range(&*store, &place, &listed, range.clone()).await {
                Ok(bytes) => return Ok(Ok(bytes)),
                Err(Broken::Unwanted) => "it was given up".to_owned(),
                Err(Broken::Changed(why)) => return Ok(Err(why.to_owned())),
                Err(Broken::Away(why)) => why,
            };
            tries += 1;
            if tries > RETRIES {
                return Ok(Err(format!("could not be read: {why}")));
            }
            tracing::info!("reading {place} broke off: {why}; trying again");
            tokio::time::sleep(WAIT * tries).await;
        }
    };
    let problem = match objects.wait("reading", location, read)? {
        Ok(bytes) => return Ok(bytes),
        Err(problem) => problem,
    };
    Err(Error::bad(&location.as_path(), problem))
}

async fn get_range(
    store: &dyn ObjectStore,
    location: &Location,
    listed: &Found,
    range: Range<u64>,
) -> Result<Bytes, Broken> {
    let length = range.end - range.start;
    let result = get(store, location, listed, Some(GetRange::Bounded(range))).await;
    let result = match result {
        Ok(result) => result,
        Err((Broken::Away(_), false)) => {
            return Err(Broken::Changed(
                "is at a server that gives no parts of files: copy it to another place to read it as this format",
            ));
        }
        Err((broken, _)) => return Err(broken),
    };
    exactly(result.into_stream(), length).await
}

/// All of a small object, which its store may say is smaller than it is.
pub(super) async fn small(found: GetResult, most: u64) -> object_store::Result<Vec<u8>> {
    let (mut bytes, mut pieces) = (Vec::new(), found.into_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if bytes.len() as u64 + piece.len() as u64 > most {
            let source = format!("it has more than {most} bytes").into();
            return Err(object_store::Error::Generic { store: "HTTP", source });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// So many bytes; of an answer that is longer no more is taken.
async fn exactly(
    mut pieces: impl tokio_stream::Stream<Item = object_store::Result<Bytes>> + Unpin,
    length: u64,
) -> Result<Bytes, Broken> {
    let another = || Broken::Away("the store sent another part than was asked for".into());
    let length = usize::try_from(length).map_err(|_| another())?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Broken::Away(causes(&error)))?;
        if piece.len() > length - bytes.len() {
            return Err(another());
        }
        // Mostly it comes in one.
        if piece.len() == length {
            return Ok(piece);
        }
        bytes.reserve(length - bytes.len());
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() == length { Ok(bytes.freeze()) } else { Err(another()) }
}

/// Asks for an object, which must be as it was listed. Told with what goes wrong is whether its server knows ranges.
async fn get(
    store: &dyn ObjectStore,
    location: &Location,
    listed: &Found,
    range: Option<GetRange>,
) -> Result<GetResult, (Broken, bool)> {
    // The client of the store panics of one that can't be sent.
    if listed.tag.as_ref().is_some_and(|tag| !tag.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        return Err((Broken::Changed("has a tag that is none"), true));
    }
    // A weak tag is one that no server compares.
    let (weak, strong) = match listed.tag.clone() {
        Some(tag) if tag.starts_with("W/") => (Some(tag), None),
        tag => (None, tag),
    };
    let options = GetOptions { if_match: strong, range, ..GetOptions::default() };
    let result = match store.get_opts(&location.key, options).await {
        Ok(result) => result,
        Err(object_store::Error::Precondition { .. }) => {
            return Err((Broken::Changed(CHANGED), true));
        }
        Err(object_store::Error::NotFound { .. }) => {
            let gone = "was there when the source was opened, and is gone";
            return Err((Broken::Changed(gone), true));
        }
        Err(error) => {
            let why = causes(&error);
            // Clients of S3 have no error of its own for that.
            let has_none = matches!(error, object_store::Error::NotSupported { .. })
                || why.contains("non-partial response");
            return Err((Broken::Away(why), !has_none));
        }
    };
    let is_other = weak.is_some() && result.meta.e_tag != weak;
    if result.meta.size != listed.len || is_other {
        return Err((Broken::Changed(CHANGED), true));
    }
    Ok(result)
}

struct Reader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    /// Bytes that didn't come yet.
    left: u64,
    counter: Arc<AtomicU64>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => {
                    self.piece = piece?;
                    self.left = self.left.saturating_sub(self.piece.len() as u64);
                }
                None if self.left == 0 => return Ok(0),
                None => {
                    let why = "could not be read on: whoever asked its store ended".to_owned();
                    return Err(io::Error::other(Broke(why)));
                }
            }
        }
        let n = buffer.len().min(self.piece.len());
        let piece = self.piece.split_to(n);
        buffer.get_mut(..n).unwrap_or_default().copy_from_slice(&piece);
        self.counter.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The end that asks the store. It ends when nobody reads any more.
struct Stream {
    store: Arc<dyn ObjectStore>,
    location: Location,
    listed: Found,
    at: u64,
    /// Until it says otherwise.
    has_ranges: bool,
    send: mpsc::Sender<io::Result<Bytes>>,
}

enum Broken {
    /// Worth another try.
    Away(String),
    /// What is there isn't what was listed.
    Changed(&'static str),
    Unwanted,
}

impl Stream {
    async fn run(mut self) {
        let mut tries = 0;
        while self.at < self.listed.len {
            let before = self.at;
            let why = match self.read().await {
                Ok(()) | Err(Broken::Unwanted) => return,
                Err(Broken::Changed(why)) => why.to_owned(),
                Err(Broken::Away(why)) => {
                    tries = if self.at > before { 0 } else { tries + 1 };
                    if tries <= RETRIES {
                        tracing::info!("reading {} broke off: {why}; trying again", self.location);
                        tokio::time::sleep(WAIT * tries).await;
                        continue;
                    }
                    format!("could not be read on: {why}")
                }
            };
            // Nobody reads any more, perhaps.
            let _ = self.send.send(Err(io::Error::other(Broke(why)))).await;
            return;
        }
    }

    async fn read(&mut self) -> Result<(), Broken> {
        let has_range = self.has_ranges && self.at > 0;
        let range = has_range.then_some(GetRange::Offset(self.at));
        let got = get(&*self.store, &self.location, &self.listed, range).await;
        let result = got.map_err(|(broken, has_ranges)| {
            self.has_ranges &= has_ranges;
            broken
        })?;
        // A server that knows no ranges gives all.
        let mut skipped = if has_range { 0 } else { self.at };
        let mut bytes = result.into_stream();
        // Whoever sends more than there is, or to nobody, isn't listened to.
        while self.at < self.listed.len {
            let piece = tokio::select! {
                piece = bytes.next() => piece,
                () = self.send.closed() => return Err(Broken::Unwanted),
            };
            let Some(piece) = piece else { break };
            let mut piece = piece.map_err(|error| Broken::Away(causes(&error)))?;
            let left = self.listed.len - self.at;
            let known = usize::try_from(skipped).map_or(piece.len(), |n| n.min(piece.len()));
            piece.advance(known);
            skipped -= known as u64;
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            while !piece.is_empty() {
                let some = piece.split_to(piece.len().min(PIECE));
                self.at += some.len() as u64;
                self.send.send(Ok(some)).await.map_err(|_| Broken::Unwanted)?;
            }
        }
        match self.at == self.listed.len {
            true => Ok(()),
            false => Err(Broken::Away("the store sent less than there is".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_that_is_longer_than_asked_for_no_more_is_taken() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = |pieces: &[usize], length| {
            let mut taken = 0;
            let pieces = pieces.iter().map(|bytes| {
                taken += bytes;
                Ok(Bytes::from(vec![7; *bytes]))
            });
            let came = runtime.block_on(exactly(tokio_stream::iter(pieces), length));
            (came.ok().map(|bytes| bytes.len()), taken)
        };
        assert_eq!(answer(&[10], 10), (Some(10), 10));
        assert_eq!(answer(&[4, 0, 6], 10), (Some(10), 10));
        assert_eq!(answer(&[4, 5], 10), (None, 9));
        assert_eq!(answer(&[4, 7, 1 << 20, 1 << 20], 10), (None, 11));
        assert_eq!(answer(&[], 0), (Some(0), 0));
    }
}
