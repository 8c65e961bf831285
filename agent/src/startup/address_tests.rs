//! Every setting and method on small machines.

use super::*;
use regex::Regex;

fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    Interface { name: name.into(), index, up: true, addresses }
}

/// A machine with two networks, containers and tunnels.
fn machine() -> Vec<Interface> {
    vec![
        interface(1, "lo", &["127.0.0.1/8", "::1/128", "10.9.9.9/32"]),
        interface(2, "eth0", &["192.0.2.10/24", "192.0.2.9/32", "fe80::1/64", "2001:db8::10/64"]),
        interface(3, "eth1", &["169.254.7.7/16", "198.51.100.10/24"]),
        Interface { up: false, ..interface(4, "eth2", &["203.0.113.10/24"]) },
        interface(5, "docker0", &["172.17.0.1/16"]),
        interface(6, "cali123", &["10.1.1.1/32"]),
        interface(7, "tunl0", &["10.64.0.1/32"]),
    ]
}

fn regexes(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().map(|p| Regex::new(p).unwrap()).collect()
}

fn detected(method: Method, ipv6: bool) -> Result<String, String> {
    let source = |_: &str| Ok("192.0.2.9".parse().unwrap());
    detect(&method, ipv6, &machine(), source).map(|(interface, address)| format!("{interface} {address}"))
}

fn nets(list: &[&str]) -> Vec<IpNetwork> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

#[test]
fn methods_find_what_upstream_finds() {
    for (method, ipv6, expected) in [
        // The highest index first; link-local addresses are no node addresses.
        (Method::FirstFound, false, "eth1 198.51.100.10/24"),
        (Method::FirstFound, true, "eth0 2001:db8::10/64"),
        (Method::Interface(regexes(&["eth.*"])), false, "eth1 198.51.100.10/24"),
        // One expression after another, exclusions do not count.
        (Method::Interface(regexes(&["nothing", "docker", "eth0"])), false, "docker0 172.17.0.1/16"),
        (Method::SkipInterface(regexes(&["eth1"])), false, "eth0 192.0.2.10/24"),
        (Method::Cidr(nets(&["10.64.0.0/16", "192.0.2.0/24"])), false, "tunl0 10.64.0.1/32"),
        (Method::Cidr(nets(&["192.0.2.0/28"])), false, "eth0 192.0.2.10/24"),
        (Method::Cidr(nets(&["2001:db8::/32"])), true, "eth0 2001:db8::10/64"),
        (Method::CanReach("example".into()), false, "eth0 192.0.2.9/32"),
    ] {
        assert_eq!(detected(method.clone(), ipv6).as_deref(), Ok(expected), "{method:?}");
    }
    for (method, ipv6) in [
        (Method::SkipInterface(regexes(&["eth"])), false),
        (Method::Interface(regexes(&["eth2"])), false),
        (Method::Interface(regexes(&["eth1"])), true),
        (Method::Cidr(nets(&["203.0.113.0/24"])), false),
    ] {
        assert!(detected(method.clone(), ipv6).is_err(), "{method:?}");
    }
}

fn decided(setting: &AddressSetting, stored: Option<&str>) -> Result<Decision, AddressError> {
    let stored = stored.map(|s| s.parse().unwrap());
    decide(setting, stored, false, &machine(), |_| Err(io::Error::other("unreachable")))
}

#[test]
fn what_is_stored_is_kept_unless_asked_otherwise() {
    let found = Some("198.51.100.10/24".parse().unwrap());
    let stored = Some("1.2.3.4/24".parse().unwrap());
    let keep_or_detect = AddressSetting::KeepOrDetect(Method::FirstFound);
    let kept = decided(&keep_or_detect, Some("1.2.3.4/24")).unwrap();
    assert_eq!((kept.address, kept.detected), (stored, None));
    let warned = "no interface has the address 1.2.3.4; ";
    assert!(kept.warnings.len() == 1 && kept.warnings[0].starts_with(warned), "{:?}", kept.warnings);
    let here = decided(&keep_or_detect, Some("192.0.2.10/24")).unwrap();
    assert_eq!((here.address.unwrap().to_string().as_str(), here.warnings.len()), ("192.0.2.10/24", 0));
    let fresh = decided(&keep_or_detect, None).unwrap();
    assert_eq!((fresh.address, fresh.detected.is_some(), fresh.warnings.len()), (found, true, 0));
    let changed = decided(&AddressSetting::Detect(Method::FirstFound), Some("1.2.3.4/24")).unwrap();
    assert_eq!((changed.address, changed.warnings.len()), (found, 1));
    assert_eq!(decided(&AddressSetting::Keep, None).unwrap(), Decision::default());
    assert_eq!(decided(&AddressSetting::Keep, Some("1.2.3.4/24")).unwrap().address, stored);
}

#[test]
fn an_explicit_address_gets_its_interface_s_prefix() {
    let explicit = |ip: &str, prefix| {
        let decision = decided(&AddressSetting::Explicit(ip.parse().unwrap(), prefix), None).unwrap();
        (decision.address.unwrap().to_string(), decision.warnings.len())
    };
    assert_eq!(explicit("192.0.2.10", None), ("192.0.2.10/24".into(), 0));
    assert_eq!(explicit("192.0.2.10", Some(28)), ("192.0.2.10/28".into(), 0));
    assert_eq!(explicit("10.0.0.1", None), ("10.0.0.1/32".into(), 1));
}

#[test]
fn detection_in_vain_fails_only_without_a_stored_address() {
    let setting = AddressSetting::Detect(Method::CanReach("example".into()));
    let error = decided(&setting, None).unwrap_err().to_string();
    assert!(
        error.contains("IP_AUTODETECTION_METHOD=can-reach=example") && error.contains("unreachable"),
        "{error}"
    );
    let kept = decided(&setting, Some("1.2.3.4/24")).unwrap();
    assert_eq!((kept.address.unwrap().to_string().as_str(), kept.warnings.len()), ("1.2.3.4/24", 2));
    let kept = decided(&setting, Some("192.0.2.9/32")).unwrap();
    assert_eq!((kept.address.unwrap().to_string().as_str(), kept.warnings.len()), ("192.0.2.9/32", 1));
}

#[test]
fn the_kernel_tells_the_source_towards_a_host() {
    assert_eq!(source_towards("127.0.0.2", false).unwrap().to_string(), "127.0.0.1");
    assert!(source_towards("127.0.0.1", true).is_err());
}
