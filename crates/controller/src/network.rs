//! Which addresses a check may reach.

use std::net::IpAddr;

use ipnet::IpNet;

/// The networks that the administrator allows.
#[derive(Clone, Debug)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Whether `address` lies in an allowed network. An IPv4 address in IPv6 clothes is judged as the
    /// IPv4 address that it is. Addresses that belong to the machine itself or to the cloud it runs in
    /// need a network that is no wider than their own class: `0.0.0.0/0` does not open them.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let allowed = |network: &IpNet| network.contains(&address);
        match own_class(address) {
            None => self.0.iter().any(allowed),
            Some(class) => self
                .0
                .iter()
                .any(|network| allowed(network) && class.contains(network)),
        }
    }
}

/// The special network that an address belongs to: loopback, link-local (with the metadata service
/// of most clouds), unspecified, multicast.
fn own_class(address: IpAddr) -> Option<IpNet> {
    const SPECIAL: [&str; 8] = [
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/8",
        "224.0.0.0/4",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::/32",
        "ff00::/8",
    ];
    SPECIAL
        .iter()
        .filter_map(|network| network.parse::<IpNet>().ok())
        .find(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(networks: &[&str], address: &str) -> bool {
        Networks(
            networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
        )
        .allow(address.parse().unwrap())
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
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(
                !allows(&["0.0.0.0/0", "::/0", "fc00::/7"], special),
                "{special}"
            );
        }
        assert!(allows(&["127.0.0.0/8"], "127.9.9.9"));
        assert!(allows(&["127.0.0.1/32"], "127.0.0.1"));
        assert!(!allows(&["127.0.0.1/32"], "127.0.0.2"));
        assert!(!allows(&["127.0.0.0/8"], "169.254.169.254"));
    }
}
