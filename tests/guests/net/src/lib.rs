//! `net WHAT ...`: a job that reaches for the network, or for other things that must be granted, in its driver and in a task, and tells what it got.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("driver: {}", attempt(&args));
    let told = ctx.run_tasks(0..1, move |_| attempt(&args))?;
    println!("task: {}", told.concat());
    Ok(())
}

#[cfg(not(target_family = "wasm"))]
fn attempt(_: &[String]) -> String {
    "no sandbox here".into()
}

/// A variable, in numbers that don't tell what it is.
#[cfg(target_family = "wasm")]
fn env(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) => {
            format!("{} bytes, {}", value.len(), value.bytes().map(u32::from).sum::<u32>())
        }
        Err(error) => error.to_string(),
    }
}

/// What came of it: what was read, or the name of WASI's error.
#[cfg(target_family = "wasm")]
fn attempt(args: &[String]) -> String {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["env", name] => return env(name),
        ["env", name, until] => {
            while std::fs::read(until).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            return env(name);
        }
        ["read", path] => return std::fs::read_to_string(path).unwrap_or_else(|e| e.to_string()),
        ["write", path] => {
            return std::fs::write(path, "x").map_or_else(|e| e.to_string(), |()| "written".into());
        }
        ["connect", address] => wasm::connect(address),
        ["listen", address] => wasm::listen(address),
        ["udp", address] => wasm::udp(address),
        ["look-up", name] => wasm::look_up(name),
        _ => return "usage: net connect|listen|udp|look-up|env|read|write ...".into(),
    };
    outcome.unwrap_or_else(|code| format!("refused: {}", code.name()))
}

#[cfg(target_family = "wasm")]
mod wasm {
    use std::net::SocketAddrV4;

    use wasip2::sockets::instance_network::instance_network;
    use wasip2::sockets::ip_name_lookup::resolve_addresses;
    use wasip2::sockets::network::{
        ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
    };
    use wasip2::sockets::tcp_create_socket::create_tcp_socket;
    use wasip2::sockets::udp_create_socket::create_udp_socket;

    fn parse(address: &str) -> Result<IpSocketAddress, ErrorCode> {
        let address: SocketAddrV4 = address.parse().map_err(|_| ErrorCode::InvalidArgument)?;
        let [a, b, c, d] = address.ip().octets();
        Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) }))
    }

    /// Connects, and reads what the other side says first.
    pub fn connect(address: &str) -> Result<String, ErrorCode> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
        socket.start_connect(&instance_network(), parse(address)?)?;
        socket.subscribe().block();
        let (input, _output) = socket.finish_connect()?;
        let read = input.blocking_read(100).map_err(|_| ErrorCode::Unknown)?;
        Ok(format!("read {}", String::from_utf8_lossy(&read)))
    }

    pub fn listen(address: &str) -> Result<String, ErrorCode> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
        socket.start_bind(&instance_network(), parse(address)?)?;
        socket.subscribe().block();
        socket.finish_bind()?;
        socket.start_listen()?;
        socket.finish_listen()?;
        Ok("listens".into())
    }

    pub fn udp(address: &str) -> Result<String, ErrorCode> {
        let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
        socket.start_bind(&instance_network(), parse("0.0.0.0:0")?)?;
        socket.finish_bind()?;
        socket.stream(Some(parse(address)?))?;
        Ok("sends".into())
    }

    pub fn look_up(name: &str) -> Result<String, ErrorCode> {
        let found = resolve_addresses(&instance_network(), name)?;
        found.subscribe().block();
        found.resolve_next_address()?;
        Ok("found".into())
    }
}
