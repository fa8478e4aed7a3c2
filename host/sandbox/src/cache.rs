//! Compiled components on disk.
//!
//! A compiled component is native code: whoever can write one that is loaded, runs what they like in this process. So an
//! entry is loaded only from a folder that belongs to this user and that nobody else can write, and only if it carries a
//! MAC made with this cache's key, over its name as well as its contents. An entry's name says which component it is
//! and which compiler, settings and processor it fits. Whatever is wrong with an entry, the component is compiled again.

use std::fs::{self, File, OpenOptions};
use std::hash::Hash;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::component::ComponentHash;

type HmacSha256 = Hmac<Sha256>;

const MAC_BYTES: usize = 32;
/// A block of SHA-256: what HMAC takes as it is.
const KEY_BYTES: usize = 64;
/// Entries beyond this many, or beyond so many bytes, are removed: those first that were used or made longest ago.
const MAX_ENTRIES: usize = 128;
const MAX_BYTES: u64 = 4 << 30;

/// A cache folder that was found safe to load from.
pub struct CodeCache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
}

/// Why a cache folder isn't used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error(
        "{0} can be changed by others than this user (uid {1}, mode {2:o}): `chmod go-rwx` it, or choose another"
    )]
    Unsafe(PathBuf, u32, u32),
}

impl CodeCache {
    /// Opens, and makes if need be, the cache in `dir`.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let io = |e| CacheError::Io(dir.to_owned(), e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        owned_by_us(dir, &fs::symlink_metadata(dir).map_err(io)?)?;
        let key = read_or_make_key(&dir.join("key"))?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    fn path(&self, hash: ComponentHash, fits: &str) -> PathBuf {
        self.dir.join(format!("{hash}-{fits}.cwasm"))
    }

    fn mac(&self, path: &Path, code: &[u8]) -> HmacSha256 {
        let mut mac = self.begin_mac(path);
        mac.update(code);
        mac
    }

    fn begin_mac(&self, path: &Path) -> HmacSha256 {
        let mut mac = HmacSha256::new(&self.key.into());
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(&[0]);
        mac
    }

    /// The compiled form of a component, if a trustworthy one is there.
    pub fn load(&self, hash: ComponentHash, engine: &Engine) -> Option<Vec<u8>> {
        self.find(hash, &fits(engine))
    }

    /// As [`CodeCache::load`], of one that fits as [`Sandbox::fits`](crate::Sandbox::fits) says.
    pub fn find(&self, hash: ComponentHash, fits: &str) -> Option<Vec<u8>> {
        let path = self.path(hash, checked(fits).ok()?);
        let mut bytes = Vec::new();
        open_nofollow(&path).ok()?.read_to_end(&mut bytes).ok()?;
        if bytes.len() < MAC_BYTES {
            return None;
        }
        let code = bytes.split_off(MAC_BYTES);
        if self.mac(&path, &code).verify_slice(&bytes).is_err() {
            tracing::warn!(path = %path.display(), "a cached compilation isn't what was stored; compiling again");
            return None;
        }
        Some(code)
    }

