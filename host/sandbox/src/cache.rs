//! Compiled components on disk.
//!
//! A compiled component is native code: whoever can write one that is loaded, runs what they like in this process. So an
//! entry is loaded only from a folder that belongs to this user and that nobody else can write, and only if it carries a
//! MAC made with this cache's key, over its name as well as its contents. An entry's name says which component it is
//! and which compiler, settings and processor it fits. Whatever is wrong with an entry, the component is compiled again.

use std::fs::{self, File, OpenOptions};
use std::hash::Hash;
use std::io::{self, Read, Write};
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
/// Entries beyond this many are removed, oldest first.
const MAX_ENTRIES: usize = 128;

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

    /// Opens the cache of another process, which alone writes it.
    pub fn open_for_reading(dir: &Path) -> Result<Self, CacheError> {
        let io = |e| CacheError::Io(dir.to_owned(), e);
        owned_by_us(dir, &fs::symlink_metadata(dir).map_err(io)?)?;
        let key = read_key(&dir.join("key"))?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    fn path(&self, hash: ComponentHash, fits: &str) -> PathBuf {
        self.dir.join(format!("{hash}-{fits}.cwasm"))
    }

    fn mac(&self, path: &Path, code: &[u8]) -> HmacSha256 {
        let mut mac = HmacSha256::new(&self.key.into());
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }

    /// The compiled form of a component, if a trustworthy one is there.
    pub fn load(&self, hash: ComponentHash, engine: &Engine) -> Option<Vec<u8>> {
        let path = self.path(hash, &fits(engine));
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

    /// Keeps the compiled form of a component; a failure only costs the next start some time.
    pub fn store(&self, hash: ComponentHash, engine: &Engine, code: &[u8]) {
        self.put(hash, &fits(engine), code);
    }

    /// As [`CodeCache::store`], of what another process says that it compiled. That may be anything: whoever made it can have made only what
    /// is loaded as this component.
    pub fn store_made(&self, hash: ComponentHash, made: &[u8]) -> Result<(), &'static str> {
        let (fits, code) = made.split_at_checked(FITS).ok_or("it is too short")?;
        let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let fits = std::str::from_utf8(fits).ok().filter(|text| text.as_bytes().iter().all(is_hex));
        self.put(hash, fits.ok_or("it doesn't say what it fits")?, code);
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
        let Ok(dir) = fs::read_dir(&self.dir) else { return };
        let mut entries: Vec<(SystemTime, PathBuf)> = dir
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "cwasm"))
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        entries.sort();
        let excess = entries.len().saturating_sub(MAX_ENTRIES);
        for (_, path) in &entries[..excess] {
            // Another process may have pruned it already.
            let _ = fs::remove_file(path);
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

/// Characters of [`fits`].
const FITS: usize = 16;

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
    fn what_another_process_compiled_is_loaded_by_readers() {
        let (dir, cache, engine, hash) = cache();
        let made = [fits(&engine).as_bytes(), b"code"].concat();
        cache.store_made(hash, &made).unwrap();
        let reader = CodeCache::open_for_reading(&dir.path().join("cache")).unwrap();
        assert_eq!(reader.load(hash, &engine).unwrap(), b"code");
        assert!(CodeCache::open_for_reading(&dir.path().join("none")).is_err());
        for wrong in [&b"short"[..], b"../../../../../../x", b"ABCDEF0123456789code"] {
            assert!(cache.store_made(hash, wrong).is_err());
        }
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
