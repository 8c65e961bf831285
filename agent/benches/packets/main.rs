//! What policy costs packets: the first one of a connection, one of a connection that is known, and connections a second,
//! from one workload to another of this node, both of which have policies each way. Our rules, a chain for each policy, and
//! a list of interfaces before such chains, each beside "connection tracking, established: accept, accept", which a second
//! node of the same make has.
//!
//! The machine drifts, so bursts alternate between the two nodes, and the median of the differences counts.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::fmt::Write as _;
use std::process::Command;

use tortie_model::scalar::Protocol;
use tortie_policy::ir::Direction;
use tortie_policy::{Ruleset, compile};

#[path = "../namespace/mod.rs"]
mod namespace;
mod node;
#[path = "../world/mod.rs"]
mod world;

use node::{Flow, Node};
use world::World;

/// Bursts of each kind, and counts of connections.
const BURSTS: usize = 15;
const COUNTS: usize = 9;
/// Packets of a burst, and the longest it should take; ns.
const PACKETS: f64 = 4000.0;
const BURST: f64 = 2e7;
/// Endpoints here and policies of each: the second list is of what takes long to load or to pass.
const OURS: [(u32, u32); 10] = [
    (500, 0),
    (10, 3),
    (500, 3),
    (5000, 3),
    (10, 30),
    (500, 30),
    (5000, 30),
    (10, 100),
    (500, 100),
    (5000, 100),
];
const CHAINS: [(u32, u32); 5] = [(10, 3), (500, 3), (5000, 3), (500, 30), (500, 100)];
const LISTS: [(u32, u32); 4] = [(10, 3), (500, 3), (5000, 3), (500, 30)];
const OURS_NAME: &str = "ours";
/// Groups of endpoints with the same policies.
const GROUPS: u32 = 10;
const REFERENCE: &str = "table inet reference {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ct state established,related accept
        accept
    }
}";

/// A chain before connection tracking that does nothing, beside the reference: the least that a look at each packet takes there.
const EMPTY_CHAIN: &str = "table inet source {
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
    }
}
";
/// What every packet of a workload passes there.
const SOURCE_CHECK: &str = "table inet source {
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        iifname \"cali*\" fib saddr . iif oif missing counter drop
    }
}
";

/// What a node has.
enum Rules {
    Messages(Ruleset),
    Text(String),
}

/// What rules cost beyond the reference; ns. And connections a second, also as a part of those with the reference.
struct Cost {
    first: f64,
    established: f64,
    connections: f64,
    ratio: f64,
}

fn main() {
    if !namespace::is_inside() {
        return;
    }
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().expect("mount");
    assert!(mounted.success(), "no /run of its own");
    let last = std::thread::available_parallelism().map_or(0, |processors| processors.get() - 1);
    node::pin(0);
    let mut bench = Bench {
        tested: Node::new(0, last),
        reference: Node::new(1, last),
        table: String::new(),
        ours: Vec::new(),
    };
    bench.reference.load_text(REFERENCE);
    bench.head();
    bench.row("nothing", None, |_| Rules::Text(String::new()));
    bench.row("reference", None, |_| Rules::Text(REFERENCE.to_owned()));
    bench.row("a chain before", None, |_| Rules::Text(EMPTY_CHAIN.to_owned() + REFERENCE));
    bench.row("the source check", None, |_| Rules::Text(SOURCE_CHECK.to_owned() + REFERENCE));
    for size in OURS {
        bench.row(OURS_NAME, Some(size), |world| Rules::Messages(compile(&world.snapshot()).ruleset));
    }
    for size in CHAINS {
        bench.row("chain per policy", Some(size), |world| Rules::Messages(world.chains()));
    }
    for size in LISTS {
        bench.row("list", Some(size), |world| Rules::Text(world.list()));
    }
    // Where the table of all benchmarks finds it; the directory is criterion's.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criterion/packets");
    std::fs::create_dir_all(target).expect("a directory for the figures");
    std::fs::write(format!("{target}/table"), bench.table).expect("a file for the figures");
}

struct Bench {
    tested: Node,
    reference: Node,
    table: String,
    /// What the first packet costs with our rules, by endpoints and policies of each.
    ours: Vec<((u32, u32), f64)>,
}

impl Bench {
    fn line(&mut self, cells: [&str; 7]) {
        let [rules, endpoints, policies, first, established, connections, ours] = cells;
        let line = format!(
            "| {rules:<16} | {endpoints:>9} | {policies:>8} | {first:>12} | {ours:>12} | {established:>11} | {connections:>22} |"
        );
        println!("{line}");
        let _ = writeln!(self.table, "{line}");
    }

    fn head(&mut self) {
        self.line([
            "rules",
            "endpoints",
            "policies",
            "first packet",
            "established",
            "connections/s",
            "ours to this",
        ]);
        self.line(["---", "---:", "---:", "---:", "---:", "---:", "---:"]);
    }

    /// Measures what `rules` makes of a world with so many endpoints and policies of each.
    fn row(&mut self, name: &str, size: Option<(u32, u32)>, rules: impl Fn(&World) -> Rules) {
        let (endpoints, policies) = size.unwrap_or((2, 0));
        // All rules are about the protocol at hand: each is looked at.
        let worlds = [Protocol::Udp, Protocol::Tcp].map(|protocol| World {
            endpoints,
            groups: GROUPS,
            policies,
            protocol,
            directions: &[Direction::Ingress, Direction::Egress],
        });
        let cost = self.measure(worlds.map(|world| rules(&world)));
        let nanoseconds = |extra: f64| match extra.abs() >= 1e4 {
            true => format!("{:+.1} µs", extra / 1e3),
            false => format!("{extra:+.0} ns"),
        };
        let number = |of: fn((u32, u32)) -> u32| size.map_or("-".to_owned(), |size| of(size).to_string());
        let connections = format!("{:.0}, {:.2} × ref.", cost.connections, cost.ratio);
        let (first, established) = (nanoseconds(cost.first), nanoseconds(cost.established));
        let ours = self.ours.iter().find(|(known, _)| Some(*known) == size);
        let ratio = ours.map_or(String::new(), |(_, ours)| format!("{:.2} ×", ours / cost.first));
        if let (OURS_NAME, Some(size)) = (name, size) {
            self.ours.push((size, cost.first));
        }
        self.line([name, &number(|s| s.0), &number(|s| s.1), &first, &established, &connections, &ratio]);
    }

    fn measure(&mut self, [packets, connections]: [Rules; 2]) -> Cost {
        self.load(&packets);
        let [established, first] = [Flow::Established, Flow::New].map(|flow| self.extra(flow));
        self.load(&connections);
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..COUNTS {
            let [rate, of] = [&mut self.tested, &mut self.reference].map(Node::connections);
            rates.push(rate);
            ratios.push(rate / of);
        }
        Cost { first, established, connections: median(rates), ratio: median(ratios) }
    }

    fn load(&mut self, rules: &Rules) {
        match rules {
            Rules::Messages(rules) => self.tested.load(rules),
            Rules::Text(text) => self.tested.load_text(text),
        }
    }

    /// Nanoseconds a packet beyond the reference.
    fn extra(&mut self, flow: Flow) -> f64 {
        let fitting = (BURST / self.tested.send(flow, 50)).clamp(100.0, PACKETS);
        let burst = |_| self.tested.send(flow, fitting as u16) - self.reference.send(flow, PACKETS as u16);
        median((0..BURSTS).map(burst).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
