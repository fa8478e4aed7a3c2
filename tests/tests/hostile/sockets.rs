//! The network, of which nothing is granted.

use crate::attack::attacks;
use crate::field::{Field, place};

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
    "listen" Task: "listens for connections",
        "nobody may",
        ["it" => "access-denied"];
    "datagram" Task: "sends datagrams, such as a question to a name server",
        "nobody may",
        ["8.8.8.8:53" => "access-denied", "127.0.0.1:53" => "access-denied"];
    "look-up" Task: "looks names up, which tells who answers for them",
        "only names that are granted",
        ["localhost" => "permanent-resolver-failure", "a.secret.example.com" => "permanent-resolver-failure"];
}

#[test]
fn no_socket_is_opened() {
    crate::hold(ATTACKS);
}

/// The cluster's own ports, which only a test knows.
#[test]
fn the_cluster_itself_is_out_of_reach() {
    let place = place();
    let field = Field::new(&place);
    let addresses = [
        field.cluster.master_address().to_owned(),
        field.cluster.worker_address(0),
        field.cluster.master_page(),
        field.cluster.worker_page(0),
    ];
    for address in addresses {
        for place in ["task", "driver"] {
            let run = field.attacker("hostile").args(["connect", place, &address]).run().succeeds();
            let refused = format!("{address}: all 1 refused: {{\"access-denied\"}}");
            assert!(run.stdout.contains(&refused), "{run}");
        }
    }
    field.unharmed("connecting to daemons");
    field.end();
}
