//! Whether the 10 001st endpoint or policy costs what the 11th did: time to calculate, to compare, to make messages, and of
//! the kernel, for one more among 10, 1000 and 10 000.
//!
//! The kernel walks over all rules that can be reached and over all that leads to chains, in each transaction with a verdict
//! in it: what it takes grows with the rules and endpoints here, and is told apart from what we take. What it takes for as
//! many endpoints in a table with nothing else is measured beside it (`alone`), as the limit.
//!
//! Transactions of this size need root.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_agent::kernel::{Linux, Ownership, Rulesets as _};
use tortie_model::resource::{NetworkPolicySpec, PolicyType};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::change::{diff, from_nothing};
use tortie_policy::netlink::transaction::{Table, Transaction};
use tortie_policy::snapshot::{Endpoint, EndpointId, PolicyBody, PolicyId};
use tortie_policy::{Engine, Ruleset};

mod alone;
#[path = "../limit/mod.rs"]
mod limit;
#[path = "../namespace/mod.rs"]
mod namespace;

/// How many there are before.
const SIZES: [u32; 3] = [10, 1000, 10_000];
/// Policies of an application, and rules of a policy.
const POLICIES: u32 = 3;
const RULES: u16 = 10;
/// Endpoints a node may have.
const HERE: u32 = 500;
/// Times one more is added and taken away; the median counts.
const TIMES: usize = 41;
/// The least the kernel takes for an endpoint here.
const LIMIT: &str = "the limit: a table of these";
const PARTS: [&str; 4] = ["calculate", "compare", "encode", "kernel"];

/// What there is one more of.
#[derive(Clone, Copy)]
enum What {
    /// On this node, with the policies of the others.
    EndpointHere,
    /// On another node, a peer of all policies.
    EndpointElsewhere,
    /// About endpoints of this node.
    PolicyHere,
    /// About nobody here.
    PolicyElsewhere,
}

const ALL: [(What, &str); 4] = [
    (What::EndpointHere, "an endpoint here"),
    (What::EndpointElsewhere, "an endpoint elsewhere"),
    (What::PolicyHere, "a policy, of endpoints here"),
    (What::PolicyElsewhere, "a policy, of nobody here"),
];

fn main() {
    if !namespace::is_inside() {
        return;
    }
    let mut table = String::new();
    let [a, b, c, d] = PARTS;
    line(
        &mut table,
        ["one more", "among", a, b, c, d, "ours, to the 11th", "all, to the 11th", "kernel, to the limit"],
    );
    line(&mut table, ["---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:"]);
    for (what, name) in ALL {
        let (mut first, mut limits) = (None, Vec::new());
        for size in SIZES {
            let cost = Node::new(what, size).cost(what, size);
            let [first_ours, first_all] = *first.get_or_insert([ours(&cost), all(&cost)]);
            let mut to_limit = String::new();
            if matches!(what, What::EndpointHere) {
                let limit = alone::one_more(size);
                to_limit = ratio(cost[3].as_secs_f64(), limit.as_secs_f64());
                limits.push((size, limit));
            }
            let [a, b, c, d] = cost.map(micros);
            let ratios = [ratio(ours(&cost), first_ours), ratio(all(&cost), first_all)];
            line(&mut table, [name, &size.to_string(), &a, &b, &c, &d, &ratios[0], &ratios[1], &to_limit]);
        }
        for (size, limit) in &limits {
            let to_first = ratio(limit.as_secs_f64(), limits[0].1.as_secs_f64());
            let limit = micros(*limit);
            line(&mut table, [LIMIT, &size.to_string(), "", "", "", &limit, "", &to_first, ""]);
        }
    }
    // Where the table of all benchmarks finds it; the directory is criterion's.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criterion/growth");
    std::fs::create_dir_all(target).expect("a directory for the figures");
    std::fs::write(format!("{target}/table"), table).expect("a file for the figures");
}

