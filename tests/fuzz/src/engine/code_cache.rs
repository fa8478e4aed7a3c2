//! What a compiler that was broken into hands over, and what lies in a cache's folder: no more is loaded than was put there.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ingle_sandbox::{CodeCache, ComponentHash, Interrupt, LoadError, Sandbox};
use tempfile::TempDir;

use crate::Input;

struct Cached {
    sandbox: Sandbox,
    hash: ComponentHash,
    dir: TempDir,
    entry: PathBuf,
    sound: Vec<u8>,
}

static CACHED: LazyLock<Cached> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let cache = CodeCache::open(&dir.path().join("code")).expect("a cache can be made");
    let sandbox = Sandbox::new(Some(cache), Interrupt::Calls).expect("there is an engine");
    let job = wat::parse_str(super::JOB).expect("it is WebAssembly");
    let hash = ComponentHash::of(&job);
    drop(sandbox.load::<LoadError>(hash, || Ok(job)).expect("it is a job"));
    let entries = fs::read_dir(dir.path().join("code")).expect("it is there").flatten();
    let mut entries = entries.map(|entry| entry.path());
    let entry = entries.find(|path| path.extension().is_some_and(|e| e == "cwasm"));
    let entry = entry.expect("what was compiled is kept");
    let sound = fs::read(&entry).expect("it can be read");
    Cached { sandbox, hash, dir, entry, sound }
});

pub fn run(data: &[u8]) {
    let Cached { sandbox, hash, dir, entry, sound } = &*CACHED;
    let mut input = Input::new(data);
    if input.flag() {
        // An entry of other bytes: cut, longer, or changed.
        let mut bytes = sound.clone();
        let at = input.number() as usize % (bytes.len() + 1);
        match input.byte() % 3 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(input.rest()),
            _ => bytes.iter_mut().skip(at).zip(input.rest()).for_each(|(byte, x)| *byte ^= x),
        }
        if fs::write(entry, &bytes).is_err() {
            return;
        }
        let cache = CodeCache::open(&dir.path().join("code")).expect("it is there");
        let found = cache.hand(*hash, &sandbox.fits());
        assert_eq!(found.is_some(), bytes == *sound);
        return;
    }
    let made = dir.path().join("made");
    let cache = CodeCache::open(&made).expect("a cache can be made");
    let name = ComponentHash::of(input.some_bytes());
    let bytes = input.rest();
    let kept = cache.store_made(name, bytes);
    let entries =
        fs::read_dir(&made).expect("it is there").flatten().map(|entry| entry.file_name());
    let names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|name| name == "key" || name.ends_with(".cwasm")), "{names:?}");
    let _ = (kept, fs::remove_dir_all(&made));
}
