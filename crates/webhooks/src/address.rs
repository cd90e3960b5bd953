//! Which addresses may be connected to: those of the public internet, and those that the operator
//! allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that may be sent to although they are not public, such as the loopback in development.
/// Written `127.0.0.2, 10.1.0.0/16`; the empty text allows none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a network such as 10.1.0.0/16")]
pub struct NotANetwork(String);

impl FromStr for AllowList {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(network).collect::<Result<_, _>>().map(AllowList)
    }
}

fn network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| NotANetwork(text.to_owned()))
}

impl AllowList {
    /// Whether this address may be connected to.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        // An IPv4 address is the same place when it is written as an IPv6 one.
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(first: u16, second: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), bits)
}

/// What of IPv4 is not a host on the internet (IANA's registry of special purposes).
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),       // this network
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // behind a carrier's NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, and the clouds' metadata
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, and broadcast
];

/// All that is given out to hosts in IPv6. Outside of it lie loopback, link-local, unique local and
/// multicast addresses, and IPv4 ones that are mapped or translated (`64:ff9b::/96`).
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// What within that is no host, or is an IPv4 address in disguise.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments, Teredo among them
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_on_the_internet_are_public() {
        let none = AllowList::default();
        for public in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "223.255.255.255"]
        {
            assert!(none.permits(public.parse().unwrap()), "{public}");
        }
        for public in ["2606:4700::1111", "2001:200::1", "3ffe:ffff::1", "::ffff:1.1.1.1"] {
            assert!(none.permits(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!none.permits(other.parse().unwrap()), "{other}");
            let mapped = other.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped();
            assert!(!none.permits(IpAddr::V6(mapped)), "{mapped}");
        }
        for other in [
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!none.permits(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_operator_may_allow_more() {
        let list: AllowList = "127.0.0.2, 10.1.0.0/16,fd00::/8".parse().unwrap();
        for allowed in ["127.0.0.2", "::ffff:127.0.0.2", "10.1.255.1", "fd00::1", "1.1.1.1"] {
            assert!(list.permits(allowed.parse().unwrap()), "{allowed}");
        }
        for other in ["127.0.0.1", "10.2.0.1", "fe80::1"] {
            assert!(!list.permits(other.parse().unwrap()), "{other}");
        }
        assert_eq!("".parse(), Ok(AllowList::default()));
        for bad in ["localhost", "10.0.0.0/33", "10.1.0.0/16; ::1", "127.1"] {
            assert!(bad.parse::<AllowList>().is_err(), "{bad}");
        }
    }
}
