//! What the policy of a node of a large cluster takes in memory: 100 000 endpoints, of which 500 are here, and 2000 policies.
//!
//! What counts is what stays: the engine with the endpoints it shares with who told it, and the rule-set. Names, labels and
//! profiles are kept once each, as the agent does. Goal: 150 MB.
//!
//! A process that has taken memory once never measures the same again, so each measurement is a process of its own.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tortie_policy::Engine;
use tortie_policy::snapshot::LabelSet;

mod cluster;

const ENDPOINTS: u32 = 100_000;
const POLICIES: u32 = 2000;
/// Tells a child what labels endpoints have.
const LABELS: &str = "TORTIE_BENCH_LABELS";
const KINDS: [(&str, &str); 2] =
    [("own", "each with a label of its own"), ("shared", "alike within an application")];

fn main() {
    match std::env::var(LABELS) {
        Ok(labels) => measure(labels == "own"),
        Err(_) => compare(),
    }
}

/// The child: prints octets taken by what is told, by all of it when it is calculated, and the most there ever was.
fn measure(own: bool) {
    let before = status("VmRSS");
    let mut texts: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut text = |text: &str| match texts.get(text) {
        Some(known) => Arc::clone(known),
        None => {
            let new: Arc<str> = text.into();
            texts.insert(Arc::clone(&new));
            new
        }
    };
    let mut labels: BTreeSet<LabelSet> = BTreeSet::new();
    let mut told = Vec::with_capacity(ENDPOINTS as usize);
    for n in 0..ENDPOINTS {
        let (id, endpoint) = cluster::endpoint_with(n, ENDPOINTS, own, &mut text);
        let mut endpoint = Arc::unwrap_or_clone(endpoint);
        match labels.get(&endpoint.labels) {
            Some(known) => endpoint.labels = known.clone(),
            None => drop(labels.insert(endpoint.labels.clone())),
        }
        told.push((id, Arc::new(endpoint)));
    }
    let endpoints = status("VmRSS");
    let mut engine = Engine::default();
    for n in 0..cluster::NAMESPACES {
        let (name, profile) = cluster::profile(n);
        engine.set_profile(&name, Some(profile.as_ref()));
    }
    told.iter().for_each(|(id, endpoint)| engine.set_endpoint(id, Some(endpoint)));
    for n in 0..POLICIES {
        let (id, policy) = cluster::policy(n);
        engine.set_policy(&id, Some(&policy));
    }
    let compiled = engine.flush();
    let all = status("VmRSS");
    println!("{} {} {}", endpoints - before, all - before, status("VmHWM") - before);
    drop((compiled, engine, told));
}

/// A figure of this process; octets.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kibibytes << 10
}

/// The parent.
fn compare() {
    let mut table = String::new();
    for (kind, name) in KINDS {
        let me = std::env::current_exe().expect("this binary");
        let output = Command::new(me).env(LABELS, kind).stderr(Stdio::inherit()).output().expect("a process");
        let text = String::from_utf8(output.stdout).expect("text");
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [endpoints, all, peak] = numbers[..] else { panic!("no figures: {text}") };
        let mut row = |what: &str, octets: f64, goal: &str| {
            let _ = writeln!(table, "| {what:<52} | {:<24} | {goal}", format!("{:.0} MB", octets / 1e6));
        };
        row(&format!("100 000 endpoints {name}"), endpoints, "");
        row("… with the engine, 2000 policies and the rules", all, "goal: 150 MB");
        row("… at most meanwhile", peak, "");
    }
    print!("{table}");
    // Where the table of all benchmarks finds it; the directory is criterion's.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criterion/memory");
    std::fs::create_dir_all(target).expect("a directory for the figures");
    std::fs::write(format!("{target}/table"), table).expect("a file for the figures");
}
