//! The export filter of every peer (bgp-behaviour 4), in the order in which it decides.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use tortie_bgp::filter::{Change, Filter, PrefixMatch, Rule, Verdict};
use tortie_model::resource::{BgpConfigurationSpec, PrefixAdvertisement};

use super::cluster::Cluster;
use crate::calc::Problems;

/// The filter for sessions of one family; what no rule accepts stays home.
pub(super) fn filter(
    cluster: &Cluster<'_>,
    own_blocks: &BTreeSet<IpNetwork>,
    ipv6: bool,
    problems: &mut Problems,
) -> Filter {
    let of_family = |prefix: &IpNetwork| prefix.is_ipv6() == ipv6;
    let pools = || cluster.cache.pools.iter().filter(|(_, pool)| of_family(&pool.cidr));
    let mut rules = Vec::new();
    for (name, pool) in pools().filter(|(_, pool)| pool.disable_bgp_export) {
        rules.push(rule(
            format!("pool {name}: disableBGPExport"),
            PrefixMatch::In(pool.cidr),
            Verdict::Reject,
        ));
    }
    rules.extend(communities(cluster, problems).into_iter().filter(|rule| match rule.prefix {
        Some(PrefixMatch::In(prefix)) => of_family(&prefix),
        Some(PrefixMatch::Equal(_) | PrefixMatch::NotEqual(_) | PrefixMatch::NotIn(_)) | None => false,
    }));
    // The block stands for what is inside; addresses borrowed from other nodes' blocks fall through.
    for block in own_blocks.iter().filter(|block| of_family(block)) {
        rules.push(rule("own block", PrefixMatch::Equal(*block), Verdict::Accept));
        rules.push(rule("inside own block", PrefixMatch::In(*block), Verdict::Reject));
    }
    for (name, pool) in pools().filter(|(_, pool)| !pool.disable_bgp_export) {
        rules.push(rule(format!("pool {name}"), PrefixMatch::In(pool.cidr), Verdict::Accept));
    }
    Filter { rules }
}

fn rule(reason: impl Into<String>, prefix: PrefixMatch, verdict: Verdict) -> Rule {
    Rule {
        reason: reason.into(),
        prefix: Some(prefix),
        source: None,
        peer_type: None,
        verdict,
        set: Vec::new(),
    }
}

/// Communities of `prefixAdvertisements`; a list of the node replaces the cluster's. They decide nothing.
fn communities(cluster: &Cluster<'_>, problems: &mut Problems) -> Vec<Rule> {
    let configs = [
        (format!("node.{}", cluster.own_name), cluster.node_config(cluster.own_name)),
        ("default".to_owned(), cluster.default_config()),
    ];
    let names = names(configs.iter().filter_map(|(_, config)| *config));
    let chosen = configs.iter().find_map(|(name, config)| {
        let list = &config.as_ref()?.prefix_advertisements;
        (!list.is_empty()).then_some((name, list))
    });
    let Some((object, advertisements)) = chosen else { return Vec::new() };
    advertisements
        .iter()
        .map(|advertisement| {
            let (set, unknown) = changes(advertisement, &names);
            if !unknown.is_empty() {
                let list = unknown.join(", ");
                problems.add(
                    format!("BGPConfiguration {object}"),
                    format!(
                        "prefixAdvertisements of {}: no community is named or written {list}",
                        advertisement.cidr
                    ),
                );
            }
            let prefix = PrefixMatch::In(advertisement.cidr);
            Rule { set, ..rule("prefixAdvertisements", prefix, Verdict::Continue) }
        })
        .collect()
}

/// Values by name; earlier configurations win.
fn names<'a>(configs: impl Iterator<Item = &'a BgpConfigurationSpec>) -> BTreeMap<&'a str, &'a str> {
    let mut names = BTreeMap::new();
    for community in configs.flat_map(|config| &config.communities) {
        names.entry(community.name.as_str()).or_insert(community.value.as_str());
    }
    names
}

/// The changes an advertisement makes, each once, and the communities nobody knows.
fn changes<'a>(
    advertisement: &'a PrefixAdvertisement,
    names: &BTreeMap<&str, &str>,
) -> (Vec<Change>, Vec<&'a str>) {
    let (mut set, mut unknown) = (Vec::new(), Vec::new());
    for text in &advertisement.communities {
        match parse(names.get(text.as_str()).copied().unwrap_or(text)) {
            Some(change) if !set.contains(&change) => set.push(change),
            Some(_) => {}
            None => unknown.push(text.as_str()),
        }
    }
    (set, unknown)
}

/// `aa:nn` or `aa:nn:mm`.
fn parse(text: &str) -> Option<Change> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [high, low] => {
            let (high, low) = (high.parse::<u16>().ok()?, low.parse::<u16>().ok()?);
            Some(Change::AddCommunity(u32::from(high) << 16 | u32::from(low)))
        }
        [a, b, c] => Some(Change::AddLargeCommunity([a.parse().ok()?, b.parse().ok()?, c.parse().ok()?])),
        _ => None,
    }
}
