//! What `--allow-net` lets a job reach, through WASI's own sockets, and what not.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use ingle_tests::{Cluster, Place, Run};

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
fn ranges_of_addresses_and_ports_are_granted() {
    let address = greeter();
    let port = address.port();
    let to = address.to_string();
    for grant in
        ["127.0.0.0/8".to_owned(), format!("127.0.0.0/8:{port}"), format!("127.0.0.1:1-{port}")]
    {
        both(net(Some(grant), "connect", &to), "read hello");
    }
    both(net(Some(format!("127.0.0.0/8:1-{}", port - 1)), "connect", &to), REFUSED);
}

#[test]
fn a_refusal_says_what_would_allow_it() {
    let address = greeter().to_string();
    net(None, "connect", &address)
        .says(&["ingle: connecting isn't allowed: add --allow-net=HOST:PORT"]);
    let text = format!("connecting to {address} isn't allowed: add --allow-net={address}");
    net(Some("127.0.0.2".into()), "connect", &address).says(&[&text]);
    let run = net(Some("0.0.0.0/0".into()), "connect", &address);
    both(run, REFUSED);
    net(Some("0.0.0.0/0".into()), "connect", &address)
        .says(&["an address of the machine itself", &format!("add --allow-net={address}")]);
    let run = net(Some("127.0.0.1".into()), "look-up", "Example.org.");
    run.says(&["looking up \"example.org\" isn't allowed: add --allow-net=example.org"]);
}

#[test]
fn a_name_opens_nothing_of_the_machine_itself() {
    let address = greeter();
    let place = Place::new();
    let rsubmit = |grant: &str| place.rsubmit("net").flag(format!("--allow-net={grant}"));
    let run = rsubmit("localhost").args(["connect", "127.0.0.1:1"]).run();
    run.ends_with(2).says(&["--allow-net localhost", "no name opens", "add --allow-net="]);
    // What it may be looked up for stays closed but for the one address that is granted.
    let run = rsubmit(&format!("localhost,127.0.0.2,::1,127.0.0.1:{}", address.port() - 1));
    both(run.args(["connect", &address.to_string()]).run(), REFUSED);
    let run = rsubmit("127.1").args(["connect", "127.0.0.1:1"]).run();
    run.ends_with(2).says(&["four decimal numbers"]);
}

#[test]
fn a_job_on_a_cluster_does_not_connect_to_the_cluster() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let address = greeter().to_string();
    let ask = |mode: &[&str], grant: &str, to: &str| {
        let run = cluster.rsubmit("net").flag(format!("--allow-net={grant}"));
        run.flags(mode.iter().copied()).args(["connect", to]).run().succeeds()
    };
    both(ask(&[], "127.0.0.0/8", &address), "read hello");
    let own = [
        cluster.master_address().to_owned(),
        cluster.worker_address(0),
        cluster.master_page(),
        cluster.worker_page(0),
    ];
    for to in &own {
        let run = ask(&["--deploy-mode=cluster", "--wait"], "127.0.0.0/8,127.0.0.1", to);
        let id = run.stdout.trim().to_owned();
        let logs = cluster.ask(&["logs", &id]).succeeds();
        let text = format!("connecting to {to} isn't allowed: the cluster itself listens there");
        assert!(logs.stdout.contains(&format!("driver: {REFUSED}\n")), "{to}: {logs}");
        assert!(logs.stdout.contains(&format!("task: {REFUSED}\n")), "{to}: {logs}");
        let said = format!("{}{}", logs.stdout, logs.stderr);
        assert!(said.contains(&text) && said.contains(&format!("--allow-net={to}")), "{said}");
    }
    // Where the driver is a user's own, it knows its master.
    both(ask(&[], "127.0.0.0/8", cluster.master_address()), REFUSED);
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
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
    let named = format!("localhost:{},127.0.0.1", address.port());
    both(net(Some(named.clone()), "look-up", "LocalHost."), "found");
    both(net(Some(named), "look-up", "secret.localhost"), refused);
}
