//! The address of the client behind the service's own proxies.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The service's own proxies, which append to `X-Forwarded-For`. Empty if clients connect directly.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(pub(crate) Vec<IpNet>);

impl TrustedProxies {
    /// Returns the first address from the right that is not one of the proxies.
    ///
    /// Each proxy appends the address that it saw. What is left of the first stranger's address is whatever that
    /// stranger wrote. If a proxy names nobody, nobody is known.
    pub(crate) fn client(&self, peer: IpAddr, forwarded: &str) -> Option<IpAddr> {
        let mut hops = forwarded.rsplit(',');
        let mut address = peer.to_canonical();
        while self.contain(address) {
            address = address_of(hops.next()?)?;
        }
        Some(address)
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Parses a hop, which some proxies write with a port. IPv4 in IPv6 (`::ffff:192.0.2.1`) is IPv4.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = match hop.parse::<SocketAddr>() {
        Ok(with_port) => with_port.ip(),
        Err(_) => {
            let inner = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
            inner.unwrap_or(hop).parse().ok()?
        }
    };
    Some(address.to_canonical())
}

/// Parses a network, or a single address. IPv4 in IPv6 is IPv4, as in the addresses that it is compared with.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    match network {
        IpNet::V6(six) if six.prefix_len() >= 96 => match six.addr().to_ipv4_mapped() {
            Some(four) => IpNet::new(four.into(), six.prefix_len() - 96).ok(),
            None => Some(network),
        },
        _ => Some(network),
    }
}
