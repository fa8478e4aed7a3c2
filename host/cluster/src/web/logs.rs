//! The ends of logs, as text: part by part, as they are read, and never more than so much.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use ingle_proto::v1::LogPart;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::answer;

/// Logs that are read at the same time.
pub const AT_A_TIME: usize = 4;
/// Bytes of each file's end.
pub const LAST: u64 = 64 << 10;
/// Bytes of all.
const MOST: usize = 4 << 20;
/// Parts that wait for a reader who is slow.
pub const AHEAD: usize = 2;

/// How many read logs.
#[derive(Clone)]
pub struct Readers(Arc<Semaphore>);

impl Readers {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }

    /// A place, if there is one.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// For who has no place.
pub fn busy() -> Response {
    let words = format!("{AT_A_TIME} logs are being read here: come back in a moment.");
    answer::refusal(StatusCode::SERVICE_UNAVAILABLE, &words)
}

/// What was printed, each source under its name. `whole` says how to get all of it.
pub fn text(
    parts: mpsc::Receiver<Result<LogPart, Status>>,
    place: OwnedSemaphorePermit,
    whole: String,
) -> Response {
    let (mut shown, mut left) = (None::<(String, bool)>, MOST);
    let parts = ReceiverStream::new(parts).map(Some).chain(tokio_stream::once(None));
    let parts = parts.map_while(move |part| {
        // Who reads is counted until the end.
        let _place = &place;
        if left == 0 {
            return None;
        }
        let Some(part) = part else {
            let none = || Ok::<_, Infallible>(Bytes::from_static(b"Nothing was printed.\n"));
            return shown.is_none().then(none);
        };
        let part = part.unwrap_or_else(|status| LogPart {
            source: "page".into(),
            stderr: true,
            data: format!("this can't be read: {}\n", status.message()).into(),
        });
        let mut text = Vec::new();
        let source = (part.source, part.stderr);
        if shown.as_ref() != Some(&source) {
            let stream = if source.1 { "stderr" } else { "stdout" };
            text.extend_from_slice(format!("\n--- {}, {stream}\n", source.0).as_bytes());
            shown = Some(source);
        }
        text.extend_from_slice(&part.data);
        if text.len() >= left {
            text.truncate(left);
            text.extend_from_slice(format!("\n--- there is more: {whole}\n").as_bytes());
        }
        left = left.saturating_sub(text.len());
        Some(Ok(Bytes::from(text)))
    });
    answer::text(StatusCode::OK, Body::from_stream(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(parts: Vec<LogPart>) -> String {
        let (send, receive) = mpsc::channel(parts.len().max(1));
        for part in parts {
            send.send(Ok(part)).await.unwrap();
        }
        drop(send);
        let place = Readers::new().enter().unwrap();
        let body = text(receive, place, "ask elsewhere".into()).into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        String::from_utf8(bytes.into()).unwrap()
    }

    fn part(source: &str, stderr: bool, data: &str) -> LogPart {
        LogPart { source: source.into(), stderr, data: data.to_owned().into() }
    }

    #[tokio::test]
    async fn sources_are_told_apart() {
        let parts = vec![
            part("driver", false, "a\n"),
            part("driver", false, "b\n"),
            part("driver", true, "c\n"),
            part("executor 1", true, "d\n"),
        ];
        let expected =
            "\n--- driver, stdout\na\nb\n\n--- driver, stderr\nc\n\n--- executor 1, stderr\nd\n";
        assert_eq!(read(parts).await, expected);
        assert_eq!(read(Vec::new()).await, "Nothing was printed.\n");
    }

    #[tokio::test]
    async fn no_more_than_so_much_is_sent() {
        let parts = vec![part("driver", false, &"x".repeat(MOST / 4)); 9];
        let text = read(parts).await;
        assert!(text.len() < MOST + 100 && text.ends_with("--- there is more: ask elsewhere\n"));
    }

    #[test]
    fn only_so_many_read() {
        let readers = Readers::new();
        let places: Vec<_> = (0..AT_A_TIME).map(|_| readers.enter().unwrap()).collect();
        assert!(readers.enter().is_none());
        drop(places);
        assert!(readers.enter().is_some());
    }
}
