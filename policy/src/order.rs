//! In which order things decide (felix-dataplane 3.1): tiers, policies inside a tier, then profiles.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use tortie_model::resource::TierAction;

use crate::Problems;
use crate::ir::Direction;
use crate::phase::Phase;
use crate::select::{Body, Labelled, Policy};
use crate::snapshot::{PolicyId, Snapshot};

/// A tier with its policies in order.
pub(crate) struct Tier<'a> {
    name: &'a str,
    default_action: TierAction,
    policies: Vec<&'a Policy<'a>>,
    /// Places of policies by the labels of which what they select must have one.
    by_label: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    /// Places of the others.
    anywhere: Vec<usize>,
}

impl<'a> Tier<'a> {
    fn new(name: &'a str, default_action: TierAction, policies: Vec<&'a Policy<'a>>) -> Tier<'a> {
        let mut by_label: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut anywhere = Vec::new();
        for (place, policy) in policies.iter().enumerate() {
            match policy.required() {
                Some(pairs) => {
                    pairs.into_iter().for_each(|pair| by_label.entry(pair).or_default().push(place))
                }
                None => anywhere.push(place),
            }
        }
        Tier { name, default_action, policies, by_label, anywhere }
    }

    /// The policies that apply, in order.
    fn applied(&self, endpoint: &Labelled<'_>, direction: Direction, phase: Phase) -> Vec<&'a Policy<'a>> {
        let indexed = endpoint.labels.pairs().filter_map(|pair| self.by_label.get(&pair)).flatten();
        let places: BTreeSet<usize> = indexed.chain(&self.anywhere).copied().collect();
        let policies = places.into_iter().filter_map(|place| self.policies.get(place)).copied();
        policies.filter(|policy| policy.applies(endpoint, direction, phase)).collect()
    }
}

/// Everything with a place in the order.
#[derive(Default)]
pub(crate) struct Tiers<'a> {
    /// Policies that cannot be placed; they deny before everything else.
    pub(crate) unplaced: Vec<&'a Policy<'a>>,
    /// Tiers in order.
    pub(crate) ordered: Vec<Tier<'a>>,
    /// Staged policies in order; they decide nothing.
    pub(crate) staged: Vec<&'a Policy<'a>>,
}

/// One step of the way of a packet. Endpoints with the same stages share a chain.
pub(crate) enum Stage<'a> {
    /// Staged policies that would apply: counted, never enforced.
    Staged(Vec<&'a Policy<'a>>),
    /// Policies that deny because they cannot be read.
    Unreadable(Vec<&'a PolicyId>),
    /// The policies of a tier that apply.
    Tier { name: &'a str, default_action: TierAction, policies: Vec<&'a Policy<'a>> },
    /// A profile.
    Profile(&'a str),
}

impl Stage<'_> {
    /// Tells stages apart by the names in them, so that it stays the same when rules or other policies change.
    pub(crate) fn key(&self) -> String {
        match self {
            Stage::Staged(policies) => {
                format!("staged {:?}", policies.iter().map(|p| p.id).collect::<Vec<_>>())
            }
            Stage::Unreadable(ids) => format!("unreadable {ids:?}"),
            Stage::Tier { name, policies, .. } => {
                format!("tier {name:?} {:?}", policies.iter().map(|p| p.id).collect::<Vec<_>>())
            }
            Stage::Profile(name) => format!("profile {name:?}"),
        }
    }
}

/// Puts tiers and policies in order. A tier that does not exist comes last and denies.
pub(crate) fn tiers<'a>(
    snapshot: &'a Snapshot,
    policies: &'a [Policy<'a>],
    staged: &'a [Policy<'a>],
    problems: &mut Problems,
) -> Tiers<'a> {
    let mut by_name: BTreeMap<&str, Vec<&Policy<'_>>> = BTreeMap::new();
    let mut unplaced = Vec::new();
    for policy in policies {
        match policy.body {
            Body::DenyFirst => unplaced.push(policy),
            Body::Rules(_) | Body::Deny => by_name.entry(policy.tier).or_default().push(policy),
        }
    }
    let mut ordered = Vec::new();
    for (name, mut policies) in by_name {
        policies.sort_by(|a, b| by_place(a, b));
        let tier = snapshot.tiers.get(name);
        if tier.is_none() {
            problems
                .add(format_args!("Tier {name}"), "does not exist; its policies come last, and it denies");
        }
        let default_action = tier.and_then(|t| t.default_action).unwrap_or_default();
        ordered.push(Tier::new(name, default_action, policies));
    }
    ordered.sort_by(|a, b| compare_tiers(snapshot, a.name, b.name));
    let mut staged: Vec<_> = staged.iter().collect();
    staged.sort_by(|a, b| compare_tiers(snapshot, a.tier, b.tier).then_with(|| by_place(a, b)));
    Tiers { unplaced, ordered, staged }
}

