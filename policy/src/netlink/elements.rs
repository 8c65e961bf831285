//! Members of sets and rows of maps.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::attributes::{Writer, push_entry};
use super::expr::{octets, verdict};
use super::{INTERFACE_NAME_LENGTH, INTERVAL_END, kind, userdata};
use crate::change::Rows;
use crate::ir::{Elements, InterfaceName, SetKind};

/// Where a list is cut: an attribute holds 65 535 bytes with those around it.
const CUT: usize = 65_000;
/// The longest element has fewer bytes.
const ELEMENT: usize = 300;

/// Writes elements into lists, a message each.
pub(super) struct Lists<'a> {
    pub(super) table: &'a str,
    pub(super) set: &'a str,
}

impl Lists<'_> {
    /// Calls `message` for each list, to write one message with the body it is given.
    fn cut<T>(
        &self,
        elements: impl IntoIterator<Item = T>,
        element: impl Fn(&mut Writer, T),
        mut message: impl FnMut(&dyn Fn(&mut Writer)),
    ) {
        let mut rest = elements.into_iter().peekable();
        while rest.peek().is_some() {
            let mut list = Writer { bytes: Vec::with_capacity(CUT + ELEMENT) };
            while list.bytes.len() < CUT
                && let Some(next) = rest.next()
            {
                list.nest(kind::ITEM, |w| element(w, next));
            }
            message(&|w| {
                w.text(kind::TABLE, self.table);
                w.text(kind::ELEMENTS_SET, self.set);
                w.nest(kind::ELEMENTS, |w| w.bytes.extend_from_slice(&list.bytes));
            });
        }
    }

    /// Rows of a map; without their verdicts when they go.
    pub(super) fn rows(&self, rows: &Rows, go: bool, message: impl FnMut(&dyn Fn(&mut Writer))) {
        let element = |w: &mut Writer, (interface, row): (&InterfaceName, _)| {
            w.value(kind::ELEMENT_KEY, &interface_key(interface));
            if !go {
                verdict(w, kind::ELEMENT_DATA, row);
            }
        };
        self.cut(rows, element, message);
    }

    /// Members of a set.
    pub(super) fn members(
        &self,
        set_kind: SetKind,
        elements: &Elements,
        message: impl FnMut(&dyn Fn(&mut Writer)),
    ) {
        let single = |w: &mut Writer, key: Vec<u8>| w.value(kind::ELEMENT_KEY, &key);
        match elements {
            Elements::Addresses(_, members) => {
                self.cut(members.iter().map(|address| octets(*address)), single, message);
            }
            Elements::Prefixes(_, members) => {
                self.cut(members.iter().flat_map(|net| prefix_bounds(*net)), bound, message);
            }
            Elements::Ports(members) if set_kind.interval => {
                self.cut(members.iter().flat_map(|ports| port_bounds(*ports)), bound, message);
            }
            Elements::Ports(members) => {
                let keys = members.iter().map(|(port, _)| port.to_be_bytes().to_vec());
                self.cut(keys, single, message);
            }
            Elements::Services(_, members) => {
                let element = |w: &mut Writer, (address, protocol, port): &(IpAddr, u8, u16)| {
                    let service = protocol_port_key(*protocol, *port);
                    match address {
                        IpAddr::V4(address) => w.fields(kind::ELEMENT_KEY, [&address.octets(), &service]),
                        IpAddr::V6(address) => w.fields(kind::ELEMENT_KEY, [&address.octets(), &service]),
                    }
                };
                self.cut(members, element, message);
            }
            Elements::ProtocolPorts(members) => {
                let element = |w: &mut Writer, (protocol, port): &(u8, u16)| {
                    w.value(kind::ELEMENT_KEY, &protocol_port_key(*protocol, *port));
                };
                self.cut(members, element, message);
            }
        }
    }
}

/// The key of a row.
pub(super) fn interface_key(interface: &InterfaceName) -> [u8; INTERFACE_NAME_LENGTH] {
    let mut key = [0; INTERFACE_NAME_LENGTH];
    let name = interface.as_str().as_bytes();
    key[..name.len()].copy_from_slice(name);
    key
}

/// Fields of a key are padded to four bytes.
fn protocol_port_key(protocol: u8, port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

/// Where a range begins, or the first value behind it.
enum Bound {
    Start(Vec<u8>),
    /// The range goes on to the last value there is.
    OpenStart(Vec<u8>),
    End(Vec<u8>),
}

fn bound(w: &mut Writer, bound: Bound) {
    match bound {
        Bound::Start(key) => w.value(kind::ELEMENT_KEY, &key),
        Bound::OpenStart(key) => {
            w.value(kind::ELEMENT_KEY, &key);
            // So that nft lists it as a range.
            let mut open = Vec::new();
            push_entry(&mut open, userdata::ELEMENT_FLAGS, &1u32.to_ne_bytes());
            w.bytes(kind::ELEMENT_USERDATA, &open);
        }
        Bound::End(key) => {
            w.number(kind::ELEMENT_FLAGS, INTERVAL_END);
            w.value(kind::ELEMENT_KEY, &key);
        }
    }
}

fn bounds(start: Vec<u8>, end: Option<Vec<u8>>) -> impl Iterator<Item = Bound> {
    let (start, end) = match end {
        Some(end) => (Bound::Start(start), Some(Bound::End(end))),
        None => (Bound::OpenStart(start), None),
    };
    std::iter::once(start).chain(end)
}

fn port_bounds((low, high): (u16, u16)) -> impl Iterator<Item = Bound> {
    let end = high.checked_add(1).map(|end| end.to_be_bytes().to_vec());
    bounds(low.to_be_bytes().to_vec(), end)
}

fn prefix_bounds(net: IpNetwork) -> impl Iterator<Item = Bound> {
    let end = match net.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|end| end.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|end| end.to_be_bytes().to_vec()),
    };
    bounds(octets(net.network()), end)
}
