//! What an allocation is decided by besides blocks: configuration, pools, reservations, the labels of the node and of
//! the namespace; each with what a transaction compares to be sure of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::OptionFuture;
use ipnetwork::IpNetwork;
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{Block, BlockOwner, IpamConfig};
use tortie_model::resource::{IpPool, IpPoolSpec, NodeSpec, ProfileSpec};
use tortie_model::{AnyResource, Key, Kind, Object};

use super::clock::Clock;
use super::memory::Memory;
use super::pools::{Criteria, Family};
use super::reservations::{self, ReservationFault, Reservations};
use super::{AssignRequest, Ipam, IpamError, pools, records};
use crate::store::Compare;

/// Prefix of the profile that carries a namespace's labels, and of those labels there; Calico's controller for
/// Kubernetes writes it (calico-datamodel 1.8).
const NAMESPACE_PROFILE: &str = "kns.";
const NAMESPACE_LABEL: &str = "pcns.";

/// Cluster-wide settings.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: IpamConfig,
    config_compare: Compare,
    /// In name order.
    pub(super) pools: Vec<IpPool>,
    /// One that cannot be read reserves everything.
    reservations: Result<Reservations, ReservationFault>,
}

/// Labels of a node or a namespace, and the compare that makes sure of them.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) labels: BTreeMap<String, String>,
    compare: Compare,
}

/// The settings as one request sees them.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) settings: Arc<Settings>,
    /// `None` for a virtual owner.
    node: Option<Labels>,
    namespace: Option<Labels>,
}

impl Situation {
    /// From memory; `None` when something needed is not there.
    pub(super) fn remembered(
        memory: &mut Memory,
        owner: &BlockOwner,
        namespace: Option<&str>,
    ) -> Option<Situation> {
        let settings = memory.settings()?;
        let node = match owner {
            BlockOwner::Host(name) => Some(memory.node(name)?.clone()),
            BlockOwner::Virtual(_) => None,
        };
        let namespace = match namespace {
            Some(name) => Some(memory.namespace(name)?.clone()),
            None => None,
        };
        Some(Situation { settings, node, namespace })
    }

    /// Pools of a family for a request, in the order to try them.
    ///
    /// # Errors
    /// When there is none, or when it is not known what is reserved.
    pub(super) fn candidates(
        &self,
        family: Family,
        request: &AssignRequest,
    ) -> Result<Vec<&IpPool>, IpamError> {
        self.settings.reservations.as_ref().map_err(Clone::clone)?;
        let none = BTreeMap::new();
        let criteria = Criteria {
            node: &request.host,
            labels: self.node.as_ref().map_or(&none, |node| &node.labels),
            namespace: self.namespace.as_ref().map(|namespace| &namespace.labels),
            requested: &request.pools,
            usage: request.intended_use,
        };
        pools::candidates(&self.settings.pools, family, &criteria)
    }

    /// Whether the node's labels still agree with the pool a block lies in; a block of no pool is nobody's business.
    pub(super) fn pool_refuses_node(&self, block: &IpNetwork) -> bool {
        let Some(node) = &self.node else { return false };
        let pool = self.settings.pools.iter().find(|pool| {
            Family::of(&pool.spec.cidr) == Family::of(block) && pool.spec.cidr.contains(block.network())
        });
        pool.is_some_and(|pool| !pools::selects_node(pool, &node.labels))
    }

    pub(super) fn is_reserved(&self, address: IpAddr) -> bool {
        self.settings.reservations.as_ref().map_or(true, |reserved| reserved.contains(address))
    }

    pub(super) fn is_all_reserved(&self, network: &IpNetwork) -> bool {
        self.settings.reservations.as_ref().map_or(true, |reserved| reserved.covers(network))
    }

    /// How many addresses of a block may be given out at a time.
    pub(super) fn usable(&self, block: &Block, clock: &Clock) -> usize {
        let free = |block: &Block| block.free_addresses().filter(|a| !self.is_reserved(*a)).count();
        if block.cooling().next().is_none() {
            return free(block);
        }
        let mut block = block.clone();
        clock.refresh(&mut block);
        free(&block)
    }

    /// What has to be unchanged when addresses out of these pools are assigned: the configuration, the node's labels,
    /// the pools, and the namespace's labels where a pool asks for them.
    pub(super) fn compares(&self, used: &[&IpPool]) -> Vec<Compare> {
        let mut compares = vec![self.settings.config_compare.clone()];
        compares.extend(self.node.as_ref().map(|node| node.compare.clone()));
        let by_namespace = |pool: &&IpPool| pool.spec.namespace_selector.is_some();
        if used.iter().any(by_namespace) {
            compares.extend(self.namespace.as_ref().map(|namespace| namespace.compare.clone()));
        }
        compares.extend(used.iter().map(|pool| present_or_absent(pool.key().to_string(), revision(*pool))));
        compares
    }
}

