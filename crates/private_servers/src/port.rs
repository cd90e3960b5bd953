//! Free ports.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Doing, Error};

const LOWEST: u16 = 15_000;
const ATTEMPTS: usize = 100;

/// A TCP port on 127.0.0.1 that nothing listens on now.
///
/// It lies below the range from which the kernel takes ports for outgoing connections. Inside
/// that range a client that keeps knocking while the server is away is sooner or later given the
/// server's own port as its source, connects to itself, and the server cannot come back.
pub(crate) fn free() -> Result<u16, Error> {
    let end = first_outgoing_port();
    for _ in 0..ATTEMPTS {
        let mut bytes = [0_u8; 2];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        let port = u16::from_le_bytes(bytes);
        if (LOWEST..end).contains(&port) && is_free(port) {
            return Ok(port);
        }
    }
    // The range below is empty or full on this machine: take what the kernel offers.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .doing(|| "cannot find a free port".to_owned())
}

/// Whether a server could listen on `port` now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn first_outgoing_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}
