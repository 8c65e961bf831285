//! Sets and maps as nft text. An element a line, so that a change of members is a change of lines.

use std::fmt::{self, Write};

use super::expr::{range, verdict};
use crate::ir::{Comment, Elements, Family, Set, VerdictMap};

/// A map from interface to verdict.
pub(super) fn map(out: &mut String, name: &str, map: &VerdictMap) -> fmt::Result {
    writeln!(out, "\tmap {name} {{\n\t\ttype ifname : verdict")?;
    let elements = map.elements.iter().map(|(interface, v)| format!("\"{interface}\" : {}", verdict(v)));
    body(out, &map.comment, elements.collect())
}

/// A set.
pub(super) fn set(out: &mut String, name: &str, set: &Set) -> fmt::Result {
    let address = |family: &Family| match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let (kind, interval, elements): (String, bool, Vec<String>) = match &set.elements {
        Elements::Addresses(family, members) => {
            (address(family).to_owned(), false, members.iter().map(ToString::to_string).collect())
        }
        Elements::Prefixes(family, members) => {
            (address(family).to_owned(), true, members.iter().map(ToString::to_string).collect())
        }
        Elements::Ports(members) => (
            "inet_service".to_owned(),
            members.iter().any(|(low, high)| low != high),
            members.iter().map(|(low, high)| range(*low, *high)).collect(),
        ),
        Elements::Services(family, members) => (
            format!("{} . inet_proto . inet_service", address(family)),
            false,
            members
                .iter()
                .map(|(address, protocol, port)| format!("{address} . {protocol} . {port}"))
                .collect(),
        ),
        Elements::ProtocolPorts(members) => (
            "inet_proto . inet_service".to_owned(),
            false,
            members.iter().map(|(protocol, port)| format!("{protocol} . {port}")).collect(),
        ),
    };
    writeln!(out, "\tset {name} {{\n\t\ttype {kind}")?;
    if let Some(size) = set.size {
        writeln!(out, "\t\tsize {size}")?;
    }
    if interval {
        writeln!(out, "\t\tflags interval")?;
    }
    if set.counter {
        writeln!(out, "\t\tcounter")?;
    }
    body(out, &set.comment, elements)
}

fn body(out: &mut String, comment: &Comment, elements: Vec<String>) -> fmt::Result {
    if !comment.is_empty() {
        writeln!(out, "\t\tcomment \"{comment}\"")?;
    }
    if !elements.is_empty() {
        writeln!(out, "\t\telements = {{\n\t\t\t{}\n\t\t}}", elements.join(",\n\t\t\t"))?;
    }
    writeln!(out, "\t}}")
}
