//! Runs of rules with the same verdict, said by few lookups in place of many comparisons.
//!
//! Which rule of such a run matches first does not matter to a packet, so the run may be said in any way that matches the
//! same packets. Rules that name peers, a protocol and ports become rows of a hash (address . protocol . port); rules
//! that name only peers become one set; rules that differ in nothing but protocol and ports become one set of those, or of
//! ranges. Peers of each length of prefix have a set of their own, which is looked up with the masked address
//! (kernel-programming 3). What fits nowhere stays a rule.
//!
//! Merged sets count packets for each element, and [`crate::ir::Origins`] tells which rule that is.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{
    Action, AddressSet, Comment, Direction, Elements, Family, Match, Op, Origin, Peers, PortSet, Rule,
    Service, Side, Verdict,
};
use crate::sets::{MANY_PEERS, Sets, Shape, Width, size};

/// Fewer rules are as quick by themselves, and easier to read.
const FEWEST: usize = 3;

/// Rules with more ports are not merged with others about peers: each port is a row for each peer.
const MOST_SERVICES: usize = 32;

/// With more rows than this a set counts as a whole. A counter of an element takes as long to make as three elements, and memory for
/// each processor.
const MOST_COUNTED: usize = 1 << 11;

/// Sets of no more rows than this grow as they need to, so that they stay the same while they do.
const SMALL: usize = 1 << 8;

/// Of so many rows on a node, how many a group may have in one way of merging when there are so many groups. Sets that hold rows
/// of several policies are its own, so there may be one in each group; sets that hold those of one policy are shared.
pub(crate) fn share(rows: usize, groups: usize) -> usize {
    let mut some = 1;
    while some < groups {
        some *= 2;
    }
    rows / some
}

/// How rules can be merged: those of one way become one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Peers, protocol, port.
    Rows(Family, u8),
    /// Peers.
    Peers(Family, u8),
    /// Protocol and port, while these conditions hold.
    Services(Vec<Match>),
    /// Ranges of ports of a protocol, while these conditions hold.
    Ranges(u8, Vec<Match>),
}

/// A rule, or what of it is about peers of one length of prefix.
struct Part {
    way: Way,
    origin: Origin,
    /// About how many elements it gives.
    rows: usize,
}

/// A rule with its parts, when it can be merged.
struct Candidate {
    rule: Rule,
    parts: Vec<Part>,
}

/// Parts in the same place become one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    way: Way,
    /// Of which policy, when there are too many for all to be in one place.
    policy: Option<String>,
    /// There may be too many of one policy.
    number: usize,
}

/// What is put in a place: rules, and about how many rows they give.
#[derive(Default)]
struct Heap {
    origins: Vec<Origin>,
    rows: usize,
}

type Places = BTreeMap<Place, Heap>;

/// What writing rules in fewer takes.
pub(crate) struct Merge<'s> {
    pub(crate) direction: Direction,
    pub(crate) sets: &'s mut Sets,
    /// How many rows of several policies may be in one set; see [`share`].
    pub(crate) share: usize,
    /// How many rows of one policy may be in one set.
    pub(crate) most: usize,
    /// How many rows there were in each way.
    pub(crate) widths: &'s mut BTreeSet<usize>,
}

