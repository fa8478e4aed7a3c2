//! Connections, and their bounds. What a browser does fits into them many times; what a flood does costs the daemon little.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// At the same time. More are turned away, so that nobody waits behind those who say nothing.
const CONNECTIONS: usize = 64;
/// Until a request's head is there.
const HEAD: Duration = Duration::from_secs(5);
/// For all of a connection: one request, and its answer to a slow reader.
const WHOLE: Duration = Duration::from_secs(60);
/// Bytes of a head, and of what waits to be sent.
const BUFFER: usize = 16 << 10;
const HEADERS: usize = 64;
/// When a connection can't be had, for want of file descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(100);

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 5\r\n\
    connection: close\r\ncontent-length: 44\r\n\r\ntoo many look at this page: come back later\n";

/// Goes on for ever.
pub async fn serve(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let connection = connection(stream, router.clone());
        tokio::spawn(async move {
            let _place = place;
            connection.await;
        });
    }
}

/// One request, and its answer.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // How it ends is its own affair.
    let _ = tokio::time::timeout(WHOLE, connection).await;
}

/// Says why if it can at once, and waits for nothing.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // Neither blocks. What is left unread would make the kernel take back what is written.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write(BUSY);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_is_turned_away_hears_all_of_it() {
        let text = std::str::from_utf8(super::BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.split_once("content-length: ").unwrap().1;
        assert_eq!(length.parse(), Ok(body.len()), "{head}");
    }
}
