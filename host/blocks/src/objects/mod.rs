//! Object stores: `s3://BUCKET/KEY` to read and write, `http://` and `https://` to read.
//!
//! Called from threads that may wait; what is asynchronous runs on a thread of its own. Nobody's credentials are used but those that came
//! with the job: never those of the machine that it runs on.

mod attempt;
mod connect;
pub(crate) mod fuzzing;
mod listing;
mod location;
mod output;
mod reader;
mod uploads;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ingle_core::net::Reachable;
use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

pub(crate) use attempt::{ObjectFile, ObjectTarget};
use connect::{Connector, Withheld};
pub(crate) use listing::{Found, list};
pub(crate) use location::{Location, StoreName, address, is_url, local};
pub(crate) use output::ObjectOutput;
pub(crate) use reader::{Broke, MEMORY as READER_MEMORY, open, read_range};
use uploads::Uploads;

use crate::error::{Error, Result};

/// How long a store may be silent.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request is tried again, and how often.
const RETRY: Duration = Duration::from_secs(60);
const RETRIES: usize = 5;

/// How S3 is reached, and as whom. Without keys, as nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// `http://HOST:PORT` of a store that isn't Amazon's.
    pub endpoint: Option<String>,
    /// None: `us-east-1`.
    pub region: Option<String>,
    /// Who asks.
    pub access_key: Option<String>,
    /// Their secret.
    pub secret_key: Option<String>,
    /// Of keys that end.
    pub session_token: Option<String>,
    /// The bucket is in the path, not in the host's name. None: if there is an endpoint.
    pub path_style: Option<bool>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("has_keys", &self.access_key.is_some())
            .finish_non_exhaustive()
    }
}

/// One store. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// None: it can't be written to.
    uploads: Option<Arc<dyn MultipartStore>>,
    /// None: it can't be asked for them.
    begun: Option<Arc<Uploads>>,
}

/// The stores of a job.
pub(crate) struct Objects {
    options: S3Options,
    /// Where this machine lets them be.
    reachable: Reachable,
    stores: Mutex<BTreeMap<StoreName, Store>>,
    runtime: OnceLock<Runtime>,
}

impl Objects {
    pub fn new(options: S3Options, reachable: Reachable) -> Self {
        Self { options, reachable, stores: Mutex::default(), runtime: OnceLock::new() }
    }

    pub fn reachable(&self) -> &Reachable {
        &self.reachable
    }

    /// A client for what begins with this URL.
    fn connector(&self, origin: &str) -> Connector {
        Connector { plain: origin.starts_with("http://"), reachable: self.reachable.clone() }
    }

    /// The store of a location, opened when it is first used.
    fn store(&self, location: &Location) -> Result<Store> {
        let mut stores = self.stores.lock();
        if let Some(store) = stores.get(&location.store) {
            return Ok(store.clone());
        }
        let store =
            self.open(&location.store).map_err(|error| failed("opening", location, error))?;
        stores.insert(location.store.clone(), store.clone());
        Ok(store)
    }

