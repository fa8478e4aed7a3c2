//! What `--allow-net` lets a job reach, through WASI's own sockets, and what not.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use ingle_tests::{Place, Run};

/// A server that greets whoever connects; nobody waits for its end.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who only looked is gone already.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
        }
    });
    address
}

fn net(grant: Option<String>, what: &str, address: &str) -> Run {
    let place = Place::new();
    let grant = grant.map(|grant| format!("--allow-net={grant}"));
    place.rsubmit("net").flags(grant.as_deref()).args([what, address]).run()
}

/// The driver and the task must be told the same.
#[track_caller]
fn both(run: Run, what: &str) {
    run.succeeds().prints(&format!("driver: {what}\ntask: {what}\n"));
}

const REFUSED: &str = "refused: access-denied";

#[test]
fn nothing_is_reached_without_a_grant() {
    let address = greeter().to_string();
    both(net(None, "connect", &address), REFUSED);
}

#[test]
fn a_granted_address_is_reached() {
    let address = greeter();
    both(net(Some(address.to_string()), "connect", &address.to_string()), "read hello");
    both(net(Some(address.ip().to_string()), "connect", &address.to_string()), "read hello");
}

#[test]
fn another_port_or_host_than_the_granted_is_refused() {
    let (granted, other) = (greeter(), greeter().to_string());
    both(net(Some(granted.to_string()), "connect", &other), REFUSED);
    let elsewhere = format!("127.0.0.2:{}", granted.port());
    both(net(Some(granted.to_string()), "connect", &elsewhere), REFUSED);
}

#[test]
fn a_name_means_what_it_meant_when_the_job_began() {
    let address = greeter();
    let named = format!("localhost:{}", address.port());
    both(net(Some(named), "connect", &address.to_string()), "read hello");
}

#[test]
fn nobody_listens_or_sends_datagrams() {
    let address = greeter().to_string();
    let grant = || Some(address.clone());
    both(net(grant(), "listen", "127.0.0.1:0"), REFUSED);
    both(net(grant(), "listen", &address), REFUSED);
    both(net(grant(), "udp", &address), REFUSED);
}

#[test]
fn names_are_looked_up_only_where_one_is_granted() {
    let address = greeter();
    let refused = "refused: permanent-resolver-failure";
    both(net(Some(address.to_string()), "look-up", "localhost"), refused);
    let named = format!("localhost:{}", address.port());
    both(net(Some(named), "look-up", "localhost"), "found");
}
