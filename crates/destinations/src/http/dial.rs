//! `host and port -> connection`, to addresses that a destination may have.
//!
//! A name may lead anywhere, and elsewhere a moment later: the address that is looked at is the one that the connection has.
//! Never reached, whatever a config says: link-local addresses and those under which clouds tell a machine its credentials.
//! Never here: TLS, a byte of a request.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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
        let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
        let found = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?;
        let mut last = DialError::Unreachable("the name has no address".to_owned());
        for address in found {
            if let Err(why) = self.allows(address.ip()) {
                last = DialError::Forbidden(why.to_owned());
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let peer = stream.peer_addr().map_err(unreachable)?;
                    self.allows(peer.ip()).map_err(|why| DialError::Forbidden(why.to_owned()))?;
                    stream.set_nodelay(true).map_err(unreachable)?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = unreachable(error),
            }
        }
        Err(last)
    }
}

impl Tcp {
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Never,
    Private,
    Public,
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        // "This network", multicast and beyond; link-local, with the metadata of AWS, Azure, GCP and tasks of ECS.
        (0 | 224..=255, ..) | (169, 254, ..) => Reach::Never,
        // Alibaba's metadata; the host agent of Azure.
        (100, 100, 100, 200) | (168, 63, 129, 16) => Reach::Never,
        // RFC 1918; loopback; carriers' (RFC 6598), which EKS uses for pods.
        (10 | 127, ..) | (172, 16..=31, ..) | (192, 168, ..) | (100, 64..=127, ..) => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    let v4_of = |high: u16, low: u16| reach_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // An IPv4 address in another form: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xFFFF | 0, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => v4_of(high, low),
        [0x2002, high, low, ..] => v4_of(high, low),
        // Link-local, site-local, multicast; the metadata of AWS (fd00:ec2::/32) and GCP (fd20:ce::254).
        [0xFE80..=0xFFFF, ..] | [0xFD00, 0x0EC2, ..] | [0xFD20, 0x00CE, ..] => Reach::Never,
        // Unique local addresses.
        [0xFC00..=0xFDFF, ..] => Reach::Private,
        _ => Reach::Public,
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
