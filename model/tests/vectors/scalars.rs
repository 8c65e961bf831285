//! Ports, protocols and AS numbers, as JSON and as text (calico-datamodel 2).

use std::fmt::{Debug, Display};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tortie_model::scalar::{AsNumber, Port, Protocol, ScalarError};

/// JSON, the value, the JSON and the text it is written as.
type Good<T> = (&'static str, T, &'static str, &'static str);

fn check<T>(good: &[Good<T>], bad: &[&str])
where
    T: DeserializeOwned + Serialize + FromStr<Err = ScalarError> + Display + Debug + PartialEq,
{
    for (json, value, written, text) in good {
        let read: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!(read, *value, "{json}");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), *written, "{json}");
        assert_eq!(read.to_string(), *text, "{json}");
        assert_eq!(text.parse::<T>().as_ref(), Ok(value), "the text of {json}");
        assert_eq!(&serde_json::from_str::<T>(written).expect("what was written"), value);
    }
    for json in bad {
        assert!(serde_json::from_str::<T>(json).is_err(), "{json}");
        if let Ok(text) = serde_json::from_str::<String>(json) {
            assert!(text.parse::<T>().is_err(), "{json}");
        }
    }
}

fn named(name: &str) -> Port {
    Port::Named(name.to_owned())
}

#[test]
fn ports() {
    let longest = format!("\"{}\"", "a".repeat(128));
    let too_long = format!("\"{}\"", "a".repeat(129));
    check(
        &[
            ("0", Port::Range(0, 0), "0", "0"),
            ("1", Port::Range(1, 1), "1", "1"),
            ("80", Port::Range(80, 80), "80", "80"),
            ("65535", Port::Range(65535, 65535), "65535", "65535"),
            ("\"0\"", Port::Range(0, 0), "0", "0"),
            ("\"80\"", Port::Range(80, 80), "80", "80"),
            ("\"080\"", Port::Range(80, 80), "80", "80"),
            ("\"65535\"", Port::Range(65535, 65535), "65535", "65535"),
            ("\"1:2\"", Port::Range(1, 2), "\"1:2\"", "1:2"),
            ("\"0:65535\"", Port::Range(0, 65535), "\"0:65535\"", "0:65535"),
            ("\"80:80\"", Port::Range(80, 80), "80", "80"),
            ("\"01:010\"", Port::Range(1, 10), "\"1:10\"", "1:10"),
            ("\"http\"", named("http"), "\"http\"", "http"),
            ("\"HTTP\"", named("HTTP"), "\"HTTP\"", "HTTP"),
            ("\"http-alt\"", named("http-alt"), "\"http-alt\"", "http-alt"),
            ("\"a_b.c\"", named("a_b.c"), "\"a_b.c\"", "a_b.c"),
            ("\"1a\"", named("1a"), "\"1a\"", "1a"),
            ("\"-1\"", named("-1"), "\"-1\"", "-1"),
            ("\"1.5\"", named("1.5"), "\"1.5\"", "1.5"),
            ("\"0x50\"", named("0x50"), "\"0x50\"", "0x50"),
            ("\"1-2\"", named("1-2"), "\"1-2\"", "1-2"),
        ],
        &[
            "-1",
            "65536",
            "1.5",
            "80.0",
            "8e1",
            "1e1",
            "18446744073709551616",
            "true",
            "[80]",
            "{}",
            "\"\"",
            "\" \"",
            "\"65536\"",
            "\"99999999999999999999\"",
            "\"1:\"",
            "\":1\"",
            "\":\"",
            "\"2:1\"",
            "\"1:65536\"",
            "\"65536:65537\"",
            "\"1:2:3\"",
            "\"a:b\"",
            "\"1:b\"",
            "\"+1:2\"",
            "\"1:+2\"",
            "\"-1:2\"",
            "\"+80\"",
            "\" 80\"",
            "\"80 \"",
            "\"1 :2\"",
            "\"a b\"",
            "\"a/b\"",
            "\"ä\"",
            "\"a\\n\"",
            "\"80,81\"",
            "\"*\"",
            &too_long,
        ],
    );
    assert!(serde_json::from_str::<Port>(&longest).is_ok());
}

