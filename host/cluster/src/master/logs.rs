//! Logs: they are where they were written, and pass through the master on their way to people.

use std::collections::BTreeSet;
use std::time::Duration;

use ingle_core::ids::WorkerId;
use ingle_core::master::{AppId, DriverId, Master};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, Streaming};

use crate::rpc::{self, Secret};

/// Parts that wait for a reader who is slow.
pub const AHEAD: usize = 16;
/// Workers whose logs are begun to be read at the same time, for one reader.
pub const TURNS: usize = 16;
/// How long a worker may take to begin: it answers pings perhaps, and nothing else.
const PATIENCE: Duration = Duration::from_secs(10);
/// And to go on, in the middle of what is written already.
const SILENCE: Duration = Duration::from_secs(30);

/// What a log is read as, part by part.
pub type Parts = mpsc::Sender<Result<v1::LogPart, Status>>;

/// Where logs are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The worker's host:port.
    address: String,
    /// Whose they are.
    id: String,
    /// The worker's, for who reads them; empty if it isn't back since this master began.
    secret: Vec<u8>,
}

/// Where the logs of an application and its driver are. None if neither is known.
pub fn places(core: &Master, app: Option<AppId>, driver: Option<DriverId>) -> Option<Vec<Place>> {
    let app = app.or_else(|| core.driver(driver?)?.app).and_then(|id| core.app(id));
    let driver = driver.or_else(|| app.as_ref()?.driver).and_then(|id| core.driver(id));
    if app.is_none() && driver.is_none() {
        return None;
    }
    let mut places = BTreeSet::new();
    let place = |worker: WorkerId, id: String| {
        let (address, secret) = (core.worker_address(worker)?, core.log_secret(worker)?);
        Some(Place { address: address.to_owned(), id, secret: secret.to_vec() })
    };
    if let Some(driver) = driver {
        places.extend(driver.worker.and_then(|worker| place(worker, driver.id.to_string())));
    }
    if let Some(app) = app {
        let all = app.workers.iter();
        places.extend(all.filter_map(|worker| place(*worker, app.id.to_string())));
    }
    Some(places.into_iter().collect())
}

/// Passes on one worker's log, which is begun when it is its turn. False if nobody reads any more.
pub async fn relay(place: Place, follow: bool, last: u64, turns: &Semaphore, send: &Parts) -> bool {
    let begun = async {
        let turn = turns.acquire().await.map_err(|_| "the master ends")?;
        let begun = tokio::time::timeout(PATIENCE, begin(&place, follow, last));
        let parts = begun.await.map_err(|_| "it doesn't answer")??;
        // All of those that go on are read at the same time.
        Ok::<_, String>((parts, (!follow).then_some(turn)))
    };
    let begun = tokio::select! {
        begun = begun => begun,
        () = send.closed() => return false,
    };
    let words = |why: &str| v1::LogPart {
        source: "master".into(),
        stderr: true,
        data: format!("the logs of {} on {} can't be read: {why}\n", place.id, place.address)
            .into(),
    };
    let (mut parts, _turn) = match begun {
        Ok(begun) => begun,
        Err(why) => return send.send(Ok(words(&why))).await.is_ok(),
    };
    // What is written on may say nothing for as long as it likes.
    let silence = if follow { Duration::MAX } else { SILENCE };
    loop {
        let part = tokio::select! {
            part = tokio::time::timeout(silence, parts.message()) => part,
            () = send.closed() => return false,
        };
        let Ok(part) = part else {
            return send.send(Ok(words("it says no more"))).await.is_ok();
        };
        let Ok(Some(part)) = part else { return true };
        if send.send(Ok(part)).await.is_err() {
            return false;
        }
    }
}

async fn begin(place: &Place, follow: bool, last: u64) -> Result<Streaming<v1::LogPart>, String> {
    let secret = Secret::from_bytes(place.secret.clone());
    let secret = secret.ok_or("that worker isn't back yet since the master was started")?;
    let channel = rpc::connect(&place.address).await?;
    let mut worker = WorkerClient::with_interceptor(channel, secret.sender()?)
        .max_decoding_message_size(rpc::PIECE_MESSAGE);
    let request = v1::ReadLogRequest { id: place.id.clone(), follow, last };
    let parts = worker.read_log(request).await.map_err(|status| rpc::words(&status))?;
    Ok(parts.into_inner())
}
