//! Who may ask what, and what browsers are told.
//!
//! A page has no secret, so what keeps others out is where it listens. A web site could still have a visitor's browser ask for it: by a
//! name of the site's own that leads here (DNS rebinding). So requests must name the page by an address, or by a name that is known.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::answer;
use super::html::STYLE;

/// Names by which a page may be asked for, addresses aside.
struct Hosts(Vec<String>);

/// No script, no picture, no frame, no form; the one style is known by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Routes that answer only whom they should.
pub fn guarded(router: Router, host: &str) -> Router {
    // Where it can't be read, the machine is known by its addresses.
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names = ["localhost", host, machine.trim()].into_iter().filter(|name| !name.is_empty());
    let hosts = Arc::new(Hosts(names.map(str::to_owned).collect()));
    router.layer(middleware::from_fn_with_state(hosts, guard))
}

async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = if !hosts.has(&request) {
        answer::refusal(
            StatusCode::FORBIDDEN,
            "This page is asked for by its address (as http://127.0.0.1:8080/), as localhost, by the machine's name or by what --host says: \
             not by this name, which another site may have made up.",
        )
    } else if matches!(*request.method(), Method::GET | Method::HEAD) {
        next.run(request).await
    } else {
        let words = "Pages are only looked at: ask with GET or HEAD.";
        let mut response = answer::refusal(StatusCode::METHOD_NOT_ALLOWED, words);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

impl Hosts {
    /// Whether a request names this page in a way that only this page has.
    fn has(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else { return false };
        // A request through a proxy says it twice.
        let whole =
            request.uri().authority().is_none_or(|authority| self.is_ours(authority.as_str()));
        whole && host.to_str().is_ok_and(|host| self.is_ours(host))
    }

    /// Of `host` or `host:port`.
    fn is_ours(&self, text: &str) -> bool {
        if let Some(inner) = text.strip_prefix('[') {
            let Some((address, port)) = inner.split_once(']') else { return false };
            let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return has_port && address.parse::<Ipv6Addr>().is_ok();
        }
        let name = match text.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => text,
        };
        name.parse::<Ipv4Addr>().is_ok()
            || self.0.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let names = ["localhost", "m1.example", "box"].map(str::to_owned);
        Hosts(names.into()).has(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn addresses_and_own_names_are_let_in() {
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]:8080",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "m1.example:8080",
            "M1.Example",
            "box",
        ] {
            assert!(asked("/", &[host]), "{host}");
        }
        assert!(asked("http://127.0.0.1:8080/", &["127.0.0.1:8080"]));
    }

    #[test]
    fn names_that_others_may_have_made_up_are_not() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "127.0.0.1:8080@evil.example",
            "localhost:x",
            "localhost:",
            "localhost:99999",
            "[::1",
            "[evil]",
            "[::1]x",
            "",
            "127.0.0.1:+80",
            "box.evil.example",
            "a box",
            "0x7f000001",
        ] {
            assert!(!asked("/", &[host]), "{host}");
        }
        assert!(!asked("/", &[]), "none is no name");
        assert!(
            !asked("/", &["localhost", "evil.example"]) && !asked("/", &["localhost", "localhost"])
        );
        assert!(!asked("http://evil.example/", &["localhost"]));
    }

    #[test]
    fn the_policy_lets_in_nothing_but_the_style() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
        assert!(!POLICY.contains("unsafe"));
    }
}
