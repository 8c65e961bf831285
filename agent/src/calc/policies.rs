//! The policy compiler's input from the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tortie_model::policy_name::shown;
use tortie_model::resource::{AllowedUse, ProfileSpec};
use tortie_model::rule::{Action, Rule};
use tortie_model::{Key, Kind};
use tortie_policy::Snapshot;
use tortie_policy::snapshot::{Endpoint, EndpointId, PolicyBody, PolicyId, Pool, StagedBody};

use super::cache::Cache;
use super::{Problems, Settings, felix, hosts, network_sets};

/// The profile that allows everything.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// Everything that decides about packets on this node.
pub(super) fn snapshot(
    cache: &Cache,
    settings: &Settings,
    endpoints: BTreeMap<Arc<EndpointId>, Arc<Endpoint>>,
    problems: &mut Problems,
) -> Snapshot {
    let others = cache.nodes.iter().filter(|(name, _)| **name != settings.node);
    Snapshot {
        tiers: cache.tiers.clone(),
        policies: policies(cache),
        profiles: profiles(cache),
        endpoints,
        staged: staged(cache),
        host_endpoints: hosts::for_policy(cache, settings),
        host_interfaces: cache.host_interfaces.clone(),
        options: felix::options(cache, settings, problems),
        network_sets: network_sets::for_policy(cache, problems),
        pools: pools(cache),
        endpoint_to_host: felix::endpoint_to_host(cache, settings, problems),
        tunnel_peers: others.flat_map(|(_, node)| node.spec.bgp_ips()).collect(),
    }
}

fn profiles(cache: &Cache) -> BTreeMap<String, Option<ProfileSpec>> {
    let valid = cache.profiles.iter().map(|(name, spec)| (name.clone(), Some(spec.clone())));
    let invalid = invalid_names(cache, Kind::Profile).map(|(_, name, _)| (name.to_owned(), None));
    // Upstream's client makes this one up on each read; the store never has it (calico-datamodel 1.11).
    let allow = Rule { action: Action::Allow, ..Rule::default() };
    let allow_all =
        ProfileSpec { ingress: vec![allow.clone()], egress: vec![allow], ..ProfileSpec::default() };
    let synthetic = (DEFAULT_ALLOW.to_owned(), Some(allow_all));
    valid.chain(invalid).chain([synthetic]).collect()
}

/// Pools that count as inside for NAT; those for load balancers do not (felix-dataplane 3.9). Disabled ones do.
fn pools(cache: &Cache) -> Vec<Pool> {
    let for_workloads = |uses: &Option<Vec<AllowedUse>>| {
        uses.as_deref().is_none_or(|uses| uses != [AllowedUse::LoadBalancer])
    };
    let mut seen = BTreeSet::new();
    let pools =
        cache.pools.values().filter(|pool| for_workloads(&pool.allowed_uses) && seen.insert(pool.cidr));
    pools.map(|pool| Pool { cidr: pool.cidr, nat_outgoing: pool.nat_outgoing }).collect()
}

/// All policies under the names users know them by. A legacy and a new object that come down to one name both count:
/// the legacy one then keeps its stored name.
fn policies(cache: &Cache) -> BTreeMap<PolicyId, PolicyBody> {
    let network = cache.network_policies.iter().map(|((namespace, stored), policy)| {
        let body = PolicyBody::Network(Box::new(policy.spec.clone()));
        (
            namespace.as_str(),
            stored.as_str(),
            shown(stored, policy.spec.tier.as_deref(), &policy.metadata.annotations),
            body,
        )
    });
    let global = cache.global_policies.iter().map(|(stored, policy)| {
        let body = PolicyBody::Global(Box::new(policy.spec.clone()));
        ("", stored.as_str(), shown(stored, policy.spec.tier.as_deref(), &policy.metadata.annotations), body)
    });
    let invalid = [Kind::NetworkPolicy, Kind::GlobalNetworkPolicy].into_iter().flat_map(|kind| {
        invalid_names(cache, kind).map(|(namespace, stored, reason)| {
            let name = shown(stored, None, &BTreeMap::new());
            (namespace, stored, name, PolicyBody::Invalid(reason.to_owned()))
        })
    });
    by_shown_name(network.chain(global).chain(invalid))
}

/// Staged policies; those that cannot be read do nothing.
fn staged(cache: &Cache) -> BTreeMap<PolicyId, StagedBody> {
    let network = cache.staged_network_policies.iter().map(|((namespace, stored), policy)| {
        let name = shown(stored, policy.spec.tier.as_deref(), &policy.metadata.annotations);
        let body = StagedBody::Network(Box::new(policy.spec.clone()));
        (namespace.as_str(), stored.as_str(), name, body)
    });
    let global = cache.staged_global_policies.iter().map(|(stored, policy)| {
        let name = shown(stored, policy.spec.tier.as_deref(), &policy.metadata.annotations);
        ("", stored.as_str(), name, StagedBody::Global(Box::new(policy.spec.clone())))
    });
    let kubernetes = cache.staged_kubernetes_policies.iter().map(|((namespace, stored), spec)| {
        let name = format!("{}{stored}", tortie_model::kubernetes_policy::PREFIX);
        (namespace.as_str(), stored.as_str(), name, StagedBody::Kubernetes(Box::new(spec.clone())))
    });
    by_shown_name(network.chain(global).chain(kubernetes))
}

/// Bodies by namespace, stored and shown name under their shown names, or others where those are taken.
fn by_shown_name<'a, B>(found: impl Iterator<Item = (&'a str, &'a str, String, B)>) -> BTreeMap<PolicyId, B> {
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

/// Values of a kind that cannot be read: namespace (empty without), stored name, reason.
fn invalid_names(cache: &Cache, wanted: Kind) -> impl Iterator<Item = (&str, &str, &str)> {
    cache.invalid.iter().filter_map(move |(key, reason)| match key {
        Key::Resource { kind, namespace, name } if *kind == wanted => {
            Some((namespace.as_deref().unwrap_or_default(), name.as_str(), reason.as_str()))
        }
        Key::Resource { .. }
        | Key::Block(_)
        | Key::BlockAffinity { .. }
        | Key::Handle(_)
        | Key::IpamHost(_)
        | Key::IpamConfig => None,
    })
}
