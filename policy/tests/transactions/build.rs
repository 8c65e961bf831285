//! Random rule-sets that use every construct there is, whether or not the compiler would; valid ones: what they name
//! exists, and chains lead to later chains only.

use imbl::{OrdMap, OrdSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use tortie_policy::ir::*;

/// A generator of numbers; the same seed gives the same numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn op(&mut self) -> Op {
        self.pick(&[Op::Is, Op::Is, Op::IsNot])
    }

    fn side(&mut self) -> Side {
        self.pick(&[Side::Source, Side::Destination])
    }

    fn comment(&mut self) -> Comment {
        Comment::new(self.pick(&["", "", "a", "two words: x ≠ y", "tier default policy shop/web ingress[0]"]))
    }

    fn address(&mut self, family: Family) -> IpAddr {
        let last = self.pick(&[0u8, 1, 2, 3, 127, 128, 254, 255]);
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(self.pick(&[0, 10, 192, 255]), 0, 0, last)),
            Family::V6 => {
                let first = self.pick(&[0u16, 0xfd00, 0xffff]);
                IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last.into()))
            }
        }
    }

    fn net(&mut self, family: Family, lengths: &[u8]) -> IpNetwork {
        let (address, length) = (self.address(family), self.pick(lengths));
        let net = IpNetwork::new(address, length).unwrap();
        IpNetwork::new(net.network(), length).unwrap()
    }

    fn port_range(&mut self) -> (u16, u16) {
        let ranges =
            [(0, 0), (1, 80), (80, 80), (81, 90), (443, 443), (8000, 8010), (65000, 65535), (65535, 65535)];
        self.pick(&ranges)
    }
}

const LENGTHS4: [u8; 8] = [1, 7, 8, 15, 16, 24, 31, 32];
const LENGTHS6: [u8; 8] = [1, 8, 16, 17, 64, 65, 127, 128];

fn lengths(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &LENGTHS4,
        Family::V6 => &LENGTHS6,
    }
}

/// Prefixes none of which is inside another.
fn apart(random: &mut Random, family: Family, count: usize) -> OrdSet<IpNetwork> {
    let mut found: OrdSet<IpNetwork> = OrdSet::new();
    for _ in 0..count {
        let net = random.net(family, lengths(family));
        if !found.iter().any(|other| other.contains(net.ip()) || net.contains(other.ip())) {
            found.insert(net);
        }
    }
    found
}

fn ports(random: &mut Random, interval: bool, count: usize) -> OrdSet<(u16, u16)> {
    let mut found: OrdSet<(u16, u16)> = OrdSet::new();
    for _ in 0..count {
        let (low, high) = random.port_range();
        let (low, high) = if interval { (low, high) } else { (low, low) };
        let touches =
            |(a, b): &(u16, u16)| u32::from(low) <= u32::from(*b) + 1 && u32::from(*a) <= u32::from(high) + 1;
        if !found.iter().any(touches) {
            found.insert((low, high));
        }
    }
    found
}

fn elements(random: &mut Random, kind: usize) -> Elements {
    let family = random.pick(&Family::ALL);
    let count = random.pick(&[0, 1, 2, 5, 9]);
    match kind % 6 {
        0 => Elements::Addresses(family, (0..count).map(|_| random.address(family)).collect()),
        1 => Elements::Prefixes(family, apart(random, family, count)),
        2 => Elements::Ports(ports(random, true, count)),
        3 => Elements::Ports(ports(random, false, count)),
        4 => {
            let mut one = || (random.address(family), random.pick(&[6, 17, 132]), random.port_range().0);
            Elements::Services(family, (0..count).map(|_| one()).collect())
        }
        _ => {
            let mut one = || (random.pick(&[6u8, 17, 132]), random.port_range().0);
            Elements::ProtocolPorts((0..count).map(|_| one()).collect())
        }
    }
}

/// What matches may name.
struct Names {
    sets: Vec<(String, SetKind)>,
    maps: Vec<String>,
}

impl Names {
    fn of(&self, random: &mut Random, wanted: impl Fn(SetKind) -> bool) -> Option<String> {
        let fit: Vec<&String> =
            self.sets.iter().filter(|(_, kind)| wanted(*kind)).map(|(name, _)| name).collect();
        (!fit.is_empty()).then(|| fit[random.below(fit.len())].clone())
    }
}

