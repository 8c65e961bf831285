//! Listings of `nft -j list ruleset` (`.json`) and, where there is iptables, `nft -a list ruleset` (`.text`) as distributions'
//! programs make them, and what is said of each (`.txt`; `UPDATE_GOLDEN=1` rewrites it); what is missing of a kernel.

use std::path::Path;

use super::*;
use crate::commands::node_checksystem::text;

/// A machine that has everything.
fn complete() -> Facts {
    let asked = kernel::PARTS.iter().filter(|part| part.question.is_some());
    Facts {
        release: "6.12.9-amd64".into(),
        answers: asked.map(|part| (part.module, Answer::Yes)).collect(),
        modules: kernel::PARTS.iter().map(|part| part.module.to_owned()).collect(),
        settings: kernel::SETTINGS
            .iter()
            .zip(["1", "1", "0"])
            .map(|(path, value)| (*path, value.into()))
            .collect(),
        uplink: Some("eth0".into()),
        ..Facts::default()
    }
}

fn beside(listing: &str) -> Report {
    judge(&Facts { listing: Some(Ok(listing.to_owned())), ..complete() })
}

#[test]
fn real_listings_are_judged() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checksystem/tests");
    let files = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let listings: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    assert!(listings.len() >= 2, "{listings:?}");
    for path in listings {
        let listing = Some(Ok(std::fs::read_to_string(&path).unwrap()));
        let handles = std::fs::read_to_string(path.with_extension("text")).unwrap_or_default();
        let report = judge(&Facts { listing, text: handles, ..complete() });
        let said = text(&report);
        let said = said.split_once("rules of others...\n").unwrap().1;
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, said).unwrap();
            continue;
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, wanted, "{} (UPDATE_GOLDEN=1 rewrites it)", golden.display());
    }
}

#[test]
fn a_machine_with_everything_and_nobody_else_is_well() {
    let report = beside("{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}]}");
    assert!(report.meets_requirements() && !report.has_conflicts(), "{report:?}");
    let said = text(&report);
    assert!(!said.contains("WARN") && !said.contains("FAIL"), "{said}");
    assert!(said.ends_with("System meets minimum system requirements to run Tortie!\n"), "{said}");
}

#[test]
fn what_cannot_be_read_is_counted_and_the_rest_counts() {
    let report = beside(
        r#"{"nftables": [
            {"chain": {"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0,
                "policy": "drop"}},
            {"chain": {"family": "inet", "table": "t", "name": "odd", "hook": "sideways"}},
            {"sorcery": {}},
            {"rule": {"family": "inet", "table": "t", "chain": "f", "expr": [{"spell": {}}, {"drop": null}]}},
            {"rule": {"family": "inet", "table": "t"}}
        ]}"#,
    );
    assert!(
        report.has_conflicts(),
        "a condition nobody knows may not hold, then the policy drops: {report:?}"
    );
    assert!(text(&report).contains("3 parts not read"), "{}", text(&report));

    let unread = r#"{"nftables": [
        {"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0,
            "policy": "drop"}},
        {"rule": {"family": "ip", "table": "t", "chain": "f", "expr": [{"spell": {}}]}}
    ]}"#;
    let report = beside(unread);
    assert!(!report.has_conflicts() && report.conflicts.len() == 1, "it may be an accept: {report:?}");
    for bad in ["", "[]", "{\"nftables\": 1}"] {
        let said = text(&beside(bad));
        assert!(said.contains("cannot be read: nft printed"), "{bad:?}: {said}");
    }
}

/// How a chain stands that drops what goes to workloads unless its only rule accepts it by `@s`, a set or map of these
/// words.
fn by_lookup(set: &str, rule: &str) -> Standing {
    let report = beside(&format!(
        r#"{{"nftables": [
            {{"map": {{"family": "ip", "table": "t", "name": "numbers", "type": "ifname", "map": "mark", "elem": [["a", 1]]}}}},
            {{{set}}},
            {{"chain": {{"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "output", "prio": 0,
                "policy": "drop"}}}},
            {{"rule": {{"family": "ip", "table": "t", "chain": "f", "expr": [{rule}]}}}}
        ]}}"#
    ));
    let unread = text(&report).contains("1 parts not read");
    assert_eq!(unread, set.contains("spell"), "{set}: {}", text(&report));
    match report.conflicts.as_slice() {
        [] => Standing::Ok,
        [conflict] => [Standing::Warn, Standing::Fail][usize::from(conflict.certain)],
        more => panic!("{more:?}"),
    }
}

