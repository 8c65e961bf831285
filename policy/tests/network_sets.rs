//! Network sets as peers: networks of many lengths, overlapping, of both families, beside endpoints with the same addresses.

mod support;

use support::packet;
use tortie_policy::ir::Elements;
use tortie_policy::{compile, eval, nft};

/// `a` is on this node, and `c` elsewhere has an address that is in network sets too.
const WORLD: &str = r#"
tiers: { default: {} }
profiles: { kns.ns1: { labelsToApply: { pcns.env: prod } }, kns.ns2: { labelsToApply: { pcns.env: test } } }
endpoints:
  - { name: a, namespace: ns1, labels: { app: a }, addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: c, namespace: ns1, labels: { role: ext }, addresses: [192.0.2.7] }
networkSets:
  - { name: wide, labels: { role: ext }, nets: [198.51.100.0/24, 198.51.0.0/16, 192.0.2.7, 192.0.2.8/32, "2001:db8::/32", "2001:db8:1::1"] }
  - { name: bad, labels: { role: bad }, nets: [198.51.100.64/26] }
  - { name: own, namespace: ns1, labels: { role: in }, nets: [203.0.113.0/25] }
  - { name: other, namespace: ns2, labels: { role: in }, nets: [203.0.113.128/25] }
  - { name: all, labels: { role: all }, nets: [0.0.0.0/0] }
"#;

/// Sources `a` takes connections from, with one rule in a policy of this namespace.
fn allowed(namespace: &str, source: &str) -> Vec<&'static str> {
    let policy = format!(
        "policies: [{{ name: p, namespace: '{namespace}', spec: {{ selector: app == 'a', types: [Ingress], ingress: [{{ \
         action: Allow, source: {source} }}] }} }}]"
    );
    let ruleset = compile(&support::snapshot(&format!("{WORLD}\n{policy}"))).ruleset;
    support::load(&[nft::render(&ruleset)]);
    let sources = [
        "198.51.100.1",
        "198.51.100.65",
        "198.51.7.1",
        "192.0.2.7",
        "192.0.2.8",
        "192.0.2.9",
        "203.0.113.1",
        "203.0.113.129",
    ];
    let verdict = |from: &str, to: &str| {
        eval::eval(&ruleset, &packet(&format!("eth0 > calia {from} > {to} tcp 80"))).allowed
    };
    let v6 = ["2001:db8:5::1", "2001:db9::1"];
    let v4 = sources.into_iter().filter(|from| verdict(from, "10.0.0.1"));
    v4.chain(v6.into_iter().filter(|from| verdict(from, "fd00::1"))).collect()
}

#[test]
fn networks_of_every_length_and_single_addresses_are_peers() {
    let ext = ["198.51.100.1", "198.51.100.65", "198.51.7.1", "192.0.2.7", "192.0.2.8", "2001:db8:5::1"];
    assert_eq!(allowed("", "{ selector: role == 'ext' }"), ext);
    let without_bad = ["198.51.100.1", "198.51.7.1", "192.0.2.7", "192.0.2.8", "192.0.2.9", "203.0.113.1"];
    let mut rest = without_bad.to_vec();
    rest.extend(["203.0.113.129", "2001:db8:5::1", "2001:db9::1"]);
    assert_eq!(allowed("", "{ notSelector: role == 'bad' }"), rest);
    assert_eq!(allowed("", "{ selector: has(role), notSelector: role == 'all' }").len(), 8);
}

#[test]
fn a_set_of_a_namespace_has_its_labels_and_is_found_by_its_policies() {
    assert_eq!(allowed("ns1", "{ selector: role == 'in' }"), ["203.0.113.1"]);
    assert_eq!(allowed("ns2", "{ selector: role == 'in' }"), Vec::<&str>::new(), "of ns2 `a` is none");
    assert_eq!(allowed("ns1", "{ selector: role == 'ext' }"), ["192.0.2.7"], "the endpoint, no global set");
    assert_eq!(
        allowed("ns1", "{ selector: role == 'in', namespaceSelector: all() }"),
        ["203.0.113.1", "203.0.113.129"]
    );
    assert_eq!(
        allowed("", "{ selector: role == 'in', namespaceSelector: env == 'test' }"),
        ["203.0.113.129"]
    );
    let global = allowed("ns1", "{ selector: role == 'ext', namespaceSelector: global() }");
    assert_eq!(global.len(), 6, "{global:?}");
}

#[test]
fn a_network_of_length_0_is_every_address_of_its_family() {
    assert_eq!(allowed("", "{ selector: role == 'all' }").len(), 8);
    assert_eq!(allowed("", "{ notSelector: role == 'all' }"), ["2001:db8:5::1", "2001:db9::1"]);
}

/// An element goes only when nobody has it any more, and no set but the one of its length changes.
#[test]
fn an_address_of_an_endpoint_and_of_a_set_stays_until_both_are_gone() {
    let members = |with_endpoint: bool, with_set: bool| {
        let endpoint = "- { name: c, namespace: ns1, labels: { role: ext }, addresses: [192.0.2.7] }";
        let mut yaml = WORLD.to_owned();
        if !with_endpoint {
            yaml = yaml.replace(endpoint, "");
        }
        if !with_set {
            yaml = yaml.replace(" 192.0.2.7,", "");
        }
        yaml += "policies: [{ name: p, spec: { ingress: [{ action: Allow, source: { selector: role == 'ext' } }] } }]";
        let sets = compile(&support::snapshot(&yaml)).ruleset.sets;
        let found = sets.into_iter().filter_map(|(name, set)| {
            if let Elements::Addresses(_, members) = set.elements { Some((name, members)) } else { None }
        });
        found.collect::<std::collections::BTreeMap<_, _>>()
    };
    let both = members(true, true);
    assert_eq!(both, members(true, false));
    assert_eq!(both, members(false, true));
    let neither = members(false, false);
    assert_eq!(both.keys().collect::<Vec<_>>(), neither.keys().collect::<Vec<_>>());
    let different: Vec<_> = both.iter().filter(|(name, set)| neither.get(*name) != Some(*set)).collect();
    assert_eq!(different.len(), 1, "{different:?}");
}

/// A line of the log for each packet, however many networks it is in.
#[test]
fn overlapping_networks_log_a_packet_once() {
    let policy = "policies: [{ name: p, spec: { ingress: [{ action: Log, source: { selector: \"role in { 'ext', 'bad' }\" } }] } }]";
    let ruleset = compile(&support::snapshot(&format!("{WORLD}\n{policy}"))).ruleset;
    for (source, times) in [("198.51.100.65", 1), ("198.51.7.1", 1), ("192.0.2.8", 1), ("192.0.2.9", 0)] {
        let text = format!("eth0 > calia {source} > 10.0.0.1 tcp 80");
        let trail = eval::eval(&ruleset, &packet(&text)).trail;
        let logged = trail.iter().filter(|s| s.comment.contains("ingress[0]")).count();
        assert_eq!(logged, times, "{source}: {trail:#?}");
    }
}