/// Compares tiers by name; those that do not exist come last.
fn compare_tiers(snapshot: &Snapshot, a: &str, b: &str) -> Ordering {
    let place = |name: &str| {
        let tier = snapshot.tiers.get(name);
        (tier.is_none(), tier.and_then(|tier| tier.order))
    };
    let ((a_missing, a_order), (b_missing, b_order)) = (place(a), place(b));
    a_missing.cmp(&b_missing).then_with(|| compare(a_order, b_order)).then_with(|| a.cmp(b))
}

/// Compares policies of one tier.
fn by_place(a: &Policy<'_>, b: &Policy<'_>) -> Ordering {
    compare(a.order, b.order).then_with(|| a.id.cmp(b.id))
}

/// Compares orders; an absent one is greater than every number, and zero has no sign.
fn compare(a: Option<f64>, b: Option<f64>) -> Ordering {
    let value = |order: Option<f64>| order.map_or(f64::INFINITY, |o| o + 0.0);
    value(a).total_cmp(&value(b))
}

impl<'a> Tiers<'a> {
    /// The stages a packet of an endpoint passes in a direction, up to the first that lets nothing on.
    pub(crate) fn stages(
        &self,
        endpoint: &Labelled<'a>,
        direction: Direction,
        phase: Phase,
    ) -> Vec<Stage<'a>> {
        let applied = |policies: &[&'a Policy<'a>]| -> Vec<_> {
            policies.iter().copied().filter(|p| p.applies(endpoint, direction, phase)).collect()
        };
        let mut stages = Vec::new();
        let staged = applied(&self.staged);
        if !staged.is_empty() {
            stages.push(Stage::Staged(staged));
        }
        let unreadable: Vec<_> = applied(&self.unplaced).into_iter().map(|p| p.id).collect();
        if !unreadable.is_empty() {
            stages.push(Stage::Unreadable(unreadable));
            return stages;
        }
        for tier in &self.ordered {
            let policies = tier.applied(endpoint, direction, phase);
            if policies.is_empty() {
                continue;
            }
            let default_action = if phase.tiers_end() { tier.default_action } else { TierAction::Pass };
            let lets_on = default_action == TierAction::Pass || policies.iter().any(|p| p.passes(direction));
            stages.push(Stage::Tier { name: tier.name, default_action, policies });
            if !lets_on {
                return stages;
            }
        }
        if phase.is_closed() {
            let mut seen = BTreeSet::new();
            let profiles = endpoint.endpoint.profiles.iter().map(|name| &**name);
            stages.extend(profiles.filter(|p| seen.insert(*p)).map(Stage::Profile));
        }
        stages
    }
}

impl Policy<'_> {
    /// Whether one of its rules can lead on to the next tier.
    fn passes(&self, direction: Direction) -> bool {
        match &self.body {
            Body::Rules(rules) => rules.of(direction).iter().any(|r| r.passes()),
            Body::Deny | Body::DenyFirst => false,
        }
    }
}
