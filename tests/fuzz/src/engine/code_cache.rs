//! What a compiler that was broken into hands over, and what lies in a cache's folder: no more is loaded than was put there.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ingle_sandbox::{CodeCache, ComponentHash, Interrupt, LoadError, Sandbox, split_made};
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
    let (name, other) = (ComponentHash::of(input.some_bytes()), ComponentHash::of(b"another"));
    let ours = sandbox.fits();
    let fits = input.pick(&[ours.as_str(), "0123456789abcdef", "../../../../made", ""]);
    let said = [fits.as_bytes(), input.rest()].concat();
    let kept = cache.store_made(name, &said);
    let names = || {
        let entries = fs::read_dir(&made).expect("it is there").flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    match split_made(&said) {
        // It is found as this component's alone, and by what it says that it fits.
        Ok((fits, code)) => {
            assert_eq!((kept, names().len()), (Ok(()), 2), "it, and the key");
            assert!(cache.find(name, fits).is_some_and(|found| found == code));
            assert_eq!(cache.hand(name, &ours).is_some(), fits == ours);
            // Also where whoever can write there gives it another's name.
            let entry = |of| made.join(format!("{of}-{fits}.cwasm"));
            if name != other && fs::rename(entry(name), entry(other)).is_ok() {
                assert!(cache.find(other, fits).is_none() && cache.hand(other, fits).is_none());
            }
        }
        Err(why) => assert_eq!((kept, names()), (Err(why), vec!["key".to_owned()])),
    }
    let _ = fs::remove_dir_all(&made);
}
