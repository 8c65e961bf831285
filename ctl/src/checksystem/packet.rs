//! A packet of which not everything is known, and whether a condition holds for it: yes, no, or nobody can tell; pure.

use nftables::expr::{Expression, MetaKey, NamedExpression, Payload, PayloadField, SetItem};
use nftables::stmt::{Match, Operator};
use tortie_policy::ir::WORKLOAD_PREFIX;

use super::sets::{self, Sets};

/// What can be said of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    fn of(holds: bool) -> Truth {
        if holds { Truth::Yes } else { Truth::No }
    }

    fn negated(self) -> Truth {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
        }
    }

    pub(crate) fn any(all: impl IntoIterator<Item = Truth>) -> Truth {
        all.into_iter().fold(Truth::No, |sum, truth| match (sum, truth) {
            (Truth::Yes, _) | (_, Truth::Yes) => Truth::Yes,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::No, Truth::No) => Truth::No,
        })
    }

    fn all(all: impl IntoIterator<Item = Truth>) -> Truth {
        Truth::any(all.into_iter().map(Truth::negated)).negated()
    }
}

/// An interface of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    /// There is none at this hook.
    None,
    /// Some workload's.
    Workload,
    /// The one with this name.
    Named(String),
    /// One of the machine's that is no workload's.
    Other,
}

impl Interface {
    /// Whether its name is this one, or begins with what stands before a `*`.
    fn is(&self, pattern: &str) -> Truth {
        let wildcard = pattern.strip_suffix('*');
        match self {
            Interface::None => Truth::No,
            Interface::Named(name) => {
                Truth::of(wildcard.map_or(name == pattern, |prefix| name.starts_with(prefix)))
            }
            Interface::Workload => match wildcard {
                Some(prefix) if WORKLOAD_PREFIX.starts_with(prefix) => Truth::Yes,
                // One workload's, or some workloads'.
                _ if pattern.starts_with(WORKLOAD_PREFIX) => Truth::Unknown,
                _ => Truth::No,
            },
            Interface::Other if pattern == "lo" || pattern.starts_with(WORKLOAD_PREFIX) => Truth::No,
            Interface::Other => Truth::Unknown,
        }
    }
}

/// The first packet of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) ipv6: bool,
    pub(crate) input: Interface,
    pub(crate) output: Interface,
    /// Protocol number.
    pub(crate) protocol: u8,
    /// Destination port; absent: any.
    pub(crate) port: Option<u16>,
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const IPIP: u8 = 4;

impl Packet {
    /// Whether a condition of a rule holds; `sets` are those of its table.
    pub(crate) fn meets(&self, condition: &Match<'_>, sets: &Sets) -> Truth {
        // nft asks for the header first, also where a field of it must not be something.
        if self.lacks(&condition.left) {
            return Truth::No;
        }
        let equal = self.is_among(&condition.left, &condition.right, sets);
        if matches!(condition.op, Operator::EQ | Operator::IN) {
            equal
        } else if condition.op == Operator::NEQ {
            equal.negated()
        } else {
            Truth::Unknown
        }
    }

    /// Whether a field has one of the values.
    fn is_among(&self, field: &Expression<'_>, values: &Expression<'_>, sets: &Sets) -> Truth {
        if let Some(name) = sets::name(values) {
            return sets.get(name).map_or(Truth::Unknown, |set| set.has(self, field));
        }
        if let Expression::List(values) = values {
            return Truth::any(values.iter().map(|value| self.has(field, value)));
        }
        if let Expression::Named(NamedExpression::Set(items)) = values {
            return Truth::any(items.iter().map(|item| match item {
                SetItem::Element(value) => self.has(field, value),
                SetItem::Mapping(..) | SetItem::MappingStatement(..) => Truth::Unknown,
            }));
        }
        self.has(field, values)
    }

    /// Whether a field has a value.
    pub(crate) fn has(&self, field: &Expression<'_>, value: &Expression<'_>) -> Truth {
        if self.lacks(field) {
            return Truth::No;
        }
        if let Expression::Named(NamedExpression::Elem(element)) = value {
            return self.has(field, &element.val);
        }
        if is_rest(value) {
            return Truth::Yes;
        }
        let Expression::Named(field) = field else { return Truth::Unknown };
        if let (NamedExpression::Concat(fields), Expression::Named(NamedExpression::Concat(values))) =
            (field, value)
        {
            let parts = fields.iter().zip(values).map(|(field, value)| self.has(field, value));
            return if fields.len() == values.len() { Truth::all(parts) } else { Truth::Unknown };
        }
        if let NamedExpression::Meta(meta) = field {
            self.has_meta(meta.key, value)
        } else if let NamedExpression::Payload(Payload::PayloadField(field)) = field {
            self.has_payload(field, value)
        } else if let NamedExpression::CT(field) = field {
            has_tracked(&field.key, value)
        } else {
            Truth::Unknown
        }
    }

