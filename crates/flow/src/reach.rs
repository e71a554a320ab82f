//! Which addresses a destination may have: the one table of them, for the config's checks and for connections.
//!
//! A pipeline's config is often written by somebody who must not read what its machine may: a connection to the metadata
//! service of a cloud would tell the credentials of the machine's role. Never here: a name, a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who may be met at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nobody that a destination could be: link-local, a cloud's metadata, multicast, no address at all.
    Never,
    /// Somebody of a private network, or this machine itself.
    Private,
    /// Anybody.
    Public,
}

/// Who may be met at an address, in whatever form it is written.
pub fn reach(address: IpAddr) -> Reach {
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
    fn every_block_is_what_its_registry_says() {
        let of = |text: &str| reach(text.parse().expect("an address"));
        for text in [
            "0.1.2.3",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::",
        ] {
            assert_eq!(of(text), Reach::Never, "{text}");
        }
        for text in [
            "10.0.0.0",
            "127.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.0",
            "::1",
            "fc00::1",
            "fdff::1",
        ] {
            assert_eq!(of(text), Reach::Private, "{text}");
        }
        for text in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.0.1",
            "2001:4860::1",
        ] {
            assert_eq!(of(text), Reach::Public, "{text}");
        }
    }
}
