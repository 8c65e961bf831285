//! In which order things decide (felix-dataplane 3.1): tiers, policies inside a tier, then profiles.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tortie_model::resource::{TierAction, TierSpec};

use crate::ir::Direction;
use crate::phase::Phase;
use crate::select::{Body, Policy, Rules};

/// One step of the way of a packet. Endpoints with the same stages share a chain.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Staged policies that would apply: counted, never enforced.
    Staged(Vec<Arc<Policy>>),
    /// Policies that deny because they cannot be read.
    Unreadable(Vec<Arc<Policy>>),
    /// The policies of a tier that apply.
    Tier { name: String, default_action: TierAction, policies: Vec<Arc<Policy>> },
    /// A profile; one without rules matches nothing.
    Profile(Arc<str>, Option<Arc<Rules>>),
}

impl Stage {
    /// Tells stages apart by the names in them, so that it stays the same when rules or other policies change.
    pub(crate) fn key(&self) -> String {
        let ids = |policies: &[Arc<Policy>]| {
            let ids: Vec<_> = policies.iter().map(|policy| &policy.id).collect();
            format!("{ids:?}")
        };
        match self {
            Stage::Staged(policies) => format!("staged {}", ids(policies)),
            Stage::Unreadable(policies) => format!("unreadable {}", ids(policies)),
            Stage::Tier { name, policies, .. } => format!("tier {name:?} {}", ids(policies)),
            Stage::Profile(name, _) => format!("profile {name:?}"),
        }
    }

    /// Whether it says the same, not only in name.
    pub(crate) fn is_same(&self, other: &Stage) -> bool {
        let same = |a: &[Arc<Policy>], b: &[Arc<Policy>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        match (self, other) {
            (Stage::Staged(a), Stage::Staged(b)) | (Stage::Unreadable(a), Stage::Unreadable(b)) => same(a, b),
            (
                Stage::Tier { name: a, default_action: x, policies: p },
                Stage::Tier { name: b, default_action: y, policies: q },
            ) => a == b && x == y && same(p, q),
            (Stage::Profile(a, x), Stage::Profile(b, y)) => {
                a == b
                    && match (x, y) {
                        (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                        (None, None) => true,
                        (Some(_), None) | (None, Some(_)) => false,
                    }
            }
            _ => false,
        }
    }
}

/// The policies an endpoint is subject to, and its profiles in order.
pub(crate) struct Subject<'a> {
    pub(crate) policies: Vec<&'a Arc<Policy>>,
    pub(crate) staged: Vec<&'a Arc<Policy>>,
    pub(crate) profiles: &'a [Arc<str>],
}

/// What puts policies in order, and the rules of profiles.
pub(crate) struct Orders<'a> {
    pub(crate) tiers: &'a BTreeMap<String, TierSpec>,
    /// Tiers that cannot be read: nobody knows the place of their policies.
    pub(crate) unreadable: &'a BTreeSet<String>,
    pub(crate) profiles: &'a BTreeMap<Arc<str>, Option<Arc<Rules>>>,
}

impl Orders<'_> {
    /// The stages a packet passes in a direction, up to the first that lets nothing on.
    pub(crate) fn stages(&self, subject: &Subject<'_>, direction: Direction, phase: Phase) -> Vec<Stage> {
        let is_unplaced = |policy: &&&Arc<Policy>| {
            matches!(policy.body, Body::DenyFirst) || self.unreadable.contains(&policy.tier)
        };
        // What allows something early would take it out of the reach of what denies because it cannot be read.
        let early = matches!(phase, Phase::Untracked | Phase::PreDnat);
        if early && subject.policies.iter().any(|policy| is_unplaced(&policy) && policy.is_about(direction)) {
            return Vec::new();
        }
        let mut stages = Vec::new();
        let staged = self.sorted(&subject.staged, direction, phase);
        if !staged.is_empty() {
            stages.push(Stage::Staged(staged.into_iter().cloned().collect()));
        }
        let sorted = self.sorted(&subject.policies, direction, phase);
        let unreadable: BTreeMap<_, _> =
            sorted.iter().filter(is_unplaced).map(|policy| (&policy.id, Arc::clone(policy))).collect();
        if !unreadable.is_empty() {
            stages.push(Stage::Unreadable(unreadable.into_values().collect()));
            return stages;
        }
        for policies in sorted.chunk_by(|a, b| a.tier == b.tier) {
            let Some(first) = policies.first() else { continue };
            let tier = self.tiers.get(&first.tier).filter(|_| phase.tiers_end());
            let default_action = match phase.tiers_end() {
                true => tier.and_then(|tier| tier.default_action).unwrap_or_default(),
                false => TierAction::Pass,
            };
            let lets_on = default_action == TierAction::Pass || policies.iter().any(|p| p.passes(direction));
            let policies = policies.iter().copied().cloned().collect();
            stages.push(Stage::Tier { name: first.tier.clone(), default_action, policies });
            if !lets_on {
                return stages;
            }
        }
        if phase.is_closed() {
            let mut seen = BTreeSet::new();
            let profiles = subject.profiles.iter().filter(|name| seen.insert(*name));
            stages
                .extend(profiles.map(|name| {
                    Stage::Profile(Arc::clone(name), self.profiles.get(name).cloned().flatten())
                }));
        }
        stages
    }

    /// Those that apply, by tier and place in it.
    fn sorted<'p>(
        &self,
        policies: &[&'p Arc<Policy>],
        direction: Direction,
        phase: Phase,
    ) -> Vec<&'p Arc<Policy>> {
        let mut found: Vec<&Arc<Policy>> =
            policies.iter().copied().filter(|policy| policy.applies(direction, phase)).collect();
        found.sort_by(|a, b| self.compare_tiers(&a.tier, &b.tier).then_with(|| by_place(a, b)));
        found
    }

    /// Compares tiers by name; those that do not exist come last.
    fn compare_tiers(&self, a: &str, b: &str) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        let place = |name: &str| {
            let tier = self.tiers.get(name);
            (tier.is_none(), tier.and_then(|tier| tier.order))
        };
        let ((a_missing, a_order), (b_missing, b_order)) = (place(a), place(b));
        a_missing.cmp(&b_missing).then_with(|| compare(a_order, b_order)).then_with(|| a.cmp(b))
    }
}

/// Compares policies of one tier.
fn by_place(a: &Policy, b: &Policy) -> Ordering {
    compare(a.order, b.order).then_with(|| a.id.cmp(&b.id))
}

/// Compares orders; an absent one is greater than every number, and zero has no sign.
fn compare(a: Option<f64>, b: Option<f64>) -> Ordering {
    let value = |order: Option<f64>| order.map_or(f64::INFINITY, |o| o + 0.0);
    value(a).total_cmp(&value(b))
}
