//! The address of a node's IPIP device (calico-datamodel 4.7). Other tunnels get theirs the same way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tortie_model::ipam::AllocationAttribute;
use tortie_model::resource::{AllowedUse, EncapMode, IpPool, Node};

use super::assign::block_of;
use super::{AssignRequest, Extra, Ipam, IpamError, select_pools};

/// The handle that holds a node's IPIP address.
pub fn ipip_tunnel_handle(node: &str) -> String {
    format!("ipip-tunnel-addr-{node}")
}

impl Ipam {
    /// Sees to it that the node has an address for its IPIP device exactly when some pool uses IPIP there, and returns
    /// it. A present address is kept while a pool still wants it and it is really the node's. Writing it to the Node is
    /// the caller's.
    ///
    /// # Errors
    /// [`IpamError`].
    pub async fn ensure_ipip_address(&self, node: &Node) -> Result<Option<Ipv4Addr>, IpamError> {
        let name = &node.metadata.name;
        let handle = ipip_tunnel_handle(name);
        let pools = self.pools().await?;
        let wants_tunnel = |pool: &&IpPool| pool.spec.cidr.is_ipv4() && pool.spec.ipip() != EncapMode::Never;
        let mut candidates = select_pools(&pools, &node.metadata.labels, AllowedUse::Tunnel);
        candidates.retain(wants_tunnel);
        if candidates.is_empty() {
            self.release_by_handle(&handle, Extra::default()).await?;
            return Ok(None);
        }
        let attributes = BTreeMap::from([
            ("node".to_owned(), name.clone()),
            ("type".to_owned(), "ipipTunnelAddress".to_owned()),
        ]);
        let present = node.spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr);
        if let Some(address) = present
            && self.holds(&candidates, address.into(), &handle, &attributes).await?
        {
            return Ok(Some(address));
        }
        let request = AssignRequest {
            host: name.clone(),
            handle,
            attributes,
            ipv4: 1,
            ipv6: 0,
            addresses: Vec::new(),
            pools: candidates.iter().map(|pool| pool.metadata.name.clone()).collect(),
            intended_use: AllowedUse::Tunnel,
        };
        let assigned = self.assign(&request, |_| Extra::default()).await?;
        Ok(assigned.addresses.into_iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }))
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
