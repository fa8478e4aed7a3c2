//! Which objects a source's URL stands for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio_stream::StreamExt;

use super::{Location, Objects, StoreName};
use crate::error::{Error, Result};
use crate::listing::MAX_ENTRIES;

/// What is known of an object when it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub len: u64,
    /// Another one when it was changed: its ETag, if its store has any.
    pub tag: Option<String>,
}

type Files = BTreeMap<PathBuf, Found>;

/// The objects of a URL: itself, those right below it, or those that a glob matches, as in folders of this machine. `may_read` says whether
/// something may be listed.
pub(crate) fn list(
    objects: &Objects,
    url: &str,
    may_read: impl Fn(&Location) -> Result<()>,
) -> Result<Files> {
    let location = Location::parse(url)?;
    let is_glob = location.key.as_ref().contains(['*', '?', '[', '{']);
    let plain = may_read(&location).and_then(|()| plain(objects, &location));
    match plain {
        Err(Error::NotFound(_) | Error::NotAllowed { .. }) if is_glob => {
            glob(objects, &location, may_read)
        }
        found => found,
    }
}

fn found(location: &Location, meta: ObjectMeta) -> (PathBuf, Found) {
    let path = location.at(meta.location).as_path();
    (path, Found { len: meta.size, tag: meta.e_tag })
}

/// Names that start so are hidden, as in folders.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn plain(objects: &Objects, location: &Location) -> Result<Files> {
    let (store, key) = (objects.store(location)?.objects, location.key.clone());
    let has_folders = matches!(location.store, StoreName::S3(_));
    let metas = objects.wait("listing", location, async move {
        if !key.is_root() {
            match store.head(&key).await {
                Err(object_store::Error::NotFound { .. }) if has_folders => {}
                head => return head.map(|meta| vec![meta]),
            }
        }
        folder(&*store, &key).await
    })?;
    Ok(metas.into_iter().map(|meta| found(location, meta)).collect())
}

/// The objects right below a key.
async fn folder(store: &dyn ObjectStore, key: &Key) -> object_store::Result<Vec<ObjectMeta>> {
    let listed = store.list_with_delimiter(Some(key)).await?;
    if listed.objects.is_empty() && listed.common_prefixes.is_empty() {
        let source = "nothing begins so".into();
        return Err(object_store::Error::NotFound { path: key.to_string(), source });
    }
    // Some tools make an empty object for a folder.
    let is_file = |meta: &ObjectMeta| {
        meta.location != *key && !meta.location.filename().is_some_and(is_hidden)
    };
    Ok(listed.objects.into_iter().filter(is_file).collect())
}

fn glob(
    objects: &Objects,
    location: &Location,
    may_read: impl Fn(&Location) -> Result<()>,
) -> Result<Files> {
    let full = location.as_path();
    if !matches!(location.store, StoreName::S3(_)) {
        return Err(Error::bad(&full, "can't be listed: over HTTP each file is named by itself"));
    }
    let parts: Vec<&str> = location.key.as_ref().split('/').collect();
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[', '{']);
    let fixed = parts.iter().take_while(is_plain).count();
    let (base, pattern) = parts.split_at(fixed);
    let (base, pattern) = (base.join("/"), pattern.join("/"));
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    let glob = glob.map_err(|error| {
        Error::Invalid(format!("{} is no glob: {}", full.display(), error.kind()))
    })?;
    let base = Key::parse(base).map_err(|_| Error::bad(&full, "is no sound key"))?;
    let base = location.at(base);
    may_read(&base)?;
    let store = objects.store(&base)?.objects;
    let (key, matcher) = (base.key.clone(), glob.compile_matcher());
    let walked = objects
        .wait("listing", &base, async move { matching(store, &key, &matcher).await })?
        .ok_or_else(|| {
            Error::bad(
                &full,
                format!(
                    "stands for more than {MAX_ENTRIES} names: say more precisely what to read"
                ),
            )
        })?;
    if walked.is_empty() {
        return Err(Error::bad(&full, "matches no file"));
    }
    Ok(walked.into_iter().map(|meta| found(&base, meta)).collect())
}

/// What a glob matches below a key; none if there is too much to look at.
async fn matching(
    store: Arc<dyn ObjectStore>,
    base: &Key,
    matcher: &GlobMatcher,
) -> object_store::Result<Option<Vec<ObjectMeta>>> {
    let mut all = store.list(Some(base));
    let mut matched = Vec::new();
    let mut seen = 0;
    while let Some(meta) = all.next().await {
        let meta = meta?;
        seen += 1;
        if seen > MAX_ENTRIES {
            return Ok(None);
        }
        let Some(below) = meta.location.prefix_match(base) else { continue };
        let below: Vec<_> = below.map(|part| part.as_ref().to_owned()).collect();
        if below.is_empty() || below.iter().any(|name| is_hidden(name)) {
            continue;
        }
        let path = below.join("/");
        let is_match = |path: &Path| !path.as_os_str().is_empty() && matcher.is_match(path);
        // A matched folder stands for its files.
        let path = Path::new(&path);
        if is_match(path) || path.parent().is_some_and(is_match) {
            matched.push(meta);
        }
    }
    Ok(Some(matched))
}
