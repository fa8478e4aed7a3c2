//! Who reads logs here: so many at the same time. One who doesn't take what is there gives way to others who want to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ingle_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tonic::Status;

use super::logs::Reader;

/// How long one may take nothing while others want to read.
pub const SLOW: Duration = Duration::from_secs(30);
/// Parts that wait for one who is slow.
const AHEAD: usize = 4;

pub type Part = Result<v1::LogPart, Status>;
pub type Parts = mpsc::Receiver<Part>;

/// The places of those who read.
#[derive(Clone)]
pub struct Readers {
    most: usize,
    places: Arc<Mutex<Vec<Arc<Place>>>>,
}

#[derive(Default)]
struct Place {
    /// Since when its reader takes nothing.
    waits: Mutex<Option<Instant>>,
    gives_way: Notify,
}

/// What a reader is sent, for as long as it has a place.
pub struct Sender {
    send: mpsc::Sender<Part>,
    /// Room for the word that it has none any more.
    last: Option<mpsc::OwnedPermit<Part>>,
    place: Arc<Place>,
    readers: Readers,
}

impl Readers {
    pub fn new(most: usize) -> Self {
        Self { most, places: Arc::default() }
    }

    /// Lets one more read; none if there is no place.
    pub fn enter(&self, now: Instant) -> Option<(Sender, Parts)> {
        let mut places = self.places.lock();
        if places.len() >= self.most {
            let slow = |place: &Arc<Place>| {
                let since = (*place.waits.lock())?;
                (now.saturating_duration_since(since) >= SLOW).then_some(since)
            };
            let slow = places.iter().enumerate().filter_map(|(i, place)| Some((slow(place)?, i)));
            let (_, slowest) = slow.min()?;
            places.swap_remove(slowest).gives_way.notify_one();
        }
        let place = Arc::<Place>::default();
        places.push(place.clone());
        drop(places);
        let (send, parts) = mpsc::channel(AHEAD + 1);
        let last = send.clone().try_reserve_owned().ok();
        Some((Sender { send, last, place, readers: self.clone() }, parts))
    }
}

impl Reader for Sender {
    async fn take(&mut self, part: v1::LogPart) -> bool {
        *self.place.waits.lock() = Some(Instant::now());
        tokio::select! {
            biased;
            () = self.place.gives_way.notified() => {
                let words = format!("others want to read logs here, and nobody has taken any of this for {} s", SLOW.as_secs());
                if let Some(last) = self.last.take() {
                    last.send(Err(Status::unavailable(words)));
                }
                false
            }
            sent = self.send.send(Ok(part)) => {
                *self.place.waits.lock() = None;
                sent.is_ok()
            }
        }
    }

    fn gone(&self) -> impl Future<Output = ()> + Send {
        self.send.closed()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.readers.places.lock().retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_gives_way_to_others() {
        let readers = Readers::new(2);
        let start = Instant::now();
        let (mut slow, mut parts) = readers.enter(start).unwrap();
        let (mut quick, mut taken) = readers.enter(start).unwrap();
        assert!(quick.take(v1::LogPart::default()).await && taken.recv().await.is_some());
        for _ in 0..AHEAD {
            assert!(slow.take(v1::LogPart::default()).await);
        }
        assert!(readers.enter(start + 2 * SLOW).is_none(), "all take what there is");
        let stuck = tokio::spawn(async move { slow.take(v1::LogPart::default()).await });
        while readers.places.lock().iter().all(|place| place.waits.lock().is_none()) {
            tokio::task::yield_now().await;
        }
        assert!(readers.enter(Instant::now()).is_none(), "not at once");
        let another = readers.enter(Instant::now() + SLOW).unwrap();
        assert!(!stuck.await.unwrap());
        for _ in 0..AHEAD {
            assert!(parts.recv().await.unwrap().is_ok());
        }
        let why = parts.recv().await.unwrap().unwrap_err();
        assert!(why.message().contains("others want"), "{why}");
        assert!(parts.recv().await.is_none());
        // Who has ended leaves a place.
        assert!(readers.enter(start).is_none());
        drop(another);
        assert!(readers.enter(start).is_some());
    }
}
