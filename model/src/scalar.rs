//! Shared scalar types of the v3 API: ports, protocols, AS numbers
//! (calico-datamodel 2, `api/pkg/lib/numorstring`).

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A port in a rule: one number, a range, or the name of a workload's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Inclusive range; a single port has both ends equal.
    Range(u16, u16),
    /// A named port, resolved per endpoint.
    Named(String),
}

/// Why a text is not a [`Port`], [`Protocol`] or [`AsNumber`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{value}': {rule}")]
pub struct ScalarError {
    /// What the text should have been.
    pub what: &'static str,
    /// The text.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

fn scalar_error(what: &'static str, value: &str, rule: &'static str) -> ScalarError {
    ScalarError { what, value: value.to_owned(), rule }
}

/// A number of digits alone: Rust's own parser takes a leading `+` too, Go's does not.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// Whole numbers up to here are exact as f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes an order as Go does: a whole number without a fraction (`5`, where serde writes `5.0`).
pub(crate) fn serialize_order<S: Serializer>(order: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match order {
        None => to.serialize_none(),
        // -0 has no whole number of its own.
        Some(order)
            if order.fract() == 0.0
                && order.abs() <= EXACT
                && (*order != 0.0 || order.is_sign_positive()) =>
        {
            to.serialize_i64(*order as i64)
        }
        Some(order) => to.serialize_f64(*order),
    }
}

impl FromStr for Port {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Port, ScalarError> {
        let bad = |rule| scalar_error("port", text, rule);
        let number = |t: &str| digits(t).ok_or_else(|| bad("must be a number from 0 to 65535"));
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let port = number(text)?;
            return Ok(Port::Range(port, port));
        }
        if let Some((low, high)) = text.split_once(':') {
            let (low, high) = (number(low)?, number(high)?);
            return if low <= high { Ok(Port::Range(low, high)) } else { Err(bad("range must be min:max")) };
        }
        let named = !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if named {
            Ok(Port::Named(text.to_owned()))
        } else {
            Err(bad("must be a number, min:max or a port name"))
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Range(low, high) if low == high => write!(f, "{low}"),
            Port::Range(low, high) => write!(f, "{low}:{high}"),
            Port::Named(name) => f.write_str(name),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Range(low, high) if low == high => serializer.serialize_u16(*low),
            Port::Range(..) | Port::Named(_) => serializer.collect_str(self),
        }
    }
}

/// An IP protocol: a well-known name or a number from 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Number 6, the name `TCP`.
    Tcp,
    /// Number 17, the name `UDP`.
    Udp,
    /// Number 1, the name `ICMP`; implies IPv4.
    Icmp,
    /// Number 58, the name `ICMPv6`; implies IPv6.
    IcmpV6,
    /// Number 132, the name `SCTP`.
    Sctp,
    /// Number 136, the name `UDPLite`.
    UdpLite,
    /// Given as a number.
    Number(u8),
}

const PROTOCOL_NAMES: [(Protocol, &str); 6] = [
    (Protocol::Tcp, "TCP"),
    (Protocol::Udp, "UDP"),
    (Protocol::Icmp, "ICMP"),
    (Protocol::IcmpV6, "ICMPv6"),
    (Protocol::Sctp, "SCTP"),
    (Protocol::UdpLite, "UDPLite"),
];

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => 1,
            Protocol::IcmpV6 => 58,
            Protocol::Sctp => 132,
            Protocol::UdpLite => 136,
            Protocol::Number(number) => number,
        }
    }

    /// The name, for those that have one.
    pub fn name(self) -> Option<&'static str> {
        PROTOCOL_NAMES.iter().find(|(protocol, _)| *protocol == self).map(|(_, name)| *name)
    }

    /// Whether rules with numeric ports may use it: TCP, UDP and SCTP, by name or number.
    pub fn has_ports(self) -> bool {
        matches!(self.number(), 6 | 17 | 132)
    }
}

impl FromStr for Protocol {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Protocol, ScalarError> {
        if let Some((protocol, _)) = PROTOCOL_NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(*protocol);
        }
        match digits::<u8>(text) {
            Some(number) if number > 0 => Ok(Protocol::Number(number)),
            _ => Err(scalar_error(
                "protocol",
                text,
                "must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255",
            )),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.number()),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.number()),
        }
    }
}

/// A 4-octet AS number; read as a number, `"64512"` or `"1.10"`, written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AsNumber(pub u32);

impl FromStr for AsNumber {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<AsNumber, ScalarError> {
        let bad = || {
            scalar_error("AS number", text, "must be a number from 0 to 4294967295 or x.y with 16 bits each")
        };
        match text.split_once('.') {
            Some((high, low)) => {
                let half = |t: &str| digits::<u16>(t).ok_or_else(bad);
                Ok(AsNumber(u32::from(half(high)?) << 16 | u32::from(half(low)?)))
            }
            None => digits(text).map(AsNumber).ok_or_else(bad),
        }
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a JSON number or text through [`FromStr`], which all three types share.
struct NumberOrText<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = ScalarError>> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 on, or text")
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<T, E> {
        v.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<T, E> {
        match u64::try_from(v) {
            Ok(v) => self.visit_u64(v),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(v), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
        v.parse().map_err(E::custom)
    }
}

macro_rules! deserialize_number_or_text {
    ($($t:ty),*) => {$(
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(NumberOrText(std::marker::PhantomData))
            }
        }
    )*};
}

deserialize_number_or_text!(Port, Protocol, AsNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_ranges_and_names() {
        let read = |t: &str| serde_json::from_str::<Port>(t);
        assert_eq!(read("80").unwrap(), Port::Range(80, 80));
        assert_eq!(read("\"80\"").unwrap(), Port::Range(80, 80));
        assert_eq!(read("\"1:5\"").unwrap(), Port::Range(1, 5));
        assert_eq!(read("\"http-alt\"").unwrap(), Port::Named("http-alt".into()));
        for bad in ["65536", "-1", "\"5:1\"", "\"1:65536\"", "\"a b\"", "\"\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&read("\"80\"").unwrap()).unwrap(), "80");
    }

    #[test]
    fn protocols_are_names_in_any_case_and_numbers() {
        let read = |t: &str| serde_json::from_str::<Protocol>(t);
        assert_eq!(read("\"tcp\"").unwrap(), Protocol::Tcp);
        assert_eq!(read("\"icmpv6\"").unwrap().to_string(), "ICMPv6");
        assert_eq!(read("\"47\"").unwrap(), Protocol::Number(47));
        assert_eq!(read("6").unwrap().number(), 6);
        assert!(read("0").is_err() && read("256").is_err() && read("\"foo\"").is_err());
    }

    #[test]
    fn as_numbers_may_be_dotted() {
        let read = |t: &str| serde_json::from_str::<AsNumber>(t).map(|a| a.0);
        assert_eq!(read("\"1.10\"").unwrap(), 65546);
        assert_eq!(read("4294967295").unwrap(), u32::MAX);
        assert!(read("4294967296").is_err() && read("\"1.65536\"").is_err() && read("-1").is_err());
    }
}
