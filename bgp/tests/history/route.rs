//! A route in plain values, with its own way onto the wire and back: what peers announce is made of it, and what they were
//! sent is read into it, so that a fault of the speaker's codec cannot hide another of its rules.

use std::net::Ipv4Addr;

use tortie_bgp::wire::attribute::{RawAttribute, flag, push, split};

pub(crate) const SET: u8 = 1;
pub(crate) const SEQUENCE: u8 = 2;
const WELL_KNOWN: u8 = flag::TRANSITIVE;
const LOCAL: u8 = flag::OPTIONAL;
const PASSED_ON: u8 = flag::OPTIONAL | flag::TRANSITIVE;

/// All attributes of a route. Lists in the order of the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) next_hop: Ipv4Addr,
    pub(crate) origin: u8,
    /// Segments: kind and numbers.
    pub(crate) path: Vec<(u8, Vec<u32>)>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) atomic: bool,
    pub(crate) aggregator: Option<(u32, Ipv4Addr)>,
    pub(crate) communities: Vec<u32>,
    pub(crate) originator: Option<Ipv4Addr>,
    pub(crate) clusters: Vec<Ipv4Addr>,
    pub(crate) extended: Vec<[u8; 8]>,
    pub(crate) large: Vec<[u32; 3]>,
    pub(crate) only_to_customer: Option<u32>,
    /// What has no meaning here: flags, code and value.
    pub(crate) others: Vec<(u8, u8, Vec<u8>)>,
}

impl Route {
    pub(crate) fn new(next_hop: Ipv4Addr) -> Route {
        Route {
            next_hop,
            origin: 0,
            path: vec![],
            med: None,
            local_pref: None,
            atomic: false,
            aggregator: None,
            communities: vec![],
            originator: None,
            clusters: vec![],
            extended: vec![],
            large: vec![],
            only_to_customer: None,
            others: vec![],
        }
    }

    /// The attributes before NEXT_HOP, and those after it.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        push(&mut head, WELL_KNOWN, 1, &[self.origin]);
        push(&mut head, WELL_KNOWN, 2, &path_octets(&self.path));
        let mut add = |present: bool, flags: u8, code: u8, value: &[u8]| {
            if present {
                push(&mut tail, flags, code, value);
            }
        };
        let mut word = |flags: u8, code: u8, value: Option<u32>| {
            add(value.is_some(), flags, code, &value.unwrap_or(0).to_be_bytes());
        };
        word(LOCAL, 4, self.med);
        word(WELL_KNOWN, 5, self.local_pref);
        word(LOCAL, 9, self.originator.map(u32::from));
        word(PASSED_ON, 35, self.only_to_customer);
        add(self.atomic, WELL_KNOWN, 6, &[]);
        if let Some((asn, id)) = self.aggregator {
            add(true, PASSED_ON, 7, &[asn.to_be_bytes(), id.octets()].concat());
        }
        let words = |all: &mut dyn Iterator<Item = u32>| all.flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
        add(!self.communities.is_empty(), PASSED_ON, 8, &words(&mut self.communities.iter().copied()));
        add(!self.clusters.is_empty(), LOCAL, 10, &words(&mut self.clusters.iter().map(|id| u32::from(*id))));
        add(!self.extended.is_empty(), PASSED_ON, 16, &self.extended.concat());
        add(!self.large.is_empty(), PASSED_ON, 32, &words(&mut self.large.iter().flatten().copied()));
        self.others.iter().for_each(|(flags, code, value)| add(true, *flags, *code, value));
        (head, tail)
    }

    /// The attribute section of an UPDATE that announces IPv4 prefixes in the classic field. Panics when an attribute has other
    /// flags than its standard gives it, or stands twice.
    pub(crate) fn decode(mut section: &[u8]) -> Route {
        let mut route = Route::new(Ipv4Addr::UNSPECIFIED);
        let mut seen = Vec::new();
        while !section.is_empty() {
            let (attribute, rest) = split(section).expect("whole attributes");
            section = rest;
            assert!(!seen.contains(&attribute.code), "attribute {} stands twice", attribute.code);
            seen.push(attribute.code);
            route.read(attribute);
        }
        assert!([1, 2, 3].iter().all(|code| seen.contains(code)), "mandatory attributes: {seen:?}");
        route
    }

    fn read(&mut self, attribute: RawAttribute<'_>) {
        let RawAttribute { flags, code, value } = attribute;
        let flags = flags & !flag::EXTENDED;
        let words: Vec<u32> =
            value.chunks_exact(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect();
        let expected = match code {
            1..=3 | 5 | 6 => WELL_KNOWN,
            4 | 9 | 10 => LOCAL,
            7 | 8 | 16 | 32 | 35 => PASSED_ON,
            _ => return self.others.push((flags, code, value.to_vec())),
        };
        assert_eq!(flags, expected, "flags of attribute {code}");
        match code {
            1 => self.origin = value[0],
            2 => self.path = path(value),
            3 => self.next_hop = words[0].into(),
            4 => self.med = Some(words[0]),
            5 => self.local_pref = Some(words[0]),
            6 => self.atomic = true,
            7 => self.aggregator = Some((words[0], words[1].into())),
            8 => self.communities = words,
            9 => self.originator = Some(words[0].into()),
            10 => self.clusters = words.into_iter().map(Ipv4Addr::from).collect(),
            16 => self.extended = value.chunks_exact(8).map(|c| c.try_into().unwrap()).collect(),
            32 => self.large = words.chunks_exact(3).map(|c| c.try_into().unwrap()).collect(),
            _ => self.only_to_customer = Some(words[0]),
        }
    }
}

fn path_octets(path: &[(u8, Vec<u32>)]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (kind, numbers) in path {
        octets.extend([*kind, u8::try_from(numbers.len()).unwrap()]);
        numbers.iter().for_each(|number| octets.extend(number.to_be_bytes()));
    }
    octets
}

fn path(mut octets: &[u8]) -> Vec<(u8, Vec<u32>)> {
    let mut path = Vec::new();
    while let [kind, count, rest @ ..] = octets {
        let (numbers, rest) = rest.split_at(usize::from(*count) * 4);
        let numbers = numbers.chunks_exact(4).map(|n| u32::from_be_bytes(n.try_into().unwrap()));
        path.push((*kind, numbers.collect()));
        octets = rest;
    }
    path
}
