//! Which pools a node may take addresses from, and, when there is none, why not. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::resource::{AllowedUse, IpPool};
use tortie_model::selector::Selector;

use super::IpamError;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of a network.
    pub fn of(cidr: &IpNetwork) -> Family {
        if cidr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Both.
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn is_v6(self) -> bool {
        self == Family::V6
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_v6() { "IPv6" } else { "IPv4" })
    }
}

/// What pools are chosen by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Criteria<'a> {
    pub(super) node: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Labels of the namespace, where there is one.
    pub(super) namespace: Option<&'a BTreeMap<String, String>>,
    pub(super) requested: &'a [String],
    pub(super) usage: AllowedUse,
}

/// The pools of a family that fit, in the order given, or as requested (calico-datamodel 4.3, step 2). Requested pools
/// override selectors and assignment mode, nothing overrides `disabled` and the allowed uses.
///
/// # Errors
/// When a requested pool is unknown or disabled, or when no pool is left.
pub(super) fn candidates<'a>(
    pools: &'a [IpPool],
    family: Family,
    criteria: &Criteria<'_>,
) -> Result<Vec<&'a IpPool>, IpamError> {
    let mut found = Vec::new();
    let mut reasons = Vec::new();
    let considered = if criteria.requested.is_empty() {
        pools.iter().collect()
    } else {
        requested(pools, criteria.requested)?
    };
    for pool in considered.into_iter().filter(|p| Family::of(&p.spec.cidr) == family) {
        match objection(pool, criteria) {
            None => found.push(pool),
            Some(reason) => reasons.push(format!("{} {reason}", pool.metadata.name)),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let reasons = match (reasons.is_empty(), criteria.requested.is_empty()) {
        (false, _) => reasons.join("; "),
        (true, true) => format!("there is no {family} pool: create an IPPool"),
        (true, false) => format!("none of the requested pools is {family}"),
    };
    Err(IpamError::NoPool { node: criteria.node.to_owned(), family, reasons })
}

fn requested<'a>(pools: &'a [IpPool], names: &[String]) -> Result<Vec<&'a IpPool>, IpamError> {
    let mut found: Vec<&IpPool> = Vec::new();
    for name in names {
        let cidr: Option<IpNetwork> = name.parse().ok();
        let Some(pool) = pools.iter().find(|p| p.metadata.name == *name || Some(p.spec.cidr) == cidr) else {
            return Err(IpamError::UnknownPool { pool: name.clone(), configured: describe(pools) });
        };
        if pool.spec.disabled {
            return Err(IpamError::DisabledPool { pool: name.clone() });
        }
        if !found.iter().any(|known| known.metadata.name == pool.metadata.name) {
            found.push(pool);
        }
    }
    Ok(found)
}

/// Why a pool does not fit.
fn objection(pool: &IpPool, criteria: &Criteria<'_>) -> Option<String> {
    let spec = &pool.spec;
    if spec.disabled {
        return Some("is disabled".into());
    }
    if !spec.allows(criteria.usage) {
        return Some(format!("does not allow {}", usage_name(criteria.usage)));
    }
    if !criteria.requested.is_empty() {
        return None;
    }
    if spec.assignment_mode.as_deref() == Some("Manual") {
        return Some("is only used when asked for (assignmentMode: Manual)".into());
    }
    // Without a namespace, only a selector that needs no labels can match.
    let none = BTreeMap::new();
    let namespace = criteria.namespace.unwrap_or(&none);
    // A load balancer is no node; its pools select all of them (calico-datamodel 2.1).
    let node = (criteria.usage != AllowedUse::LoadBalancer)
        .then(|| selector_objection("nodes", spec.node_selector.as_deref(), criteria.labels))
        .flatten();
    node.or_else(|| selector_objection("namespaces", spec.namespace_selector.as_deref(), namespace))
}

fn selector_objection(
    what: &str,
    selector: Option<&str>,
    labels: &BTreeMap<String, String>,
) -> Option<String> {
    let text = selector.filter(|text| !text.trim().is_empty())?;
    match text.parse::<Selector>() {
        Ok(selector) if selector.matches(labels) => None,
        Ok(_) => Some(format!("selects {what} by {text}")),
        Err(error) => Some(format!("has an {error}")),
    }
}

/// Enabled pools that select a node with these labels and allow a use, whatever their assignment mode says.
pub fn select_pools<'a>(
    pools: &'a [IpPool],
    labels: &BTreeMap<String, String>,
    usage: AllowedUse,
) -> Vec<&'a IpPool> {
    pools.iter().filter(|p| !p.spec.disabled && p.spec.allows(usage) && selects_node(p, labels)).collect()
}

/// Whether a pool selects a node with these labels.
pub(super) fn selects_node(pool: &IpPool, labels: &BTreeMap<String, String>) -> bool {
    selector_objection("nodes", pool.spec.node_selector.as_deref(), labels).is_none()
}

/// The first of some pools a block lies in.
pub(super) fn pool_with<'a>(pools: &[&'a IpPool], block: &IpNetwork) -> Option<&'a IpPool> {
    pools.iter().copied().find(|pool| {
        Family::of(&pool.spec.cidr) == Family::of(block) && pool.spec.cidr.contains(block.network())
    })
}

/// The block of a pool an address lies in.
pub(super) fn block_of(pool: &IpPool, address: IpAddr) -> IpNetwork {
    let prefix = pool.spec.block_prefix().min(if address.is_ipv4() { 32 } else { 128 });
    let unmasked = IpNetwork::new(address, prefix).expect("the length was cut to the family's");
    IpNetwork::new(unmasked.network(), prefix).expect("the length was valid before")
}

/// The enabled pool a certain address may be taken from (calico-datamodel 4.5).
pub(super) fn pool_of(pools: &[IpPool], address: IpAddr, usage: AllowedUse) -> Result<&IpPool, IpamError> {
    let fits =
        |pool: &&IpPool| pool.spec.cidr.contains(address) && !pool.spec.disabled && pool.spec.allows(usage);
    pools.iter().find(fits).ok_or_else(|| IpamError::OutsidePools {
        address,
        usage: usage_name(usage).to_owned(),
        configured: describe(pools),
    })
}

/// `pool 10.0.0.0/24 is`, `pools 10.0.0.0/24, 10.1.0.0/24 are`.
pub(super) fn subject(pools: &[&IpPool]) -> String {
    let cidrs: Vec<String> = pools.iter().map(|p| p.spec.cidr.to_string()).collect();
    match cidrs.as_slice() {
        [one] => format!("pool {one} is"),
        several => format!("pools {} are", several.join(", ")),
    }
}

fn describe(pools: &[IpPool]) -> String {
    if pools.is_empty() {
        return "none".into();
    }
    let one = |pool: &IpPool| format!("{} ({})", pool.metadata.name, pool.spec.cidr);
    pools.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn usage_name(usage: AllowedUse) -> &'static str {
    match usage {
        AllowedUse::Workload => "Workload",
        AllowedUse::Tunnel => "Tunnel",
        AllowedUse::LoadBalancer => "LoadBalancer",
    }
}
