//! Runs of rules with the same verdict, said by few lookups in place of many comparisons.
//!
//! Which rule of such a run matches first does not matter to a packet, so the run may be said in any way that matches the
//! same packets. Rules that name peers, a protocol and ports become rows of a hash (address . protocol . port); rules
//! that name only peers become one set; rules that differ in nothing but protocol and ports become one set of those, or of
//! ranges. Peers of each length of prefix have a set of their own, which is looked up with the masked address
//! (kernel-programming 3). What fits nowhere stays a rule.
//!
//! Merged sets count packets for each element, and [`crate::ir::Origins`] tells which rule that is.

mod said;

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{
    Action, AddressSet, Comment, Direction, Family, Match, Op, Origin, PortSet, Rule, Side, Verdict,
};
use crate::sets::{Sets, Shape, Width};
use said::{Apart, by_peers, by_range, by_service};

/// Fewer rules are as quick by themselves, and easier to read.
const FEWEST: usize = 3;

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
