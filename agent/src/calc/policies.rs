//! Policies, profiles and pools from the cache as the policy engine takes them.

use std::collections::{BTreeMap, BTreeSet};

use tortie_model::policy_name::shown;
use tortie_model::resource::{AllowedUse, ProfileSpec};
use tortie_model::{Key, Kind};
use tortie_policy::snapshot::{PolicyBody, PolicyId, Pool, StagedBody};

use super::cache::Cache;
use super::feed::Stored;

/// The profile that allows everything.
pub(super) const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// A profile as stored; the inner `None` is one that cannot be read.
pub(super) fn profile<'a>(cache: &'a Cache, name: &str) -> Option<Option<&'a ProfileSpec>> {
    let unreadable = || cache.invalid.contains_key(&Key::resource(Kind::Profile, None, name));
    match cache.profiles.get(name) {
        Some(spec) => Some(Some(spec)),
        None => unreadable().then_some(None),
    }
}

/// Pools that count as inside for NAT; those for load balancers do not (felix-dataplane 3.9). Disabled ones do.
pub(super) fn pools(cache: &Cache) -> Vec<Pool> {
    let for_workloads = |uses: &Option<Vec<AllowedUse>>| {
        uses.as_deref().is_none_or(|uses| uses != [AllowedUse::LoadBalancer])
    };
    let mut seen = BTreeSet::new();
    let pools =
        cache.pools.values().filter(|pool| for_workloads(&pool.allowed_uses) && seen.insert(pool.cidr));
    pools.map(|pool| Pool { cidr: pool.cidr, nat_outgoing: pool.nat_outgoing }).collect()
}

/// A policy under the name users know it by.
pub(super) fn policy(cache: &Cache, stored: &Stored) -> Option<(String, PolicyBody)> {
    let Stored { kind, namespace, name } = stored;
    let found = if *kind == Kind::NetworkPolicy {
        let policy = cache.network_policies.get(&(namespace.clone(), name.clone()));
        policy.map(|policy| {
            (&policy.metadata, &policy.spec.tier, PolicyBody::Network(Box::new(policy.spec.clone())))
        })
    } else {
        let policy = cache.global_policies.get(name);
        policy.map(|policy| {
            (&policy.metadata, &policy.spec.tier, PolicyBody::Global(Box::new(policy.spec.clone())))
        })
    };
    if let Some((metadata, tier, body)) = found {
        return Some((shown(name, tier.as_deref(), &metadata.annotations), body));
    }
    let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let reason = cache.invalid.get(&Key::resource(*kind, namespace, name))?;
    Some((shown(name, None, &BTreeMap::new()), PolicyBody::Invalid(reason.clone())))
}

/// A staged policy under the name users know it by; one that cannot be read does nothing.
pub(super) fn staged_policy(cache: &Cache, stored: &Stored) -> Option<(String, StagedBody)> {
    let Stored { kind, namespace, name } = stored;
    let key = || (namespace.clone(), name.clone());
    let (metadata, tier, body) = if *kind == Kind::StagedNetworkPolicy {
        let policy = cache.staged_network_policies.get(&key())?;
        (&policy.metadata, &policy.spec.tier, StagedBody::Network(Box::new(policy.spec.clone())))
    } else if *kind == Kind::StagedGlobalNetworkPolicy {
        let policy = cache.staged_global_policies.get(name)?;
        (&policy.metadata, &policy.spec.tier, StagedBody::Global(Box::new(policy.spec.clone())))
    } else {
        let spec = cache.staged_kubernetes_policies.get(&key())?;
        let shown = format!("{}{name}", tortie_model::kubernetes_policy::PREFIX);
        return Some((shown, StagedBody::Kubernetes(Box::new(spec.clone()))));
    };
    Some((shown(name, tier.as_deref(), &metadata.annotations), body))
}

/// All policies under the names users know them by. A legacy and a new object that come down to one name both count:
/// the legacy one then keeps its stored name.
pub(super) fn policies(cache: &Cache) -> BTreeMap<PolicyId, PolicyBody> {
    let network = cache
        .network_policies
        .keys()
        .map(|(namespace, name)| (Kind::NetworkPolicy, namespace.as_str(), name));
    let global = cache.global_policies.keys().map(|name| (Kind::GlobalNetworkPolicy, "", name));
    let invalid = cache.invalid.keys().filter_map(|key| {
        let Key::Resource { kind, namespace, name } = key else { return None };
        let is_policy = matches!(kind, Kind::NetworkPolicy | Kind::GlobalNetworkPolicy);
        is_policy.then(|| (*kind, namespace.as_deref().unwrap_or_default(), name))
    });
    by_shown_name(network.chain(global).chain(invalid), |stored| policy(cache, stored))
}

/// All staged policies under the names users know them by.
pub(super) fn staged(cache: &Cache) -> BTreeMap<PolicyId, StagedBody> {
    let network = cache.staged_network_policies.keys();
    let network = network.map(|(namespace, name)| (Kind::StagedNetworkPolicy, namespace.as_str(), name));
    let global = cache.staged_global_policies.keys().map(|name| (Kind::StagedGlobalNetworkPolicy, "", name));
    let kubernetes = cache.staged_kubernetes_policies.keys();
    let kubernetes =
        kubernetes.map(|(namespace, name)| (Kind::StagedKubernetesNetworkPolicy, namespace.as_str(), name));
    by_shown_name(network.chain(global).chain(kubernetes), |stored| staged_policy(cache, stored))
}

/// Bodies under their shown names, or others where those are taken.
fn by_shown_name<'a, B>(
    all: impl Iterator<Item = (Kind, &'a str, &'a String)>,
    read: impl Fn(&Stored) -> Option<(String, B)>,
) -> BTreeMap<PolicyId, B> {
    let found = all.filter_map(|(kind, namespace, name)| {
        let stored = Stored { kind, namespace: namespace.to_owned(), name: name.clone() };
        let (shown, body) = read(&stored)?;
        Some((namespace, name.as_str(), shown, body))
    });
    let (plain, renamed): (Vec<_>, Vec<_>) = found.partition(|(_, stored, name, _)| stored == name);
    let mut policies = BTreeMap::new();
    for (namespace, stored, name, body) in plain.into_iter().chain(renamed) {
        let mut id = PolicyId { name, namespace: namespace.to_owned() };
        if policies.contains_key(&id) {
            id.name = stored.to_owned();
        }
        // Annotations are free text, so even that may be taken; no policy may get lost over a name.
        while policies.contains_key(&id) {
            id.name.push('~');
        }
        policies.insert(id, body);
    }
    policies
}
