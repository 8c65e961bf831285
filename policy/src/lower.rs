//! One checked rule as matches of the IR. A rule becomes several where a condition is an "or": families, numeric and
//! named ports, "not this type and code". For a rule that logs, no two of them match one packet.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tortie_model::rule::Action;
use tortie_model::selector::Selector;

use crate::check::{CheckedEntity, CheckedPorts, CheckedRule, IcmpMatch};
use crate::ir::{AddressSet, Family, IcmpField, Match, Op, PortSet, Side};
use crate::sets::{Definition, PeerSets, Sets, maximal, merged};

/// What a rule comes down to once its unenforceable parts are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
    Log,
    Pass,
}

impl CheckedRule {
    /// The effect; `None` for a rule that is left out.
    ///
    /// A condition that cannot be checked must never let more through: such a rule allows nothing, and denies as if the
    /// condition always held. Passing on could end in either, so it denies too.
    pub(crate) fn effect(&self) -> Option<Effect> {
        match (self.action, self.unenforceable.is_some()) {
            (Action::Allow, false) => Some(Effect::Allow),
            (Action::Pass, false) => Some(Effect::Pass),
            (Action::Log, false) => Some(Effect::Log),
            (Action::Deny, _) | (Action::Pass, true) => Some(Effect::Deny),
            (Action::Allow | Action::Log, true) => None,
        }
    }

    /// Whether it can lead on to the next tier.
    pub(crate) fn passes(&self) -> bool {
        self.effect() == Some(Effect::Pass)
    }
}

/// Matches that must all hold.
type Conjunction = Vec<Match>;

/// The rule as alternatives; empty when it can match nothing now.
pub(crate) fn matches(rule: &CheckedRule, sets: &mut Sets) -> Vec<Conjunction> {
    let mut of_families: Vec<(Family, Vec<Conjunction>)> = rule
        .families
        .iter()
        .filter_map(|family| Some((*family, alternatives(rule, *family, sets)?)))
        .collect();
    if let [(_, v4), (_, v6)] = of_families.as_slice()
        && v4 == v6
    {
        return of_families.swap_remove(0).1;
    }
    let mut found = Vec::new();
    for (family, alternatives) in of_families {
        for mut matches in alternatives {
            if !matches.iter().any(implies_family) {
                matches.insert(0, Match::Family(family));
            }
            found.push(matches);
        }
    }
    found
}

fn implies_family(condition: &Match) -> bool {
    match condition {
        Match::Family(_) | Match::Address(..) | Match::Service(..) | Match::Row(..) | Match::Icmp(..) => true,
        Match::WorkloadInterface(_)
        | Match::Established
        | Match::Refused
        | Match::Invalid
        | Match::Protocol(..)
        | Match::Port(..)
        | Match::ProtocolPort(..)
        | Match::NoReverseRoute
        | Match::LocalDestination
        | Match::LocalSource
        | Match::Mark(_)
        | Match::Translated => false,
    }
}

/// The rule for one family, cheap comparisons first; `None` when it cannot match there.
fn alternatives(rule: &CheckedRule, family: Family, sets: &mut Sets) -> Option<Vec<Conjunction>> {
    let mut common = Conjunction::new();
    common.extend(rule.protocol.map(|n| Match::Protocol(Op::Is, n)));
    common.extend(rule.not_protocol.map(|n| Match::Protocol(Op::IsNot, n)));
    let mut found = vec![common];
    let sides = [(Side::Source, &rule.source), (Side::Destination, &rule.destination)];
    for (side, entity) in sides {
        if let Some(ports) = numeric(&entity.not_ports, sets) {
            found = both(found, vec![vec![Match::Port(side, Op::IsNot, ports)]]);
        }
        if !entity.ports.is_empty() {
            found = both(found, ports(rule, side, entity, family, sets)?);
        }
    }
    match (rule.icmp, rule.not_icmp) {
        (None, None) => {}
        (Some(icmp), None) => found = both(found, vec![icmp_is(family, icmp)]),
        (None, Some(not)) => found = both(found, icmp_is_not(family, not)),
        (Some(icmp), Some(not)) => found = both(found, vec![icmp_but_not(family, icmp, not)?]),
    }
    for (side, entity) in sides {
        found = both(found, addresses(rule, side, entity, family, sets)?);
    }
    for (side, entity) in sides {
        if let Some(not_named) = named(&entity.not_ports, None, family, sets) {
            found = both(found, not_service(rule, side, family, not_named));
        }
    }
    Some(found)
}

/// Every alternative of one list together with every one of the other.
fn both(left: Vec<Conjunction>, right: Vec<Conjunction>) -> Vec<Conjunction> {
    let join = |l: &Conjunction, r: &Conjunction| l.iter().chain(r).cloned().collect();
    left.iter().flat_map(|l| right.iter().map(move |r| join(l, r))).collect()
}

/// Positive ports: a number of the list, or a service under a name of the list.
fn ports(
    rule: &CheckedRule,
    side: Side,
    entity: &CheckedEntity,
    family: Family,
    sets: &mut Sets,
) -> Option<Vec<Conjunction>> {
    let numeric = numeric(&entity.ports, sets);
    let named = named(&entity.ports, entity.peers.as_ref(), family, sets);
    let mut found = Vec::new();
    found.extend(numeric.clone().map(|ports| vec![Match::Port(side, Op::Is, ports)]));
    found.extend(named.map(|set| {
        let mut matches = vec![Match::Service(side, family, Op::Is, set)];
        if let (Action::Log, Some(ports)) = (rule.action, numeric) {
            matches.push(Match::Port(side, Op::IsNot, ports));
        }
        matches
    }));
    (!found.is_empty()).then_some(found)
}

