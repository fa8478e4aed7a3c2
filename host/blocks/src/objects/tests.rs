//! Object stores, by one in memory: what is read, written, and refused.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_stream::StreamExt;

use super::*;
use crate::grants::Grants;
use crate::input::Compression as FileCompression;
use crate::offer::Offer;
use crate::output::{Output, OutputTarget};
use crate::parts::Parts;
use crate::reader::ReadOptions;
use crate::sources::{Framing, Source};
use crate::writer::Writer;

struct World {
    store: Arc<InMemory>,
    grants: Arc<Grants>,
    pool: MemoryPool,
    runtime: Runtime,
}

impl World {
    /// A bucket `b`; what is granted of it.
    fn new(read: &[&str], write: &[&str]) -> Self {
        let store = Arc::new(InMemory::new());
        let paths = |list: &[&str]| list.iter().map(std::path::PathBuf::from).collect::<Vec<_>>();
        let grants = Grants::new(&paths(read), &paths(write)).unwrap();
        let name = StoreName::S3("b".into());
        let opened = Store { objects: store.clone(), uploads: Some(store.clone()), begun: None };
        let grants = Arc::new(grants.with_objects(Objects::with_store(name, opened)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store, grants, pool: MemoryPool::new(ByteSize(64 << 20)), runtime }
    }

    fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        self.runtime.block_on(self.store.put(&Key::from(key), bytes.into())).unwrap();
    }

    fn get(&self, key: &str) -> Vec<u8> {
        let found = async { self.store.get(&Key::from(key)).await?.bytes().await };
        self.runtime.block_on(found).unwrap().to_vec()
    }

    /// The keys of all objects.
    fn keys(&self) -> Vec<String> {
        let mut all = self.store.list(None);
        let mut keys = Vec::new();
        self.runtime.block_on(async {
            while let Some(meta) = all.next().await {
                keys.push(meta.unwrap().location.to_string());
            }
        });
        keys.sort();
        keys
    }

    fn source(&self, url: &str, min_splits: u32) -> Result<Source> {
        Source::open(&self.grants, url, Framing::Lines, min_splits, 1)
    }

    fn files(&self, url: &str) -> Result<Vec<String>> {
        let parts = self.source(url, 0)?.to_parts();
        Ok(parts.files.into_iter().map(|(path, ..)| path.display().to_string()).collect())
    }

    fn read(&self, source: &Source, split: u32) -> Result<String> {
        let options = ReadOptions {
            account: None,
            pool: self.pool.clone(),
            block: 64,
            max_line: 1000,
            bytes_read: Arc::default(),
        };
        let mut reader = source.open_split(&self.grants, split, &options)?;
        let mut text = String::new();
        while let Some(block) = reader.next_block()? {
            text += std::str::from_utf8(block).unwrap();
        }
        Ok(text)
    }

    fn output(&self, url: &str, writer: &Writer) -> Result<Output> {
        Output::open(&self.grants, url, &Parts::default(), writer)
    }

    fn write(&self, target: &OutputTarget, (partition, attempt): (u32, u32), text: &str) -> bool {
        let Ok(mut file) = target.attempt(7, partition, attempt, &self.pool) else { return false };
        file.write(text.as_bytes()).unwrap();
        file.finish().unwrap();
        true
    }
}

#[test]
fn addresses_are_read_as_they_are_shown_and_nonsense_is_refused() {
    for url in ["s3://b/a/b c.txt", "https://host:8443/a/b", "http://[::1]:80/x", "s3://b/100%25"] {
        let location = Location::parse(url).unwrap();
        assert_eq!(location.to_string(), url);
        assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
    }
    assert_eq!(Location::parse("s3a://b/k").unwrap(), Location::parse("s3://b/k/").unwrap());
    let bad = [
        "s3://",
        "s3:///k",
        "s3://b/a//b",
        "s3://b/../c",
        "s3://b/a/./b",
        "s3://u:p@b/k",
        "ftp://h/x",
        "https://user@host/x",
        "https://host/a?b=c",
        "https://host/a#b",
        "https://h/%2e%2e/x",
        "https://h/a%3Fb",
        "https:///x",
        "s3://b/\u{1}",
    ];
    for url in bad {
        assert!(matches!(Location::parse(url), Err(Error::Invalid(_))), "{url}");
    }
    assert!(Location::parse(&format!("s3://b/{}", "x".repeat(2000))).is_err());
    assert!(!is_url("/a/b") && !is_url("file:///a") && !is_url("a") && is_url("gs://x/y"));
    assert_eq!((local("file:///a/b"), local("file://host/a")), ("/a/b", "file://host/a"));
}

