//! Takes the ports of the two listeners.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    time::timeout,
};

use crate::config::{LimitsConfig, ListenAddress};

/// Connections that may wait in the kernel for the accept loop.
const BACKLOG: u32 = 4_096;
/// Longest wait for a name to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

/// Binds the port; nobody can connect before [`listen`].
pub(super) async fn take(address: &ListenAddress, setting: &str) -> Result<(TcpSocket, SocketAddr)> {
    let taken = match address {
        ListenAddress::Socket(address) => bind(*address),
        ListenAddress::Everywhere(port) => everywhere(*port),
        ListenAddress::Name { host, port } => {
            let found = timeout(RESOLVE, lookup_host((host.as_str(), *port))).await;
            let found = found.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()));
            let found = found.with_context(|| format!("{host} of {setting} is not resolved: correct the name"))?;
            first_of_this_machine(found.collect())
        }
    };
    taken.with_context(|| match address {
        ListenAddress::Name { host, .. } => format!(
            "cannot listen on {address}: stop what listens there, see that {host} names this machine, or set \
             {setting} to another"
        ),
        _ => format!("cannot listen on {address}: stop what listens there or set {setting} to another"),
    })
}

/// Begins to accept connections. Bounds what the kernel holds for a peer that does not read (SO_SNDBUF, of which it takes
/// the double): left to itself it grows to megabytes. Connections inherit the bound, also one that comes before the first
/// is accepted.
pub(super) fn listen(socket: TcpSocket, limits: &LimitsConfig, setting: &str) -> Result<TcpListener> {
    let bytes = u32::try_from(limits.write_buffer_bytes).unwrap_or(u32::MAX);
    if let Err(error) = socket.set_send_buffer_size(bytes) {
        tracing::debug!(%error, "the send buffers could not be bounded");
    }
    match socket.listen(BACKLOG) {
        Ok(listener) => Ok(listener),
        Err(error) => bail!("cannot listen ({error}): stop what listens there or set {setting} to another"),
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

/// One socket for IPv6 and IPv4; for IPv4 alone on a machine without IPv6.
fn everywhere(port: u16) -> io::Result<(TcpSocket, SocketAddr)> {
    let both = || -> io::Result<(TcpSocket, SocketAddr)> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        let socket = TcpSocket::from_std_stream(TcpStream::from(socket));
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    };
    match both() {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind((Ipv4Addr::UNSPECIFIED, port).into()),
        result => result,
    }
}

/// Binds the first address that belongs to this machine, IPv4 before IPv6. A port that is taken ends the search:
/// another address of the same name would hide it.
fn first_of_this_machine(mut addresses: Vec<SocketAddr>) -> io::Result<(TcpSocket, SocketAddr)> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = bind(address);
        match &result {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_is_reached_by_ipv4_and_by_ipv6_where_there_is_one() {
        let (socket, bound) = take(&ListenAddress::Everywhere(0), "A").await.expect("free");
        let limits = crate::config::Config::from_pairs(&[]).expect("defaults").limits;
        let listener = listen(socket, &limits, "A").expect("free");
        let reach = async |address: SocketAddr| {
            let (near, far) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
            (near.expect("connected"), far.expect("accepted")).1.1.ip().to_canonical()
        };
        assert_eq!(reach((Ipv4Addr::LOCALHOST, bound.port()).into()).await, Ipv4Addr::LOCALHOST);
        if bound.is_ipv6() {
            assert_eq!(reach((Ipv6Addr::LOCALHOST, bound.port()).into()).await, Ipv6Addr::LOCALHOST);
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_an_address_of_another_machine_is_passed_over() {
        let name = ListenAddress::Name { host: "localhost".to_owned(), port: 0 };
        let (_socket, bound) = take(&name, "A").await.expect("free");
        assert!(bound.ip().is_loopback() && bound.port() != 0, "{bound}");

        let elsewhere = "192.0.2.1:0".parse().expect("an address");
        let here = "127.0.0.1:0".parse().expect("an address");
        let (_socket, bound) = first_of_this_machine(vec![elsewhere, here]).expect("bound");
        assert_eq!(bound.ip(), Ipv4Addr::LOCALHOST);
        assert!(first_of_this_machine(vec![elsewhere]).is_err());
        assert!(first_of_this_machine(Vec::new()).is_err());
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_said() {
        let name = ListenAddress::Name { host: "no-such-host.invalid".to_owned(), port: 0 };
        let error = take(&name, "HADIR_PUBLIC_ADDR").await.expect_err("no such host");
        let said = format!("{error:#}");
        assert!(said.contains("no-such-host.invalid of HADIR_PUBLIC_ADDR is not resolved"), "{said}");
    }

    #[tokio::test]
    async fn a_taken_port_of_a_name_is_not_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let name =
            ListenAddress::Name { host: "localhost".to_owned(), port: taken.local_addr().expect("bound").port() };
        let error = take(&name, "HADIR_PUBLIC_ADDR").await.expect_err("taken");
        assert!(format!("{error:#}").contains("cannot listen on localhost:"), "{error:#}");
    }
}
