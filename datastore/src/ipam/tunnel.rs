//! The addresses of a node's tunnel devices (calico-datamodel 4.6, 4.7).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tortie_model::ipam::AllocationAttribute;
use tortie_model::resource::{AllowedUse, EncapMode, IpPool, Node};

use super::pools::{Family, block_of};
use super::{AssignRequest, Extra, Ipam, IpamError, select_pools};

/// A tunnel device that has an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunnel {
    /// WireGuard over IPv4.
    Wireguard,
    /// WireGuard over IPv6.
    WireguardV6,
    /// IPIP.
    Ipip,
    /// VXLAN over IPv4.
    Vxlan,
    /// VXLAN over IPv6.
    VxlanV6,
}

impl Tunnel {
    /// All, in the order upstream sees to them.
    pub const ALL: [Tunnel; 5] =
        [Tunnel::Wireguard, Tunnel::WireguardV6, Tunnel::Ipip, Tunnel::Vxlan, Tunnel::VxlanV6];

    /// The handle that holds a node's address.
    pub fn handle(self, node: &str) -> String {
        let prefix = match self {
            Tunnel::Wireguard => "wireguard-tunnel-addr-",
            Tunnel::WireguardV6 => "wireguard-v6-tunnel-addr-",
            Tunnel::Ipip => "ipip-tunnel-addr-",
            Tunnel::Vxlan => "vxlan-tunnel-addr-",
            Tunnel::VxlanV6 => "vxlan-v6-tunnel-addr-",
        };
        format!("{prefix}{node}")
    }

    /// The attribute `type` of the allocation.
    pub fn attribute(self) -> &'static str {
        match self {
            Tunnel::Wireguard => "wireguardTunnelAddress",
            Tunnel::WireguardV6 => "wireguardV6TunnelAddress",
            Tunnel::Ipip => "ipipTunnelAddress",
            Tunnel::Vxlan => "vxlanTunnelAddress",
            Tunnel::VxlanV6 => "vxlanV6TunnelAddress",
        }
    }

    /// The family of the address.
    pub fn family(self) -> Family {
        match self {
            Tunnel::Wireguard | Tunnel::Ipip | Tunnel::Vxlan => Family::V4,
            Tunnel::WireguardV6 | Tunnel::VxlanV6 => Family::V6,
        }
    }

    /// Whether a pool that allows tunnels on the node calls for an address of this one. For WireGuard every pool does; the
    /// caller knows whether the node has a key.
    fn is_wanted_by(self, pool: &IpPool) -> bool {
        let mode = match self {
            Tunnel::Ipip => pool.spec.ipip() != EncapMode::Never,
            Tunnel::Vxlan | Tunnel::VxlanV6 => pool.spec.vxlan() != EncapMode::Never,
            Tunnel::Wireguard | Tunnel::WireguardV6 => true,
        };
        mode && Family::of(&pool.spec.cidr) == self.family()
    }
}

/// The handle that holds a node's IPIP address.
pub fn ipip_tunnel_handle(node: &str) -> String {
    Tunnel::Ipip.handle(node)
}

impl Ipam {
    /// [`Ipam::ensure_tunnel_address`] for IPIP, with the address the Node resource shows.
    ///
    /// # Errors
    /// [`IpamError`].
    pub async fn ensure_ipip_address(&self, node: &Node) -> Result<Option<Ipv4Addr>, IpamError> {
        let present = node.spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr).map(IpAddr::V4);
        Ok(match self.ensure_tunnel_address(Tunnel::Ipip, node, present).await? {
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) | None => None,
        })
    }

    /// Sees to it that the node has an address for a tunnel device exactly when some pool wants the tunnel there, and
    /// returns it. A `present` address is kept while a pool still wants it and it is really the node's. Writing it to the
    /// Node is the caller's; so is [`Ipam::release_tunnel_address`] for WireGuard without a key.
    ///
    /// # Errors
    /// [`IpamError`].
    pub async fn ensure_tunnel_address(
        &self,
        tunnel: Tunnel,
        node: &Node,
        present: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, IpamError> {
        let name = &node.metadata.name;
        let (pools, unreadable) = self.readable_pools().await?;
        let mut candidates = select_pools(&pools, &node.metadata.labels, AllowedUse::Tunnel);
        candidates.retain(|pool| tunnel.is_wanted_by(pool));
        if candidates.is_empty() {
            if let Some(error) = unreadable.into_iter().next() {
                // It may be the one that wants the tunnel.
                return Err(error.into());
            }
            self.release_tunnel_address(tunnel, name).await?;
            return Ok(None);
        }
        let attributes = BTreeMap::from([
            ("node".to_owned(), name.clone()),
            ("type".to_owned(), tunnel.attribute().to_owned()),
        ]);
        if let Some(address) = present
            && self.holds(&candidates, address, &tunnel.handle(name), &attributes).await?
        {
            return Ok(Some(address));
        }
        let request = AssignRequest {
            attributes,
            ipv4: usize::from(tunnel.family() == Family::V4),
            ipv6: usize::from(tunnel.family() == Family::V6),
            pools: candidates.iter().map(|pool| pool.metadata.name.clone()).collect(),
            intended_use: AllowedUse::Tunnel,
            ..AssignRequest::new(name, tunnel.handle(name))
        };
        let assigned = self.assign(&request, |_| Extra::default()).await?;
        Ok(assigned.addresses.first().copied())
    }

    /// Releases a node's address for a tunnel device, if it has one.
    ///
    /// # Errors
    /// [`IpamError`].
    pub async fn release_tunnel_address(&self, tunnel: Tunnel, node: &str) -> Result<(), IpamError> {
        self.release_by_handle(&tunnel.handle(node), Extra::default()).await?;
        Ok(())
    }

    /// Whether an address lies in one of the pools and is held by exactly this handle with these attributes.
    async fn holds(
        &self,
        pools: &[&IpPool],
        address: IpAddr,
        handle: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<bool, IpamError> {
        let Some(pool) = pools.iter().find(|pool| pool.spec.cidr.contains(address)) else { return Ok(false) };
        let block = self.block(&block_of(pool, address)).await?;
        let is_ours = |owner: &AllocationAttribute| {
            owner.handle_id.as_deref() == Some(handle) && owner.secondary.as_ref() == Some(attributes)
        };
        Ok(block.as_ref().and_then(|block| block.value.owner(address)).is_some_and(is_ours))
    }
}