#[test]
fn a_grant_is_of_what_lies_below_it_and_no_more() {
    let world = World::new(&["s3://b/data"], &["s3://b/out"]);
    world.put("data/x", "1\n");
    world.put("database", "2\n");
    world.put("out/x", "3\n");
    assert_eq!(world.files("s3://b/data/x").unwrap(), ["s3://b/data/x"]);
    for url in ["s3://b/database", "s3://b/", "s3://c/data/x", "https://b/data/x", "s3://b/out/x"] {
        let text = world.files(url).unwrap_err().to_string();
        assert!(text.contains("isn't allowed: add --allow-read="), "{url}: {text}");
    }
    let refused = world.output("s3://b/data/y", &Writer::default()).err().unwrap().to_string();
    assert!(refused.contains("--allow-write=s3://b/data/y"), "{refused}");
    // What an executor is told of is checked there once more.
    let others = World::new(&["s3://b/other"], &[]);
    let source = world.source("s3://b/data/x", 0).unwrap();
    assert!(matches!(others.read(&source, 0), Err(Error::NotAllowed { .. })));
}

#[test]
fn objects_folders_and_globs_stand_for_what_files_would() {
    let world = World::new(&["s3://b/data"], &[]);
    for key in ["day=1/a.txt", "day=1/b.txt", "day=1/_SUCCESS", "day=1/deep/c.txt", "day=2/a.txt"] {
        world.put(&format!("data/{key}"), "x\n");
    }
    world.put("data/day=3/_temporary/a.txt", "x\n");
    let names = |url: &str| {
        let files = world.files(url).unwrap().into_iter();
        files.map(|file| file.replace("s3://b/data/", "")).collect::<Vec<_>>()
    };
    assert_eq!(names("s3://b/data/day=1"), ["day=1/a.txt", "day=1/b.txt"]);
    assert_eq!(names("s3://b/data/day=1/"), ["day=1/a.txt", "day=1/b.txt"]);
    assert_eq!(names("s3://b/data/day=*"), ["day=1/a.txt", "day=1/b.txt", "day=2/a.txt"]);
    assert_eq!(names("s3://b/data/*/a.txt"), ["day=1/a.txt", "day=2/a.txt"]);
    assert_eq!(names("s3://b/data/**/c.txt"), ["day=1/deep/c.txt"]);
    assert!(matches!(world.files("s3://b/data/nothing"), Err(Error::NotFound(_))));
    let text = world.files("s3://b/data/x*").unwrap_err().to_string();
    assert!(text.contains("matches no file"), "{text}");
}

#[test]
fn splits_of_an_object_are_read_on_line_boundaries() {
    let world = World::new(&["s3://b"], &[]);
    let text: String = (0..500).map(|i| format!("line {i}\n")).collect();
    world.put("a.txt", text.as_str());
    let source = world.source("s3://b/a.txt", 7).unwrap();
    assert!(source.splits() >= 7);
    let read: String =
        (0..source.splits()).map(|split| world.read(&source, split).unwrap()).collect();
    assert_eq!(read, text);
    assert_eq!(world.pool.usage().total(), 0);
}

#[test]
fn an_object_that_changed_or_went_is_an_error_that_says_so() {
    let world = World::new(&["s3://b"], &[]);
    for key in ["longer", "same", "gone"] {
        world.put(key, "before\n");
    }
    let sources: Vec<_> = ["longer", "same", "gone"]
        .map(|key| world.source(&format!("s3://b/{key}"), 0).unwrap())
        .into();
    world.put("longer", "before and after\n");
    world.put("same", "beyond\n");
    world.runtime.block_on(world.store.delete(&Key::from("gone"))).unwrap();
    for (source, words) in sources.iter().zip(["changed while", "changed while", "is gone"]) {
        let text = world.read(source, 0).unwrap_err().to_string();
        assert!(text.starts_with("s3://b/") && text.contains(words), "{text}");
    }
}

