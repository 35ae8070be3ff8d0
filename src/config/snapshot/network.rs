//! Sets of addresses, as networks.

use std::net::IpAddr;
use std::str::FromStr;

use strum::{EnumString, VariantNames};

/// Whose word of a client's address counts, and where they write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    pub networks: Vec<Network>,
    pub field: ForwardedField,
}

impl TrustedProxies {
    /// Whether a peer is one of them; `None` is one on a Unix socket.
    pub fn has(&self, peer: Option<IpAddr>) -> bool {
        self.networks.iter().any(|network| network.has(peer))
    }
}

/// The header field in which proxies say for whom a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ForwardedField {
    XForwardedFor,
    Forwarded,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Whoever connects to a Unix socket.
    Unix,
    Of {
        address: IpAddr,
        /// How many bits have to be the same.
        bits: u32,
    },
}

impl Network {
    pub fn has(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Network::Unix, None) => true,
            (Network::Of { address: IpAddr::V4(own), bits }, Some(IpAddr::V4(other))) => {
                u32::MAX.checked_shl(32 - bits).unwrap_or(0) & (own.to_bits() ^ other.to_bits()) == 0
            }
            (Network::Of { address: IpAddr::V6(own), bits }, Some(IpAddr::V6(other))) => {
                u128::MAX.checked_shl(128 - bits).unwrap_or(0) & (own.to_bits() ^ other.to_bits()) == 0
            }
            _ => false,
        }
    }
}

/// It is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    /// `10.0.0.0/8`, `2001:db8::/32`, a single address, or `unix`. Bits beyond the length have to be 0: they would be a slip.
    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        if text == "unix" {
            return Ok(Network::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits: &u32| *bits <= most).ok_or(NoNetwork)?,
            None => most,
        };
        let beyond = match address {
            IpAddr::V4(address) => u64::from(address.to_bits().checked_shl(bits).unwrap_or(0) != 0),
            IpAddr::V6(address) => u64::from(address.to_bits().checked_shl(bits).unwrap_or(0) != 0),
        };
        if beyond != 0 {
            return Err(NoNetwork);
        }
        Ok(Network::Of { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_addresses_that_begin_as_they_do() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "fe80::1", "0.0.0.0"),
            ("::1", "::1", "::2"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.has(Some(inside.parse().unwrap())), "{network}");
            assert!(!parsed.has(Some(outside.parse().unwrap())) && !parsed.has(None), "{network}");
        }
        assert!("unix".parse::<Network>().unwrap().has(None));
        for wrong in
            ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "::1/129", "example.com", "", "10.0.0.0/-1", "fd00::1/8"]
        {
            assert_eq!(wrong.parse::<Network>(), Err(NoNetwork), "{wrong}");
        }
    }
}
