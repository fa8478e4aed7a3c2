//! What the owner of a host lets jobs have of its files: folders that have names, and which paths may be granted at all.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ingle_core::net::Reachable;

use crate::error::{Error, Result, show};
use crate::mounts;
use crate::objects::Location;

/// Where a guest finds volumes: `/volumes/NAME`. No path of the host is meant by it.
pub const VOLUMES: &str = "/volumes";
/// As volumes are granted, and as a job may write them: `volume:NAME/PATH`.
const PREFIX: &str = "volume:";
/// The longest name of a volume.
const MAX_NAME: usize = 64;

/// What a host offers. That of a user's own machine is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Folders with names.
    pub volumes: BTreeMap<String, Volume>,
    /// What may be granted by its path.
    pub paths: Paths,
    /// What may not, with all that is around it.
    pub closed: Vec<PathBuf>,
    /// Whom jobs may reach, and read from.
    pub net: Reachable,
}

/// A folder that has a name of its own on each host that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is.
    pub path: PathBuf,
    /// Nothing is written there.
    pub read_only: bool,
}

/// What may be granted by its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// Whatever isn't closed.
    #[default]
    Any,
    /// These, with all below.
    Only(Vec<PathBuf>),
}

impl Offer {
    /// Adds a volume, as `NAME=PATH` or `NAME=PATH:ro`. The error is for whoever wrote it.
    pub fn add_volume(&mut self, text: &str) -> Result<(), String> {
        let (name, path) = text.split_once('=').ok_or("write NAME=PATH, or NAME=PATH:ro")?;
        check_name(name)?;
        let (path, read_only) = match path.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (path, false),
        };
        if !Path::new(path).is_absolute() {
            return Err(format!("the path of the volume {name} isn't absolute: `{path}`"));
        }
        let volume = Volume { path: path.into(), read_only };
        match self.volumes.insert(name.to_owned(), volume) {
            None => Ok(()),
            Some(_) => Err(format!("there are two volumes {name}")),
        }
    }

    /// Closes what is closed wherever else it is mounted, as `/proc/self/mountinfo` has it, and what is the kernel's own.
    pub fn close_mounts(&mut self, mountinfo: &[u8]) {
        let more = mounts::aliases(mountinfo, &self.closed);
        self.closed.extend(more);
    }

    /// Whether something may be granted that is really `at`; `flag` and `asked` are for the words.
    pub(crate) fn permit(&self, at: &Path, flag: &'static str, asked: &Path) -> Result<()> {
        let closed = self.closed.iter().find(|c| at.starts_with(c) || c.starts_with(at));
        if let Some(closed) = closed {
            return Err(Error::Invalid(format!(
                "{flag}={} isn't allowed on this host: {} is there, which no job may touch; name a folder beside it",
                show(asked),
                show(closed)
            )));
        }
        match &self.paths {
            Paths::Any => Ok(()),
            Paths::Only(paths) if paths.iter().any(|path| at.starts_with(path)) => Ok(()),
            Paths::Only(paths) => {
                let names: Vec<_> = match paths.as_slice() {
                    [] => vec!["none".to_owned()],
                    paths => paths.iter().map(|path| show(path)).collect(),
                };
                Err(Error::Invalid(format!(
                    "{flag}={} isn't allowed on this host, whose worker has --grants={}; {}, or have the worker's \
                     --grants name it",
                    show(asked),
                    names.join(","),
                    self.volumes_to_name(flag)
                )))
            }
        }
    }

    /// As [`Offer::permit`], of the folder in which what was granted is still to be made.
    pub(crate) fn permit_around(&self, at: &Path, flag: &'static str, asked: &Path) -> Result<()> {
        self.permit(at, flag, asked).map_err(|_| {
            Error::Invalid(format!(
                "{flag}={} isn't there yet, and isn't allowed on this host without: the folder that is there, {}, is one that no \
                 job may touch all of; make the folder first",
                show(asked),
                show(at)
            ))
        })
    }

    /// Whether an object store may be granted, as far as its address is known by now.
    pub(crate) fn permit_store(&self, location: &Location, flag: &'static str) -> Result<()> {
        let address = location.store.address();
        match self.net != Reachable::NONE && address.is_none_or(|address| self.net.has(address)) {
            true => Ok(()),
            false => Err(Error::Invalid(self.net.refusal(format!("{flag}={location}")))),
        }
    }

    /// The volume of a name.
    pub(crate) fn volume(&self, name: &str, flag: &'static str) -> Result<&Volume> {
        check_name(name).map_err(|why| Error::Invalid(format!("{flag}={PREFIX}{name}: {why}")))?;
        self.volumes.get(name).ok_or_else(|| {
            Error::Invalid(format!(
                "this host has no volume {name}; {}, or give its worker, or an rsubmit that runs a driver, --volume \
                 {name}=PATH",
                self.volumes_to_name(flag)
            ))
        })
    }

    fn volumes_to_name(&self, flag: &'static str) -> String {
        match self.volumes.keys().next() {
            None => "it has no volumes to name instead".into(),
            Some(first) => {
                let names: Vec<_> = self.volumes.keys().map(String::as_str).collect();
                format!("name one of its volumes ({}): {flag}={PREFIX}{first}", names.join(", "))
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_sound = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_sound {
        return Ok(());
    }
    let name = show(name.as_ref());
    Err(format!(
        "`{name}` is no name of a volume: it has up to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`"
    ))
}

/// What is behind `volume:`.
pub(crate) fn named(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)
}

/// Where a guest finds what `volume:` names.
pub(crate) fn guest_path(named: &str) -> PathBuf {
    PathBuf::from(format!("{VOLUMES}/{named}"))
}

/// A guest's path of a volume as it is granted; none if it isn't one.
pub(crate) fn as_granted(path: &Path) -> Option<String> {
    let below = path.strip_prefix(VOLUMES).ok()?;
    below.components().next()?;
    Some(format!("{PREFIX}{}", below.to_string_lossy()))
}

/// The name of a volume, and the way from it, without `.` and `..`.
pub(crate) fn split(named: &str) -> (&str, PathBuf) {
    let (name, below) = named.split_once('/').unwrap_or((named, ""));
    let mut normal = PathBuf::new();
    for part in Path::new(below).components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    (name, normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_they_are_written() {
        let mut offer = Offer::default();
        offer.add_volume("data=/srv/data:ro").unwrap();
        offer.add_volume("my_out-2=/srv/a=b").unwrap();
        assert_eq!(offer.volumes["data"], Volume { path: "/srv/data".into(), read_only: true });
        assert_eq!(offer.volumes["my_out-2"], Volume { path: "/srv/a=b".into(), read_only: false });
        let long = format!("{}=/x", "n".repeat(65));
        for bad in ["data", "=/x", "a/b=/x", "..=/x", "a b=/x", "x=rel", "x=", "data=/twice", &long]
        {
            assert!(offer.add_volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_closed_is_closed_with_all_around_it() {
        let offer = Offer { closed: vec!["/w/worker".into(), "/proc".into()], ..Offer::default() };
        let permit = |at: &str| offer.permit(at.as_ref(), "--allow-read", at.as_ref());
        for at in ["/w/worker", "/w/worker/apps/x", "/w", "/", "/proc/1"] {
            let text = permit(at).unwrap_err().to_string();
            assert!(text.contains("name a folder beside it"), "{at}: {text}");
        }
        for at in ["/w/worker2", "/data", "/process"] {
            assert!(permit(at).is_ok(), "{at}");
        }
    }

    #[test]
    fn a_host_may_offer_some_paths_or_none() {
        let mut offer = Offer { paths: Paths::Only(vec!["/data".into()]), ..Offer::default() };
        let permit =
            |offer: &Offer, at: &str| offer.permit(at.as_ref(), "--allow-write", at.as_ref());
        assert!(permit(&offer, "/data/x").is_ok() && permit(&offer, "/data").is_ok());
        let text = permit(&offer, "/database").unwrap_err().to_string();
        assert!(
            text.contains("--allow-write=/database") && text.contains("--grants=/data"),
            "{text}"
        );
        assert!(permit(&offer, "/").is_err());
        offer.paths = Paths::Only(Vec::new());
        offer.add_volume("v=/srv").unwrap();
        let text = permit(&offer, "/data").unwrap_err().to_string();
        assert!(
            text.contains("--grants=none") && text.contains("--allow-write=volume:v"),
            "{text}"
        );
    }
}