#[test]
fn bytes_are_counted_and_a_reader_that_stops_is_no_trouble() {
    let world = World::new(&["s3://b"], &[]);
    world.put("big", vec![b'x'; 3 << 20]);
    let location = Location::parse("s3://b/big").unwrap();
    let listed = Found { len: 3 << 20, tag: None };
    let counter = Arc::new(AtomicU64::new(0));
    let mut reader = open(world.grants.objects(), &location, &listed, 1 << 20, &counter).unwrap();
    let mut some = [0; 1000];
    reader.read_exact(&mut some).unwrap();
    assert_eq!(counter.load(Ordering::Relaxed), 1000);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), (2 << 20) - 1000);
    drop(open(world.grants.objects(), &location, &listed, 0, &counter).unwrap());
}

#[test]
fn only_accepted_attempts_show_and_only_after_the_commit() {
    let world = World::new(&[], &["s3://b/out"]);
    let output = world.output("s3://b/out/day", &Writer::default()).unwrap();
    let (here, elsewhere) = (
        output.target(),
        OutputTarget::open(&world.grants, "s3://b/out/day", &Parts::default(), output.token())
            .unwrap(),
    );
    assert!(world.write(&here, (0, 0), "first"));
    assert!(world.write(&elsewhere, (0, 1), "second"));
    // Two whole parts, and a rest.
    let large = "0123456789abcdef".repeat((17 << 20) / 16);
    assert!(world.write(&elsewhere, (1, 0), &large));
    assert!(world.write(&here, (2, 0), ""));
    drop(here.attempt(7, 3, 0, &world.pool).unwrap());
    assert!(world.keys().iter().all(|key| key.contains("_temporary")), "{:?}", world.keys());
    assert!(matches!(
        world.output("s3://b/out/day", &Writer::default()),
        Err(Error::Unfinished(_))
    ));

    output.accept(7, 0, 1);
    output.accept(7, 0, 0);
    output.accept(7, 1, 0);
    output.accept(7, 2, 0);
    output.commit().unwrap();
    let expected = ["_SUCCESS", "part-00000", "part-00001", "part-00002"];
    assert_eq!(world.keys(), expected.map(|name| format!("out/day/{name}")));
    assert_eq!(world.get("out/day/part-00000"), b"second");
    assert!(world.get("out/day/part-00001") == large.as_bytes());
    assert!(!world.write(&elsewhere, (4, 0), "late") && !world.write(&here, (4, 0), "late"));
    assert_eq!(world.keys().len(), 4);
    assert_eq!(world.pool.usage().total(), 0);
    // What the job made it may read.
    assert_eq!(world.files("s3://b/out/day").unwrap().len(), 3);
}

#[test]
fn an_attempt_that_ends_after_the_commit_leaves_nothing() {
    let world = World::new(&[], &["s3://b/out"]);
    let output = world.output("s3://b/out", &Writer::default()).unwrap();
    let elsewhere =
        OutputTarget::open(&world.grants, "s3://b/out", &Parts::default(), output.token()).unwrap();
    let late = elsewhere.attempt(7, 0, 0, &world.pool).unwrap();
    assert!(world.write(&elsewhere, (0, 1), "x"));
    output.accept(7, 0, 1);
    output.commit().unwrap();
    let text = late.finish().unwrap_err().to_string();
    assert!(text.contains("its job is over"), "{text}");
    assert_eq!(world.keys(), ["out/_SUCCESS", "out/part-00000"]);
}

