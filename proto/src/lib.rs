//! The contracts between Ingle's processes, generated from `proto/ingle/`.

use std::fmt;

pub use prost;

/// Version 1.
pub mod v1 {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/ingle.v1.rs"));
}

impl fmt::Debug for v1::S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("S3")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("has_keys", &self.access_key.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let [access_key, secret_key, session_token] =
            ["who", "what", "when"].map(|key| Some(format!("{key}-is-secret")));
        let endpoint = Some("http://here".to_owned());
        let s3 = v1::S3 { endpoint, access_key, secret_key, session_token, ..Default::default() };
        let shown = format!("{:?}", v1::Access { s3: Some(s3), ..Default::default() });
        assert!(shown.contains("http://here") && !shown.contains("is-secret"), "{shown}");
    }
}
