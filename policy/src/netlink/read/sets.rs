//! Sets and maps read back.

use imbl::OrdSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::attributes::{find, number, text};
use super::super::{INTERFACE_NAME_LENGTH, INTERVAL_END, data_type, kind, objects, set_flags, userdata};
use super::{comment, each, strange};
use crate::change::Rows;
use crate::ir::{
    Comment, Element, Elements, Family, InterfaceName, Ruleset, Set, SetKey, SetKind, Verdict, VerdictMap,
};

/// A set or map as dumped.
#[derive(Debug)]
pub(super) struct HeldSet {
    /// Like none of ours.
    strange: bool,
    /// Of a set; a map has none.
    kind: Option<SetKind>,
    comment: Comment,
    counter: bool,
    size: Option<u32>,
    keys: Vec<Key>,
    rows: Rows,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    bytes: Vec<u8>,
    /// It begins a range, or is a member itself; an end at the same value comes before.
    start: bool,
}

impl HeldSet {
    /// Its name and what it is. Sets without a name of their own are part of a rule.
    pub(super) fn read(attributes: &[u8]) -> Option<(String, HeldSet)> {
        let name = find(attributes, kind::SET_NAME).and_then(text)?;
        let get = |attribute| find(attributes, attribute).and_then(number).unwrap_or(0);
        let flags = get(kind::SET_FLAGS);
        if flags & set_flags::ANONYMOUS != 0 {
            return None;
        }
        let is_map = flags & set_flags::MAP != 0;
        let key = (get(kind::SET_KEY_TYPE), get(kind::SET_KEY_LENGTH) as usize);
        let expression = find(attributes, kind::SET_EXPRESSION);
        let counter =
            expression.and_then(|e| find(e, kind::EXPRESSION_NAME)).and_then(text) == Some("counter");
        let set_kind = kind_of(key, flags & set_flags::INTERVAL != 0).filter(|_| !is_map);
        let map = is_map
            && key == (data_type::INTERFACE_NAME, INTERFACE_NAME_LENGTH)
            && get(kind::SET_DATA_TYPE) == data_type::VERDICT;
        let odd_flags = flags & !(set_flags::INTERVAL | set_flags::MAP) != 0
            || is_map && flags & set_flags::INTERVAL != 0;
        let odd = odd_flags
            || !(map || set_kind.is_some())
            || expression.is_some() && !counter
            || find(attributes, kind::SET_EXPRESSIONS).is_some()
            || find(attributes, kind::SET_TIMEOUT).is_some();
        let data = find(attributes, kind::SET_USERDATA).unwrap_or_default();
        let held = HeldSet {
            strange: odd,
            kind: if is_map { None } else { set_kind.or(Some(ANY_KIND)) },
            comment: comment(data, userdata::SET_COMMENT),
            counter,
            size: find(attributes, kind::SET_DESCRIPTION)
                .and_then(|about| find(about, kind::DESCRIPTION_SIZE))
                .and_then(number),
            keys: Vec::new(),
            rows: Rows::new(),
        };
        Some((name.to_owned(), held))
    }

    /// Elements of one message.
    pub(super) fn add(&mut self, list: &[u8]) {
        for (_, element) in each(list) {
            if self.strange {
                return;
            }
            self.strange = self.add_one(element).is_none();
        }
    }

    /// `None` when it is like none of ours.
    fn add_one(&mut self, element: &[u8]) -> Option<()> {
        let fits = |part| {
            matches!(part, kind::ELEMENT_KEY | kind::ELEMENT_FLAGS | kind::ELEMENT_USERDATA)
                || part == kind::ELEMENT_DATA && self.kind.is_none()
                || part == kind::ELEMENT_EXPRESSION && self.counter
        };
        if !each(element).all(|(part, _)| fits(part)) {
            return None;
        }
        let key = find(find(element, kind::ELEMENT_KEY)?, kind::DATA_VALUE)?;
        let length = self.kind.map_or(INTERFACE_NAME_LENGTH, |kind| objects::key(kind.key).1);
        if key.len() != length {
            return None;
        }
        let flags = find(element, kind::ELEMENT_FLAGS).and_then(number).unwrap_or(0);
        match self.kind {
            None => {
                let interface = InterfaceName::new(text(key)?)?;
                self.rows.insert(interface, verdict(find(element, kind::ELEMENT_DATA)?)?);
            }
            Some(_) if flags & !INTERVAL_END == 0 => {
                self.keys.push(Key { bytes: key.to_vec(), start: flags == 0 });
            }
            Some(_) => return None,
        }
        Some(())
    }

    /// Puts it where it belongs.
    pub(super) fn put(self, name: String, into: &mut Ruleset) {
        let Some(kind) = self.kind else {
            let comment = if self.strange { strange() } else { self.comment };
            into.maps.insert(name, VerdictMap { comment, elements: self.rows });
            return;
        };
        let elements = if self.strange { None } else { elements(kind, self.keys) };
        // Of members that need no ranges, or of none, we would have made a set without: adding to this one would go wrong.
        let elements = elements.filter(|elements| elements.kind() == kind);
        let comment = if elements.is_some() { self.comment } else { strange() };
        let elements = elements.unwrap_or_else(|| kind.none());
        into.sets.insert(name, Set { comment, elements, counter: self.counter, size: self.size });
    }
}