#[test]
fn an_output_that_is_given_up_leaves_nothing() {
    let world = World::new(&[], &["s3://b/out"]);
    let output = world.output("s3://b/out", &Writer::default()).unwrap();
    let target = output.target();
    assert!(world.write(&target, (0, 0), "x"));
    drop(output);
    assert!(world.keys().is_empty(), "{:?}", world.keys());
    assert!(!world.write(&target, (0, 1), "late"));
    // One whose accepted attempt was never written can't be committed, and shows nothing.
    let output = world.output("s3://b/out", &Writer::default()).unwrap();
    assert!(world.write(&output.target(), (0, 0), "x"));
    output.accept(7, 0, 0);
    output.accept(7, 1, 0);
    assert!(output.commit().is_err());
    assert!(world.keys().is_empty(), "{:?}", world.keys());
}

#[test]
fn stores_that_a_host_withholds_are_not_granted() {
    let granted = |net: &[&str], url: &str, endpoint: &str| {
        let net: Vec<_> = net.iter().map(|text| (*text).to_owned()).collect();
        let offer = Offer { net: Reachable::parse(&net).unwrap(), ..Offer::default() };
        let options = S3Options { endpoint: Some(endpoint.to_owned()), ..S3Options::default() };
        let grants = Grants::of(&offer, "/".as_ref(), &[url.into()], &[])?;
        grants.with_s3(options).map(|_| ())
    };
    let (near, far) = ("http://10.0.0.7:9000", "http://store:9000");
    for (net, url, endpoint) in [
        (&["none"][..], "https://example.org/x", far),
        (&["none"], "s3://b/x", far),
        (&["public"], "http://169.254.169.254/x", far),
        (&["public"], "http://0xa9fea9fe/x", far),
        (&["public"], "http://[::ffff:10.0.0.7]:80/x", far),
        (&["public"], "s3://b/x", near),
    ] {
        let text = granted(net, url, endpoint).unwrap_err().to_string();
        let words = format!("isn't allowed on this host, whose worker has --net={}", net[0]);
        assert!(text.contains(&words), "{url} {endpoint}: {text}");
    }
    for (net, url, endpoint) in [
        (&["public"][..], "https://example.org/x", near),
        (&["public"], "s3://b/x", far),
        (&["10.0.0.0/8"], "s3://b/x", near),
        (&["any"], "http://169.254.169.254/x", near),
    ] {
        granted(net, url, endpoint).unwrap();
    }
}

