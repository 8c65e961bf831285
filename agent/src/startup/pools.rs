//! Pools for a cluster that has none (calico-datamodel 7.4).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{AllowedUse, IpPool, IpPoolSpec};

use super::interfaces::Interface;
use super::new_metadata;
use crate::config::{PoolSettings, PoolWish};

/// Creates the default pool of each family that is wanted and has no pool of any name.
///
/// # Errors
/// The datastore's.
pub async fn ensure(
    client: &Client,
    settings: &PoolSettings,
    ipv6_support: bool,
    interfaces: &[Interface],
) -> Result<(), ClientError> {
    // A pool that cannot be read still counts: no default pool may lie over it.
    let existing = client.find_every::<IpPoolSpec>().await?;
    // The host may have been booted without IPv6.
    let ipv6_host = || std::path::Path::new("/proc/sys/net/ipv6").exists();
    for (wish, ipv6) in [(&settings.ipv4, false), (&settings.ipv6, true)] {
        let Some(wish) = wish else { continue };
        let present = existing.iter().any(|pool| pool.spec.cidr.is_ipv6() == ipv6);
        if present || (ipv6 && !(ipv6_support && ipv6_host())) {
            continue;
        }
        let cidr = wish.cidr.unwrap_or_else(|| default_cidr(ipv6, interfaces));
        match client.create(pool(wish, cidr).into()).await {
            Ok(_) => report(wish, cidr),
            // Another node was quicker.
            Err(ClientError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn report(wish: &PoolWish, cidr: IpNetwork) {
    let family = if cidr.is_ipv6() { "IPv6" } else { "IPv4" };
    tracing::info!(
        "Created default {family} pool ({cidr}) with NAT outgoing {}. IPIP mode: {}, VXLAN mode: {}, DisableBGPExport: {}",
        wish.nat_outgoing,
        wish.ipip,
        wish.vxlan,
        wish.disable_bgp_export
    );
}

/// The pool as upstream stores it, defaults written out.
fn pool(wish: &PoolWish, cidr: IpNetwork) -> IpPool {
    let name = if cidr.is_ipv6() { "default-ipv6-ippool" } else { "default-ipv4-ippool" };
    let spec = IpPoolSpec {
        cidr,
        vxlan_mode: Some(wish.vxlan),
        ipip_mode: Some(wish.ipip),
        nat_outgoing: wish.nat_outgoing,
        disable_bgp_export: wish.disable_bgp_export,
        block_size: Some(wish.block_size),
        node_selector: Some(wish.node_selector.clone()),
        allowed_uses: Some(vec![AllowedUse::Workload, AllowedUse::Tunnel]),
        assignment_mode: Some("Automatic".into()),
        ..IpPoolSpec::default()
    };
    IpPool::new(new_metadata(name), spec)
}

fn default_cidr(ipv6: bool, interfaces: &[Interface]) -> IpNetwork {
    if ipv6 { random_ula(*uuid::Uuid::new_v4().as_bytes()) } else { free_ipv4(interfaces) }
}

/// 192.168.0.0/16, unless this machine has an address there: then the first of 172.16.0.0/16 to 172.31.0.0/16 where it
/// has none; if there is none, 192.168.0.0/16 after all.
fn free_ipv4(interfaces: &[Interface]) -> IpNetwork {
    let usual = Ipv4Network::new_checked(Ipv4Addr::new(192, 168, 0, 0), 16);
    let others = (16..32).map(|second| Ipv4Network::new_checked(Ipv4Addr::new(172, second, 0, 0), 16));
    let candidates = std::iter::once(usual).chain(others).flatten().map(IpNetwork::V4);
    let taken = |cidr: &IpNetwork| {
        interfaces.iter().flat_map(|i| &i.addresses).any(|address| cidr.contains(address.ip()))
    };
    let usual = IpNetwork::V4(usual.expect("16 is at most 32"));
    candidates.into_iter().find(|cidr| !taken(cidr)).unwrap_or(usual)
}

/// A random unique local /48 (RFC 4193 section 3): fd and 40 random bits.
fn random_ula(random: [u8; 16]) -> IpNetwork {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    // The first octets of a version 4 UUID are random.
    octets[1..6].copy_from_slice(&random[..5]);
    let cidr = Ipv6Network::new_checked(Ipv6Addr::from(octets), 48);
    IpNetwork::V6(cidr.expect("48 is at most 128"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tortie_datastore::memory::MemoryStore;
    use tortie_model::resource::EncapMode;

    fn with_address(text: &str) -> Interface {
        Interface { name: "eth0".into(), index: 2, up: true, addresses: vec![text.parse().unwrap()] }
    }

    fn wish(ipv6: bool) -> PoolWish {
        PoolWish {
            cidr: None,
            block_size: if ipv6 { 122 } else { 26 },
            ipip: EncapMode::Never,
            vxlan: EncapMode::Never,
            nat_outgoing: !ipv6,
            node_selector: "all()".into(),
            disable_bgp_export: false,
        }
    }

    #[test]
    fn the_default_range_avoids_the_machine_s_own() {
        let machine =
            |addresses: &[&str]| -> Vec<Interface> { addresses.iter().map(|a| with_address(a)).collect() };
        assert_eq!(free_ipv4(&machine(&["10.0.0.1/8"])).to_string(), "192.168.0.0/16");
        assert_eq!(free_ipv4(&machine(&["192.168.7.1/24"])).to_string(), "172.16.0.0/16");
        let more = ["192.168.7.1/24", "172.16.0.1/24", "172.17.0.1/16"];
        assert_eq!(free_ipv4(&machine(&more)).to_string(), "172.18.0.0/16");
        let mut all: Vec<String> = (16..32).map(|i| format!("172.{i}.0.1/16")).collect();
        all.push("192.168.0.1/24".into());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(free_ipv4(&machine(&all)).to_string(), "192.168.0.0/16");
    }

    #[test]
    fn ipv6_ranges_are_unique_local_and_random() {
        let ula = random_ula([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(ula.to_string(), "fd01:203:405::/48");
        assert_ne!(default_cidr(true, &[]), default_cidr(true, &[]));
    }

    #[tokio::test]
    async fn pools_are_created_once_a_family() {
        let client = Client::new(Arc::new(MemoryStore::default()));
        let mut settings = PoolSettings { ipv4: Some(wish(false)), ipv6: Some(wish(true)) };
        settings.ipv6.as_mut().unwrap().cidr = Some("fd00:1::/48".parse().unwrap());
        ensure(&client, &settings, false, &[]).await.unwrap();
        let pools = client.find_every::<IpPoolSpec>().await.unwrap();
        let [pool] = &pools[..] else { panic!("{pools:?}") };
        assert_eq!(pool.metadata.name, "default-ipv4-ippool");
        assert!(pool.metadata.uid.is_some() && pool.metadata.creation_timestamp.is_some());
        assert_eq!((pool.spec.cidr.to_string().as_str(), pool.spec.nat_outgoing), ("192.168.0.0/16", true));
        assert_eq!((pool.spec.block_size, pool.spec.ipip_mode), (Some(26), Some(EncapMode::Never)));

        // Any pool of the family will do.
        settings.ipv4.as_mut().unwrap().cidr = Some("10.64.0.0/16".parse().unwrap());
        ensure(&client, &settings, false, &[]).await.unwrap();
        assert_eq!(client.find_every::<IpPoolSpec>().await.unwrap().len(), 1);
    }
}
