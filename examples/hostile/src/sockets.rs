//! The network, of which nothing is granted: clouds' metadata, the cluster's own ports, whoever listens on this machine.

use std::net::SocketAddrV4;

use ingle::prelude::*;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::{Attack, all_refused};

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "connect" => Attack::Anywhere(|to| all_refused([(to.into(), told(connect(to)))])),
        "listen" => Attack::Anywhere(|_| all_refused([("listening".into(), told(listen()))])),
        "datagram" => Attack::Anywhere(|to| all_refused([(to.into(), told(datagram(to)))])),
        "look-up" => Attack::Anywhere(|name| all_refused([(name.into(), told(look_up(name)))])),
        "mapped-address" => Attack::Anywhere(mapped),
        _ => return None,
    })
}

fn told(outcome: Result<(), ErrorCode>) -> Result<(), String> {
    outcome.map_err(|code| code.name().to_owned())
}

fn parse(address: &str) -> Result<IpSocketAddress, ErrorCode> {
    let address: SocketAddrV4 = address.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let [a, b, c, d] = address.ip().octets();
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) }))
}

fn connect(to: &str) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), parse(to)?)?;
    socket.subscribe().block();
    socket.finish_connect().map(|_| ())
}

/// 127.0.0.1, as version 6 of the protocol writes it, and a metadata address that few think of.
fn mapped(way: &str) -> Result<String> {
    let address = match way {
        "mapped" => (0, 0, 0, 0, 0, 0xffff, 0x7f00, 1),
        "translated" => (0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
        _ => (0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    };
    let connect = || {
        let socket = create_tcp_socket(IpAddressFamily::Ipv6)?;
        let to = Ipv6SocketAddress { port: 80, flow_info: 0, address, scope_id: 0 };
        socket.start_connect(&instance_network(), IpSocketAddress::Ipv6(to))?;
        socket.subscribe().block();
        socket.finish_connect().map(|_| ())
    };
    all_refused([(way.to_owned(), told(connect()))])
}

fn listen() -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), parse("0.0.0.0:0")?)?;
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.finish_listen()
}

fn datagram(to: &str) -> Result<(), ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), parse("0.0.0.0:0")?)?;
    socket.finish_bind()?;
    socket.stream(Some(parse(to)?)).map(|_| ())
}

fn look_up(name: &str) -> Result<(), ErrorCode> {
    let found = resolve_addresses(&instance_network(), name)?;
    found.subscribe().block();
    found.resolve_next_address().map(|_| ())
}
