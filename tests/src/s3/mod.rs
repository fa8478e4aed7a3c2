//! A store that speaks S3, in this process and in its memory: for jobs that read and write objects, and for what can go wrong with them.
//!
//! It does what clients of ours ask for, as S3 does it, and no more. It knows who asks by the access key alone: what it is sent isn't
//! verified. Of several things that it is told to do wrong, the first that fits a request happens.

mod answer;
mod fault;
mod request;
mod serve;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use fault::{Fault, Gate, When};
pub use request::{Operation, Request};

use crate::Rsubmit;
use answer::Answer;
use store::{Bucket, Object};

/// A bucket whose objects only those with the right keys reach.
pub const BUCKET: &str = "bucket";
/// One whose objects everyone may read.
pub const PUBLIC: &str = "public";

const ACCESS_KEY: &str = "the-access-key";
pub const SECRET_KEY: &str = "the-secret-key";

/// Who may do everything.
struct Access {
    key: String,
    token: Option<String>,
}

/// A request that was answered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub operation: Operation,
    /// Of a list, what keys were to begin with; of a deletion, the first that was to go.
    pub key: String,
    pub status: u16,
}

struct State {
    access: Access,
    buckets: BTreeMap<String, Bucket>,
    faults: Vec<(When, Fault)>,
    log: Vec<Done>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut state = self.lock();
        let mut faults = state.faults.iter_mut();
        faults.find_map(|(when, fault)| when.meets(request).then(|| fault.clone()))
    }

    fn answer(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        let mut state = self.lock();
        let State { access, buckets, log, .. } = &mut *state;
        let checked = match fault {
            Some(Fault::Unavailable) => Err((503, "SlowDown", "Please reduce your request rate.")),
            _ => answer::check(access, request),
        };
        let bucket = buckets.get_mut(&request.bucket);
        let bucket = bucket.ok_or((404, "NoSuchBucket", "The specified bucket does not exist"));
        let answer = checked.and(bucket).and_then(|bucket| answer::answer(bucket, request));
        let answer = answer.unwrap_or_else(answer::refused);
        let (operation, key) = (request.operation, request.key.clone());
        log.push(Done { operation, key, status: answer.status().as_u16() });
        answer
    }
}

/// A store on this machine, gone when it is dropped.
pub struct S3 {
    shared: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Default for S3 {
    fn default() -> Self {
        Self::new()
    }
}

impl S3 {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let buckets = [BUCKET, PUBLIC].map(|name| (name.to_owned(), Bucket::default()));
        let shared = Shared(Arc::new(Mutex::new(State {
            access: Access { key: ACCESS_KEY.to_owned(), token: None },
            buckets: buckets.into(),
            faults: Vec::new(),
            log: Vec::new(),
        })));
        runtime.spawn(serve::serve(listener, shared.clone()));
        Self { shared, address, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells a job where it is, and the keys.
    pub fn submit(&self, job: Rsubmit) -> Rsubmit {
        let job = job.conf("ingle.s3.endpoint", self.endpoint());
        let job = job.conf("ingle.s3.access.key", ACCESS_KEY);
        job.conf("ingle.s3.secret.key", SECRET_KEY)
    }

    /// As [`S3::submit`], by variables, with a session's token that is wanted from now on.
    pub fn submit_by_variables(&self, job: Rsubmit) -> Rsubmit {
        let token = "the-token";
        self.shared.lock().access.token = Some(token.to_owned());
        let job = job.env("AWS_ENDPOINT_URL", &self.endpoint()).env("AWS_SESSION_TOKEN", token);
        job.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    fn in_bucket<R>(&self, name: &str, look: impl FnOnce(&mut Bucket) -> R) -> R {
        look(self.shared.lock().buckets.get_mut(name).expect("a bucket"))
    }

    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.put_in(BUCKET, key, bytes);
    }

    pub fn put_in(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        let object = Object::new(bytes.into());
        self.in_bucket(bucket, |bucket| bucket.objects.insert(key.to_owned(), object));
    }

    /// Gives an object of the public bucket a tag that is weak.
    pub fn weaken(&self, key: &str) {
        self.in_bucket(PUBLIC, |bucket| {
            let object = bucket.objects.get_mut(key).expect("an object");
            object.tag.insert_str(0, "W/");
        });
    }

    /// The keys that begin so, without what they begin with.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.in_bucket(BUCKET, |bucket| {
            bucket
                .objects
                .keys()
                .filter_map(|key| key.strip_prefix(prefix))
                .map(Into::into)
                .collect()
        })
    }

    pub fn read(&self, key: &str) -> String {
        let bytes = self.in_bucket(BUCKET, |bucket| {
            bucket.objects.get(key).unwrap_or_else(|| panic!("no object {key}")).bytes.clone()
        });
        String::from_utf8(bytes.into()).expect("text")
    }

    /// Removes all objects whose keys begin so, but not their uploads.
    pub fn remove(&self, prefix: &str) {
        self.in_bucket(BUCKET, |bucket| bucket.objects.retain(|key, _| !key.starts_with(prefix)));
    }

    /// The keys of uploads that are neither completed nor given up.
    pub fn pending(&self) -> Vec<String> {
        self.in_bucket(BUCKET, |bucket| {
            bucket.uploads.values().map(|upload| upload.key.clone()).collect()
        })
    }

    /// The parts of an output in order, as [`crate::Place::parts`]: it must be whole, and nothing may be left of how it was made.
    #[track_caller]
    pub fn parts(&self, out: &str) -> Vec<String> {
        let keys = self.keys(&format!("{out}/"));
        let parts = keys.len().saturating_sub(1);
        let expected = (0..parts).map(|n| format!("part-{n:05}"));
        let expected: Vec<_> = std::iter::once("_SUCCESS".to_owned()).chain(expected).collect();
        assert_eq!(keys, expected);
        assert_eq!(self.pending(), [""; 0], "uploads are left");
        keys[1..].iter().map(|key| self.read(&format!("{out}/{key}"))).collect()
    }

    /// An output of lines `key<TAB>value`, as [`crate::Place::table`].
    #[track_caller]
    pub fn table(&self, out: &str) -> BTreeMap<String, String> {
        crate::text::table(&self.parts(out))
    }

    /// All requests that were answered, in order, also those whose answers were lost.
    pub fn log(&self) -> Vec<Done> {
        self.shared.lock().log.clone()
    }

    /// How many requests of a kind were answered.
    pub fn count(&self, operation: Operation, status: u16) -> usize {
        let is = |done: &&Done| done.operation == operation && done.status == status;
        self.shared.lock().log.iter().filter(is).count()
    }

    /// From now on these requests meet this fault.
    pub fn misbehave(&self, when: When, fault: Fault) {
        self.shared.lock().faults.push((when, fault));
    }

    /// Holds requests until the gate is opened.
    pub fn hold(&self, when: When) -> Gate {
        let gate = Gate::default();
        self.misbehave(when, Fault::Held(gate.clone()));
        gate
    }

    /// Does all as it should again.
    pub fn behave(&self) {
        self.shared.lock().faults.clear();
    }

    /// Goes away for good.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}