fn numeric(ports: &CheckedPorts, sets: &mut Sets) -> Option<PortSet> {
    let ranges = merged(&ports.ranges);
    match (ranges.len(), ranges.first()) {
        (1, Some((low, high))) => Some(PortSet::Range(*low, *high)),
        _ => sets.name(Definition::Ports(ranges)).map(PortSet::Named),
    }
}

/// The set of services under the names of a list, of all endpoints or of the peers only (felix-dataplane 4).
fn named(ports: &CheckedPorts, peers: Option<&Selector>, family: Family, sets: &mut Sets) -> Option<String> {
    if ports.names.is_empty() {
        return None;
    }
    let peers = peers.cloned().unwrap_or_else(Selector::all);
    sets.name(Definition::NamedPorts(family, ports.names.clone(), peers))
}

/// What is not a service of a set. A packet of a protocol without ports is none, and the kernel could not even look.
fn not_service(rule: &CheckedRule, side: Side, family: Family, set: String) -> Vec<Conjunction> {
    let not_in_set = vec![Match::Service(side, family, Op::IsNot, set)];
    if rule.protocol.is_some() {
        return vec![not_in_set];
    }
    let portless = [6, 17, 132].map(|n| Match::Protocol(Op::IsNot, n)).to_vec();
    vec![portless, not_in_set]
}

fn icmp_is(family: Family, icmp: IcmpMatch) -> Conjunction {
    let byte = |field, value| Match::Icmp(family, field, Op::Is, value, value);
    let mut matches = vec![byte(IcmpField::Type, icmp.icmp_type)];
    matches.extend(icmp.code.map(|code| byte(IcmpField::Code, code)));
    matches
}

/// One and not the other, in as few words as possible; `None` when nothing is both.
fn icmp_but_not(family: Family, icmp: IcmpMatch, not: IcmpMatch) -> Option<Conjunction> {
    let mut matches = icmp_is(family, icmp);
    if icmp.icmp_type == not.icmp_type {
        let not = not.code?;
        match icmp.code {
            Some(code) if code == not => return None,
            Some(_) => {}
            None => matches.push(Match::Icmp(family, IcmpField::Code, Op::IsNot, not, not)),
        }
    }
    Some(matches)
}

/// Not (type and code): another type, or this type with another code.
fn icmp_is_not(family: Family, icmp: IcmpMatch) -> Vec<Conjunction> {
    let byte = |field, op, value| Match::Icmp(family, field, op, value, value);
    let mut found = vec![vec![byte(IcmpField::Type, Op::IsNot, icmp.icmp_type)]];
    found.extend(icmp.code.map(|code| {
        vec![byte(IcmpField::Type, Op::Is, icmp.icmp_type), byte(IcmpField::Code, Op::IsNot, code)]
    }));
    found
}

/// Conditions on one address as alternatives; `None` when no address of the family meets them.
fn addresses(
    rule: &CheckedRule,
    side: Side,
    entity: &CheckedEntity,
    family: Family,
    sets: &mut Sets,
) -> Option<Vec<Conjunction>> {
    let condition = |op, set| Match::Address(side, family, op, set);
    let mut matches = Conjunction::new();
    if !entity.nets.is_empty() {
        let nets = of_family(&entity.nets, family)?;
        if !nets.iter().any(|net| net.prefix() == 0) {
            matches.push(condition(Op::Is, prefixes(family, nets, sets)?));
        }
    }
    if !entity.not_nets.is_empty() {
        let nets = of_family(&entity.not_nets, family)?;
        if nets.iter().any(|net| net.prefix() == 0) {
            return None;
        }
        matches.push(condition(Op::IsNot, prefixes(family, nets, sets)?));
    }
    if let Some(peers) = &entity.not_peers {
        match sets.peers(family, peers) {
            PeerSets::Everything => return None,
            PeerSets::Of(found) => matches.extend(found.into_iter().map(|set| condition(Op::IsNot, set))),
        }
    }
    let found = vec![matches];
    match entity.peers.as_ref().map(|peers| sets.peers(family, peers)) {
        None | Some(PeerSets::Everything) => Some(found),
        Some(PeerSets::Of(sets)) if sets.is_empty() => None,
        Some(PeerSets::Of(sets)) => Some(both(found, in_any(rule, sets, condition))),
    }
}

/// In one of the sets. Networks overlap, so for a rule that logs each alternative leaves out what those before it have.
fn in_any(
    rule: &CheckedRule,
    sets: Vec<AddressSet>,
    condition: impl Fn(Op, AddressSet) -> Match,
) -> Vec<Conjunction> {
    let before = |place: usize| match rule.action {
        Action::Log => sets.iter().take(place).cloned().map(|set| condition(Op::IsNot, set)).collect(),
        Action::Allow | Action::Deny | Action::Pass => Conjunction::new(),
    };
    let alternative = |(place, set): (usize, &AddressSet)| {
        let mut matches = before(place);
        matches.push(condition(Op::Is, set.clone()));
        matches
    };
    sets.iter().enumerate().map(alternative).collect()
}

/// The maximal prefixes of a family; a list that names only the other family does not match in this one, even when it is
/// negated (felix-dataplane 4).
fn of_family(nets: &[IpNetwork], family: Family) -> Option<BTreeSet<IpNetwork>> {
    let nets = maximal(nets.iter().copied().filter(|net| Family::of(net.network()) == family));
    (!nets.is_empty()).then_some(nets)
}

fn prefixes(family: Family, nets: BTreeSet<IpNetwork>, sets: &mut Sets) -> Option<AddressSet> {
    match (nets.len(), nets.first()) {
        (1, Some(net)) => Some(AddressSet::Prefix(*net)),
        _ => sets.name(Definition::Nets(family, nets)).map(AddressSet::Named),
    }
}