    fn has_meta(&self, key: MetaKey, value: &Expression<'_>) -> Truth {
        let interface = |interface: &Interface| text(value).map_or(Truth::Unknown, |name| interface.is(name));
        let family = |names: [&str; 2]| {
            text(value).map_or(Truth::Unknown, |name| Truth::of(name == names[usize::from(self.ipv6)]))
        };
        if matches!(key, MetaKey::Iif | MetaKey::Iifname) {
            interface(&self.input)
        } else if matches!(key, MetaKey::Oif | MetaKey::Oifname) {
            interface(&self.output)
        } else if key == MetaKey::L4proto {
            self.has_protocol(value)
        } else if key == MetaKey::Nfproto {
            family(["ipv4", "ipv6"])
        } else if key == MetaKey::Protocol {
            family(["ip", "ip6"])
        } else {
            Truth::Unknown
        }
    }

    fn has_protocol(&self, value: &Expression<'_>) -> Truth {
        if text(value).is_some_and(|name| protocol(name).is_none()) {
            // One that matters here has a number.
            return Truth::No;
        }
        let number = |value: &Expression<'_>| match text(value) {
            Some(name) => protocol(name).map(u32::from),
            None => number(value),
        };
        is_within(value, u32::from(self.protocol), number)
    }

    /// Whether it has no such header.
    pub(crate) fn lacks(&self, field: &Expression<'_>) -> bool {
        if let Expression::Named(NamedExpression::Concat(fields)) = field {
            return fields.iter().any(|field| self.lacks(field));
        }
        let Expression::Named(NamedExpression::Payload(Payload::PayloadField(field))) = field else {
            return false;
        };
        match field.protocol.as_ref() {
            "ip" => self.ipv6,
            "ip6" => !self.ipv6,
            "tcp" | "udp" => protocol(&field.protocol) != Some(self.protocol),
            "th" => ![TCP, UDP].contains(&self.protocol),
            "icmp" | "icmpv6" | "igmp" | "esp" | "ah" | "comp" | "sctp" | "dccp" | "udplite" => true,
            _ => false,
        }
    }

    fn has_payload(&self, field: &PayloadField<'_>, value: &Expression<'_>) -> Truth {
        match (field.protocol.as_ref(), field.field.as_ref()) {
            ("ip", "protocol") | ("ip6", "nexthdr") => self.has_protocol(value),
            ("tcp" | "udp" | "th", "dport") => {
                self.port.map_or(Truth::Unknown, |port| is_within(value, u32::from(port), number))
            }
            ("ip" | "ip6", "saddr" | "daddr") if is_everywhere(value) => Truth::Yes,
            _ => Truth::Unknown,
        }
    }
}

/// Whether a number is the value, or within the range.
fn is_within(value: &Expression<'_>, one: u32, number: impl Fn(&Expression<'_>) -> Option<u32>) -> Truth {
    let [first, last] = if let Expression::Range(range) = value {
        range.range.each_ref().map(number)
    } else {
        [number(value); 2]
    };
    first.zip(last).map_or(Truth::Unknown, |(first, last)| Truth::of((first..=last).contains(&one)))
}

fn number(value: &Expression<'_>) -> Option<u32> {
    if let Expression::Number(number) = value { Some(*number) } else { None }
}

/// Whether it stands for every value that no other element has.
pub(crate) fn is_rest(value: &Expression<'_>) -> bool {
    text(value) == Some("*")
}

/// Whether all addresses are in it.
fn is_everywhere(value: &Expression<'_>) -> bool {
    matches!(value, Expression::Named(NamedExpression::Prefix(prefix)) if prefix.len == 0)
}

/// What connection tracking says of the first packet of a connection that nobody translated.
fn has_tracked(key: &str, value: &Expression<'_>) -> Truth {
    let Some(value) = text(value) else { return Truth::Unknown };
    match key {
        "state" => Truth::of(value == "new"),
        "status" => Truth::No,
        "direction" => Truth::of(value == "original"),
        _ => Truth::Unknown,
    }
}

fn text<'a>(value: &'a Expression<'_>) -> Option<&'a str> {
    if let Expression::String(text) = value { Some(text) } else { None }
}

/// Number of a protocol that matters here; absent for others.
fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(TCP),
        "udp" => Some(UDP),
        // As /etc/protocols of one distribution or another calls it.
        "ipencap" | "ipv4" | "ipip" => Some(IPIP),
        number => number.parse().ok(),
    }
}
