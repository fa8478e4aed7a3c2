//! A daemon's TOML file. Flags win over the environment, and that over the file.

use std::path::{Path, PathBuf};

use ingle_cluster::PagePort;
use serde::Deserialize;

/// Read if no file is named and it is there.
pub const DEFAULT: &str = "/etc/ingle/ingle.toml";
/// A file larger than this is some other file.
const MAX_FILE: u64 = 1 << 20;

/// The file: a table for each daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `[master]`
    #[serde(default)]
    pub master: Master,
    /// `[worker]`
    #[serde(default)]
    pub worker: Worker,
}

/// `[master]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Master {
    pub host: Option<String>,
    pub port: Option<u16>,
    /// A number, or `none`.
    pub webui_port: Option<PagePort>,
    pub dir: Option<PathBuf>,
    /// In seconds.
    pub worker_lease: Option<u64>,
    /// In seconds.
    pub app_lease: Option<u64>,
}

/// `[worker]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Worker {
    pub master: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// A number, or `none`.
    pub webui_port: Option<PagePort>,
    pub cores: Option<u32>,
    pub memory: Option<String>,
    pub work_dir: Option<PathBuf>,
    /// Names, or `all`.
    pub require_walls: Option<Vec<String>>,
    pub log_size: Option<String>,
    /// In seconds.
    pub compile_time: Option<u64>,
    pub compile_memory: Option<String>,
    pub disk: Option<String>,
    pub disk_rate: Option<String>,
    /// Paths, or `none`, or `any`.
    pub grants: Option<Vec<String>>,
    /// `public`, addresses and ranges; or `none`, or `any`.
    pub net: Option<Vec<String>>,
    /// As `NAME=PATH` or `NAME=PATH:ro`.
    pub volume: Option<Vec<String>>,
    /// FIRST-LAST.
    pub executor_uids: Option<String>,
}

impl Config {
    /// Reads the named file, else the default one if there is one.
    pub fn read(named: Option<&Path>) -> Result<Self, String> {
        let path = match named {
            Some(path) => path,
            None if Path::new(DEFAULT).is_file() => Path::new(DEFAULT),
            None => return Ok(Self::default()),
        };
        let shown = path.display();
        if std::fs::metadata(path).is_ok_and(|m| m.len() > MAX_FILE) {
            return Err(format!("{shown} is too large for a configuration"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("reading {shown}: {e}"))?;
        toml::from_str(&text).map_err(|e| format!("{shown}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(Some(file.path()))
    }

    #[test]
    fn a_file_has_a_table_for_each_daemon() {
        let config =
            parse("[worker]\nmaster = \"ingle://m:7077\"\nmemory = \"4g\"\nwork-dir = \"/w\"\n");
        let worker = config.unwrap().worker;
        assert_eq!(worker.memory.as_deref(), Some("4g"));
        assert_eq!(worker.work_dir, Some("/w".into()));
        assert_eq!(worker.cores, None);
        let text = "[worker]\nvolume = [\"data=/srv/data:ro\"]\ngrants = [\"/data\"]\n";
        let worker = parse(text).unwrap().worker;
        assert_eq!(worker.volume, Some(vec!["data=/srv/data:ro".into()]));
        assert_eq!(worker.grants, Some(vec!["/data".into()]));
    }

    #[test]
    fn a_page_has_a_port_or_is_not_there() {
        let config = parse("[master]\nwebui-port = 80\n[worker]\nwebui-port = \"none\"\n").unwrap();
        assert_eq!(config.master.webui_port, Some(PagePort::From(80)));
        assert_eq!(config.worker.webui_port, Some(PagePort::Off));
        for bad in ["70000", "\"off\"", "true", "-1"] {
            let text = parse(&format!("[master]\nwebui-port = {bad}\n")).unwrap_err();
            assert!(text.contains("line 2"), "{bad}: {text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_line() {
        let text = parse("[master]\nhost = \"h\"\nprot = 1\n").unwrap_err();
        assert!(text.contains("line 3") && text.contains("prot"), "{text}");
        assert!(Config::read(Some(Path::new("/nowhere/at/all"))).unwrap_err().contains("/nowhere"));
    }
}
