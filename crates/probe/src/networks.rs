//! Which addresses may be reached.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Classes that belong to the machine itself or to the cloud it runs in, the narrowest first. No network that is
/// wider than the class opens it.
const OWN: [&str; 20] = [
    // Metadata and agents of clouds, outside the link-local networks.
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:42::42/128",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "0.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
    // IPv6 addresses that lead to an IPv4 address: compatible, NAT64 of RFC 8215, 6to4, Teredo. The well-known
    // NAT64 prefix is looked at by the address that is in it.
    "::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "2001::/32",
    "fec0::/10",
];

/// Further classes that are no addresses of the public network: IANA's special-purpose registries.
const NOT_PUBLIC: [&str; 21] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "fc00::/7",
    "100::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001::/23",
    "2001:db8::/32",
    "3ffe::/16",
    "3fff::/20",
    "5f00::/16",
];

/// Where global unicast addresses of IPv6 are given out.
const GLOBAL_UNICAST: &str = "2000::/3";
/// NAT64: the last 32 bits are an IPv4 address (RFC 6052).
const NAT64: &str = "64:ff9b::/96";

/// The networks in which pods and Prometheus may be asked (`--probe-networks`).
#[derive(Clone, Debug, Default)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Whether `address` lies in an allowed network. An IPv4 address in IPv6 clothes is judged as the
    /// IPv4 address that it is. Addresses that belong to the machine itself or to the cloud it runs in
    /// need a network that is no wider than their own class: `0.0.0.0/0` does not open them.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        within(&self.0, address, own_class(address))
    }
}

/// Which addresses a URL outside the cluster may lead to: those of the public network, and those in the networks
/// that the administrator adds (`--external-networks`).
#[derive(Clone, Debug, Default)]
pub struct Externals(pub Vec<IpNet>);

impl Externals {
    /// Whether `address` is global unicast, or lies in an added network that is no wider than the class that
    /// the address belongs to. IPv6 addresses that nobody has given out yet are never reached.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match own_class(address).or_else(|| class(&NOT_PUBLIC, address)) {
            Some(class) => within(&self.0, address, Some(class)),
            None => match address {
                IpAddr::V4(_) => true,
                IpAddr::V6(_) if well_known_nat64(address).is_some() => true,
                IpAddr::V6(_) => class(&[GLOBAL_UNICAST], address).is_some(),
            },
        }
    }
}

fn within(networks: &[IpNet], address: IpAddr, class: Option<IpNet>) -> bool {
    networks
        .iter()
        .filter(|network| network.contains(&address))
        .any(|network| class.is_none_or(|class| class.contains(network)))
}

/// The special network that an address belongs to. An address of NAT64 whose inner address is special belongs to
/// NAT64: what lies behind the translator is not what lies here.
fn own_class(address: IpAddr) -> Option<IpNet> {
    match well_known_nat64(address) {
        Some(inner) => class(&OWN, inner)
            .or_else(|| class(&NOT_PUBLIC, inner))
            .and_then(|_| NAT64.parse().ok()),
        None => class(&OWN, address),
    }
}

fn class(classes: &[&str], address: IpAddr) -> Option<IpNet> {
    classes
        .iter()
        .filter_map(|network| network.parse::<IpNet>().ok())
        .find(|network| network.contains(&address))
}

fn well_known_nat64(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let segments = address.segments();
    let known = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let bits = (u32::from(segments[6]) << 16) | u32::from(segments[7]);
    known.then_some(IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(networks: &[&str]) -> Vec<IpNet> {
        networks
            .iter()
            .map(|network| network.parse().unwrap())
            .collect()
    }

    fn allows(open: &[&str], address: &str) -> bool {
        Networks(networks(open)).allow(address.parse().unwrap())
    }

    fn external(open: &[&str], address: &str) -> bool {
        Externals(networks(open)).allow(address.parse().unwrap())
    }

    #[test]
    fn every_class_is_a_network() {
        for text in OWN
            .iter()
            .chain(&NOT_PUBLIC)
            .chain(&[GLOBAL_UNICAST, NAT64])
        {
            let network: IpNet = text.parse().unwrap();
            assert_eq!(network.trunc(), network, "{text}");
        }
    }

    #[test]
    fn only_named_networks_are_reached() {
        assert!(allows(&["10.0.0.0/8"], "10.1.2.3"));
        assert!(!allows(&["10.0.0.0/8"], "11.1.2.3"));
        assert!(!allows(&[], "10.1.2.3"));
        assert!(allows(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
    }

    #[test]
    fn special_addresses_need_a_network_of_their_own() {
        for special in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "::1",
            "::",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(
                !allows(&["0.0.0.0/0", "::/0", "fc00::/7", "100.64.0.0/10"], special),
                "{special}"
            );
        }
        assert!(allows(&["127.0.0.0/8"], "127.9.9.9"));
        assert!(allows(&["127.0.0.1/32"], "127.0.0.1"));
        assert!(!allows(&["127.0.0.1/32"], "127.0.0.2"));
        assert!(!allows(&["127.0.0.0/8"], "169.254.169.254"));
    }

    #[test]
    fn the_public_network_is_reached_and_what_only_looks_like_it_is_not() {
        for public in [
            "93.184.215.14",
            "9.255.255.255",
            "172.32.0.1",
            "223.255.255.255",
            "::ffff:93.184.215.14",
            "64:ff9b::93.184.215.14",
            "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
            "2001:4860:4860::8888",
            "3ffd::1",
        ] {
            assert!(external(&[], public), "{public}");
        }
        for other in [
            "4000::1",
            "e000::1",
            "1::1",
            "200::1",
            "5f00::1",
            "64:ff9b:2::1",
        ] {
            assert!(!external(&["::/0", "0.0.0.0/0"], other), "{other}");
        }
    }

    #[test]
    fn a_private_network_is_opened_by_a_network_within_it_only() {
        assert!(!external(&[], "10.1.2.3"));
        assert!(!external(&["0.0.0.0/0"], "10.1.2.3"));
        assert!(external(&["10.1.0.0/16"], "10.1.2.3"));
        assert!(external(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(!external(&["10.1.0.0/16"], "10.2.2.3"));
        assert!(!external(&["10.0.0.0/8"], "64:ff9b::10.1.2.3"));
        assert!(external(&["64:ff9b::a01:0/112"], "64:ff9b::10.1.2.3"));
        assert!(!external(&["100.64.0.0/10"], "100.100.100.200"));
        assert!(!external(&["::/0"], "fd12::1"));
        assert!(external(&["fd12::/16"], "fd12::1"));
        assert!(external(&["127.0.0.0/8"], "127.0.0.1"));
    }
}