    fn open(&self, name: &StoreName) -> object_store::Result<Store> {
        // Another one may have been chosen before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY, ..RetryConfig::default() };
        match name {
            StoreName::Http(origin) => {
                let connector = self.connector(origin);
                let store = HttpBuilder::new().with_url(origin).with_retry(retry);
                // The builder looks at it as well.
                let client = ClientOptions::new().with_allow_http(connector.plain);
                let store = store.with_client_options(client);
                let store = store.with_http_connector(connector).build()?;
                Ok(Store { objects: Arc::new(store), uploads: None, begun: None })
            }
            StoreName::S3(bucket) => {
                let S3Options {
                    endpoint,
                    region,
                    access_key,
                    secret_key,
                    session_token,
                    path_style,
                } = self.options.clone();
                // Amazon's own have names.
                let connector = self.connector(endpoint.as_deref().unwrap_or_default());
                let path_style = path_style.unwrap_or(endpoint.is_some());
                // Not from the environment: that is the worker's, not the job's.
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region.unwrap_or_else(|| "us-east-1".into()))
                    .with_retry(retry)
                    .with_client_options(ClientOptions::new().with_allow_http(connector.plain))
                    .with_http_connector(connector.clone())
                    .with_virtual_hosted_style_request(!path_style);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                let has_keys = access_key.is_some() && secret_key.is_some();
                builder = match (access_key, secret_key) {
                    (Some(key), Some(secret)) => {
                        builder.with_access_key_id(key).with_secret_access_key(secret)
                    }
                    _ => builder.with_skip_signature(true),
                };
                if let Some(token) = session_token {
                    builder = builder.with_token(token);
                }
                let store = Arc::new(builder.build()?);
                // Nobody can't sign.
                let begun = has_keys.then(|| Uploads::new(store.clone(), connector).ok()).flatten();
                let begun = begun.map(Arc::new);
                Ok(Store { objects: store.clone(), uploads: Some(store), begun })
            }
        }
    }

    #[cfg(test)]
    fn with_store(name: StoreName, store: Store) -> Self {
        let objects = Self::new(S3Options::default(), Reachable::Any);
        objects.stores.lock().insert(name, store);
        objects
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-stores")
            .enable_all()
            .build()?;
        // Another thread may have been as quick; then this one goes.
        if let Err(second) = self.runtime.set(runtime) {
            second.shutdown_background();
        }
        self.runtime.get().ok_or_else(|| io::Error::other("no runtime"))
    }

    /// Waits for something that happens on the other thread.
    fn wait<T: Send + 'static>(
        &self,
        doing: &'static str,
        location: &Location,
        future: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let path = location.as_path();
        let runtime = self.runtime().map_err(Error::io(doing, &path))?;
        let (send, done) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Whoever waits is there.
            let _ = send.send(future.await);
        });
        match done.recv() {
            Ok(result) => result.map_err(|error| failed(doing, location, error)),
            Err(_) => Err(Error::io(doing, &path)(io::Error::other("it was given up"))),
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A drop may happen where nothing may wait.
            runtime.shutdown_background();
        }
    }
}

/// A store's answer, in our words.
fn failed(doing: &'static str, location: &Location, error: object_store::Error) -> Error {
    let path = location.as_path();
    to_error(doing, &path, error)
}

fn to_error(doing: &'static str, path: &Path, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::NotFound(path.to_owned()),
        object_store::Error::AlreadyExists { .. } => Error::Exists(path.to_owned()),
        error if is_refusal(&error) => Error::bad(
            path,
            format!(
                "can't be had with these keys ({}): give others, see ingle.s3.access.key in `rsubmit --help`",
                causes(&error)
            ),
        ),
        error => Error::io(doing, path)(io::Error::other(causes(&error))),
    }
}

/// Whether others might be allowed what was asked for.
fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};

    match error {
        PermissionDenied { .. } | Unauthenticated { .. } => true,
        // Lists and deletions aren't told apart by anything but their words.
        Generic { .. } => {
            let text = chain(error);
            ["401 Unauthorized", "403 Forbidden"]
                .iter()
                .any(|status| text.contains(&format!("status code: {status}")))
        }
        _ => false,
    }
}

/// An error with what caused it, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// What this machine's owner says of it, if that is the cause.
fn withheld<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Withheld> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|e| e.downcast_ref())
}

/// The same for one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    const LONGEST: usize = 1000;
    // Ours, and no answer's.
    if let Some(withheld) = withheld(error) {
        return withheld.to_string();
    }
    let mut text = chain(error);
    // What S3 says is in XML, and its own words say it best.
    let tagged = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(words, _)| words)
    };
    if let (Some(code), Some(message)) = (tagged("Code"), tagged("Message")) {
        text = format!("{message} ({code})");
    } else if let Some((before, why)) = text.split_once("client error (Connect): ") {
        let host = before.split_once("://").and_then(|(_, rest)| rest.split('/').next());
        let host = host.unwrap_or("its address");
        let see = match text.contains("S3 error") {
            true => " See ingle.s3.endpoint in `rsubmit --help`",
            false => "",
        };
        text = format!(
            "nothing answers at {host} ({why}): does the store run, and is that where it is?{see}"
        );
    }
    let text = text.trim_end_matches([':', ' ']);
    let is_control = |c: char| c.is_control();
    text.replace(is_control, " ").chars().take(LONGEST).collect()
}
