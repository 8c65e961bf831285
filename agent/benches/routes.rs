//! What one changed route costs among many: decided (`route_change`), and decided, compared and written to a real kernel (`route_write`). And a
//! change of the next hops of all routes at once, as a group that all of them are over, and as a route each.
//!
//! The kernel is that of a network namespace of its own: this binary starts itself again inside `unshare`.

#![allow(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode};
use ipnetwork::IpNetwork;
use tortie_agent::dataplane::cycle::Engine;
use tortie_agent::desired::{Desired, LearnedChanges, RouteContext};
use tortie_agent::fib::{Fib, Resolver, Surroundings};
use tortie_agent::kernel::monitor::Dirty;
use tortie_agent::kernel::{Links as _, Linux, Routes as _};
use tortie_bgp::table::LearnedRoute;

const INSIDE: &str = "TORTIE_BENCH_NAMESPACE";
const SIZES: [u32; 2] = [1000, 100_000];
const LINKS: &str = "ip link set lo up && ip link add eth0 type veth peer name peer0 && ip addr add 10.0.0.1/16 dev eth0 \
                     && ip link set eth0 up && ip link set peer0 up";

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        let links = Command::new("sh").args(["-c", LINKS]).status().expect("sh can be started");
        assert!(links.success(), "no links: {links}");
        let mut criterion = Criterion::default().configure_from_args();
        decide(&mut criterion);
        write(&mut criterion);
        criterion.final_summary();
        return;
    }
    let binary = std::env::current_exe().expect("the name of this binary");
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(binary)
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) can be started");
    assert!(status.success(), "failed inside its namespace");
}

/// Block `n`, of one node in a thousand.
fn block(n: u32) -> IpNetwork {
    let address = Ipv4Addr::from(0x2000_0000 + (n << 6));
    IpNetwork::new(address.into(), 26).expect("a prefix")
}

fn node(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0100 + n % 1000).into()
}

fn via(next_hops: &[u32]) -> LearnedRoute {
    let mut next_hops: Vec<IpAddr> = next_hops.iter().map(|n| node(*n)).collect();
    next_hops.sort();
    LearnedRoute { next_hops, internal: true, local_pref: 100 }
}

fn changes(of: impl Iterator<Item = (u32, LearnedRoute)>) -> LearnedChanges {
    LearnedChanges { routes: of.map(|(n, route)| (block(n), Some(route))).collect(), converged: true }
}

fn context() -> RouteContext {
    RouteContext {
        node_addresses: vec!["10.0.0.1/16".parse().expect("an address")],
        ..RouteContext::default()
    }
}

fn decide(criterion: &mut Criterion) {
    let mut kernel = Linux::open().expect("a kernel");
    let (routes, links) = (kernel.routes().expect("its routes"), kernel.links().expect("its links"));
    let now = Instant::now();
    let mut group = criterion.benchmark_group("route_change");
    for size in SIZES {
        let mut fib = Fib::default();
        fib.set_resolver(Resolver::new(&routes, &links), now);
        fib.set_surroundings(Surroundings { context: context(), ..Surroundings::default() });
        fib.learn(changes((0..size).map(|n| (n, via(&[n])))));
        fib.decide(now);
        assert_eq!(fib.routes().len(), size as usize);
        let mut n = 0;
        group.bench_function(BenchmarkId::new("decided", size), |bencher| {
            bencher.iter(|| {
                n += 1;
                fib.learn(changes([(n % size, via(&[n / size + n + 1]))].into_iter()));
                fib.decide(now)
            });
        });
    }
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_write");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let desired = Desired { route_context: context(), ..Desired::default() };
    let mut engine = Engine::new(Linux::open().expect("a kernel"));
    let mut run = |changes: LearnedChanges, dirty: Dirty| {
        let outcome = engine.cycle(&desired, changes, dirty, Instant::now());
        assert!(!outcome.retry, "{:?}", outcome.applied.failures);
    };
    run(LearnedChanges::default(), Dirty::ALL);
    for size in SIZES {
        run(changes((0..size).map(|n| (n, via(&[n])))), Dirty::default());
        let mut n = 0;
        group.bench_function(BenchmarkId::new("one", size), |bencher| {
            bencher.iter(|| {
                n += 1;
                run(changes([(n % size, via(&[n / size + n + 1]))].into_iter()), Dirty::default());
            });
        });
    }
    let size = 10_000;
    for (name, first, second) in [("route_each", [1, 1], [2, 2]), ("group", [1, 2], [1, 3])] {
        let all = |next_hops: [u32; 2]| {
            let next_hops = if next_hops[0] == next_hops[1] { &next_hops[..1] } else { &next_hops[..] };
            changes((0..size).map(|n| (n, via(next_hops))))
        };
        let mut turn = false;
        group.bench_function(BenchmarkId::new("all_of_10000", name), |bencher| {
            bencher.iter_batched(
                || {
                    turn = !turn;
                    all(if turn { first } else { second })
                },
                |changes| run(changes, Dirty::default()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
