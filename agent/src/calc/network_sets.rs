//! Network sets: what policy sees of them, and which of their texts mean no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_model::ObjectMeta;
use tortie_model::resource::listed_network;
use tortie_policy::snapshot::{EndpointId, NetworkSet};

use super::Problems;
use super::texts::Texts;

/// A network set as far as this node needs it.
#[derive(Debug, PartialEq)]
pub(super) struct StoredSet {
    set: Arc<NetworkSet>,
    /// Members that are no network.
    unreadable: Box<[String]>,
}

impl StoredSet {
    /// As policy sees it.
    pub(super) fn set(&self) -> &Arc<NetworkSet> {
        &self.set
    }
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

/// What is wrong with a set, if anything is.
pub(super) fn problems(id: &EndpointId, stored: &StoredSet) -> Option<Problems> {
    let subject = match id.namespace.as_str() {
        "" => format!("GlobalNetworkSet {}", id.name),
        namespace => format!("NetworkSet {namespace}/{}", id.name),
    };
    let mut problems = Problems::default();
    for text in &stored.unreadable {
        problems.add(subject.as_str(), format!("nets has '{text}', which is no network and is left out"));
    }
    (!stored.unreadable.is_empty()).then_some(problems)
}
