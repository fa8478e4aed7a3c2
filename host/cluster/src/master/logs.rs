//! Logs: they are where they were written, and pass through the master on their way to people.

use std::collections::BTreeSet;

use ingle_core::ids::WorkerId;
use ingle_core::master::{AppId, DriverId, Master};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use tokio::sync::mpsc;
use tonic::Status;

use crate::rpc;

/// Parts that wait for a reader who is slow.
pub const AHEAD: usize = 16;

/// What a log is read as, part by part.
pub type Parts = mpsc::Sender<Result<v1::LogPart, Status>>;

/// Where the logs of an application and its driver are: a worker's address, and whose they are. None if neither is known.
pub fn places(
    core: &Master,
    app: Option<AppId>,
    driver: Option<DriverId>,
) -> Option<Vec<(String, String)>> {
    let app = app.or_else(|| core.driver(driver?)?.app).and_then(|id| core.app(id));
    let driver = driver.or_else(|| app.as_ref()?.driver).and_then(|id| core.driver(id));
    if app.is_none() && driver.is_none() {
        return None;
    }
    let mut places = BTreeSet::new();
    let address = |worker: WorkerId| core.worker_address(worker).map(str::to_owned);
    if let Some(driver) = driver {
        let at = driver.worker.and_then(address);
        places.extend(at.map(|at| (at, driver.id.to_string())));
    }
    if let Some(app) = app {
        let at = app.workers.iter().filter_map(|worker| address(*worker));
        places.extend(at.map(|at| (at, app.id.to_string())));
    }
    Some(places.into_iter().collect())
}

/// Passes on one worker's log. False if nobody reads any more.
pub async fn relay(address: &str, request: v1::ReadLogRequest, send: &Parts) -> bool {
    let words = |why: String| v1::LogPart {
        source: "master".into(),
        stderr: true,
        data: format!("the logs of {} on {address} can't be read: {why}\n", request.id).into(),
    };
    let channel = match rpc::connect(address).await {
        Ok(channel) => channel,
        Err(why) => return send.send(Ok(words(why))).await.is_ok(),
    };
    let mut worker = WorkerClient::new(channel).max_decoding_message_size(rpc::PIECE);
    let mut parts = match worker.read_log(request.clone()).await {
        Ok(parts) => parts.into_inner(),
        Err(status) => return send.send(Ok(words(rpc::words(&status)))).await.is_ok(),
    };
    loop {
        let part = tokio::select! {
            part = parts.message() => part,
            () = send.closed() => return false,
        };
        let Ok(Some(part)) = part else { return true };
        if send.send(Ok(part)).await.is_err() {
            return false;
        }
    }
}
