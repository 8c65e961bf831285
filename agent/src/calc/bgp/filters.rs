//! BGPFilters as rules, and the filters of sessions, made once for all that have the same
//! (bgp-behaviour 4, 5).

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use tortie_bgp::filter::{
    Change, Community, Filter, LocalPref, PeerType, PrefixMatch, Rule, Source, Verdict,
};
use tortie_model::resource::{
    BgpFilterAction, BgpFilterOperation, BgpFilterRule, BgpFilterSource, BgpPeerType, CidrOperator,
};
use tortie_model::{Key, Kind};

use crate::calc::cache::Cache;

/// LOCAL_PREF of a route is this less its metric in the kernel (bgp-behaviour 4.1).
pub(super) const GREATEST_LOCAL_PREF: u32 = 2_147_483_647;

/// Which routes of a session a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stream {
    pub(super) export: bool,
    pub(super) ipv6: bool,
}

impl Stream {
    /// The list of a BGPFilter that is for it.
    fn list(self) -> &'static str {
        match (self.export, self.ipv6) {
            (true, false) => "exportV4",
            (false, false) => "importV4",
            (true, true) => "exportV6",
            (false, true) => "importV6",
        }
    }
}

/// Filters by stream and by names of BGPFilters.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<(Stream, Vec<String>), Filter>);

impl Shared {
    /// The filter of these rules. What has not changed since `before` stays the same allocation, so that nobody has to
    /// look at it again.
    pub(super) fn filter(
        &mut self,
        before: &Shared,
        stream: Stream,
        names: &[String],
        rules: impl FnOnce() -> Result<Vec<Rule>, String>,
    ) -> Result<Filter, String> {
        let key = (stream, names.to_vec());
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let rules = rules()?;
        let old = before.0.get(&key).filter(|old| old.rules() == rules);
        let filter = old.cloned().unwrap_or_else(|| Filter::new(rules));
        self.0.insert(key, filter.clone());
        Ok(filter)
    }
}

/// The rules of BGPFilters in order. Those that are not there are left out, as upstream does.
///
/// # Errors
/// One cannot be read. Without it more might pass than was meant to.
pub(super) fn rules(cache: &Cache, names: &[String], stream: Stream) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for name in names {
        if cache.invalid.contains_key(&Key::resource(Kind::BgpFilter, None, name)) {
            return Err(format!("filters: BGPFilter {name} cannot be read; the session stays down"));
        }
        let Some(filter) = cache.bgp_filters.get(name) else { continue };
        let one = match (stream.export, stream.ipv6) {
            (true, false) => list(name, stream, &filter.export_v4),
            (false, false) => list(name, stream, &filter.import_v4),
            (true, true) => list(name, stream, &filter.export_v6),
            (false, true) => list(name, stream, &filter.import_v6),
        };
        rules.extend(one.map_err(|reason| format!("filters: {reason}; the session stays down"))?);
    }
    Ok(rules)
}

fn list<N: Copy + Into<IpNetwork>>(
    name: &str,
    stream: Stream,
    list: &[BgpFilterRule<N>],
) -> Result<Vec<Rule>, String> {
    let number = |(index, stored): (usize, &BgpFilterRule<N>)| {
        let title = format!("BGPFilter {name} rule {} ({})", index + 1, stream.list());
        rule(&title, stored, stream).map_err(|reason| format!("{title}: {reason}"))
    };
    list.iter().enumerate().map(number).collect()
}

fn rule<N: Copy + Into<IpNetwork>>(
    title: &str,
    stored: &BgpFilterRule<N>,
    stream: Stream,
) -> Result<Rule, String> {
    let verdict = match stored.action {
        BgpFilterAction::Accept => Verdict::Accept,
        BgpFilterAction::Reject => Verdict::Reject,
    };
    let mut rule = Rule::new(title, verdict);
    rule.prefix = match (stored.network(), stored.match_operator) {
        (None, None) => None,
        (Some(network), Some(operator)) => Some(match operator {
            CidrOperator::Equal => PrefixMatch::Equal(network),
            CidrOperator::NotEqual => PrefixMatch::NotEqual(network),
            CidrOperator::In => PrefixMatch::In(network),
            CidrOperator::NotIn => PrefixMatch::NotIn(network),
        }),
        (Some(_), None) => return Err("cidr needs a matchOperator".into()),
        (None, Some(_)) => return Err("matchOperator needs a cidr".into()),
    };
    rule.lengths = match (stored.prefix_length, stored.network()) {
        (None, _) => None,
        (Some(_), None) => return Err("prefixLength needs a cidr".into()),
        (Some(length), Some(network)) => {
            let longest = if stream.ipv6 { 128 } else { 32 };
            let bound = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
            let least = length.min.map_or(0, bound).max(network.prefix());
            Some((least, length.max.map_or(longest, bound)))
        }
    };
    rule.source = stored.source.map(|source| match source {
        BgpFilterSource::RemotePeers => Source::Learned,
    });
    rule.interface = Some(stored.interface.clone()).filter(|pattern| !pattern.is_empty());
    rule.peer_type = stored.peer_type.map(|kind| match kind {
        BgpPeerType::External => PeerType::External,
        BgpPeerType::Internal => PeerType::Internal,
    });
    rule.community = match stored.communities.as_ref().map(|communities| communities.values.as_slice()) {
        None => None,
        Some([value]) => Some(community(value).ok_or_else(|| no_community("communities", value))?),
        Some(values) => return Err(format!("communities has {} values, not one", values.len())),
    };
    rule.as_path_prefix = stored.as_path_prefix.iter().map(|number| number.0).collect();
    rule.local_pref = stored.priority.map(|metric| LocalPref::Equal(local_pref(metric)));
    if verdict == Verdict::Accept {
        for operation in &stored.operations {
            rule.set.extend(changes(operation)?);
        }
    }
    Ok(rule)
}

fn changes(operation: &BgpFilterOperation) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    if let Some(add) = &operation.add_community {
        let added = community(&add.value).ok_or_else(|| no_community("addCommunity", &add.value))?;
        changes.push(addition(added));
    }
    if let Some(prepend) = &operation.prepend_as_path {
        changes.push(Change::Prepend(prepend.prefix.iter().map(|number| number.0).collect()));
    }
    if let Some(set) = &operation.set_priority {
        changes.push(Change::LocalPref(local_pref(set.value)));
    }
    Ok(changes)
}

fn no_community(field: &str, value: &str) -> String {
    format!("{field} '{value}' is neither aa:nn nor aa:nn:mm")
}

/// LOCAL_PREF that stands for a metric in the kernel.
pub(super) fn local_pref(metric: u32) -> u32 {
    GREATEST_LOCAL_PREF.saturating_sub(metric)
}

/// The change that adds a community.
pub(super) fn addition(community: Community) -> Change {
    match community {
        Community::Standard(value) => Change::AddCommunity(value),
        Community::Large(parts) => Change::AddLargeCommunity(parts),
    }
}

/// `aa:nn` or `aa:nn:mm`.
pub(super) fn community(text: &str) -> Option<Community> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [high, low] => {
            let (high, low) = (high.parse::<u16>().ok()?, low.parse::<u16>().ok()?);
            Some(Community::Standard(u32::from(high) << 16 | u32::from(low)))
        }
        [a, b, c] => Some(Community::Large([a.parse().ok()?, b.parse().ok()?, c.parse().ok()?])),
        _ => None,
    }
}