/// What a set of a type of others' is taken for until it is made anew.
const ANY_KIND: SetKind = SetKind { key: SetKey::ProtocolPort, interval: false };

fn kind_of(held: (u32, usize), interval: bool) -> Option<SetKind> {
    let mut keys = vec![SetKey::Port, SetKey::ProtocolPort];
    keys.extend(Family::ALL.map(SetKey::Address));
    keys.extend(Family::ALL.map(SetKey::Service));
    let key = keys.into_iter().find(|key| objects::key(*key) == held)?;
    let may = matches!(key, SetKey::Address(_) | SetKey::Port);
    (!interval || may).then_some(SetKind { key, interval })
}

pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = find(data, kind::DATA_VERDICT)?;
    let chain = || find(verdict, kind::VERDICT_CHAIN).and_then(text).map(str::to_owned);
    Some(match number(find(verdict, kind::VERDICT_CODE)?)? as i32 {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return None,
    })
}

/// Members, `None` when some are like none of ours.
fn elements(kind: SetKind, keys: Vec<Key>) -> Option<Elements> {
    if kind.interval {
        let ranges = ranges(keys)?;
        return match kind.key {
            SetKey::Address(family) => {
                let nets: Option<OrdSet<_>> = ranges.into_iter().map(|range| prefix(family, range)).collect();
                Some(Elements::Prefixes(family, nets?))
            }
            SetKey::Port => {
                let port = |number: u128| u16::try_from(number).ok();
                let ports: Option<OrdSet<_>> =
                    ranges.into_iter().map(|(low, high)| Some((port(low)?, port(high)?))).collect();
                Some(Elements::Ports(ports?))
            }
            SetKey::Service(_) | SetKey::ProtocolPort => None,
        };
    }
    let keys = keys.into_iter().map(|key| key.start.then_some(key.bytes));
    fn all<T: Ord + Clone>(
        keys: impl Iterator<Item = Option<Vec<u8>>>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<OrdSet<T>> {
        keys.map(|key| read(&key?)).collect()
    }
    Some(match kind.key {
        SetKey::Address(family) => Elements::Addresses(family, all(keys, |key| address(family, key))?),
        SetKey::Port => Elements::Ports(all(keys, |key| port(key).map(|port| (port, port)))?),
        SetKey::ProtocolPort => Elements::ProtocolPorts(all(keys, protocol_port)?),
        SetKey::Service(family) => {
            let service = |key: &[u8]| {
                let (head, tail) = key.split_at_checked(key.len().checked_sub(8)?)?;
                let (protocol, port) = protocol_port(tail)?;
                Some((address(family, head)?, protocol, port))
            };
            Elements::Services(family, all(keys, service)?)
        }
    })
}

/// A member of a merged set.
pub(super) fn element(kind: SetKind, key: &[u8]) -> Option<Element> {
    Some(match kind.key {
        SetKey::Address(family) => Element { address: Some(address(family, key)?), service: None },
        SetKey::Port => Element { address: None, service: Some((0, port(key)?)) },
        SetKey::ProtocolPort => Element { address: None, service: Some(protocol_port(key)?) },
        SetKey::Service(family) => {
            let (head, tail) = key.split_at_checked(key.len().checked_sub(8)?)?;
            Element { address: Some(address(family, head)?), service: Some(protocol_port(tail)?) }
        }
    })
}

fn address(family: Family, key: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => Some(IpAddr::from(<[u8; 4]>::try_from(key).ok()?)),
        Family::V6 => Some(IpAddr::from(<[u8; 16]>::try_from(key).ok()?)),
    }
}

fn port(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*key.first_chunk()?))
}

fn protocol_port(key: &[u8]) -> Option<(u8, u16)> {
    Some((*key.first()?, port(key.get(4..)?)?))
}

/// Inclusive ranges of numbers. An end that ends nothing is nft's way to say that nothing comes before the first.
fn ranges(mut keys: Vec<Key>) -> Option<Vec<(u128, u128)>> {
    keys.sort_unstable();
    let bits = 8 * keys.first().map_or(0, |key| key.bytes.len()) as u32;
    let last = u128::MAX.checked_shr(128 - bits.max(1))?;
    let (mut found, mut open) = (Vec::new(), None);
    for key in keys {
        let at = key.bytes.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        if let Some(start) = open.take() {
            found.push((start, at.checked_sub(1)?));
        }
        open = key.start.then_some(at);
    }
    found.extend(open.map(|start| (start, last)));
    Some(found)
}

/// The prefix that is this range, if one is.
fn prefix(family: Family, (low, high): (u128, u128)) -> Option<IpNetwork> {
    let (bits, first) = match family {
        Family::V4 => (32, IpAddr::V4(Ipv4Addr::from(u32::try_from(low).ok()?))),
        Family::V6 => (128, IpAddr::V6(Ipv6Addr::from(low))),
    };
    let differ = 128 - (low ^ high).leading_zeros();
    let net = IpNetwork::new(first, u8::try_from(bits - differ.min(bits)).ok()?).ok()?;
    let bounds = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    (bounds(net.network()) == low && bounds(net.broadcast()) == high).then_some(net)
}
