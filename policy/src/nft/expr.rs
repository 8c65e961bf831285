//! Matches, verdicts and statements as nft text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::ir::{
    Action, AddressSet, FLOW_MARK, Family, IcmpField, Interface, Limit, MARK, Match, Op, Period, PortSet,
    Side, Verdict, WORKLOAD_PREFIX,
};

/// The conditions of a rule. One on a port names its protocol, so the protocol is not said twice.
pub(super) fn matches(matches: &[Match]) -> Vec<String> {
    let transport = matches.iter().find_map(|m| {
        let Match::Protocol(Op::Is, number) = m else { return None };
        match number {
            6 => Some("tcp"),
            17 => Some("udp"),
            132 => Some("sctp"),
            _ => None,
        }
    });
    let has_port = matches.iter().any(|m| matches!(m, Match::Port(..)));
    let said_by_port =
        |m: &&Match| has_port && transport.is_some() && matches!(m, Match::Protocol(Op::Is, _));
    matches.iter().filter(|m| !said_by_port(m)).map(|m| condition(m, transport.unwrap_or("th"))).collect()
}

fn condition(condition: &Match, transport: &str) -> String {
    match condition {
        Match::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
        Match::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
        Match::WorkloadInterface(interface) => format!("{} \"{WORKLOAD_PREFIX}*\"", ifname(*interface)),
        Match::Established => "ct state established,related".to_owned(),
        Match::Refused => format!("ct mark & {FLOW_MARK:#010x} == {FLOW_MARK:#010x}"),
        Match::Invalid => "ct state invalid".to_owned(),
        Match::Protocol(op, number) => format!("meta l4proto {}{number}", sign(*op)),
        Match::Address(side, family, op, set) => {
            let address = address(*side, *family);
            match set {
                AddressSet::Prefix(net) => format!("{address} {}{net}", sign(*op)),
                AddressSet::Named(name) => format!("{address} {}@{name}", sign(*op)),
                AddressSet::Masked(length, name) => {
                    format!("{address} & {} {}@{name}", mask(*family, *length), sign(*op))
                }
            }
        }
        Match::Port(side, op, ports) => {
            let ports = match ports {
                PortSet::Range(low, high) => range(*low, *high),
                PortSet::Named(name) => format!("@{name}"),
            };
            format!("{transport} {} {}{ports}", port(*side), sign(*op))
        }
        Match::Service(side, family, op, set) => {
            let (address, port) = (address(*side, *family), port(*side));
            format!("{address} . meta l4proto . th {port} {}@{set}", sign(*op))
        }
        Match::Row(side, family, length, set) => {
            let masked = match *length == family.bits() {
                true => String::new(),
                false => format!(" & {}", mask(*family, *length)),
            };
            format!("{}{masked} . meta l4proto . th dport @{set}", address(*side, *family))
        }
        Match::ProtocolPort(side, op, set) => {
            format!("meta l4proto . th {} {}@{set}", port(*side), sign(*op))
        }
        Match::Icmp(family, field, op, low, high) => {
            let header = match family {
                Family::V4 => "icmp",
                Family::V6 => "icmpv6",
            };
            let field = match field {
                IcmpField::Type => "type",
                IcmpField::Code => "code",
            };
            format!("{header} {field} {}{}", sign(*op), range(*low, *high))
        }
        Match::NoReverseRoute => "fib saddr . iif oif missing".to_owned(),
        Match::LocalDestination => "fib daddr type local".to_owned(),
        Match::LocalSource => "fib saddr type local".to_owned(),
        Match::Mark(op) => {
            let sign = match op {
                Op::Is => "==",
                Op::IsNot => "!=",
            };
            format!("meta mark & {MARK:#010x} {sign} {MARK:#010x}")
        }
        Match::Translated => "ct status dnat".to_owned(),
    }
}

/// What a rule does, as a statement.
pub(super) fn action(action: &Action) -> String {
    match action {
        Action::Verdict(verdict) => self::verdict(verdict),
        // Said in full: what nft makes of a mere `reject` depends on the conditions before it.
        Action::Reject => "reject with icmpx port-unreachable".to_owned(),
        Action::Log { prefix, group, limit } => {
            let limit = limit.map(|limit| self::limit(limit) + " ").unwrap_or_default();
            let group = group.map(|group| format!(" group {group}")).unwrap_or_default();
            format!("{limit}log prefix \"{prefix}\"{group}")
        }
        Action::Mark(true) => format!("meta mark set meta mark | {MARK:#010x}"),
        Action::Mark(false) => format!("meta mark set meta mark & {:#010x}", !MARK),
        Action::NoTrack => "notrack".to_owned(),
        Action::Lookup(interface, map) => format!("{} vmap @{map}", ifname(*interface)),
        Action::Masquerade => "masquerade fully-random".to_owned(),
    }
}

fn limit(Limit { packets, period, burst }: Limit) -> String {
    let period = match period {
        Period::Second => "second",
        Period::Minute => "minute",
        Period::Hour => "hour",
        Period::Day => "day",
    };
    format!("limit rate {packets}/{period} burst {burst} packets")
}

/// A verdict.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn sign(op: Op) -> &'static str {
    match op {
        Op::Is => "",
        Op::IsNot => "!= ",
    }
}

fn ifname(interface: Interface) -> &'static str {
    match interface {
        Interface::Input => "iifname",
        Interface::Output => "oifname",
    }
}

fn address(side: Side, family: Family) -> &'static str {
    match (family, side) {
        (Family::V4, Side::Source) => "ip saddr",
        (Family::V4, Side::Destination) => "ip daddr",
        (Family::V6, Side::Source) => "ip6 saddr",
        (Family::V6, Side::Destination) => "ip6 daddr",
    }
}

/// The netmask of a prefix length.
fn mask(family: Family, length: u8) -> IpAddr {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNetwork::new(any, length).map_or(any, |net| net.mask())
}

fn port(side: Side) -> &'static str {
    match side {
        Side::Source => "sport",
        Side::Destination => "dport",
    }
}

/// One value or an inclusive range of them.
pub(super) fn range<T: PartialEq + std::fmt::Display>(low: T, high: T) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}
