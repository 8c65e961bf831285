//! Checks of everything that is about to be written against the store and against each other. Reads only: as long
//! as one document is wrong, none is written.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tortie_datastore::Client;
use tortie_datastore::client::Identifier;
use tortie_model::ipam::Block;
use tortie_model::resource::{AllowedUse, IpPool, IpPoolSpec, TierSpec};
use tortie_model::strict::Problem;
use tortie_model::validate::networks_overlap;
use tortie_model::{AnyResource, Key, Kind, policy_name};

use super::{OperationError, builtin};
use crate::input::Input;

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Apply,
    Replace,
}

impl Verb {
    /// As messages say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Apply => "apply",
            Verb::Replace => "replace",
        }
    }

    /// What it was called when it is done.
    pub(crate) fn past(self) -> &'static str {
        match self {
            Verb::Create => "created",
            Verb::Apply => "applied",
            Verb::Replace => "replaced",
        }
    }
}

/// What the checks compare with.
struct Known {
    pools: Vec<IpPool>,
    tiers: BTreeSet<String>,
}

/// Every reason not to write `inputs`, with file, document, field and value.
///
/// # Errors
/// The store's: nothing can be said then.
pub(crate) async fn preflight(
    client: &Client,
    verb: Verb,
    inputs: &[Input],
) -> Result<Vec<String>, OperationError> {
    let known = Known::read(client, inputs).await?;
    let mut refusals = Vec::new();
    for (index, Input { origin, resource }) in inputs.iter().enumerate() {
        let id = Identifier::of(resource);
        let mut refuse = |reason: &dyn std::fmt::Display| refusals.push(format!("{origin}, {id}: {reason}"));
        if let Err(error) = builtin::refuse_write(verb.name(), &id) {
            refuse(&error);
            continue;
        }
        for problem in known.problems(client, verb, &inputs[..index], resource).await? {
            refuse(&problem);
        }
    }
    Ok(refusals)
}

impl Known {
    async fn read(client: &Client, inputs: &[Input]) -> Result<Known, OperationError> {
        let has = |wanted: fn(&AnyResource) -> bool| inputs.iter().any(|input| wanted(&input.resource));
        let pools = if has(|r| matches!(r, AnyResource::IpPool(_))) {
            client.find_every::<IpPoolSpec>().await?
        } else {
            Vec::new()
        };
        let mut tiers = BTreeSet::from(["default".to_owned()]);
        if has(|r| r.kind().has_tiered_names()) {
            tiers.extend(client.find_all::<TierSpec>().await?.into_iter().map(|tier| tier.metadata.name));
        }
        Ok(Known { pools, tiers })
    }

    async fn problems(
        &self,
        client: &Client,
        verb: Verb,
        before: &[Input],
        resource: &AnyResource,
    ) -> Result<Vec<Problem>, OperationError> {
        match resource {
            AnyResource::IpPool(pool) => {
                match self.pools.iter().find(|stored| stored.metadata.name == pool.metadata.name) {
                    Some(stored) if verb != Verb::Create => Ok(pool_update(stored, pool)),
                    // Will be refused as existing, or skipped.
                    Some(_) => Ok(Vec::new()),
                    None => self.new_pool(client, before, pool).await,
                }
            }
            AnyResource::GlobalNetworkPolicy(_)
            | AnyResource::NetworkPolicy(_)
            | AnyResource::StagedGlobalNetworkPolicy(_)
            | AnyResource::StagedNetworkPolicy(_) => Ok(self.tier(before, policy_name::tier(resource))),
            AnyResource::BgpPeer(peer) => filters(client, before, &peer.spec.filters).await,
            AnyResource::BgpConfiguration(_)
            | AnyResource::BgpFilter(_)
            | AnyResource::BlockAffinity(_)
            | AnyResource::CalicoNodeStatus(_)
            | AnyResource::ClusterInformation(_)
            | AnyResource::FelixConfiguration(_)
            | AnyResource::GlobalNetworkSet(_)
            | AnyResource::HostEndpoint(_)
            | AnyResource::IpReservation(_)
            | AnyResource::IpamConfiguration(_)
            | AnyResource::KubeControllersConfiguration(_)
            | AnyResource::NetworkSet(_)
            | AnyResource::Node(_)
            | AnyResource::Profile(_)
            | AnyResource::StagedKubernetesNetworkPolicy(_)
            | AnyResource::Tier(_)
            | AnyResource::WorkloadEndpoint(_) => Ok(Vec::new()),
        }
    }

