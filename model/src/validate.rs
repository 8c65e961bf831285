//! The rules of each kind that its types cannot express (calico-datamodel 2); pure, every problem at once.
//!
//! Only what can be judged from the resource alone: whether pools overlap, a tier exists or a revision is current
//! is for whoever writes to the store.

use ipnetwork::IpNetwork;

use crate::AnyResource;
use crate::selector::Selector;
use crate::strict::Problem;

mod bgp;
mod bgp_filter;
mod controllers;
mod endpoint;
mod felix;
mod meta;
mod node;
mod policy;
mod pool;
mod rule;
mod sets;
mod staged;

pub use pool::networks_overlap;
pub(crate) use rule::nets_without_length;

/// Every rule the resource breaks; empty when it may be stored.
pub fn validate(resource: &AnyResource) -> Vec<Problem> {
    let mut report = Report::default();
    meta::metadata(resource, &mut report);
    match resource {
        AnyResource::BgpConfiguration(config) => bgp::configuration(config, &mut report),
        AnyResource::BgpFilter(filter) => bgp_filter::filter(&filter.spec, &mut report),
        AnyResource::BgpPeer(peer) => bgp::peer(&peer.spec, &mut report),
        AnyResource::BlockAffinity(affinity) => sets::block_affinity(&affinity.spec, &mut report),
        AnyResource::CalicoNodeStatus(status) => controllers::node_status(&status.spec, &mut report),
        AnyResource::ClusterInformation(info) => {
            only_name_default(&info.metadata.name, &mut report);
        }
        AnyResource::FelixConfiguration(config) => felix::configuration(config, &mut report),
        AnyResource::GlobalNetworkPolicy(policy) => policy::global(&policy.spec, &mut report),
        AnyResource::GlobalNetworkSet(set) => sets::network_set(&set.metadata, &set.spec.nets, &mut report),
        AnyResource::HostEndpoint(endpoint) => endpoint::host_endpoint(&endpoint.spec, &mut report),
        AnyResource::IpamConfiguration(config) => {
            only_name_default(&config.metadata.name, &mut report);
            sets::ipam_configuration(&config.spec, &mut report);
        }
        AnyResource::IpPool(pool) => pool::pool(&pool.spec, &mut report),
        AnyResource::IpReservation(reservation) => {
            sets::networks("spec.reservedCIDRs", &reservation.spec.reserved_cidrs, &mut report);
        }
        AnyResource::KubeControllersConfiguration(config) => {
            only_name_default(&config.metadata.name, &mut report);
            controllers::kube_controllers(&config.spec, &mut report);
        }
        AnyResource::NetworkPolicy(policy) => policy::namespaced(&policy.spec, &mut report),
        AnyResource::NetworkSet(set) => sets::network_set(&set.metadata, &set.spec.nets, &mut report),
        AnyResource::Node(node) => node::node(&node.spec, &mut report),
        AnyResource::Profile(profile) => policy::profile(&profile.spec, &mut report),
        AnyResource::StagedGlobalNetworkPolicy(policy) => staged::global(&policy.spec, &mut report),
        AnyResource::StagedKubernetesNetworkPolicy(policy) => staged::kubernetes(&policy.spec, &mut report),
        AnyResource::StagedNetworkPolicy(policy) => staged::namespaced(&policy.spec, &mut report),
        AnyResource::Tier(tier) => policy::tier(tier, &mut report),
        AnyResource::WorkloadEndpoint(endpoint) => endpoint::endpoint(endpoint, &mut report),
    }
    report.problems
}

fn only_name_default(name: &str, report: &mut Report) {
    if name != "default" {
        report.bad("metadata.name", name, "the only resource of this kind is named 'default'");
    }
}

/// Collects problems.
#[derive(Default)]
struct Report {
    problems: Vec<Problem>,
}

impl Report {
    fn bad(&mut self, path: impl Into<String>, value: impl std::fmt::Display, rule: impl Into<String>) {
        self.problems.push(Problem::bad_value(path, value, rule));
    }

    fn object(&mut self, path: impl Into<String>, rule: impl Into<String>) {
        self.problems.push(Problem::bad_object(path, rule));
    }

    /// A selector, absent when empty.
    fn selector(&mut self, path: &str, text: &str) {
        if text.len() > MAX_SELECTOR_BYTES {
            self.bad(path, text, format!("a selector has at most {MAX_SELECTOR_BYTES} characters"));
        } else if let Err(error) = text.parse::<Selector>() {
            self.bad(path, text, format!("invalid selector: {} at column {}", error.reason, error.column));
        }
    }

    /// A selector where `global()` has no meaning.
    fn selector_without_global(&mut self, path: &str, text: &str) {
        if text.contains("global(") {
            self.bad(path, text, "global() may only stand alone, in a rule's namespaceSelector");
        } else {
            self.selector(path, text);
        }
    }

    /// A network whose host bits must be zero.
    fn masked(&mut self, path: &str, network: &IpNetwork) {
        if network.ip() != network.network() {
            let masked = format!("{}/{}", network.network(), network.prefix());
            self.bad(path, network, format!("must be masked: the address of this network is {masked}"));
        }
    }

    /// One of a few words.
    fn one_of(&mut self, path: &str, value: Option<&str>, words: &[&str]) {
        if let Some(value) = value.filter(|v| !words.contains(v)) {
            self.bad(path, value, format!("must be one of {}", words.join(", ")));
        }
    }

    /// A duration in Go's text form, such as `1m30s`.
    fn duration(&mut self, path: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|v| !is_go_duration(v)) {
            self.bad(path, value, "must be a duration such as 30s or 1m30s");
        }
    }
}

/// Longest selector accepted.
const MAX_SELECTOR_BYTES: usize = 1024;

/// Whether a text is a duration as Go reads it: an optional sign, then numbers with units; `0` needs no unit.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        if digits.parse::<f64>().is_err() {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit) = units.into_iter().find(|unit| after.starts_with(unit)) else { return false };
        rest = &after[unit.len()..];
    }
    true
}

#[cfg(test)]
mod tests;
