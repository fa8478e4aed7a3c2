//! What people ask a master, from anywhere.

use bytes::Bytes;
use ingle_core::master::MAX_SUBMISSION;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::master_client::MasterClient;
use ingle_sandbox::ComponentHash;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::rpc::{self, PIECE};

pub use ingle_proto::v1::{
    ListApplicationsReply, ListWorkersReply, LogPart, Secrets, StatusReply, Submission,
};

/// A connection for questions.
#[derive(Clone)]
pub struct Asker {
    master: MasterClient<Channel>,
    address: String,
}

/// The error of any question is for the user.
type Answer<T> = Result<T, String>;

impl Asker {
    /// Connects to a master at host:port.
    pub async fn connect(address: &str) -> Answer<Self> {
        let channel = rpc::connect(address).await.map_err(|why| {
            format!("no master at ingle://{address}: {why}; give the right --master, or set INGLE_MASTER")
        })?;
        let master = MasterClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
        Ok(Self { master, address: address.to_owned() })
    }

    fn words(&self, status: Status) -> String {
        match status.code() {
            tonic::Code::Unimplemented | tonic::Code::Unknown if status.message().is_empty() => {
                format!("what answers at {} is no master of Ingle's", self.address)
            }
            _ => rpc::words(&status),
        }
    }

    fn id(&self, id: &str) -> v1::IdRequest {
        v1::IdRequest { client: rpc::client(), id: id.to_owned() }
    }

    /// How an application or a driver is.
    pub async fn status(&mut self, id: &str) -> Answer<StatusReply> {
        let reply = self.master.status(self.id(id)).await;
        reply.map(|r| r.into_inner()).map_err(|status| self.words(status))
    }

    /// What an application or a driver waits for.
    pub async fn explain(&mut self, id: &str) -> Answer<String> {
        let reply = self.master.explain(self.id(id)).await;
        reply.map(|r| r.into_inner().text).map_err(|status| self.words(status))
    }

    /// Ends an application or a driver.
    pub async fn kill(&mut self, id: &str) -> Answer<String> {
        let reply = self.master.kill(self.id(id)).await;
        reply.map(|r| r.into_inner().text).map_err(|status| self.words(status))
    }

    /// Gives a worker no more work.
    pub async fn decommission(&mut self, worker: &str) -> Answer<String> {
        let reply = self.master.decommission(self.id(worker)).await;
        reply.map(|r| r.into_inner().text).map_err(|status| self.words(status))
    }

    /// All applications and drivers.
    pub async fn applications(&mut self) -> Answer<ListApplicationsReply> {
        let reply = self.master.list_applications(rpc::client().unwrap_or_default()).await;
        reply.map(|r| r.into_inner()).map_err(|status| self.words(status))
    }

    /// All workers.
    pub async fn workers(&mut self) -> Answer<ListWorkersReply> {
        let reply = self.master.list_workers(rpc::client().unwrap_or_default()).await;
        reply.map(|r| r.into_inner()).map_err(|status| self.words(status))
    }

    /// What an application, its driver and its tasks printed.
    pub async fn logs(&mut self, id: &str, follow: bool) -> Answer<Streaming<LogPart>> {
        let request = v1::ReadLogRequest { id: id.to_owned(), follow, last: 0 };
        let reply = self.master.read_logs(request).await;
        reply.map(|r| r.into_inner()).map_err(|status| self.words(status))
    }

    /// Submits a driver, and its job's file if the master doesn't have that; gives the driver's name. Secrets are stored nowhere.
    pub async fn submit(
        &mut self,
        job: &Bytes,
        cores: u32,
        memory: u64,
        supervise: bool,
        submission: &Submission,
        secrets: Option<Secrets>,
    ) -> Answer<String> {
        use ingle_proto::prost::Message;
        let submitted = submission.encode_to_vec();
        if submitted.len() > MAX_SUBMISSION {
            return Err(format!(
                "the job's arguments, environment, files and settings have {}, and no more than {} can be",
                ByteSize(submitted.len() as u64),
                ByteSize(MAX_SUBMISSION as u64)
            ));
        }
        let hash = ComponentHash::of(job).as_bytes().to_vec();
        let has = self.master.has_component(v1::ComponentName { hash: hash.clone() }).await;
        if !has.map_err(|status| self.words(status))?.into_inner().has {
            let (named, job) = (hash.clone(), job.clone());
            let chunks = (0..job.len().div_ceil(PIECE)).map(move |i| v1::ComponentChunk {
                hash: named.clone().into(),
                data: job.slice(i * PIECE..job.len().min((i + 1) * PIECE)),
            });
            let uploaded = self.master.upload_component(tokio_stream::iter(chunks)).await;
            uploaded.map_err(|status| self.words(status))?;
        }
        let request = v1::SubmitDriverRequest {
            protocol: rpc::PROTOCOL,
            name: submission.name.clone(),
            cores,
            memory,
            supervise,
            component: hash,
            submission: submitted,
            secrets: secrets.map(|secrets| secrets.encode_to_vec()),
        };
        let reply = self.master.submit_driver(request).await;
        reply.map(|r| r.into_inner().driver).map_err(|status| self.words(status))
    }
}
