//! What a store answers.

use std::fmt::Write;

use bytes::Bytes;
use hyper::Response;
use hyper::http::response::Builder;

use super::request::escaped;
use super::store::{Bucket, Object, Refusal};
use super::{Access, Operation, Request};

pub type Answer = Response<Bytes>;

const WHEN: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const NO_KEY: Refusal = (404, "NoSuchKey", "The specified key does not exist.");
const CHANGED: Refusal =
    (412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");

fn answered(builder: Builder, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    builder.header("content-length", body.len()).body(body).expect("sound headers")
}

pub fn refused((status, code, message): Refusal) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    answered(Response::builder().status(status), body)
}

fn tagged(tag: &str) -> Answer {
    answered(Response::builder().header("etag", tag), "")
}

fn xml(body: String) -> Answer {
    answered(Response::builder().header("content-type", "application/xml"), body)
}

/// Whether somebody with these keys, or nobody, may do it.
pub fn check(access: &Access, request: &Request) -> Result<(), Refusal> {
    let reads = matches!(request.operation, Operation::Get | Operation::Head);
    match request.access_key() {
        None if reads && request.bucket == super::PUBLIC => Ok(()),
        None => Err((403, "AccessDenied", "Access Denied")),
        Some(key) if key != access.key => Err((
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        )),
        Some(_) if request.token() != access.token.as_deref() => {
            Err((400, "InvalidToken", "The provided token is malformed or otherwise invalid."))
        }
        Some(_) => Ok(()),
    }
}

/// Does what is asked for.
pub fn answer(bucket: &mut Bucket, request: &Request) -> Result<Answer, Refusal> {
    let key = request.key.as_str();
    let upload = (request.asked("uploadId"), key);
    Ok(match request.operation {
        Operation::Get | Operation::Head => {
            let object = bucket.objects.get(key).ok_or(NO_KEY)?;
            read(object, request)?
        }
        Operation::Put => {
            let there = bucket.objects.get(key).map(|object| object.tag.as_str());
            match (request.header("if-none-match"), request.header("if-match")) {
                (Some("*"), _) if there.is_some() => return Err(CHANGED),
                (_, Some(_)) if there.is_none() => return Err(NO_KEY),
                (_, Some(tag)) if there != Some(tag) => return Err(CHANGED),
                _ => {}
            }
            let object = Object::new(request.body.clone());
            let tag = object.tag.clone();
            bucket.objects.insert(key.to_owned(), object);
            tagged(&tag)
        }
        Operation::List => list(bucket, request),
        Operation::Uploads => {
            let mut body = "<ListMultipartUploadsResult>".to_owned();
            for (name, upload) in &bucket.uploads {
                if upload.key.starts_with(key) {
                    let key = escaped(&upload.key);
                    let _ = write!(
                        body,
                        "<Upload><Key>{key}</Key><UploadId>{name}</UploadId></Upload>"
                    );
                }
            }
            xml(body + "</ListMultipartUploadsResult>")
        }
        Operation::Delete => {
            let mut body = "<DeleteResult>".to_owned();
            for key in request.tagged("Key") {
                bucket.objects.remove(&key);
                let _ = write!(body, "<Deleted><Key>{}</Key></Deleted>", escaped(&key));
            }
            xml(body + "</DeleteResult>")
        }
        Operation::Begin => {
            let name = bucket.begin(key);
            xml(format!(
                "<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        Operation::Part => {
            let number = request.asked("partNumber").parse();
            let number = number.map_err(|_| (400, "InvalidArgument", "No such part number"))?;
            tagged(&bucket.add_part(upload, number, request.body.clone())?)
        }
        Operation::Complete => {
            let numbers = request.tagged("PartNumber").into_iter().map(|n| n.parse().unwrap_or(0));
            let parts: Vec<_> = numbers.zip(request.tagged("ETag")).collect();
            let tag = escaped(&bucket.complete(upload, &parts)?);
            xml(format!(
                "<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
            ))
        }
        Operation::Abort => {
            bucket.abort(upload.0, upload.1)?;
            answered(Response::builder().status(204), "")
        }
    })
}

fn read(object: &Object, request: &Request) -> Result<Answer, Refusal> {
    // Weak tags are never alike.
    let is = |tags: &str| tags == "*" || tags == object.tag && !tags.starts_with("W/");
    if request.header("if-match").is_some_and(|tags| !is(tags)) {
        return Err(CHANGED);
    }
    if request.header("if-none-match").is_some_and(is) {
        return Err((304, "NotModified", ""));
    }
    let length = object.bytes.len();
    let range = request.range(length)?;
    let head = Response::builder().header("etag", &object.tag).header("last-modified", WHEN);
    Ok(match range {
        Some((from, to)) => {
            let range = format!("bytes {from}-{}/{length}", to - 1);
            answered(head.status(206).header("content-range", range), object.bytes.slice(from..to))
        }
        None => answered(head, object.bytes.clone()),
    })
}

fn list(bucket: &Bucket, request: &Request) -> Answer {
    let delimiter = request.query.get("delimiter").map(String::as_str);
    let after = [request.asked("continuation-token"), request.asked("start-after")];
    let page = bucket.list(&request.key, delimiter, after[0].max(after[1]));
    let mut body = format!(
        "<ListBucketResult><Name>{}</Name><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        request.bucket,
        page.objects.len() + page.prefixes.len(),
        page.more_after.is_some()
    );
    if let Some(token) = page.more_after {
        let _ = write!(body, "<NextContinuationToken>{}</NextContinuationToken>", escaped(&token));
    }
    for (key, object) in page.objects {
        let _ = write!(
            body,
            "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            escaped(&key),
            escaped(&object.tag),
            object.bytes.len()
        );
    }
    for prefix in page.prefixes {
        let _ =
            write!(body, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(&prefix));
    }
    xml(body + "</ListBucketResult>")
}