/// Conditions on one packet that do not contradict each other in family, since nft refuses those.
fn matches(random: &mut Random, names: &Names, nat: bool) -> Vec<Match> {
    let mut found = Vec::new();
    let family = random.pick(&Family::ALL);
    let interface = random.pick(&[Interface::Input, Interface::Output]);
    if random.chance(20) {
        found.push(random.pick(&[Match::Established, Match::Invalid]));
    }
    if random.chance(20) {
        found.push(Match::WorkloadInterface(interface));
    }
    if random.chance(10) {
        found.push(Match::Family(family));
    }
    let what = random.below(6);
    match what {
        0 => found.push(Match::Protocol(random.op(), random.pick(&[4, 6, 17, 47]))),
        1 => {
            if random.chance(50) {
                found.push(Match::Protocol(Op::Is, family.icmp()));
            }
            let op = random.op();
            let (low, high) = random.pick(&[(8, 8), (0, 3), (130, 133), (0, 254)]);
            found.push(Match::Icmp(family, IcmpField::Type, op, low, high));
            if random.chance(30) {
                found.push(Match::Icmp(family, IcmpField::Code, random.op(), 1, random.pick(&[1, 3])));
            }
        }
        2 | 3 => {
            if random.chance(70) {
                found.push(Match::Protocol(Op::Is, random.pick(&[6, 17, 132])));
            }
            addresses(random, names, family, &mut found);
            for side in sides(random) {
                found.push(port(random, names, side));
            }
        }
        4 => {
            let (side, op) = (random.side(), random.op());
            let wanted = SetKey::Service(family);
            if let Some(name) = names.of(random, |kind| kind.key == wanted) {
                let length = random.pick(&[family.bits(), family.bits(), 8, 20]);
                found.push(match random.chance(50) {
                    true => Match::Service(side, family, op, name),
                    false => Match::Row(side, family, length, name),
                });
            }
            if let Some(name) = names.of(random, |kind| kind.key == SetKey::ProtocolPort) {
                found.push(Match::ProtocolPort(random.side(), random.op(), name));
            }
        }
        _ => addresses(random, names, family, &mut found),
    }
    if random.chance(10) {
        let mark = [Match::Mark(Op::Is), Match::Mark(Op::IsNot), Match::Refused];
        let more = [Match::Translated, Match::LocalSource];
        found.push(random.pick(&[mark.as_slice(), &more].concat()));
    }
    // The kernel knows no reverse route of what leaves.
    if random.chance(10) {
        found.push(if nat || random.chance(50) { Match::LocalDestination } else { Match::NoReverseRoute });
    }
    found
}

/// One side or both. nft compares neighbouring fields at once, so it lists the source first in any case.
fn sides(random: &mut Random) -> &'static [Side] {
    random.pick(&[&[Side::Source][..], &[Side::Destination], &[Side::Source, Side::Destination]])
}

/// Both sides are compared in different ways, or nft would make one comparison of two ports.
fn port(random: &mut Random, names: &Names, side: &Side) -> Match {
    let op = match side {
        Side::Source => Op::Is,
        Side::Destination => Op::IsNot,
    };

    let named = names.of(random, |kind| kind.key == SetKey::Port).filter(|_| random.chance(40));
    let (low, high) = random.port_range();
    Match::Port(*side, op, named.map_or(PortSet::Range(low, high), PortSet::Named))
}

fn addresses(random: &mut Random, names: &Names, family: Family, found: &mut Vec<Match>) {
    for side in sides(random) {
        let single =
            names.of(random, |kind| kind == SetKind { key: SetKey::Address(family), interval: false });
        let any = names.of(random, |kind| kind.key == SetKey::Address(family));
        let length = random.pick(lengths(family));
        let set = match (random.below(3), any, single) {
            (0, Some(name), _) => AddressSet::Named(name),
            (1, _, Some(name)) => AddressSet::Masked(length, name),
            _ => AddressSet::Prefix(random.net(family, lengths(family))),
        };
        found.push(Match::Address(*side, family, random.op(), set));
    }
}

fn verdict(random: &mut Random, later: &[String]) -> Verdict {
    match random.below(5) {
        0 if !later.is_empty() => Verdict::Jump(random.pick(later)),
        1 if !later.is_empty() => Verdict::Goto(random.pick(later)),
        2 => Verdict::Accept,
        3 => Verdict::Drop,
        _ => Verdict::Return,
    }
}

fn limit(random: &mut Random) -> Option<Limit> {
    let period = random.pick(&[Period::Second, Period::Minute, Period::Hour, Period::Day]);
    let limit = Limit { packets: random.pick(&[1, 10, 9999]), period, burst: random.pick(&[1, 5, 9999]) };
    random.chance(50).then_some(limit)
}

fn rule(random: &mut Random, names: &Names, later: &[String], hook: Option<Hook>) -> Rule {
    let nat = hook == Some(Hook::Postrouting);
    let interface = random.pick(&[Interface::Input, Interface::Output]);
    // The kernel takes it where an answer can still be sent.
    let answers = !matches!(hook, Some(Hook::Prerouting | Hook::Postrouting));
    let action = match random.below(13) {
        0 => Action::Log {
            prefix: "calico-packet: ".into(),
            group: random.pick(&[None, Some(0), Some(7)]),
            limit: limit(random),
        },
        // Rows lead to the last chain, which leads nowhere.
        1 if !names.maps.is_empty() && !later.is_empty() => {
            Action::Lookup(interface, random.pick(&names.maps))
        }
        2 if nat => Action::Masquerade,
        12 if answers => Action::Reject,
        3 if !nat => random.pick(&[Action::Mark(true), Action::Mark(false), Action::NoTrack]),
        _ => Action::Verdict(verdict(random, later)),
    };
    Rule {
        matches: matches(random, names, nat || hook == Some(Hook::Output)),
        counter: random.chance(50),
        action,
        comment: random.comment(),
    }
}