#[test]
fn members_of_a_named_set_decide() {
    let oifname = r#"{"meta": {"key": "oifname"}}"#;
    let dport = r#"{"payload": {"protocol": "tcp", "field": "dport"}}"#;
    for (words, wanted) in [
        (r#""elem": ["eth0", "cali*"]"#, Standing::Ok),
        (r#""elem": ["eth0"]"#, Standing::Fail),
        (r#""size": 9"#, Standing::Fail),
        (r#""elem": ["eth0", "cali7"]"#, Standing::Warn),
        (r#""elem": ["eth0", {"spell": {}}]"#, Standing::Warn),
        (r#""elem": ["cali*", {"spell": {}}]"#, Standing::Ok),
        // Which may be another one soon.
        (r#""flags": ["dynamic"], "elem": ["eth0"]"#, Standing::Warn),
        (r#""flags": "timeout", "elem": ["eth0"]"#, Standing::Warn),
        (r#""timeout": 9"#, Standing::Warn),
        (r#""flags": ["dynamic"], "elem": ["cali*"]"#, Standing::Ok),
        // Which may not be for long, or not for all packets.
        (r#""elem": [{"elem": {"val": "cali*", "counter": {"packets": 1}, "comment": "c"}}]"#, Standing::Ok),
        (r#""elem": [{"elem": {"val": "cali*", "expires": 7}}]"#, Standing::Warn),
        (r#""elem": [{"elem": {"val": "cali*", "limit": {"rate": 1}}}]"#, Standing::Warn),
        (r#""elem": [{"elem": {"val": "eth0", "limit": {"rate": 1}}}]"#, Standing::Fail),
    ] {
        let set =
            format!(r#""set": {{"family": "ip", "table": "t", "name": "s", "type": "ifname", {words}}}"#);
        let rule =
            format!(r#"{{"match": {{"op": "==", "left": {oifname}, "right": "@s"}}}}, {{"accept": null}}"#);
        assert_eq!(by_lookup(&set, &rule), wanted, "{words}");
        let updated = format!(r#"{{"set": {{"op": "add", "elem": {oifname}, "set": "@s"}}}}, {rule}"#);
        let wanted = if wanted == Standing::Fail { Standing::Warn } else { wanted };
        assert_eq!(by_lookup(&set, &updated), wanted, "{words}, written by a rule");
        // The packet's port is any, and other tables' sets are not this one's.
        for (other, field) in [("@s", dport), ("@nowhere", oifname), ("@numbers", oifname)] {
            let rule = rule.replace(oifname, field).replace("@s", other);
            let none = other == "@s" && words.contains("size");
            let wanted = if none { Standing::Fail } else { Standing::Warn };
            assert_eq!(by_lookup(&set, &rule), wanted, "{words}: {field} {other}");
        }
    }
}

#[test]
fn a_named_map_decides() {
    let udp = r#"{"payload": {"protocol": "udp", "field": "dport"}}"#;
    let both = r#"{"concat": [{"meta": {"key": "oifname"}}, {"meta": {"key": "l4proto"}}]}"#;
    for (words, key, wanted) in [
        (r#""elem": [[{"concat": ["cali*", {"range": [5, 7]}]}, {"accept": null}]]"#, both, Standing::Ok),
        (r#""elem": [[{"concat": ["cali*", {"range": [7, 9]}]}, {"accept": null}]]"#, both, Standing::Fail),
        (r#""elem": [[{"concat": ["cali7", "tcp"]}, {"accept": null}]]"#, both, Standing::Warn),
        (r#""elem": [[{"concat": ["cali7", "udp"]}, {"accept": null}]]"#, both, Standing::Fail),
        (r#""elem": [[{"concat": ["cali*"]}, {"accept": null}]]"#, both, Standing::Warn),
        (r#""elem": [[{"concat": ["cali*", "tcp"]}, {"drop": null}]]"#, both, Standing::Fail),
        (r#""elem": [[{"concat": ["cali*", "tcp"]}, {"spell": null}]]"#, both, Standing::Warn),
        (
            r#""flags": ["timeout"], "elem": [[{"concat": ["lo", "tcp"]}, {"accept": null}]]"#,
            both,
            Standing::Warn,
        ),
        (
            r#""elem": [["*", {"accept": null}], [{"concat": ["lo", "tcp"]}, {"drop": null}]]"#,
            both,
            Standing::Ok,
        ),
        (
            r#""elem": [["*", {"accept": null}], [{"concat": ["cali*", "tcp"]}, {"continue": null}]]"#,
            both,
            Standing::Fail,
        ),
        (
            r#""elem": [["*", {"drop": null}], [{"concat": ["cali*", "tcp"]}, {"accept": null}]]"#,
            both,
            Standing::Ok,
        ),
        (r#""flags": ["timeout"], "elem": [["*", {"drop": null}]]"#, both, Standing::Warn),
        // It has no such header.
        (r#""flags": ["timeout"], "elem": [[7, {"accept": null}]]"#, udp, Standing::Fail),
    ] {
        let map = format!(
            r#""map": {{"family": "ip", "table": "t", "name": "s", "type": "x", "map": "verdict", {words}}}"#
        );
        let rule = format!(r#"{{"vmap": {{"key": {key}, "data": "@s"}}}}"#);
        assert_eq!(by_lookup(&map, &rule), wanted, "{words}");
        assert_eq!(
            by_lookup(&map, &rule.replace("@s", "@nowhere")),
            if key == udp { Standing::Fail } else { Standing::Warn }
        );
    }
}

/// Chains with a map of a hundred keys each that lead to the next one.
#[test]
fn a_chain_that_many_keys_lead_to_is_walked_once() {
    let mut objects = vec![
        r#"{"chain": {"family": "ip", "table": "t", "name": "c0", "type": "filter", "hook": "output", "prio": 0, "policy": "drop"}}"#
            .to_owned(),
    ];
    let key = r#"{"payload": {"protocol": "ip", "field": "daddr"}}"#;
    for n in 0..3 {
        let next = n + 1;
        let element = |m: usize| format!(r#"["10.0.0.{m}", {{"jump": {{"target": "c{next}"}}}}]"#);
        let elements = (0..100).map(element).collect::<Vec<_>>().join(",");
        objects.push(format!(r#"{{"map": {{"family": "ip", "table": "t", "name": "m{n}", "map": "verdict", "elem": [{elements}]}}}}"#));
        objects.push(format!(r#"{{"rule": {{"family": "ip", "table": "t", "chain": "c{n}", "expr": [{{"vmap": {{"key": {key}, "data": "@m{n}"}}}}]}}}}"#));
    }
    objects.push(
        r#"{"rule": {"family": "ip", "table": "t", "chain": "c3", "expr": [{"accept": null}]}}"#.to_owned(),
    );
    let report = beside(&format!("{{\"nftables\": [{}]}}", objects.join(",")));
    assert!(report.conflicts.len() == 1 && !report.conflicts[0].certain, "{report:?}");
    assert!(report.conflicts[0].reason.contains("accept it (1)"), "{report:?}");
}

#[test]
fn jumps_in_circles_end() {
    let chain = |name: &str, hook: &str| {
        format!(r#"{{"chain": {{"family": "ip", "table": "t", "name": "{name}"{hook}}}}}"#)
    };
    let jump = |from: &str, to: &str| {
        format!(
            r#"{{"rule": {{"family": "ip", "table": "t", "chain": "{from}", "expr": [{{"jump": {{"target": "{to}"}}}}]}}}}"#
        )
    };
    let base = r#", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept""#;
    let objects = [chain("a", base), chain("b", ""), jump("a", "b"), jump("b", "b"), jump("b", "nowhere")];
    assert!(beside(&format!("{{\"nftables\": [{}]}}", objects.join(","))).conflicts.is_empty());
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let mut facts = complete();
    facts.release = "5.4.0-1".into();
    facts
        .answers
        .insert("nft_ct", Answer::No(Some("Could not process rule: No such file or directory".into())));
    facts.modules.remove("ipip");
    facts.modules.remove("veth");
    facts.options = Some(["VXLAN".to_owned()].into());
    facts.settings.insert("net/ipv4/conf/all/rp_filter", "1".into());
    facts.settings.insert("net/ipv4/ip_forward", "0".into());
    facts.legacy = vec!["IPv4 filter".into(), "IPv4 nat".into()];
    facts.listing = Some(Err("nft: No such file or directory (os error 2); install nftables".into()));
    let report = judge(&facts);
    assert!(!report.meets_requirements());
    let said = text(&report);
    for line in [
        "\t\t5.4.0-1             \t\tFAIL\n\t\t\tit must be Linux 5.10 or later\n",
        "\t\ttables with an owner\t\tWARN\n",
        "\t\tnft_ct              \t\tFAIL\n\t\t\tthe kernel refuses it (Could not process rule: No such file",
        "load it (modprobe veth), or take a kernel with CONFIG_VETH. Without it workloads get no interface\n",
        "\t\tipip                \t\tWARN\n",
        "\t\tvxlan               \t\tOK\n",
        "\t\tnet.ipv4.ip_forward = 0\t\tWARN\n",
        "sysctl -w net.ipv4.conf.all.rp_filter=2\n",
        "\t\tnftables            \t\tWARN\n\t\t\tcannot be read: nft: No such file",
        "iptables-legacy: IPv4 filter, IPv4 nat\t\tWARN\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }

    // Nothing to go by is no proof that something is missing.
    facts = Facts { release: "6.12.9".into(), ..Facts::default() };
    assert!(judge(&facts).meets_requirements());
    assert!(text(&judge(&facts)).contains("nobody can tell"));
}
