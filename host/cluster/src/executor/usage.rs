//! What an executor in a process of its own tells its worker, for people to see: what it takes, while it runs.

use std::time::Duration;

use ingle_blocks::{BlockStore, CachedStats};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use tokio::time::MissedTickBehavior;

use crate::protocol;
use crate::rpc::{self, SendSecret, Way};

/// How often it is told, as long as it changes.
const EVERY: Duration = Duration::from_secs(1);

/// Tells the worker until the process ends. A worker that can't be told shows less, and nothing else comes of it.
pub async fn tell(config: v1::ExecutorConfig, secret: SendSecret, way: Way, store: BlockStore) {
    let way = match way.lazy(&config.worker_address) {
        Ok(way) => way,
        Err(why) => return tracing::debug!("the worker isn't told what this takes: {why}"),
    };
    let mut worker = WorkerClient::with_interceptor(way, secret);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tick.tick().await;
        let used = used(&store);
        if told == Some(used) {
            continue;
        }
        let (application, executor) = (config.application.clone(), config.executor);
        let request = v1::ReportUseRequest { application, executor, used: Some(used) };
        match worker.report_use(request).await {
            Ok(_) => told = Some(used),
            Err(status) => tracing::debug!("telling the worker: {}", rpc::words(&status)),
        }
    }
}

fn used(store: &BlockStore) -> v1::ExecutorUse {
    let CachedStats { partitions, in_memory, on_disk } = store.cached();
    v1::ExecutorUse {
        cached: Some(v1::CachedUse { partitions, in_memory, on_disk }),
        ..protocol::executor_use(store.pool(), store.stats().spilled)
    }
}
