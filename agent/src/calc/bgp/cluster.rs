//! Questions about nodes and the cluster's BGP settings, answered with their defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tortie_model::DEFAULT_AS_NUMBER;
use tortie_model::resource::{BgpConfigurationSpec, Node};

use crate::calc::Settings;
use crate::calc::cache::Cache;

/// Metric of routes in the kernel unless configured.
const NORMAL_PRIORITY: u32 = 1024;

/// Port of BGP unless configured.
pub(super) const DEFAULT_PORT: u16 = 179;

/// The cluster as seen from this node.
pub(super) struct Cluster<'a> {
    pub(super) cache: &'a Cache,
    pub(super) own_name: &'a str,
    pub(super) own: &'a Node,
    ipv6: bool,
    /// Names by address; of several nodes with one address the first.
    names: BTreeMap<IpAddr, &'a str>,
}

impl<'a> Cluster<'a> {
    /// `None` while this node has no address of any family: then there is nothing to speak from.
    pub(super) fn new(cache: &'a Cache, settings: &'a Settings) -> Option<Cluster<'a>> {
        let own = cache.nodes.get(&settings.node)?;
        let (own_name, ipv6) = (settings.node.as_str(), settings.ipv6);
        let mut cluster = Cluster { cache, own_name, own, ipv6, names: BTreeMap::new() };
        cluster.own_addresses().next()?;
        let mut names = BTreeMap::new();
        for (name, node) in &cache.nodes {
            for address in [false, true].into_iter().filter_map(|ipv6| cluster.address(node, ipv6)) {
                names.entry(address).or_insert(name.as_str());
            }
        }
        cluster.names = names;
        Some(cluster)
    }

    pub(super) fn default_config(&self) -> Option<&'a BgpConfigurationSpec> {
        self.cache.bgp_configurations.get("default")
    }

    /// Overrides of a node; only some of its fields count (bgp-behaviour 1).
    pub(super) fn node_config(&self, node: &str) -> Option<&'a BgpConfigurationSpec> {
        self.cache.bgp_configurations.get(&format!("node.{node}"))
    }

    /// All nodes but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let own = self.own_name;
        self.cache
            .nodes
            .iter()
            .map(|(name, node)| (name.as_str(), node))
            .filter(move |(name, _)| *name != own)
    }

    /// A node's AS number: its own, else the cluster's. Upstream takes the *local* node's where another has none; that
    /// is wrong as soon as only the local one differs.
    pub(super) fn as_of(&self, node: &Node) -> u32 {
        let cluster = || self.default_config().and_then(|c| c.as_number);
        let own = node.spec.bgp.as_ref().and_then(|bgp| bgp.as_number);
        own.or_else(cluster).map_or(DEFAULT_AS_NUMBER, |number| number.0)
    }

    /// The port a node listens on.
    pub(super) fn port_of(&self, node: &str) -> u16 {
        let port = |config: Option<&BgpConfigurationSpec>| config.and_then(|c| c.listen_port);
        port(self.node_config(node)).or_else(|| port(self.default_config())).unwrap_or(DEFAULT_PORT)
    }

    /// A node's address of a family, when this node speaks that family.
    pub(super) fn address(&self, node: &Node, ipv6: bool) -> Option<IpAddr> {
        if ipv6 && !self.ipv6 {
            return None;
        }
        node.spec.bgp_address(ipv6).map(|net| net.ip())
    }

    pub(super) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        [false, true].into_iter().filter_map(|ipv6| self.address(self.own, ipv6))
    }

    /// Own address of the family of `peer`.
    pub(super) fn own_address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        self.address(self.own, peer.is_ipv6())
    }

    /// The node with an address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<(&'a str, &'a Node)> {
        let name = *self.names.get(&address)?;
        Some((name, self.cache.nodes.get(name)?))
    }

    /// Metric of a family's routes in the kernel.
    pub(super) fn normal_priority(&self, ipv6: bool) -> u32 {
        let config = self.default_config();
        let configured = config.and_then(|config| match ipv6 {
            false => config.ipv4_normal_route_priority,
            true => config.ipv6_normal_route_priority,
        });
        configured.unwrap_or(NORMAL_PRIORITY)
    }

    /// The cluster id of a route reflector.
    pub(super) fn reflector_id(&self, node: &Node) -> Option<Ipv4Addr> {
        node.spec.bgp.as_ref()?.route_reflector_cluster_id
    }
}
