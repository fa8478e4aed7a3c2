//! What an executor in a process of its own tells its worker: what it takes, for people to see, and what it stores, while it runs; and what it is told that
//! it may store.

use std::time::Duration;

use ingle_blocks::{BlockStore, CachedStats, Disk};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use tokio::time::MissedTickBehavior;

use crate::protocol;
use crate::rpc::{self, SendSecret, Way};

/// How often it is told, as long as it changes.
const EVERY: Duration = Duration::from_secs(1);
/// And so often as long as it doesn't: others may need what it was promised.
const AT_LEAST: u32 = 5;

/// Tells the worker until the process ends. A worker that can't be told shows less, and gives no more of the disk.
pub async fn tell(
    config: v1::ExecutorConfig,
    secret: SendSecret,
    way: Way,
    store: BlockStore,
    disk: Disk,
) {
    let way = match way.lazy(&config.worker_address) {
        Ok(way) => way,
        Err(why) => return tracing::debug!("the worker isn't told what this takes: {why}"),
    };
    let mut worker = WorkerClient::with_interceptor(way, secret);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut quiet) = (None, 0);
    loop {
        tick.tick().await;
        let (used, stored) = (used(&store), disk.used());
        if told == Some((used, stored)) && quiet < AT_LEAST {
            quiet += 1;
            continue;
        }
        let (application, executor) = (config.application.clone(), config.executor);
        let request = v1::ReportUseRequest { application, executor, used: Some(used), stored };
        match worker.report_use(request).await {
            Ok(reply) => {
                (told, quiet) = (Some((used, stored)), 0);
                match reply.into_inner().disk {
                    0 => {}
                    share => disk.set_share(share),
                }
            }
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