    /// The compiled form of a component that fits as [`fits`] says, for a process that this one started: a file to be read, which isn't written
    /// any more. None if there is no trustworthy one.
    pub fn hand(&self, hash: ComponentHash, fits: &str) -> Option<File> {
        let path = self.path(hash, checked(fits).ok()?);
        let mut file = open_nofollow(&path).ok()?;
        let (mut mac, mut stored) = (self.begin_mac(&path), [0; MAC_BYTES]);
        file.read_exact(&mut stored).ok()?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => mac.update(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        if mac.verify_slice(&stored).is_err() {
            tracing::warn!(path = %path.display(), "a cached compilation isn't what was stored; compiling again");
            return None;
        }
        // Not to be among the oldest. If it can't be said, it is compiled again some day.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    /// Keeps the compiled form of a component; a failure only costs the next start some time.
    pub fn store(&self, hash: ComponentHash, engine: &Engine, code: &[u8]) {
        self.put(hash, &fits(engine), code);
    }

    /// As [`CodeCache::store`], of what another process says that it compiled. That may be anything: whoever made it can have made only what
    /// is loaded as this component.
    pub fn store_made(&self, hash: ComponentHash, made: &[u8]) -> Result<(), &'static str> {
        let (fits, code) = split(made)?;
        self.put(hash, fits, code);
        Ok(())
    }

    fn put(&self, hash: ComponentHash, fits: &str, code: &[u8]) {
        let path = self.path(hash, fits);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let stored = (|| -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&self.mac(&path, code).finalize().into_bytes())?;
            file.write_all(code)?;
            fs::rename(&temporary, &path)
        })();
        if let Err(error) = stored {
            tracing::warn!(path = %path.display(), %error, "a compilation can't be kept");
            // It may never have been made.
            let _ = fs::remove_file(&temporary);
        }
        self.prune();
    }

    fn prune(&self) {
        self.prune_to(MAX_ENTRIES, MAX_BYTES);
    }

    /// Whoever has opened an entry goes on with it.
    fn prune_to(&self, most: usize, most_bytes: u64) {
        let Ok(dir) = fs::read_dir(&self.dir) else { return };
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = dir
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "cwasm"))
            .filter_map(|e| {
                let meta = e.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), e.path()))
            })
            .collect();
        entries.sort();
        let mut bytes = 0;
        for (place, (_, size, path)) in entries.iter().rev().enumerate() {
            bytes += size;
            // What was made last stays, however large it is.
            if place > 0 && (place >= most || bytes > most_bytes) {
                // Another process may have pruned it already.
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn owned_by_us(path: &Path, meta: &fs::Metadata) -> Result<(), CacheError> {
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() == us && meta.mode() & 0o022 == 0 && !meta.file_type().is_symlink() {
        return Ok(());
    }
    Err(CacheError::Unsafe(path.to_owned(), meta.uid(), meta.mode() & 0o7777))
}

fn open_nofollow(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn read_or_make_key(path: &Path) -> Result<[u8; KEY_BYTES], CacheError> {
    let io = |e| CacheError::Io(path.to_owned(), e);
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|e| io(io::Error::other(e.to_string())))?;
    // Made under another name and linked, so that a second process never reads half a key.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&key))
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let _ = fs::remove_file(&temporary);
    made.map_err(io)?;
    read_key(path)
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], CacheError> {
    let io = |e| CacheError::Io(path.to_owned(), e);
    let mut key = [0; KEY_BYTES];
    let mut file = open_nofollow(path).map_err(io)?;
    owned_by_us(path, &file.metadata().map_err(io)?)?;
    file.read_exact(&mut key).map_err(io)?;
    Ok(key)
}

/// The code in a file that [`CodeCache::hand`] gave.
pub fn read_handed(mut file: File) -> io::Result<Vec<u8>> {
    let mut code = Vec::new();
    file.seek(SeekFrom::Start(MAC_BYTES as u64))?;
    file.read_to_end(&mut code)?;
    Ok(code)
}

/// Characters of [`fits`].
const FITS: usize = 16;
const NO_FIT: &str = "it doesn't say what it fits";

/// What [`Sandbox::make`](crate::Sandbox::make) gave, or is said to have given: what it fits, and the code.
pub fn split(made: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let (fits, code) = made.split_at_checked(FITS).ok_or("it is too short")?;
    Ok((checked(std::str::from_utf8(fits).map_err(|_| NO_FIT)?)?, code))
}

/// A text that [`fits`] may give, and that is no way out of a folder.
fn checked(fits: &str) -> Result<&str, &'static str> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if fits.len() == FITS && fits.bytes().all(is_hex) { Ok(fits) } else { Err(NO_FIT) }
}

/// Which compiler, settings and processor compiled code fits, in hex.
pub fn fits(engine: &Engine) -> String {
    let mut fits = HashInto(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fits);
    let fits: [u8; 32] = fits.0.finalize().into();
    fits[..FITS / 2].iter().map(|b| format!("{b:02x}")).collect()
}

/// Feeds what `Hash` writes into SHA-256.
struct HashInto(Sha256);

impl std::hash::Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cache() -> (tempfile::TempDir, CodeCache, Engine, ComponentHash) {
        let dir = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&dir.path().join("cache")).unwrap();
        (dir, cache, Engine::default(), ComponentHash::of(b"job"))
    }

    #[test]
    fn what_was_stored_is_loaded_by_a_later_process() {
        let (dir, cache, engine, hash) = cache();
        cache.store(hash, &engine, b"code");
        let again = CodeCache::open(&dir.path().join("cache")).unwrap();
        assert_eq!(again.load(hash, &engine).unwrap(), b"code");
        assert!(again.load(ComponentHash::of(b"other"), &engine).is_none());
    }

    #[test]
    fn what_another_process_compiled_is_handed_to_those_that_it_fits() {
        let (dir, cache, engine, hash) = cache();
        let made = [fits(&engine).as_bytes(), b"code"].concat();
        cache.store_made(hash, &made).unwrap();
        let handed = cache.hand(hash, &fits(&engine)).unwrap();
        assert_eq!(read_handed(handed).unwrap(), b"code");
        assert!(cache.hand(ComponentHash::of(b"other"), &fits(&engine)).is_none());
        for wrong in ["", "../../../../../x", "0123456789abcdef"] {
            assert!(cache.hand(hash, wrong).is_none(), "{wrong}");
        }
        let path = cache.path(hash, &fits(&engine));
        for damage in
            [&b"short"[..], b"a code that is longer than the code and its MAC are together"]
        {
            fs::write(&path, damage).unwrap();
            assert!(cache.hand(hash, &fits(&engine)).is_none());
        }
        drop(dir);
        for wrong in [&b"short"[..], b"../../../../../../x", b"ABCDEF0123456789code"] {
            assert!(cache.store_made(hash, wrong).is_err());
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let (_dir, cache, engine, _) = cache();
        let hash = |n: u8| ComponentHash::of(&[n]);
        let left = || {
            let is_there = |n: &u8| cache.load(hash(*n), &engine).is_some();
            (0..5).filter(is_there).collect::<Vec<_>>()
        };
        for n in 0..5 {
            cache.store(hash(n), &engine, &[n; 1000]);
            let file = File::options().write(true).open(cache.path(hash(n), &fits(&engine)));
            let made = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into());
            file.unwrap().set_modified(made).unwrap();
        }
        cache.prune_to(4, u64::MAX);
        assert_eq!(left(), [1, 2, 3, 4]);
        assert!(cache.hand(hash(1), &fits(&engine)).is_some());
        cache.prune_to(3, u64::MAX);
        assert_eq!(left(), [1, 3, 4], "it was used");
        cache.prune_to(10, 2 * (1000 + MAC_BYTES as u64));
        assert_eq!(left(), [1, 4]);
        cache.prune_to(10, 1);
        assert_eq!(left(), [1], "the last one stays");
    }

    #[test]
    fn a_changed_entry_is_not_loaded() {
        let (_dir, cache, engine, hash) = cache();
        cache.store(hash, &engine, b"code");
        let path = cache.path(hash, &fits(&engine));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.load(hash, &engine).is_none());
    }

    #[test]
    fn an_entry_under_another_name_is_not_loaded() {
        let (_dir, cache, engine, hash) = cache();
        cache.store(hash, &engine, b"code");
        let other = ComponentHash::of(b"victim");
        fs::copy(cache.path(hash, &fits(&engine)), cache.path(other, &fits(&engine))).unwrap();
        assert!(cache.load(other, &engine).is_none());
    }

    #[test]
    fn a_link_to_an_entry_is_not_followed() {
        let (dir, cache, engine, hash) = cache();
        cache.store(hash, &engine, b"code");
        let path = cache.path(hash, &fits(&engine));
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(cache.load(hash, &engine).is_none());
    }

    #[test]
    fn a_folder_that_others_can_write_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = CodeCache::open(dir.path()).err().unwrap();
        assert!(refused.to_string().contains("mode 777"), "{refused}");
    }

    #[test]
    fn a_key_that_others_can_write_is_not_used() {
        let (dir, _, _, _) = cache();
        let key = dir.path().join("cache/key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(
            CodeCache::open(&dir.path().join("cache")),
            Err(CacheError::Unsafe(path, _, _)) if path == key
        ));
    }
}