impl Ipam {
    /// Reads everything anew, and remembers it.
    pub(super) async fn situation(
        &self,
        memory: &mut Memory,
        owner: &BlockOwner,
        namespace: Option<&str>,
    ) -> Result<Situation, IpamError> {
        let node = match owner {
            BlockOwner::Host(name) => Some(name.as_str()),
            BlockOwner::Virtual(_) => None,
        };
        let (config, pools, reservations, node, namespace_labels) = futures::join!(
            self.config(),
            self.pools(),
            self.client.store().list(reservations::PREFIX),
            OptionFuture::from(node.map(|name| self.node_labels(name))),
            OptionFuture::from(namespace.map(|name| self.namespace_labels(name))),
        );
        let (config, config_revision) = config?;
        let listing = reservations?;
        let watched = memory.reservations_unchanged();
        let settings = Arc::new(Settings {
            config,
            config_compare: present_or_absent(Key::IpamConfig.to_string(), config_revision),
            pools: pools?,
            reservations: Reservations::read(&listing.entries),
        });
        let situation =
            Situation { settings, node: node.transpose()?, namespace: namespace_labels.transpose()? };
        if !watched {
            let watch = self.client.store().watch(reservations::PREFIX, listing.revision + 1).await;
            memory
                .keep_watch(watch.inspect_err(|error| tracing::debug!(%error, "settings are not kept")).ok());
        }
        memory.keep_settings(Arc::clone(&situation.settings));
        if let (BlockOwner::Host(name), Some(labels)) = (owner, &situation.node) {
            memory.keep_node(name, labels.clone());
        }
        if let (Some(name), Some(labels)) = (namespace, &situation.namespace) {
            memory.keep_namespace(name, labels.clone());
        }
        Ok(situation)
    }

    /// The configuration and its revision; 0 when none is stored.
    pub(super) async fn config(&self) -> Result<(IpamConfig, i64), IpamError> {
        let key = Key::IpamConfig.to_string();
        let Some(kv) = self.client.store().get(&key).await? else { return Ok((IpamConfig::absent(), 0)) };
        Ok((records::decode("IPAM configuration", &kv)?.value, kv.mod_revision))
    }

    /// All pools. One that cannot be read is left out: nothing is allocated from it.
    pub(super) async fn pools(&self) -> Result<Vec<IpPool>, IpamError> {
        let (pools, unreadable) = self.readable_pools().await?;
        for error in &unreadable {
            tracing::warn!(%error, "pool left out");
        }
        Ok(pools)
    }

    /// The pools that can be read, and what is wrong with the others.
    pub(super) async fn readable_pools(&self) -> Result<(Vec<IpPool>, Vec<DecodeError>), IpamError> {
        let list = self.client.list(Kind::IpPool, None).await?;
        let pool = |any: AnyResource| Object::<IpPoolSpec>::try_from(any).ok();
        Ok((list.items.into_iter().filter_map(pool).collect(), list.invalid))
    }

    async fn node_labels(&self, name: &str) -> Result<Labels, IpamError> {
        let found = self.client.find::<NodeSpec>(None, name).await?;
        let node = found.ok_or_else(|| IpamError::NoNode { node: name.to_owned() })?;
        let compare = present_or_absent(node.key().to_string(), revision(&node));
        Ok(Labels { labels: node.metadata.labels, compare })
    }

    /// The labels of a Kubernetes namespace as its profile carries them; none without a profile.
    async fn namespace_labels(&self, namespace: &str) -> Result<Labels, IpamError> {
        let name = format!("{NAMESPACE_PROFILE}{namespace}");
        let found = self.client.find::<ProfileSpec>(None, &name).await?;
        let compare = present_or_absent(
            Key::resource(Kind::Profile, None, &name).to_string(),
            found.as_ref().map_or(0, revision),
        );
        let labels = found.map(|profile| profile.spec.labels_to_apply).unwrap_or_default();
        let labels = labels
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(NAMESPACE_LABEL)?.to_owned(), value)))
            .collect();
        Ok(Labels { labels, compare })
    }
}

/// The revision a resource was read at; 0 when it has none.
fn revision<S: tortie_model::Spec>(resource: &Object<S>) -> i64 {
    let text = resource.metadata.resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Revision 0 stands for a key that is not there.
pub(super) fn present_or_absent(key: String, revision: i64) -> Compare {
    if revision == 0 { Compare::Absent(key) } else { Compare::ModRevision(key, revision) }
}