const BASES: [(&str, ChainKind, Hook, i32); 6] = [
    ("prerouting", ChainKind::Filter, Hook::Prerouting, -300),
    ("forward", ChainKind::Filter, Hook::Forward, 0),
    ("input", ChainKind::Filter, Hook::Input, 0),
    ("input", ChainKind::Filter, Hook::Input, -7),
    ("output", ChainKind::Filter, Hook::Output, 0),
    ("postrouting", ChainKind::Nat, Hook::Postrouting, 110),
];

/// A rule-set.
pub(crate) fn ruleset(random: &mut Random) -> Ruleset {
    let mut made = Ruleset::empty();
    for place in 0..random.below(9) {
        let kind = if random.chance(90) { place } else { random.below(6) };
        let mut set = Set::new(random.comment(), elements(random, kind));
        set.counter = random.chance(30);
        let hash = !set.elements.kind().interval;
        set.size = (hash && random.chance(30)).then(|| (set.elements.len() as u32).next_power_of_two());
        made.sets.insert(format!("set-{place}"), set);
    }
    let mut chains: Vec<String> = (0..random.below(5)).map(|n| format!("chain-{n}")).collect();
    chains.push("last".into());
    for name in ["from-endpoint", "to-endpoint"] {
        if random.chance(80) {
            let mut elements = OrdMap::new();
            for _ in 0..random.below(6) {
                let name = InterfaceName::new(&format!("cali{}", random.below(9))).unwrap();
                elements.insert(name, verdict(random, &["last".to_owned()]));
            }
            made.maps.insert(name.into(), VerdictMap { comment: random.comment(), elements });
        }
    }
    let names = Names {
        sets: made.sets.iter().map(|(name, set)| (name.clone(), set.elements.kind())).collect(),
        maps: made.maps.keys().cloned().collect(),
    };
    for (place, name) in chains.iter().enumerate() {
        let later = &chains[place + 1..];
        let rules = (0..random.below(5)).map(|_| rule(random, &names, later, None)).collect();
        made.chains.insert(name.clone(), Chain { comment: random.comment(), base: None, rules });
    }
    for (name, kind, hook, priority) in BASES {
        if random.chance(60) {
            let sends = matches!(hook, Hook::Output | Hook::Postrouting);
            let later = if sends { &[][..] } else { &chains };
            let rules = (0..random.below(4)).map(|_| rule(random, &names, later, Some(hook))).collect();
            let base = Some(Base { kind, hook, priority });
            made.chains.insert(name.into(), Chain { comment: random.comment(), base, rules });
        }
    }
    made
}

/// A rule-set with an object of each kind, for others to touch.
pub(crate) fn touched() -> Ruleset {
    let set = |elements| Set::new(Comment::new("a set"), elements);
    let rule = |condition| Rule {
        matches: vec![condition],
        counter: true,
        action: Action::Verdict(Verdict::Drop),
        comment: Comment::new("a rule"),
    };
    let address =
        |set: &str| Match::Address(Side::Source, Family::V4, Op::Is, AddressSet::Named(set.to_owned()));
    let ports = Match::Port(Side::Source, Op::Is, PortSet::Named("ranges".into()));
    let lookup = Rule { action: Action::Lookup(Interface::Input, "rows".into()), ..rule(Match::Invalid) };
    let chain = |base, rules| Chain { comment: Comment::new("a chain"), base, rules };
    let forward = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0 };
    let rows = OrdMap::unit(InterfaceName::new("cali1").unwrap(), Verdict::Goto("one".into()));
    Ruleset {
        sets: OrdMap::from_iter([
            (
                "nets".to_owned(),
                set(Elements::Prefixes(Family::V4, OrdSet::unit("10.0.0.0/8".parse().unwrap()))),
            ),
            (
                "peers".to_owned(),
                set(Elements::Addresses(
                    Family::V4,
                    OrdSet::from_iter([[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from)),
                )),
            ),
            ("ranges".to_owned(), set(Elements::Ports(OrdSet::from_iter([(80, 80), (8000, 8010)])))),
        ]),
        maps: OrdMap::from_iter([(
            "rows".to_owned(),
            VerdictMap { comment: Comment::default(), elements: rows },
        )]),
        chains: OrdMap::from_iter([
            ("forward".to_owned(), chain(Some(forward), vec![lookup])),
            ("one".to_owned(), chain(None, vec![rule(address("peers")), rule(address("nets")), rule(ports)])),
        ]),
        origins: Origins::default(),
    }
}
