//! `node checksystem`: the real binary on the running kernel, in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_tortiectl");
/// A table that drops what is forwarded and BGP.
const PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checksystem/tests/plain.nft");

/// Runs a script, whose `$tortiectl` is the binary and `$plain` the table; its output and exit code.
fn inside(script: &str) -> (String, Option<i32>) {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("tortiectl", BINARY)
        .env("plain", PLAIN)
        .output()
        .expect("unshare(1) of util-linux is needed");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("not found"), "{stderr}");
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn a_table_that_drops_makes_it_fail_and_what_it_says_helps() {
    let (alone, code) = inside("$tortiectl node checksystem");
    assert_eq!(code, Some(0), "{alone}");
    assert!(alone.ends_with("System meets minimum system requirements to run Tortie!\n"), "{alone}");

    let (beside, code) = inside("nft -f $plain && $tortiectl node checksystem -o json");
    assert_eq!(code, Some(1), "{beside}");
    let report: Value = serde_json::from_str(&beside).unwrap();
    let conflicts = report["conflicts"].as_array().unwrap();
    let chains: Vec<&str> = conflicts.iter().filter_map(|conflict| conflict["chain"].as_str()).collect();
    assert_eq!(chains, ["forwarded", "incoming", "incoming"], "{beside}");

    let commands = conflicts.iter().flat_map(|conflict| conflict["remedy"].as_array().unwrap());
    let commands: Vec<&str> = commands.filter_map(Value::as_str).collect();
    let (helped, code) =
        inside(&format!("nft -f $plain\n{}\n$tortiectl node checksystem", commands.join("\n")));
    assert_eq!(code, Some(0), "{commands:?}\n{helped}");
}

#[test]
fn it_changes_nothing() {
    let (rules, code) = inside(
        "nft -f $plain; nft -a list ruleset; $tortiectl node checksystem >/dev/null; nft -a list ruleset",
    );
    assert_eq!(code, Some(0));
    let (before, after) = rules.split_at(rules.len() / 2);
    assert!(before.contains("table inet fw") && before == after, "{rules}");
}

#[test]
fn a_configuration_may_be_named() {
    let (_, code) = inside("$tortiectl node checksystem -f /nowhere/config");
    assert_eq!(code, Some(1));
    let (said, _) = inside("$tortiectl node checksystem -o yaml -f /dev/null");
    assert!(said.contains("kernelModules:") && said.contains("not found: load it (modprobe ipip)"), "{said}");
}