impl Merge<'_> {
    /// The same rules in fewer.
    pub(crate) fn rules(&mut self, rules: Vec<Rule>) -> Vec<Rule> {
        let mut found = Vec::new();
        let mut run: Vec<Rule> = Vec::new();
        for rule in rules {
            if run.last().is_some_and(|last| !alike(last, &rule)) {
                found.extend(self.run(std::mem::take(&mut run)));
            }
            run.push(rule);
        }
        found.extend(self.run(run));
        found
    }

    /// A run of rules that are alike.
    fn run(&mut self, run: Vec<Rule>) -> Vec<Rule> {
        let Some(Rule { action, .. }) = run.first().filter(|_| run.len() >= FEWEST) else { return run };
        let (action, side) = (action.clone(), peer_side(self.direction));
        let mut places = Places::new();
        let by_peers: Vec<_> = run.iter().map(|rule| by_peers(rule, side, self.sets)).collect();
        let rest = self.take(&mut places, run, by_peers);
        let by_service: Vec<_> = rest.iter().map(|rule| by_service(rule, self.sets)).collect();
        let rest = self.take(&mut places, rest, by_service);
        let mut ranges = Apart::default();
        let by_range: Vec<_> = rest.iter().map(|rule| ranges.apart(by_range(rule, self.sets))).collect();
        let rest = self.take(&mut places, rest, by_range);
        let merged = places.into_iter().map(|(place, heap)| rule(place.way, heap, side, &action, self.sets));
        merged.collect::<Vec<_>>().into_iter().chain(rest).collect()
    }

    /// Takes the rules that can be merged by their parts; the others are left.
    fn take(&mut self, places: &mut Places, rules: Vec<Rule>, parts: Vec<Vec<Part>>) -> Vec<Rule> {
        let candidate = |(rule, parts)| Candidate { rule, parts };
        let mut candidates: Vec<Candidate> = rules.into_iter().zip(parts).map(candidate).collect();
        let placed = self.settle(&mut candidates);
        let mut rest = Vec::new();
        for (Candidate { rule, parts }, at) in candidates.into_iter().zip(placed) {
            if parts.is_empty() {
                rest.push(rule);
            }
            for (part, place) in parts.into_iter().zip(at) {
                let heap = places.entry(place).or_default();
                heap.rows += part.rows;
                heap.origins.push(part.origin);
            }
        }
        rest
    }

    /// Leaves parts only to candidates that are in good company wherever they are put, and tells where.
    fn settle(&mut self, candidates: &mut [Candidate]) -> Vec<Vec<Place>> {
        loop {
            let placed = self.place(candidates);
            let mut company: BTreeMap<&Place, usize> = BTreeMap::new();
            placed.iter().flatten().for_each(|place| *company.entry(place).or_default() += 1);
            let lonely = |place: &Place| company.get(place).is_some_and(|count| *count < FEWEST);
            let mut out: Vec<bool> = placed.iter().map(|at| at.iter().any(lonely)).collect();
            let lookups = company.len();
            let merged = candidates.iter().filter(|candidate| !candidate.parts.is_empty()).count();
            if !out.contains(&true) {
                // Networks of many lengths would take more lookups than they have rules.
                let longest = (0..candidates.len()).max_by_key(|at| candidates[*at].parts.len());
                let Some(longest) = longest.filter(|_| lookups > merged) else { return placed };
                out[longest] = true;
            }
            for (candidate, _) in candidates.iter_mut().zip(out).filter(|(_, out)| *out) {
                candidate.parts.clear();
            }
        }
    }

    /// Where to put each part.
    fn place(&mut self, candidates: &[Candidate]) -> Vec<Vec<Place>> {
        let mut rows: BTreeMap<&Way, usize> = BTreeMap::new();
        for part in candidates.iter().flat_map(|candidate| &candidate.parts) {
            *rows.entry(&part.way).or_default() += part.rows;
        }
        self.widths.extend(rows.values());
        let mut filled: BTreeMap<(Way, Option<String>), usize> = BTreeMap::new();
        let mut place = |rule: &Rule, part: &Part| {
            let crowded = rows.get(&part.way).is_some_and(|rows| *rows > self.share);
            let policy = crowded.then(|| policy(&rule.comment));
            let filled = filled.entry((part.way.clone(), policy.clone())).or_default();
            let number = *filled / self.most;
            *filled += part.rows;
            Place { way: part.way.clone(), policy, number }
        };
        let places = |of: &Candidate| of.parts.iter().map(|part| place(&of.rule, part)).collect();
        candidates.iter().map(places).collect()
    }
}

/// Whether it does not matter which of two rules matches.
fn alike(left: &Rule, right: &Rule) -> bool {
    let ends = match &left.action {
        Action::Verdict(verdict) => !matches!(verdict, Verdict::Jump(_)),
        Action::Reject => true,
        Action::Log { .. } | Action::Mark(_) | Action::NoTrack | Action::Lookup(..) | Action::Masquerade => {
            false
        }
    };
    ends && left.action == right.action && left.counter && right.counter
}

/// The policy or profile a rule is of: its comment but for the index.
fn policy(comment: &Comment) -> String {
    let text = comment.to_string();
    text.rsplit_once(' ').map_or(text.clone(), |(policy, _)| policy.to_owned())
}

/// The end of a packet at which the peer is, for an endpoint whose policy this is.
fn peer_side(direction: Direction) -> Side {
    match direction {
        Direction::Ingress => Side::Source,
        Direction::Egress => Side::Destination,
    }
}

