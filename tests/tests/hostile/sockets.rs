//! The network, of which nothing is granted.

use std::net::TcpListener;

use ingle_tests::Cluster;

use crate::attack::attacks;
use crate::field::{Field, place};
use crate::peers::driver_of;

attacks! {
    "connect" Task: "connects to clouds' metadata, to private networks, to whatever listens on this machine",
        "no socket without `--allow-net`",
        ["169.254.169.254:80" => "access-denied", "127.0.0.1:22" => "access-denied",
         "10.0.0.1:443" => "access-denied", "0.0.0.0:80" => "access-denied"];
    "connect" Driver: "the same in the driver",
        "no socket without `--allow-net`",
        ["169.254.169.254:80" => "access-denied", "127.0.0.1:22" => "access-denied"];
    "mapped-address" Task: "connects to the same in the addresses of IPv6",
        "no socket without `--allow-net`",
        ["mapped" => "access-denied", "translated" => "access-denied", "local" => "access-denied"];
    "connect" Task: "the same, where the whole network is granted",
        "no wider range opens addresses that aren't public",
        ["169.254.169.254:80" => "access-denied", "127.0.0.1:22" => "access-denied",
         "10.0.0.1:443" => "access-denied", "0.0.0.0:80" => "invalid-argument"],
        GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
    "connect" Driver: "the same in the driver",
        "no wider range opens addresses that aren't public",
        ["169.254.169.254:80" => "access-denied", "127.0.0.1:22" => "access-denied"],
        GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
    "mapped-address" Task: "the same in the addresses of IPv6, where the whole network is granted",
        "addresses of version 4 are looked for in those of version 6",
        ["mapped" => "invalid-argument", "translated" => "access-denied", "local" => "access-denied"],
        GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
    "listen" Task: "listens for connections",
        "nobody may",
        ["it" => "access-denied"];
    "listen" Task: "the same, where the whole network is granted",
        "nobody may",
        ["it" => "access-denied"], GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
    "datagram" Task: "sends datagrams where the whole network is granted by TCP",
        "nobody may",
        ["8.8.8.8:53" => "access-denied", "127.0.0.1:53" => "access-denied"],
        GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
    "datagram" Task: "sends datagrams, such as a question to a name server",
        "nobody may",
        ["8.8.8.8:53" => "access-denied", "127.0.0.1:53" => "access-denied"];
    "look-up" Task: "looks names up, which tells who answers for them",
        "only names that are granted",
        ["localhost" => "permanent-resolver-failure", "a.secret.example.com" => "permanent-resolver-failure"];
    "look-up" Driver: "the same, where every address is granted, which is no name",
        "only names that are granted",
        ["localhost" => "permanent-resolver-failure", "a.secret.example.com" => "permanent-resolver-failure"],
        GoesOn, flags "--allow-net=0.0.0.0/0" "--allow-net=::/0";
}

/// For the book: what is done, what stops it, what it comes to, the test.
pub const BOOK: &[[&str; 4]] = &[[
    "a job grants itself what its worker's owner withholds: by address, by range, as a web server's, by a name that means it",
    "`ingle worker --net`",
    "refused at once, or where it connects: “isn't allowed on this host”",
    "sockets::what_a_worker_withholds_is_out_of_reach",
]];

#[test]
fn what_a_worker_withholds_is_out_of_reach() {
    const WITHHELD: &str = "isn't allowed on this host, whose worker has --net=public,127.0.0.2;";
    const HERE: &[&str] = &[];
    const THERE: &[&str] = &["--deploy-mode=cluster", "--wait"];
    let place = place();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(2, &["--net=public,127.0.0.2"]);
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let rsubmit = |job: &str, mode: &[&str], grant: &str| {
        let run = place.rsubmit(job).flags(["--master", &cluster.url, grant]);
        run.flags(mode.iter().copied())
    };
    let connect = |mode: &[&str], grant: &str, to: &str| {
        let to = format!("{to}:{port}");
        rsubmit("hostile", mode, &format!("--allow-net={grant}"))
            .args(["connect", "task-alone", &to])
            .run()
    };
    for mode in [HERE, THERE] {
        for grant in [&format!("127.0.0.1:{port}"), "127.0.0.1", "169.254.169.254:80", "10.0.0.0/8"]
        {
            let run = connect(mode, grant, "127.0.0.1").ends_with(1);
            run.says(&[&format!("--allow-net={grant} {WITHHELD}")]);
        }
    }
    // A range that isn't withheld as a whole.
    let run = connect(HERE, "127.0.0.0/8", "127.0.0.1").succeeds();
    assert!(run.stdout.contains("all 1 refused: {\"access-denied\"}"), "{run}");
    let run = connect(HERE, "127.0.0.0/8", "127.0.0.2").succeeds();
    assert!(run.stdout.contains("ESCAPED"), "what isn't withheld is reached\n{run}");
    // What the host reads for a job.
    let url = format!("http://127.0.0.1:{port}/x");
    let read = |mode: &[&str], url: &str| {
        let run = rsubmit("wordcount", mode, &format!("--allow-read={url}"));
        run.flag("--allow-write=out").args([url, "out"]).run().ends_with(1)
    };
    read(THERE, &url).says(&[&format!("--allow-read={url} {WITHHELD}")]);
    let named = format!("http://localhost:{port}/x");
    read(THERE, &named).says(&["x: reading from localhost, which is 127.0.0.1, ", WITHHELD]);
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn no_socket_is_opened() {
    crate::hold(ATTACKS);
}

/// The cluster's own ports, which only a test knows: with no grant, with all that is public, and with one of the machine's own network.
#[test]
fn the_cluster_itself_is_out_of_reach() {
    const NONE: &[&str] = &[];
    const WIDE: &[&str] = &["--allow-net=0.0.0.0/0", "--allow-net=::/0"];
    const LOCAL: &[&str] = &["--allow-net=127.0.0.0/8"];
    let place = place();
    let field = Field::new(&place);
    let refused = |address: &str, grants: &[&str], places: &[&str]| {
        for place in places {
            let job = field.attacker("hostile").flags(grants.iter().copied());
            let run = job.args(["connect", place, address]).run().succeeds();
            let refused = format!("{address}: all 1 refused: {{\"access-denied\"}}");
            assert!(run.stdout.contains(&refused), "{grants:?}\n{run}");
        }
    };
    const ALL: &[&str] = &["task", "driver"];
    for address in [field.cluster.master_address(), &field.cluster.worker_address(0)] {
        [NONE, WIDE, LOCAL].into_iter().for_each(|grants| refused(address, grants, ALL));
    }
    for address in [field.cluster.master_page(), field.cluster.worker_page(0)] {
        [NONE, WIDE].into_iter().for_each(|grants| refused(&address, grants, ALL));
        // A driver beside the cluster doesn't know them.
        refused(&address, LOCAL, &["task"]);
    }
    // Another application's driver: nobody but that knows its port.
    let driver = driver_of(&field);
    [NONE, WIDE].into_iter().for_each(|grants| refused(&driver, grants, ALL));
    // Its own driver's, at a port that it knows.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let own = format!("127.0.0.1:{port}");
    refused(&own, &[LOCAL[0], &format!("--conf=ingle.driver.port={port}")], ALL);
    // What listens there beside is reached by such a grant: the refusals above are the cluster's.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = listener.local_addr().expect("an address").to_string();
    let job = field.attacker("hostile").flags(LOCAL.iter().copied());
    let run = job.args(["connect", "driver", &other]).run().succeeds();
    assert!(run.stdout.contains("ESCAPED"), "it isn't even granted\n{run}");
    field.unharmed("connecting to daemons");
    field.end();
}
