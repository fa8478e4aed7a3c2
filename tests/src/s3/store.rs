//! What a store holds: buckets of objects, and uploads that aren't completed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use bytes::Bytes;

/// Small, so that lists have several pages.
const PAGE: usize = 10;
/// S3's own bound for all parts but the last.
const LEAST_PART: usize = 5 << 20;

#[derive(Clone)]
pub struct Object {
    pub bytes: Bytes,
    /// With its quotes.
    pub tag: String,
}

impl Object {
    pub fn new(bytes: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self { bytes, tag: format!("\"{:016x}\"", hasher.finish()) }
    }
}

pub struct Upload {
    pub key: String,
    parts: BTreeMap<u32, Object>,
}

#[derive(Default)]
pub struct Bucket {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    /// How many uploads there ever were.
    begun: usize,
}

/// S3's words for what isn't done, as status, code and message.
pub type Refusal = (u16, &'static str, &'static str);

const NO_UPLOAD: Refusal = (404, "NoSuchUpload", "The specified upload does not exist.");

/// A page of what begins with some prefix.
#[derive(Default)]
pub struct Page {
    pub objects: Vec<(String, Object)>,
    /// What keys begin with, up to the delimiter.
    pub prefixes: Vec<String>,
    /// Where the next page begins.
    pub more_after: Option<String>,
}

impl Bucket {
    pub fn list(&self, prefix: &str, delimiter: Option<&str>, after: &str) -> Page {
        let mut page = Page::default();
        let mut last = None;
        let from = (Bound::Included(prefix.to_owned()), Bound::Unbounded);
        for (key, object) in self.objects.range(from).take_while(|(key, _)| key.starts_with(prefix))
        {
            let ends = delimiter
                .and_then(|by| Some(prefix.len() + key[prefix.len()..].find(by)? + by.len()));
            let name = &key[..ends.unwrap_or(key.len())];
            if name <= after || last == Some(name) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == PAGE {
                page.more_after = last.map(str::to_owned);
                break;
            }
            match ends {
                Some(_) => page.prefixes.push(name.to_owned()),
                None => page.objects.push((name.to_owned(), object.clone())),
            }
            last = Some(name);
        }
        page
    }

    pub fn begin(&mut self, key: &str) -> String {
        self.begun += 1;
        let name = format!("upload-{}", self.begun);
        self.uploads.insert(name.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        name
    }

    fn upload(&mut self, name: &str, key: &str) -> Result<&mut Upload, Refusal> {
        self.uploads.get_mut(name).filter(|upload| upload.key == key).ok_or(NO_UPLOAD)
    }

    /// The part's tag.
    pub fn add_part(
        &mut self,
        (name, key): (&str, &str),
        number: u32,
        bytes: Bytes,
    ) -> Result<String, Refusal> {
        let part = Object::new(bytes);
        let tag = part.tag.clone();
        self.upload(name, key)?.parts.insert(number, part);
        Ok(tag)
    }

    /// Makes an object of the parts that are named, by their numbers and tags. Its tag.
    pub fn complete(
        &mut self,
        (name, key): (&str, &str),
        named: &[(u32, String)],
    ) -> Result<String, Refusal> {
        let parts = &self.upload(name, key)?.parts;
        let mut bytes = Vec::new();
        let mut before = None;
        for (place, (number, tag)) in named.iter().enumerate() {
            if before >= Some(*number) {
                return Err((400, "InvalidPartOrder", "The parts are not in ascending order."));
            }
            before = Some(*number);
            let part = parts.get(number).filter(|part| part.tag == *tag);
            let part = part.ok_or((400, "InvalidPart", "A part could not be found."))?;
            if part.bytes.len() < LEAST_PART && place + 1 < named.len() {
                return Err((400, "EntityTooSmall", "A part is smaller than is allowed."));
            }
            bytes.extend_from_slice(&part.bytes);
        }
        if named.is_empty() {
            return Err((400, "MalformedXML", "There must be at least one part."));
        }
        let mut object = Object::new(bytes.into());
        object.tag.insert_str(object.tag.len() - 1, &format!("-{}", named.len()));
        let tag = object.tag.clone();
        self.objects.insert(key.to_owned(), object);
        self.uploads.remove(name);
        Ok(tag)
    }

    pub fn abort(&mut self, name: &str, key: &str) -> Result<(), Refusal> {
        self.upload(name, key)?;
        self.uploads.remove(name);
        Ok(())
    }
}