/// What a rule says, as far as merging goes.
struct Said<'r> {
    protocol: Option<u8>,
    ports: Option<&'r PortSet>,
    /// Families and addresses.
    rest: Vec<&'r Match>,
}

impl<'r> Said<'r> {
    /// `None` for a rule that says more.
    fn by(rule: &'r Rule) -> Option<Said<'r>> {
        let mut said = Said { protocol: None, ports: None, rest: Vec::new() };
        for condition in &rule.matches {
            if let (Match::Protocol(Op::Is, number @ (6 | 17 | 132)), None) = (condition, said.protocol) {
                said.protocol = Some(*number);
            } else if let (Match::Port(Side::Destination, Op::Is, ports), None) = (condition, said.ports) {
                said.ports = Some(ports);
            } else if let Match::Family(_) | Match::Address(..) = condition {
                said.rest.push(condition);
            } else {
                return None;
            }
        }
        Some(said)
    }

    /// Its protocol and ports, none when it names neither; `None` when it names one, or too many.
    fn services(&self, sets: &Sets) -> Option<Vec<Service>> {
        match (self.protocol, self.ports) {
            (None, None) => Some(Vec::new()),
            (Some(protocol), Some(ports)) => {
                services(protocol, ports, sets).filter(|services| count(services) <= MOST_SERVICES)
            }
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    fn conditions(&self) -> Vec<Match> {
        self.rest.iter().copied().cloned().collect()
    }

    /// The one set its peer is in.
    fn peers(&self, side: Side) -> Option<(Family, &'r AddressSet)> {
        let [before @ .., Match::Address(at, family, Op::Is, set)] = self.rest.as_slice() else {
            return None;
        };
        let known = before.iter().all(|condition| **condition == Match::Family(*family));
        (*at == side && known).then_some((*family, set))
    }
}

/// The parts of a rule that names peers, and protocol and ports or none of both, and nothing else.
fn by_peers(rule: &Rule, side: Side, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let Some(((family, set), services)) = said.peers(side).zip(said.services(sets)) else {
        return Vec::new();
    };
    let part = |(length, peers, count): (u8, Peers, usize)| Part {
        way: if services.is_empty() { Way::Peers(family, length) } else { Way::Rows(family, length) },
        rows: count * self::count(&services).max(1),
        origin: Origin { comment: rule.comment.clone(), peers: Some(peers), services: services.clone() },
    };
    lengths(family, set, sets).into_iter().map(part).collect()
}

/// Peers by length of prefix, with how many there may be; nothing when there are too many.
fn lengths(family: Family, set: &AddressSet, sets: &Sets) -> Vec<(u8, Peers, usize)> {
    let of_set = |length, name: &String| match sets.elements(name) {
        Some(Elements::Addresses(_, all)) if all.len() <= MANY_PEERS => {
            vec![(length, Peers::Set(name.clone()), size(all.len()))]
        }
        _ => Vec::new(),
    };
    match set {
        AddressSet::Prefix(net) => vec![(net.prefix(), Peers::Nets(vec![*net]), 1)],
        AddressSet::Masked(length, name) => of_set(*length, name),
        AddressSet::Named(name) => match sets.elements(name) {
            Some(Elements::Prefixes(_, nets)) if nets.len() <= MANY_PEERS => {
                let mut lengths: BTreeMap<u8, Vec<_>> = BTreeMap::new();
                nets.iter().for_each(|net| lengths.entry(net.prefix()).or_default().push(*net));
                let part = |(length, nets): (u8, Vec<_>)| (length, nets.len(), Peers::Nets(nets));
                lengths.into_iter().map(part).map(|(length, count, nets)| (length, nets, count)).collect()
            }
            _ => of_set(family.bits(), name),
        },
    }
}

/// The part of a rule that names protocol and ports, and no more than families and addresses besides.
fn by_service(rule: &Rule, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let services = said.services(sets).filter(|services| !services.is_empty());
    let part = |services: Vec<Service>| Part {
        rows: count(&services),
        way: Way::Services(said.conditions()),
        origin: Origin { comment: rule.comment.clone(), peers: None, services },
    };
    services.map(part).into_iter().collect()
}

/// The part of a rule that names ranges of ports, and no more than families and addresses besides.
fn by_range(rule: &Rule, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let Some((protocol, ports)) = said.protocol.zip(said.ports) else { return Vec::new() };
    let part = |services: Vec<Service>| Part {
        rows: services.len(),
        way: Way::Ranges(protocol, said.conditions()),
        origin: Origin { comment: rule.comment.clone(), peers: None, services },
    };
    services(protocol, ports, sets).map(part).into_iter().collect()
}

/// The ranges of each way so far, first to last port. A packet is counted for one rule, so they may not overlap; the kernel
/// would refuse it.
#[derive(Default)]
struct Apart(BTreeMap<Way, BTreeMap<u16, u16>>);

impl Apart {
    /// The parts, unless they touch others of their way.
    fn apart(&mut self, mut parts: Vec<Part>) -> Vec<Part> {
        for part in &parts {
            let known = self.0.entry(part.way.clone()).or_default();
            let touches = |new: &Service| {
                let before = known.range(..=new.high.saturating_add(1)).next_back();
                before.is_some_and(|(_, high)| new.low <= high.saturating_add(1))
            };
            if part.origin.services.iter().any(touches) {
                parts.clear();
                return parts;
            }
            known.extend(part.origin.services.iter().map(|service| (service.low, service.high)));
        }
        parts
    }
}

/// Ports of a protocol; `None` when the set is not one of ports.
fn services(protocol: u8, ports: &PortSet, sets: &Sets) -> Option<Vec<Service>> {
    let service = |(low, high)| Service { protocol, low, high };
    match ports {
        PortSet::Range(low, high) => Some(vec![service((*low, *high))]),
        PortSet::Named(name) => match sets.elements(name)? {
            Elements::Ports(ranges) => Some(ranges.iter().copied().map(service).collect()),
            Elements::Addresses(..)
            | Elements::Prefixes(..)
            | Elements::Services(..)
            | Elements::ProtocolPorts(_) => None,
        },
    }
}

/// How many ports there are.
fn count(services: &[Service]) -> usize {
    services.iter().map(|service| usize::from(service.high.saturating_sub(service.low)) + 1).sum()
}

/// What is made of a set for so many rows or fewer. They are about as many, so the next power of two will do for a while.
fn width(rows: usize) -> Width {
    let size = (rows > SMALL).then(|| u32::try_from(rows.next_power_of_two()).ok());
    Width { counted: rows <= MOST_COUNTED, size: size.flatten() }
}

/// The rule that stands for those in one place.
fn rule(way: Way, heap: Heap, side: Side, action: &Action, sets: &mut Sets) -> Rule {
    let Heap { origins, rows } = heap;
    let width @ Width { counted, .. } = width(rows);
    let mut policies: Vec<String> = origins.iter().map(|origin| policy(&origin.comment)).collect();
    policies.dedup();
    // Nobody should take what all of them count for what the first does.
    let comment = comment(if counted || policies.len() == 1 { "" } else { "several: " }, &origins);
    let matches = match way {
        Way::Rows(family, length) => {
            vec![Match::Row(side, family, length, sets.merged(Shape::Rows(family), origins, width))]
        }
        Way::Peers(family, length) => {
            let name = sets.merged(Shape::Peers(family), origins, width);
            let set = match length == family.bits() {
                true => AddressSet::Named(name),
                false => AddressSet::Masked(length, name),
            };
            vec![Match::Address(side, family, Op::Is, set)]
        }
        Way::Ranges(protocol, mut rest) => {
            let name = sets.merged(Shape::Ranges, origins, Width { size: None, ..width });
            rest.push(Match::Protocol(Op::Is, protocol));
            rest.push(Match::Port(Side::Destination, Op::Is, PortSet::Named(name)));
            rest
        }
        Way::Services(mut rest) => {
            rest.push(Match::ProtocolPort(
                Side::Destination,
                Op::Is,
                sets.merged(Shape::Services, origins, width),
            ));
            rest
        }
    };
    Rule { matches, counter: !counted, action: action.clone(), comment }
}

/// The first rule, and how many others.
pub(crate) fn comment(before: &str, origins: &[Origin]) -> Comment {
    let mut comments: Vec<&Comment> = origins.iter().map(|origin| &origin.comment).collect();
    comments.dedup();
    let first = comments.first().map(|first| format!("{before}{first}")).unwrap_or_default();
    match comments.len().saturating_sub(1) {
        0 => Comment::new(&first),
        others => Comment::with_tail(&first, &format!(" and {others} more")),
    }
}
