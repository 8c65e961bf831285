//! Rules in their order; all criteria of a rule, one after the other.

use tortie_bgp::family::Prefix;
use tortie_bgp::filter::{
    Change, Community, Filter, LocalPref, PeerType, PrefixMatch, Rule, Source, Verdict,
};

use super::{DEFAULT_LOCAL_PREF, Session};
use crate::route::{Route, SEQUENCE};

/// The verdict of the first rule that decides; changes are made on the way there.
pub(super) fn run(
    filter: &Filter,
    session: Session<'_>,
    source: Source,
    prefix: Prefix,
    route: &mut Route,
) -> Option<Verdict> {
    for rule in filter.rules() {
        if !matches(rule, session, source, prefix, route) {
            continue;
        }
        if rule.verdict == Verdict::Reject {
            return Some(Verdict::Reject);
        }
        rule.set.iter().for_each(|change| apply(change, route));
        if rule.verdict == Verdict::Accept {
            return Some(Verdict::Accept);
        }
    }
    None
}

fn matches(rule: &Rule, session: Session<'_>, source: Source, prefix: Prefix, route: &Route) -> bool {
    let kind = if session.internal() { PeerType::Internal } else { PeerType::External };
    let path: Vec<u32> = route
        .path
        .iter()
        .take_while(|(kind, _)| *kind == SEQUENCE)
        .flat_map(|(_, numbers)| numbers.iter().copied())
        .collect();
    let preference = route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    rule.prefix.is_none_or(|criterion| of_prefix(criterion, rule.lengths, prefix))
        && rule.source.is_none_or(|wanted| wanted == source)
        && rule.peer_type.is_none_or(|wanted| wanted == kind)
        // A route has no interface here.
        && rule.interface.is_none()
        && rule.community.is_none_or(|wanted| match wanted {
            Community::Standard(wanted) => route.communities.contains(&wanted),
            Community::Large(wanted) => route.large.contains(&wanted),
        })
        && rule.local_pref.is_none_or(|wanted| match wanted {
            LocalPref::Equal(value) => preference == value,
            LocalPref::Above(bound) => preference > bound,
        })
        && path.starts_with(&rule.as_path_prefix)
}

fn of_prefix(criterion: PrefixMatch, lengths: Option<(u8, u8)>, prefix: Prefix) -> bool {
    let (least, most) = lengths.unwrap_or((0, 128));
    let inside = |outer: ipnetwork::IpNetwork| {
        outer.contains(prefix.address())
            && outer.prefix() <= prefix.length()
            && (least..=most).contains(&prefix.length())
    };
    match criterion {
        PrefixMatch::Equal(wanted) => prefix.network() == wanted,
        PrefixMatch::NotEqual(wanted) => prefix.network() != wanted,
        PrefixMatch::In(outer) => inside(outer),
        PrefixMatch::NotIn(outer) => !inside(outer),
    }
}

fn apply(change: &Change, route: &mut Route) {
    match change {
        Change::LocalPref(value) => route.local_pref = Some(*value),
        Change::Med(value) => route.med = Some(*value),
        Change::AddCommunity(community) if route.communities.contains(community) => {}
        Change::AddCommunity(community) => route.communities.push(*community),
        Change::AddLargeCommunity(community) if route.large.contains(community) => {}
        Change::AddLargeCommunity(community) => route.large.push(*community),
        Change::Prepend(numbers) => numbers.iter().rev().for_each(|number| prepend(route, *number)),
    }
}

/// RFC 4271 5.1.2 b: into the first segment if that is a sequence with room, else before it.
pub(super) fn prepend(route: &mut Route, number: u32) {
    match route.path.first_mut() {
        Some((SEQUENCE, numbers)) if numbers.len() < 255 => numbers.insert(0, number),
        _ => route.path.insert(0, (SEQUENCE, vec![number])),
    }
}
