//! Conditions and actions of a rule as expressions: each loads something into a register, works on it, or compares it and
//! ends the rule.
//!
//! What a condition presupposes (the family before an address, the protocol before a port) is checked once, before the
//! first that needs it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::attributes::Writer;
use super::kind;
use super::refusal::{limit, reject};
use crate::ir::{
    Action, AddressSet, FLOW_MARK, Family, IcmpField, Interface, MARK, Match, Op, PortSet, Rule, Side,
    Verdict, WORKLOAD_PREFIX,
};

/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_REG_1`, 16 bytes.
const FIRST: u32 = 1;
/// Registers of 4 bytes behind the first 4 bytes of [`FIRST`]; those at a multiple of 16 go by their old numbers.
const AFTER_4: [u32; 2] = [9, 10];
const AFTER_16: [u32; 2] = [2, 13];

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const META_MARK: u32 = 3;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const FIB_OIF: u32 = 1;
const FIB_ADDRESS_TYPE: u32 = 3;
/// Source, by the interface the packet came in on, present or not.
const FIB_REVERSE: u32 = 1 | 8 | 32;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
/// `RTN_LOCAL`.
const ROUTE_LOCAL: u32 = 2;
const FULLY_RANDOM: u32 = 0x10;
const LOOKUP_INVERTED: u32 = 1;
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const STATUS_TRANSLATED: u32 = 0x20;

/// How to compare, `NFT_CMP_*`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// The expressions of a rule, as items of a list.
pub(super) fn rule(w: &mut Writer, rule: &Rule) {
    let mut known = Known::default();
    let transport = rule.matches.iter().find_map(|condition| {
        let Match::Protocol(Op::Is, number @ (6 | 17 | 132)) = condition else { return None };
        Some(*number)
    });
    // With a condition on a port its protocol is checked there.
    let transport = transport.filter(|_| rule.matches.iter().any(|m| matches!(m, Match::Port(..))));
    for condition in &rule.matches {
        if transport.is_none() || !matches!(condition, Match::Protocol(Op::Is, _)) {
            self::condition(w, &mut known, transport, condition);
        }
    }
    if rule.counter {
        counter(w);
    }
    match &rule.action {
        Action::Verdict(verdict) => expression(w, "immediate", |w| {
            w.number(1, VERDICT);
            self::verdict(w, 2, verdict);
        }),
        Action::Reject => reject(w),
        Action::Log { prefix, group, limit } => {
            limit.iter().for_each(|limit| self::limit(w, limit));
            expression(w, "log", |w| {
                if let Some(group) = group {
                    w.bytes(1, &group.to_be_bytes());
                }
                w.text(2, prefix);
            });
        }
        Action::Mark(set) => mark(w, *set),
        Action::NoTrack => expression(w, "notrack", |_| {}),
        Action::Lookup(interface, map) => {
            load_meta(w, interface_name(*interface), FIRST);
            expression(w, "lookup", |w| {
                w.text(1, map);
                w.number(2, FIRST);
                w.number(3, VERDICT);
            });
        }
        Action::Masquerade => expression(w, "masq", |w| w.number(1, FULLY_RANDOM)),
    }
}

/// One expression.
pub(super) fn expression(w: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    w.nest(kind::ITEM, |w| body(w, name, data));
}

/// A counter, as an item of a list.
pub(super) fn counter(w: &mut Writer) {
    expression(w, "counter", |_| {});
}

/// Name and data of an expression.
pub(super) fn body(w: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    w.text(kind::EXPRESSION_NAME, name);
    w.nest(kind::EXPRESSION_DATA, data);
}

/// A verdict as a value.
pub(super) fn verdict(w: &mut Writer, attribute: u16, verdict: &Verdict) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    };
    w.nest(attribute, |w| {
        w.nest(kind::DATA_VERDICT, |w| {
            w.number(kind::VERDICT_CODE, code as u32);
            if let Some(chain) = verdict.target() {
                w.text(kind::VERDICT_CHAIN, chain);
            }
        });
    });
}

/// What the conditions so far have made sure of.
#[derive(Default)]
struct Known {
    family: Option<Family>,
    protocol: Option<u8>,
}

impl Known {
    fn family(&mut self, w: &mut Writer, family: Family) {
        if self.family != Some(family) {
            load_meta(w, META_FAMILY, FIRST);
            compare(w, EQUAL, &[family_number(family)]);
            self.family = Some(family);
        }
    }

    fn protocol(&mut self, w: &mut Writer, protocol: u8) {
        if self.protocol != Some(protocol) {
            load_meta(w, META_PROTOCOL, FIRST);
            compare(w, EQUAL, &[protocol]);
            self.protocol = Some(protocol);
        }
    }
}

fn condition(w: &mut Writer, known: &mut Known, transport: Option<u8>, condition: &Match) {
    match condition {
        Match::Family(family) => known.family(w, *family),
        Match::WorkloadInterface(interface) => {
            load_meta(w, interface_name(*interface), FIRST);
            compare(w, EQUAL, WORKLOAD_PREFIX.as_bytes());
        }
        Match::Established => tracked(w, CT_STATE, STATE_ESTABLISHED_RELATED),
        Match::Refused => {
            load_tracked(w, CT_MARK);
            mask(w, &FLOW_MARK.to_ne_bytes());
            compare(w, EQUAL, &FLOW_MARK.to_ne_bytes());
        }
        Match::Invalid => tracked(w, CT_STATE, STATE_INVALID),
        Match::Protocol(Op::Is, number) => known.protocol(w, *number),
        Match::Protocol(Op::IsNot, number) => {
            load_meta(w, META_PROTOCOL, FIRST);
            compare(w, NOT_EQUAL, &[*number]);
        }
        Match::Address(side, family, op, set) => {
            known.family(w, *family);
            address(w, *side, *family, *op, set);
        }
        Match::Port(side, op, ports) => {
            if let Some(transport) = transport {
                known.protocol(w, transport);
            }
            load(w, TRANSPORT_HEADER, port_offset(*side), 2, FIRST);
            match ports {
                PortSet::Range(low, high) => range(w, *op, &low.to_be_bytes(), &high.to_be_bytes()),
                PortSet::Named(name) => lookup(w, *op, name),
            }
        }
        Match::Service(side, family, op, set) => {
            known.family(w, *family);
            load_address(w, *side, *family, address_length(*family));
            load_service(w, *family, *side);
            lookup(w, *op, set);
        }
        Match::Row(side, family, length, set) => {
            known.family(w, *family);
            load_address(w, *side, *family, address_length(*family));
            if *length != family.bits() {
                mask(w, &octets_of_mask(*family, *length));
            }
            load_service(w, *family, Side::Destination);
            lookup(w, Op::Is, set);
        }
        Match::ProtocolPort(side, op, set) => {
            load_meta(w, META_PROTOCOL, FIRST);
            load(w, TRANSPORT_HEADER, port_offset(*side), 2, AFTER_4[0]);
            lookup(w, *op, set);
        }
        Match::Icmp(family, field, op, low, high) => {
            if known.protocol != Some(family.icmp()) {
                known.family(w, *family);
                known.protocol(w, family.icmp());
            }
            let offset = match field {
                IcmpField::Type => 0,
                IcmpField::Code => 1,
            };
            load(w, TRANSPORT_HEADER, offset, 1, FIRST);
            range(w, *op, &[*low], &[*high]);
        }
        Match::NoReverseRoute => {
            fib(w, FIB_OIF, FIB_REVERSE);
            compare(w, EQUAL, &0u32.to_ne_bytes());
        }
        Match::LocalSource => {
            fib(w, FIB_ADDRESS_TYPE, FIB_SOURCE);
            compare(w, EQUAL, &ROUTE_LOCAL.to_ne_bytes());
        }
        Match::Mark(op) => {
            load_meta(w, META_MARK, FIRST);
            mask(w, &MARK.to_ne_bytes());
            compare(w, comparison(*op), &MARK.to_ne_bytes());
        }
        Match::Translated => tracked(w, CT_STATUS, STATUS_TRANSLATED),
        Match::LocalDestination => {
            fib(w, FIB_ADDRESS_TYPE, FIB_DESTINATION);
            compare(w, EQUAL, &ROUTE_LOCAL.to_ne_bytes());
        }
    }
}

fn address(w: &mut Writer, side: Side, family: Family, op: Op, set: &AddressSet) {
    let whole = address_length(family);
    match set {
        AddressSet::Prefix(net) => {
            let octets = octets(net.network());
            // Whole bytes are compared as they are.
            if net.prefix() != 0 && net.prefix().is_multiple_of(8) {
                let bytes = usize::from(net.prefix() / 8);
                load_address(w, side, family, bytes);
                compare(w, comparison(op), &octets[..bytes]);
            } else {
                load_address(w, side, family, whole);
                mask(w, &octets_of_mask(family, net.prefix()));
                compare(w, comparison(op), &octets);
            }
        }
        AddressSet::Named(name) => {
            load_address(w, side, family, whole);
            lookup(w, op, name);
        }
        AddressSet::Masked(length, name) => {
            load_address(w, side, family, whole);
            mask(w, &octets_of_mask(family, *length));
            lookup(w, op, name);
        }
    }
}

/// Connection tracking says any of these bits.
fn tracked(w: &mut Writer, what: u32, bits: u32) {
    load_tracked(w, what);
    mask(w, &bits.to_ne_bytes());
    compare(w, NOT_EQUAL, &0u32.to_ne_bytes());
}

fn load_tracked(w: &mut Writer, what: u32) {
    expression(w, "ct", |w| {
        w.number(1, FIRST);
        w.number(2, what);
    });
}

fn load_meta(w: &mut Writer, what: u32, register: u32) {
    expression(w, "meta", |w| {
        w.number(1, register);
        w.number(2, what);
    });
}

fn load(w: &mut Writer, header: u32, offset: u32, length: u32, register: u32) {
    expression(w, "payload", |w| {
        w.number(1, register);
        w.number(2, header);
        w.number(3, offset);
        w.number(4, length);
    });
}

fn load_address(w: &mut Writer, side: Side, family: Family, length: usize) {
    let offset = match (family, side) {
        (Family::V4, Side::Source) => 12,
        (Family::V4, Side::Destination) => 16,
        (Family::V6, Side::Source) => 8,
        (Family::V6, Side::Destination) => 24,
    };
    load(w, NETWORK_HEADER, offset, length as u32, FIRST);
}

/// The protocol and the port of one end, behind an address.
fn load_service(w: &mut Writer, family: Family, side: Side) {
    let after = match family {
        Family::V4 => AFTER_4,
        Family::V6 => AFTER_16,
    };
    load_meta(w, META_PROTOCOL, after[0]);
    load(w, TRANSPORT_HEADER, port_offset(side), 2, after[1]);
}

fn compare(w: &mut Writer, how: u32, value: &[u8]) {
    expression(w, "cmp", |w| {
        w.number(1, FIRST);
        w.number(2, how);
        w.value(3, value);
    });
}

fn range(w: &mut Writer, op: Op, low: &[u8], high: &[u8]) {
    if low == high {
        return compare(w, comparison(op), low);
    }
    match op {
        Op::Is => {
            compare(w, AT_LEAST, low);
            compare(w, AT_MOST, high);
        }
        Op::IsNot => expression(w, "range", |w| {
            w.number(1, FIRST);
            w.number(2, NOT_EQUAL);
            w.value(3, low);
            w.value(4, high);
        }),
    }
}

/// Keeps these bits of the first register.
fn mask(w: &mut Writer, mask: &[u8]) {
    bits(w, mask, &vec![0; mask.len()]);
}

/// Keeps bits of the first register and turns others over.
fn bits(w: &mut Writer, keep: &[u8], turn: &[u8]) {
    expression(w, "bitwise", |w| {
        w.number(1, FIRST);
        w.number(2, FIRST);
        w.number(3, keep.len() as u32);
        w.value(4, keep);
        w.value(5, turn);
    });
}

/// Sets or clears our bit of the packet's mark.
fn mark(w: &mut Writer, set: bool) {
    load_meta(w, META_MARK, FIRST);
    bits(w, &(!MARK).to_ne_bytes(), &if set { MARK } else { 0 }.to_ne_bytes());
    expression(w, "meta", |w| {
        w.number(2, META_MARK);
        w.number(3, FIRST);
    });
}

fn lookup(w: &mut Writer, op: Op, set: &str) {
    expression(w, "lookup", |w| {
        w.text(1, set);
        w.number(2, FIRST);
        if op == Op::IsNot {
            w.number(5, LOOKUP_INVERTED);
        }
    });
}

fn fib(w: &mut Writer, result: u32, flags: u32) {
    expression(w, "fib", |w| {
        w.number(1, FIRST);
        w.number(2, result);
        w.number(3, flags);
    });
}

fn comparison(op: Op) -> u32 {
    match op {
        Op::Is => EQUAL,
        Op::IsNot => NOT_EQUAL,
    }
}

fn interface_name(interface: Interface) -> u32 {
    match interface {
        Interface::Input => META_INPUT_NAME,
        Interface::Output => META_OUTPUT_NAME,
    }
}

fn port_offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

/// `NFPROTO_*`.
fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Bytes of an address.
pub(super) fn address_length(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// An address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn octets_of_mask(family: Family, length: u8) -> Vec<u8> {
    let any = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    octets(IpNetwork::new(any, length).map_or(any, |net| net.mask()))
}