#[test]
fn what_exists_is_not_replaced_and_a_bucket_is_no_output() {
    let world = World::new(&[], &["s3://b/", "https://host/out"]);
    world.put("there/x", "x");
    world.put("object", "x");
    for url in ["s3://b/there", "s3://b/object"] {
        assert!(matches!(world.output(url, &Writer::default()), Err(Error::Exists(_))), "{url}");
    }
    for (url, words) in [("s3://b/", "a whole bucket"), ("https://host/out", "can't be written to")]
    {
        let text = world.output(url, &Writer::default()).err().unwrap().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_later_try_of_a_driver_begins_anew_what_an_earlier_one_left() {
    let world = World::new(&[], &["s3://b/out"]);
    let first = world.output("s3://b/out", &Writer::new("d", 0)).unwrap();
    assert!(world.write(&first.target(), (0, 0), "of the first try"));
    first.accept(7, 0, 0);
    for other in [Writer::default(), Writer::new("d", 0), Writer::new("e", 1)] {
        assert!(matches!(world.output("s3://b/out", &other), Err(Error::Unfinished(_))));
    }
    // What a killed commit had published.
    world.put("out/part-00003", "x");
    let second = world.output("s3://b/out", &Writer::new("d", 1)).unwrap();
    assert_eq!(world.keys(), ["out/_temporary/open"]);
    assert!(!world.write(&first.target(), (1, 0), "late"));
    assert!(world.write(&second.target(), (0, 0), "of the second"));
    second.accept(7, 0, 0);
    // The first wasn't killed after all, but only out of reach.
    assert!(first.commit().is_err());
    second.commit().unwrap();
    assert_eq!(world.keys(), ["out/_SUCCESS", "out/part-00000"]);
    assert_eq!(world.get("out/part-00000"), b"of the second");
    // Killed after its commit, before anybody knew of it.
    let third = world.output("s3://b/out", &Writer::new("d", 2)).unwrap();
    assert_eq!(world.keys(), ["out/_temporary/open"]);
    drop(third);
    assert!(world.keys().is_empty(), "{:?}", world.keys());
    assert!(matches!(world.output("s3://b/out", &Writer::new("d", 3)).map(drop), Ok(())));
}

#[test]
fn parts_of_an_object_are_read_as_it_was_listed() {
    let world = World::new(&["s3://b"], &["s3://b/out"]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 11) as u8).collect();
    world.put("a", bytes.clone());
    let open = |url: &str| Source::open(&world.grants, url, Framing::Ranges, 3, 1).unwrap();
    let source = open("s3://b/a");
    assert!(source.splits() >= 3);
    let options = ReadOptions::new(world.pool.clone());
    let mut reader = source.open_ranges(&world.grants, 1, &options).unwrap();
    for (at, len) in [(0, 5), (1_000_000, 1_500_000), (2_999_999, 1)] {
        assert_eq!(reader.read_at(at as u64, len).unwrap(), &bytes[at..at + len]);
    }
    assert_eq!(reader.read_at(2_999_999, 10).unwrap().len(), 1);
    assert_eq!(reader.read_at(u64::MAX, 10).unwrap(), b"");
    assert_eq!(options.bytes_read.load(std::sync::atomic::Ordering::Relaxed), 1_500_007);
    world.put("a", [0; 3_000_000]);
    let text = reader.read_at(0, 10).unwrap_err().to_string();
    assert_eq!(text, "s3://b/a changed while the job ran");
    drop(reader);
    assert_eq!(world.pool.usage().total(), 0);
    let others = World::new(&["s3://b/other"], &[]);
    let refused = source.open_ranges(&others.grants, 0, &options);
    assert!(matches!(refused, Err(Error::NotAllowed { .. })));
}

#[test]
fn uploads_are_completed_and_given_up_by_the_names_that_they_have() {
    let world = World::new(&[], &["s3://b/out"]);
    let parts = Parts::new(".csv", FileCompression::Gzip).unwrap();
    let open = |parts: &Parts, attempt| {
        Output::open(&world.grants, "s3://b/out", parts, &Writer::new("d", attempt))
    };
    let left = open(&parts, 0).unwrap();
    assert!(world.write(&left.target(), (0, 0), "left"));
    std::mem::forget(left);
    // The later try names its files otherwise.
    let output = open(&Parts::default(), 1).unwrap();
    assert!(world.write(&output.target(), (0, 0), "plain"));
    output.accept(7, 0, 0);
    output.commit().unwrap();
    assert_eq!(world.keys(), ["out/_SUCCESS", "out/part-00000"]);

    let world = World::new(&[], &["s3://b/out"]);
    let output = Output::open(&world.grants, "s3://b/out", &parts, &Writer::default()).unwrap();
    assert!(world.write(&output.target(), (0, 0), "compressed"));
    output.accept(7, 0, 0);
    output.commit().unwrap();
    assert_eq!(world.keys(), ["out/_SUCCESS", "out/part-00000.csv.gz"]);
    let mut text = String::new();
    let bytes = world.get("out/part-00000.csv.gz");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).unwrap();
    assert_eq!(text, "compressed");
}

/// A server that gives every request the same answer; its address, and what it was asked for.
fn server(answer: String) -> (String, Arc<AtomicU64>) {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address.to_string(), asked)
}

#[test]
fn a_web_server_does_not_send_the_host_elsewhere() {
    let (inside, asked) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into());
    let location = format!("Location: http://{inside}/secret");
    let (evil, _) =
        server(format!("HTTP/1.1 302 Found\r\n{location}\r\nContent-Length: 0\r\n\r\n"));
    let url = format!("http://{evil}/data");
    let grants = Arc::new(Grants::new(&[url.clone().into()], &[]).unwrap());
    let text = Source::open(&grants, &url, Framing::Lines, 1, 1).err().unwrap().to_string();
    let host = format!("add --allow-read=http://{inside}");
    assert!(text.contains("sends to another host") && text.contains(&host), "{text}");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "it was asked for nothing");
}