    async fn new_pool(
        &self,
        client: &Client,
        before: &[Input],
        pool: &IpPool,
    ) -> Result<Vec<Problem>, OperationError> {
        let mut problems = Vec::new();
        let cidr = pool.spec.cidr;
        for other in self.pools.iter().filter(|other| networks_overlap(&other.spec.cidr, &cidr)) {
            let rule = format!("overlaps with IPPool({}) {}", other.metadata.name, other.spec.cidr);
            problems.push(Problem::bad_value("spec.cidr", cidr, rule));
        }
        for Input { origin, resource } in before {
            if let AnyResource::IpPool(other) = resource
                && other.metadata.name != pool.metadata.name
                && networks_overlap(&other.spec.cidr, &cidr)
            {
                let (name, other) = (&other.metadata.name, other.spec.cidr);
                let rule = format!("overlaps with IPPool({name}) {other} in {origin}");
                problems.push(Problem::bad_value("spec.cidr", cidr, rule));
            }
        }
        let size = pool.spec.block_prefix();
        if let Some(block) = block_of_other_size(client, &cidr, size).await? {
            let rule = format!("block {block} of another size is still in use in this range");
            problems.push(Problem::bad_value("spec.blockSize", size, rule));
        }
        Ok(problems)
    }

    fn tier(&self, before: &[Input], tier: Option<&str>) -> Vec<Problem> {
        let Some(tier) = tier.filter(|tier| !self.tiers.contains(*tier)) else { return Vec::new() };
        let comes_first =
            |input: &Input| matches!(&input.resource, AnyResource::Tier(t) if t.metadata.name == tier);
        if before.iter().any(comes_first) {
            return Vec::new();
        }
        let hint = match tortie_model::strict::nearest(tier, self.tiers.iter().map(String::as_str)) {
            Some(name) => format!("; did you mean '{name}'?"),
            None => String::new(),
        };
        vec![Problem::bad_value("spec.tier", tier, format!("tier does not exist{hint}"))]
    }
}

/// What may not change in a pool (calico-datamodel 2.1).
fn pool_update(stored: &IpPool, pool: &IpPool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (old, new) = (&stored.spec, &pool.spec);
    if old.cidr != new.cidr {
        let rule = format!("a pool's CIDR cannot be changed, this one has {}", old.cidr);
        problems.push(Problem::bad_value("spec.cidr", new.cidr, rule));
    } else if old.block_prefix() != new.block_prefix() {
        let rule = format!("a pool's block size cannot be changed, this one has {}", old.block_prefix());
        problems.push(Problem::bad_value("spec.blockSize", new.block_prefix(), rule));
    }
    if old.allows(AllowedUse::LoadBalancer) != new.allows(AllowedUse::LoadBalancer) {
        let uses = serde_json::to_string(&new.allowed_uses).unwrap_or_default();
        let rule = "use LoadBalancer can neither be added to a pool nor taken away";
        problems.push(Problem::bad_value("spec.allowedUses", uses, rule));
    }
    problems
}

/// A block inside `cidr` whose size is not `size`.
async fn block_of_other_size(
    client: &Client,
    cidr: &IpNetwork,
    size: u8,
) -> Result<Option<IpNetwork>, OperationError> {
    let listing = client.store().list(&Key::block_prefix(cidr.is_ipv6())).await?;
    let blocks = listing.entries.iter().filter_map(|entry| match Key::parse(&entry.key) {
        Some(Key::Block(block)) => Some((block, &entry.value)),
        _ => None,
    });
    let mut inside = blocks.filter(|(block, _)| networks_overlap(block, cidr) && block.prefix() != size);
    // A block in the middle of being deleted does not count.
    let alive = |value: &[u8]| serde_json::from_slice::<Block>(value).map_or(true, |block| !block.deleted);
    Ok(inside.find(|(_, value)| alive(value)).map(|(block, _)| block))
}

/// The filters a peer names must exist, or come earlier in the same input. One nobody can read exists.
async fn filters(
    client: &Client,
    before: &[Input],
    names: &[String],
) -> Result<Vec<Problem>, OperationError> {
    let mut problems = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let comes_first = |input: &Input| matches!(&input.resource, AnyResource::BgpFilter(filter) if filter.metadata.name == *name);
        if before.iter().any(comes_first) {
            continue;
        }
        let key = Key::resource(Kind::BgpFilter, None, name).to_string();
        if client.store().get(&key).await?.is_none() {
            problems.push(Problem::bad_value(format!("spec.filters[{i}]"), name, "BGPFilter does not exist"));
        }
    }
    Ok(problems)
}
