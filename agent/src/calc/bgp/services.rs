//! Ranges of service addresses (bgp-behaviour 10): announced whole from every node, and never routed by what peers
//! say. Routes of single services need the services themselves, which only Kubernetes has.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tortie_model::resource::ServiceBlock;

use super::cluster::Cluster;
use crate::calc::routes::is_single;
use crate::calc::{Problems, Settings};

/// A node with this label set to `true` announces no services.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Ranges as they concern this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Announced by this node.
    pub(super) announced: BTreeSet<IpNetwork>,
    /// Learned routes inside do not go into the kernel, wherever the ranges are announced.
    pub(super) never_program: BTreeSet<IpNetwork>,
    /// External and load-balancer ranges as configured, single addresses too: what a reflector passes on.
    pub(super) reflected: BTreeSet<IpNetwork>,
}

/// The ranges of the cluster's configuration.
pub(super) fn ranges(cluster: &Cluster<'_>, settings: &Settings, problems: &mut Problems) -> Ranges {
    let config = cluster.default_config();
    let stored = |blocks: Option<&Vec<ServiceBlock>>| -> Vec<IpNetwork> {
        blocks.into_iter().flatten().map(|block| without_host_bits(block.cidr)).collect()
    };
    let internal = match &settings.service_cluster_ips {
        Some(ranges) => ranges.iter().copied().map(without_host_bits).collect(),
        None => stored(config.map(|c| &c.service_cluster_ips)),
    };
    let external = stored(config.map(|c| &c.service_external_ips));
    let balanced = stored(config.map(|c| &c.service_load_balancer_ips));
    let aggregated = config.and_then(|c| c.service_load_balancer_aggregation.as_deref()) != Some("Disabled");
    let excluded = cluster.own.metadata.labels.get(EXCLUDED).is_some_and(|value| value == "true");

    // A single address is announced with its service, never as a range.
    let several = |ranges: &[IpNetwork]| -> Vec<IpNetwork> {
        ranges.iter().copied().filter(|range| !is_single(range)).collect()
    };
    let announced = |ranges: Vec<IpNetwork>, wanted: bool| ranges.into_iter().filter(move |_| wanted);
    let usable = |range: &IpNetwork| range.is_ipv4() || settings.ipv6;
    let ranges = Ranges {
        announced: announced(internal.clone(), !excluded)
            .chain(announced(several(&external), !excluded))
            .chain(announced(several(&balanced), !excluded && aggregated))
            .filter(usable)
            .collect(),
        never_program: [internal, several(&external), several(&balanced)]
            .concat()
            .into_iter()
            .filter(usable)
            .collect(),
        reflected: [external, balanced].concat().into_iter().collect(),
    };
    overlaps(cluster, &ranges, problems);
    ranges
}

/// Routes of workloads inside a service range would stay out of the kernel with the rest.
fn overlaps(cluster: &Cluster<'_>, ranges: &Ranges, problems: &mut Problems) {
    for (name, pool) in &cluster.cache.pools {
        let overlapping = ranges.never_program.iter().filter(|range| {
            range.is_ipv4() == pool.cidr.is_ipv4()
                && (range.contains(pool.cidr.network()) || pool.cidr.contains(range.network()))
        });
        for range in overlapping {
            problems.add(
                format!("IPPool {name}"),
                format!(
                    "{} overlaps the service range {range}: this node does not program routes inside that range",
                    pool.cidr
                ),
            );
        }
    }
}

pub(super) fn without_host_bits(network: IpNetwork) -> IpNetwork {
    IpNetwork::new(network.network(), network.prefix()).unwrap_or(network)
}
