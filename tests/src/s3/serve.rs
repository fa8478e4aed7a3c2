//! Connections, and how they break.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as Asked, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, refused};
use super::{Fault, Request, Shared};

type Body = StreamBody<ReceiverStream<io::Result<Frame<Bytes>>>>;

pub async fn serve(listener: TcpListener, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|asked| respond(shared.clone(), asked));
            // Clients break connections as they like.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(shared: Shared, asked: Asked<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = asked.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(mut request) = Request::new(parts, body) else {
        return Ok(with_body(refused((501, "NotImplemented", "It is not implemented")), None));
    };
    let fault = shared.fault(&request);
    match &fault {
        Some(Fault::Held(gate)) => gate.pass().await,
        Some(Fault::NoRanges) => request.forget_range(),
        _ => {}
    }
    let answer = shared.answer(&request, fault.as_ref());
    match fault {
        Some(Fault::Lost) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Cut(after)) => Ok(with_body(answer, Some(after))),
        _ => Ok(with_body(answer, None)),
    }
}

/// Sends the body in pieces, perhaps not to its end.
fn with_body(answer: Answer, cut: Option<usize>) -> Response<Body> {
    const PIECE: usize = 64 << 10;
    let (head, mut body) = answer.into_parts();
    let (send, pieces) = mpsc::channel(1);
    let is_cut = cut.is_some_and(|after| after < body.len());
    if let Some(after) = cut {
        body.truncate(after);
    }
    tokio::spawn(async move {
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(PIECE));
            if send.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
        if is_cut {
            // What was sent is to arrive.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = send.send(Err(io::ErrorKind::ConnectionReset.into())).await;
        }
    });
    Response::from_parts(head, StreamBody::new(ReceiverStream::new(pieces)))
}
