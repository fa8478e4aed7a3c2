//! For fuzz targets only: what users write, and files that they may have from others.

use std::collections::BTreeMap;
use std::path::Path;

use ingle_sandbox::NetGrant;

use crate::config::Config;
use crate::master;
use crate::settings::{self, Settings};

/// Reads a properties file, and all that its settings may mean.
pub fn properties(file: &Path) {
    let Ok(settings) = Settings::gather(Some(file), &[]) else { return };
    let _ = (settings.compression(), settings.interrupt(), settings.check_for_job());
    let all: BTreeMap<_, _> = settings.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for key in all.keys() {
        let _ = (settings.switch(key, false), settings.count(key), settings.number(key, 0.0));
    }
    let _ = crate::policy::policy(&settings);
    assert!(
        !settings
            .get(settings::S3_SECRET_KEY)
            .is_some_and(|_| all.contains_key(settings::S3_SECRET_KEY))
    );
    assert!(
        !settings.into_map().keys().any(|key| key.starts_with("ingle.s3.")),
        "keys are the host's"
    );
}

/// Reads a daemon's file.
pub fn config(file: &Path) {
    let _ = Config::read(Some(file));
}

/// Reads a text as a flag's value.
pub fn flag(text: &str) {
    if let Ok(grant) = NetGrant::parse(text) {
        assert_eq!(NetGrant::parse(&grant.to_string()), Ok(grant));
    }
    if let Some(Ok(address)) = master::cluster(text) {
        assert!(address.contains(':'));
    }
    if let Ok(slots) = master::slots(Some(text), Some(text), 8, false) {
        assert!((1..=8).contains(&slots));
    }
    let _ = master::slots(Some(text), None, 8, true);
}
