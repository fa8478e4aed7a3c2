//! How a process on a worker comes to its job: from the worker's cache of compiled code, which only the worker writes. What isn't there is
//! compiled by a process of its own, with limits of its own, since a component may be made to break a compiler.

use std::io::Write;
use std::path::{Path, PathBuf};

use ingle_blocks::Grants;
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use ingle_sandbox::{CodeCache, ComponentHash, Interrupt, Job, MAX_COMPONENT_BYTES, Sandbox};
use ingle_walls::Down;

use crate::rpc::{Secret, SendSecret, Way};
use crate::walls::{self, Own};

/// A process's worker, and who the process is to that.
#[derive(Clone)]
pub struct Loader {
    /// host:port.
    pub worker: String,
    pub way: Way,
    pub secret: SendSecret,
    /// As `app-…` or `driver-…`.
    pub id: String,
    /// Where the worker keeps compiled code.
    pub code: PathBuf,
}

impl Loader {
    /// That of a driver on a worker.
    pub fn of_driver(config: &v1::DriverConfig, way: Way) -> Result<Self, String> {
        let secret = Secret::from_bytes(config.secret.clone());
        Ok(Self {
            worker: config.worker_address.clone(),
            way,
            secret: secret.ok_or("its configuration has no secret")?.sender()?,
            id: config.driver.clone(),
            code: PathBuf::from(&config.code_dir),
        })
    }

    /// Loads a job, once its worker has compiled it.
    pub async fn load(&self, hash: ComponentHash, interrupt: Interrupt) -> Result<Job, String> {
        if let Some(job) = self.find(hash, interrupt).await? {
            return Ok(job);
        }
        let way = self.way.lazy(&self.worker)?;
        let mut worker = WorkerClient::with_interceptor(way, self.secret.clone());
        let asked = v1::PrepareJobRequest {
            id: self.id.clone(),
            component: hash.as_bytes().to_vec(),
            epoch_interruption: interrupt == Interrupt::Epoch,
        };
        worker.prepare_job(asked).await.map_err(|status| status.message().to_owned())?;
        let found = self.find(hash, interrupt).await?;
        found.ok_or_else(|| "the job was compiled, and its code is gone again".into())
    }

    async fn find(&self, hash: ComponentHash, interrupt: Interrupt) -> Result<Option<Job>, String> {
        let code = self.code.clone();
        let find = move || {
            let cache = CodeCache::open_for_reading(&code).map_err(|e| e.to_string())?;
            let sandbox = Sandbox::new(Some(cache), interrupt).map_err(|e| e.to_string())?;
            sandbox.find(hash).map_err(|e| e.to_string())
        };
        tokio::task::spawn_blocking(find).await.map_err(|e| format!("loading the job: {e}"))?
    }
}

/// The process that compiles one job, and writes its code to standard output. The error is for the user.
pub fn compile(config: &v1::CompileConfig, down: Vec<Down>) -> Result<(), String> {
    let hash = hash(&config.component)?;
    let bytes = read_component(Path::new(&config.path), hash)?;
    let nothing = Grants::new(&[], &[]).map_err(|e| e.to_string())?;
    walls::raise(down, Own::default(), &nothing, &config.required_walls)?;
    let component = ingle_guests::componentize(&bytes).map_err(|e| e.to_string())?;
    let interrupt = if config.epoch_interruption { Interrupt::Epoch } else { Interrupt::Calls };
    let sandbox = Sandbox::new(None, interrupt).map_err(|e| e.to_string())?;
    let made = sandbox.make(hash, &component).map_err(|e| e.to_string())?;
    let mut out = std::io::stdout().lock();
    out.write_all(&made).and_then(|()| out.flush()).map_err(|e| format!("handing it over: {e}"))
}

/// A component's name.
pub fn hash(bytes: &[u8]) -> Result<ComponentHash, String> {
    let hash = <[u8; 32]>::try_from(bytes).map_err(|_| "that is no component's hash")?;
    Ok(ComponentHash::from_bytes(hash))
}

/// A job's file, if it is what its name says.
pub fn read_component(path: &Path, hash: ComponentHash) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| format!("reading the job: {e}"))?;
    let read = file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("reading the job: {e}"))?;
    if ComponentHash::of(&bytes) == hash {
        Ok(bytes)
    } else {
        Err("the job's file isn't what its hash says".into())
    }
}
