//! `host and port -> connection`, to addresses that a destination may have.
//!
//! A name may lead anywhere, and elsewhere a moment later: the address that is looked at is the one that the connection has.
//! Never reached, whatever a config says: link-local addresses and those under which clouds tell a machine its credentials
//! ([`standpipe_flow::reach`]). A name with several addresses: [`race`].
//! Never here: TLS, a byte of a request.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use standpipe_flow::reach::{Reach, reach};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::race;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection.
pub type BoxStream = Box<dyn Stream>;

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialError {
    /// Nobody there, now.
    Unreachable(String),
    /// The address is one that must not be reached.
    Forbidden(String),
}

/// Makes connections. Another than [`Tcp`] is for tests and for trials without a network.
#[async_trait]
pub trait Dial: Debug + Send + Sync + 'static {
    /// A connection to a host, by name or address.
    async fn dial(&self, host: &str, port: u16) -> Result<BoxStream, DialError>;
}

/// Connections of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Addresses of private networks and of the machine itself are reached too.
    pub allow_private: bool,
}

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> Result<BoxStream, DialError> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?;
        let (allowed, forbidden) = self.sorted(found);
        match race::first(allowed, |address| self.connect(address)).await {
            Ok(stream) => Ok(Box::new(stream)),
            // One that may be reached, and is not there now, may be there later.
            Err(Some(error)) => Err(error),
            Err(None) => Err(match forbidden {
                Some(why) => DialError::Forbidden(why.to_owned()),
                None => DialError::Unreachable("the name has no address".to_owned()),
            }),
        }
    }
}

fn unreachable(error: std::io::Error) -> DialError {
    DialError::Unreachable(error.to_string())
}

impl Tcp {
    /// The addresses that may be connected to; and why another may not, if there is one.
    fn sorted(self, found: impl Iterator<Item = SocketAddr>) -> (Vec<SocketAddr>, Option<&'static str>) {
        let (mut allowed, mut forbidden) = (Vec::new(), None);
        for address in found {
            match self.allows(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(why) => forbidden = Some(why),
            }
        }
        (allowed, forbidden)
    }

    async fn connect(self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        // Whatever stands in between: what counts is where the connection has led.
        let peer = stream.peer_addr().map_err(unreachable)?;
        self.allows(peer.ip()).map_err(|why| DialError::Forbidden(why.to_owned()))?;
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(stream)
    }

    /// Whether an address may be connected to; if not, why.
    fn allows(self, address: IpAddr) -> Result<(), &'static str> {
        match reach(address) {
            Reach::Never => Err("its address is link-local, or one of a cloud's metadata"),
            Reach::Private if !self.allow_private => {
                Err("its address is one of a private network, which `allow_private` does not allow")
            }
            Reach::Private | Reach::Public => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_never_reached_in_whatever_form_its_address_is_written() {
        let never = [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fe80::1",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
        ];
        for text in never {
            let address: IpAddr = text.parse().expect("an address");
            assert!(Tcp { allow_private: true }.allows(address).is_err(), "{text}");
        }
    }

    #[test]
    fn private_addresses_are_reached_where_that_is_allowed() {
        for text in
            ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1", "::ffff:10.0.0.1"]
        {
            let address: IpAddr = text.parse().expect("an address");
            assert!(Tcp { allow_private: true }.allows(address).is_ok(), "{text}");
            assert!(Tcp { allow_private: false }.allows(address).is_err(), "{text}");
        }
        for text in ["52.1.2.3", "172.32.0.1", "2a05:d018::1", "::ffff:52.1.2.3"] {
            let address: IpAddr = text.parse().expect("an address");
            assert!(Tcp { allow_private: false }.allows(address).is_ok(), "{text}");
        }
    }
}
