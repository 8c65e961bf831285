//! Network sets: what policy sees of them, and which of their texts mean no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_model::ObjectMeta;
use tortie_model::resource::listed_network;
use tortie_policy::snapshot::{EndpointId, NetworkSet};

use super::Problems;
use super::cache::Cache;
use super::texts::Texts;

/// A network set as far as this node needs it.
#[derive(Debug, PartialEq)]
pub(super) struct StoredSet {
    set: Arc<NetworkSet>,
    /// Members that are no network.
    unreadable: Box<[String]>,
}

/// The set as policy sees it; in a namespace it has that as a label, and what the namespace's profile gives.
pub(super) fn stored(
    id: &EndpointId,
    metadata: &ObjectMeta,
    nets: &[String],
    texts: &mut Texts,
) -> StoredSet {
    let own = metadata.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut labels: BTreeMap<&str, &str> = own
        .filter(|(name, _)| {
            *name != "projectcalico.org/namespace" && !name.starts_with("pcns.") && !name.starts_with("pcsa.")
        })
        .collect();
    let mut profiles = Vec::new();
    if !id.namespace.is_empty() {
        labels.insert("projectcalico.org/namespace", &id.namespace);
        profiles.push(texts.get(&format!("kns.{}", id.namespace)));
    }
    let found: Vec<Option<IpNetwork>> = nets.iter().map(|text| listed_network(text)).collect();
    let unreadable = nets.iter().zip(&found).filter(|(_, net)| net.is_none());
    StoredSet {
        unreadable: unreadable.map(|(text, _)| text.clone()).collect(),
        set: Arc::new(NetworkSet {
            labels: texts.labels(labels),
            profiles,
            nets: found.into_iter().flatten().collect(),
        }),
    }
}

/// All sets for policy.
pub(super) fn for_policy(
    cache: &Cache,
    problems: &mut Problems,
) -> BTreeMap<Arc<EndpointId>, Arc<NetworkSet>> {
    let mut sets = BTreeMap::new();
    for (id, stored) in &cache.network_sets {
        for text in &stored.unreadable {
            let subject = match id.namespace.as_str() {
                "" => format!("GlobalNetworkSet {}", id.name),
                namespace => format!("NetworkSet {namespace}/{}", id.name),
            };
            problems.add(subject, format!("nets has '{text}', which is no network and is left out"));
        }
        sets.insert(Arc::clone(id), Arc::clone(&stored.set));
    }
    sets
}
