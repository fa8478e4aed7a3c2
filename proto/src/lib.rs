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

impl fmt::Debug for v1::Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|variable| &variable.name).collect();
        f.debug_struct("Secrets").field("env", &names).field("s3", &self.s3).finish()
    }
}

impl fmt::Debug for v1::SubmitDriverRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitDriverRequest")
            .field("protocol", &self.protocol)
            .field("name", &self.name)
            .field("has_secrets", &self.secrets.is_some())
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
        let variable = v1::Variable { name: "TOKEN".into(), value: "what-is-secret".into() };
        let secrets = Some(v1::Secrets { env: vec![variable], s3: Some(s3) });
        let shown = format!("{:?}", v1::Access { secrets, ..Default::default() });
        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(shown.contains("http://here") && !shown.contains("is-secret"), "{shown}");
    }
}