fn line(table: &mut String, [what, among, a, b, c, d, ours, all, limit]: [&str; 9]) {
    let line = format!(
        "| {what:<27} | {among:>6} | {a:>9} | {b:>9} | {c:>9} | {d:>9} | {ours:>17} | {all:>16} | {limit:>20} |"
    );
    println!("{line}");
    let _ = writeln!(table, "{line}");
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn ratio(cost: f64, reference: f64) -> String {
    format!("{:.2} ×", cost / reference)
}

fn median(mut all: [Duration; TIMES]) -> Duration {
    all.sort_unstable();
    all[TIMES / 2]
}

fn ours([calculate, compare, encode, _]: &[Duration; 4]) -> f64 {
    (*calculate + *compare + *encode).as_secs_f64()
}

fn all(cost: &[Duration; 4]) -> f64 {
    cost.iter().sum::<Duration>().as_secs_f64()
}

/// The policy of a node and its kernel.
struct Node {
    engine: Engine,
    held: Ruleset,
    kernel: Linux,
}

impl Node {
    /// One with so many of them.
    fn new(what: What, size: u32) -> Node {
        let mut engine = Engine::default();
        let (endpoints, policies) = match what {
            What::EndpointHere | What::EndpointElsewhere => (size, POLICIES),
            // One of each application.
            What::PolicyHere | What::PolicyElsewhere => ((size / POLICIES).min(HERE), size),
        };
        for n in 0..endpoints {
            let (id, endpoint) = endpoint(what, n);
            engine.set_endpoint(&id, Some(&endpoint));
        }
        for n in 0..policies {
            let (id, body) = policy(what, n);
            engine.set_policy(&id, Some(&body));
        }
        let held = engine.flush().ruleset;
        let mut kernel = Linux::with(Ownership::Shared).expect("a kernel");
        kernel.ruleset(&held).expect("the rules");
        kernel.change_ruleset(&from_nothing(&held)).expect("a load");
        Node { engine, held, kernel }
    }

    /// What one more costs, part by part.
    fn cost(&mut self, what: What, size: u32) -> [Duration; 4] {
        let costs: [_; TIMES] = std::array::from_fn(|_| {
            let more = self.step(|engine| add(engine, what, size, true));
            self.step(|engine| add(engine, what, size, false));
            more
        });
        std::array::from_fn(|part| median(costs.map(|cost| cost[part])))
    }

    fn step(&mut self, change: impl FnOnce(&mut Engine)) -> [Duration; 4] {
        let begin = Instant::now();
        change(&mut self.engine);
        let wanted = self.engine.flush().ruleset;
        let calculated = begin.elapsed();
        let begin = Instant::now();
        let changes = diff(&self.held, &wanted);
        self.held = wanted;
        let compared = begin.elapsed();
        let begin = Instant::now();
        // Once to see what it takes, and below once more to be sent.
        std::hint::black_box(Transaction::new(&changes, Table { exists: true, flags: 0 }, 1));
        let encoded = begin.elapsed();
        let begin = Instant::now();
        if !changes.is_empty() {
            self.kernel.change_ruleset(&changes).expect("a change");
        }
        [calculated, compared, encoded, begin.elapsed().saturating_sub(encoded)]
    }
}

/// One more than there are, or not.
fn add(engine: &mut Engine, what: What, size: u32, present: bool) {
    match what {
        What::EndpointHere | What::EndpointElsewhere => {
            let (id, endpoint) = endpoint(what, size);
            engine.set_endpoint(&id, present.then_some(&endpoint));
        }
        What::PolicyHere | What::PolicyElsewhere => {
            let (id, body) = policy(what, size);
            // Of the first application when it is about endpoints here.
            let body = if matches!(what, What::PolicyHere) { policy(what, 0).1 } else { body };
            engine.set_policy(&id, present.then_some(&body));
        }
    }
}

/// Endpoint `n`. Where policies are counted each is of an application of its own, else there is one application.
fn endpoint(what: What, n: u32) -> (Arc<EndpointId>, Arc<Endpoint>) {
    let (application, here) = match what {
        What::EndpointHere => (0, true),
        What::EndpointElsewhere => (0, n < 10),
        What::PolicyHere | What::PolicyElsewhere => (n, true),
    };
    let labels = [("app", format!("a{application}")), ("projectcalico.org/namespace", "shop".to_owned())];
    let endpoint = Endpoint {
        labels: labels.into_iter().collect(),
        addresses: [std::net::Ipv4Addr::from(0x0a41_0000 + n).into()].into(),
        interface: here.then(|| format!("cali{n}")),
        ..Endpoint::default()
    };
    (Arc::new(EndpointId { namespace: "shop".into(), name: format!("p{n}") }), Arc::new(endpoint))
}

/// Policy `n`: about the endpoints of an application, or about one that has none here.
fn policy(what: What, n: u32) -> (PolicyId, PolicyBody) {
    let application = match what {
        What::EndpointHere | What::EndpointElsewhere => "app == 'a0'".to_owned(),
        What::PolicyHere => format!("app == 'a{}'", n / POLICIES),
        What::PolicyElsewhere => format!("app == 'b{}'", n / POLICIES),
    };
    let rule = |rule: u16| Rule {
        action: Action::Allow,
        protocol: Some(Protocol::Tcp),
        source: EntityRule { selector: application.clone(), ..EntityRule::default() },
        destination: EntityRule {
            ports: vec![Port::Range(8000 + rule, 8000 + rule)],
            ..EntityRule::default()
        },
        ..Rule::default()
    };
    let spec = NetworkPolicySpec {
        order: Some(f64::from(n)),
        selector: application.clone(),
        types: vec![PolicyType::Ingress],
        ingress: (0..RULES).map(rule).collect(),
        ..NetworkPolicySpec::default()
    };
    let id = PolicyId { name: format!("default.policy{n}"), namespace: "shop".into() };
    (id, PolicyBody::Network(Box::new(spec)))
}