#[test]
fn protocols() {
    use Protocol::{Icmp, IcmpV6, Number, Sctp, Tcp, Udp, UdpLite};
    check(
        &[
            ("\"TCP\"", Tcp, "\"TCP\"", "TCP"),
            ("\"tcp\"", Tcp, "\"TCP\"", "TCP"),
            ("\"tCp\"", Tcp, "\"TCP\"", "TCP"),
            ("\"UDP\"", Udp, "\"UDP\"", "UDP"),
            ("\"udp\"", Udp, "\"UDP\"", "UDP"),
            ("\"ICMP\"", Icmp, "\"ICMP\"", "ICMP"),
            ("\"icmp\"", Icmp, "\"ICMP\"", "ICMP"),
            ("\"ICMPv6\"", IcmpV6, "\"ICMPv6\"", "ICMPv6"),
            ("\"icmpv6\"", IcmpV6, "\"ICMPv6\"", "ICMPv6"),
            ("\"ICMPV6\"", IcmpV6, "\"ICMPv6\"", "ICMPv6"),
            ("\"SCTP\"", Sctp, "\"SCTP\"", "SCTP"),
            ("\"sctp\"", Sctp, "\"SCTP\"", "SCTP"),
            ("\"UDPLite\"", UdpLite, "\"UDPLite\"", "UDPLite"),
            ("\"udplite\"", UdpLite, "\"UDPLite\"", "UDPLite"),
            ("1", Number(1), "1", "1"),
            ("6", Number(6), "6", "6"),
            ("47", Number(47), "47", "47"),
            ("255", Number(255), "255", "255"),
            ("\"1\"", Number(1), "1", "1"),
            ("\"6\"", Number(6), "6", "6"),
            ("\"255\"", Number(255), "255", "255"),
            ("\"047\"", Number(47), "47", "47"),
        ],
        &[
            "0",
            "256",
            "-1",
            "1.5",
            "6.0",
            "true",
            "[]",
            "{}",
            "\"\"",
            "\"0\"",
            "\"256\"",
            "\"-1\"",
            "\"+6\"",
            "\" TCP\"",
            "\"TCP \"",
            "\"TCPX\"",
            "\"IP\"",
            "\"ESP\"",
            "\"ICMP6\"",
            "\"UDP-Lite\"",
            "\"6.0\"",
            "\"0x6\"",
        ],
    );
    for (protocol, number, ports) in [
        (Tcp, 6, true),
        (Udp, 17, true),
        (Icmp, 1, false),
        (IcmpV6, 58, false),
        (Sctp, 132, true),
        (UdpLite, 136, false),
        (Number(6), 6, true),
        (Number(17), 17, true),
        (Number(132), 132, true),
        (Number(47), 47, false),
    ] {
        assert_eq!((protocol.number(), protocol.has_ports()), (number, ports), "{protocol}");
    }
}

#[test]
fn as_numbers() {
    check(
        &[
            ("0", AsNumber(0), "0", "0"),
            ("1", AsNumber(1), "1", "1"),
            ("64512", AsNumber(64512), "64512", "64512"),
            ("65536", AsNumber(65536), "65536", "65536"),
            ("4294967295", AsNumber(u32::MAX), "4294967295", "4294967295"),
            ("\"0\"", AsNumber(0), "0", "0"),
            ("\"64512\"", AsNumber(64512), "64512", "64512"),
            ("\"064512\"", AsNumber(64512), "64512", "64512"),
            ("\"4294967295\"", AsNumber(u32::MAX), "4294967295", "4294967295"),
            ("\"0.0\"", AsNumber(0), "0", "0"),
            ("\"0.1\"", AsNumber(1), "1", "1"),
            ("\"1.0\"", AsNumber(65536), "65536", "65536"),
            ("\"1.10\"", AsNumber(65546), "65546", "65546"),
            ("\"10.1\"", AsNumber(655_361), "655361", "655361"),
            ("\"65535.65535\"", AsNumber(u32::MAX), "4294967295", "4294967295"),
        ],
        &[
            "-1",
            "4294967296",
            "1.5",
            "1.0",
            "1e3",
            "true",
            "[1]",
            "{}",
            "\"\"",
            "\".\"",
            "\"1.\"",
            "\".1\"",
            "\"1.2.3\"",
            "\"65536.0\"",
            "\"0.65536\"",
            "\"4294967296\"",
            "\"-1\"",
            "\"+1\"",
            "\"+1.1\"",
            "\"1.+1\"",
            "\" 1\"",
            "\"1 \"",
            "\"1:1\"",
            "\"AS1\"",
            "\"0x1\"",
            "\"1,000\"",
            "\"abc\"",
        ],
    );
}
