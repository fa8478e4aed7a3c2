//! Uploads whose names nobody knows: who began them ended before it could write that down, or never heard the answer. The store lists
//! them. That isn't among what `object_store` does, but it signs for whoever does it.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::signer::{SignedUrlOptions, Signer};
use reqwest::{Client, Method};
use serde::Deserialize;

use super::connect::{Connector, Withheld};

/// How long a signed request is good for.
const VALID: Duration = Duration::from_secs(60);

/// A thousand uploads, each with a key of a kilobyte and all that is said beside it, are less.
const MAX_ANSWER: usize = 4 << 20;
const TOO_LONG: &str = "its list of uploads is longer than a list of a thousand can be";

/// Asks a store that speaks S3.
pub(super) struct Uploads {
    s3: Arc<AmazonS3>,
    client: Client,
    connector: Connector,
}

#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(rename = "Upload", default)]
    uploads: Vec<Upload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

impl Answer {
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.uploads.iter().map(|upload| upload.key.as_str())
    }
}

fn failed(error: reqwest::Error) -> object_store::Error {
    // A signed URL is for nobody else.
    object_store::Error::Generic { store: "S3", source: error.without_url().into() }
}

impl Uploads {
    pub fn new(s3: Arc<AmazonS3>, connector: Connector) -> reqwest::Result<Self> {
        Ok(Self { s3, client: connector.client()?, connector })
    }

    /// Uploads of `KEY/NAME…`, neither completed nor given up, as their keys and names. If there are many, not all.
    pub async fn list(&self, key: &Key, name: &str) -> object_store::Result<Vec<(Key, String)>> {
        let prefix = format!("{key}/{name}");
        let query = [("uploads", ""), ("prefix", prefix.as_str())];
        let options = SignedUrlOptions::new().with_query(query);
        let url = self.s3.signed_url_opts(Method::GET, &Key::ROOT, VALID, &options).await?;
        let withheld =
            |why: Withheld| object_store::Error::Generic { store: "S3", source: why.into() };
        self.connector.permit(url.as_str()).map_err(withheld)?;
        let answer = self.client.get(url).send().await.and_then(|answer| answer.error_for_status());
        let mut answer = answer.map_err(failed)?;
        let mut text = Vec::new();
        while let Some(some) = answer.chunk().await.map_err(failed)? {
            if text.len() + some.len() > MAX_ANSWER {
                return Err(object_store::Error::Generic { store: "S3", source: TOO_LONG.into() });
            }
            text.extend_from_slice(&some);
        }
        let answer = parse(&text)
            .map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        // Should it know no prefixes, there are others' among them.
        let ours = answer.uploads.into_iter().filter(|upload| upload.key.starts_with(&prefix));
        ours.map(|upload| Ok((Key::parse(upload.key)?, upload.upload_id))).collect()
    }
}

pub(super) fn parse(answer: &[u8]) -> Result<Answer, quick_xml::DeError> {
    quick_xml::de::from_reader(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_lists_is_understood() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><Prefix>a&amp;b/part-</Prefix><IsTruncated>false</IsTruncated>
              <Upload><Key>a&amp;b/part-00001</Key><UploadId>x</UploadId><Initiator><ID>i</ID></Initiator></Upload>
              <Upload><UploadId>y</UploadId><Key>a&amp;b/part-00002</Key></Upload>
            </ListMultipartUploadsResult>"#;
        let answer = parse(text.as_bytes()).unwrap();
        let found: Vec<_> =
            answer.uploads.iter().map(|u| (u.key.as_str(), u.upload_id.as_str())).collect();
        assert_eq!(found, [("a&b/part-00001", "x"), ("a&b/part-00002", "y")]);
        let none = "<ListMultipartUploadsResult><Bucket>b</Bucket></ListMultipartUploadsResult>";
        assert!(parse(none.as_bytes()).unwrap().uploads.is_empty());
    }
}
