//! What the rules of a busy node cost to load, and a change of them: 500 workloads, 1000 policies of 10 rules and 20 peers
//! each, 20 of them on each workload.
//!
//! | name | what |
//! |---|---|
//! | `limit` | messages made beforehand, without counters and comments |
//! | `ours` | our messages; `…_with_diff` and `…_calculated` from an earlier point on |
//! | `chains` | a chain for each policy and each workload in our messages, as Calico has it |
//! | `nft` | our table, or what changes of it, as text for an `nft` process |
//! | `crate` | by the `nftables` crate, which knows no maps to verdicts: a list of interfaces instead |
//! | `iptables` | a list of interfaces and networks by `iptables-restore`, where there is one |
//!
//! The kernel is that of a network namespace of its own; transactions of this size need root.

#![allow(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

mod iptables;
#[path = "../limit/mod.rs"]
mod limit;
#[path = "../namespace/mod.rs"]
mod namespace;
mod text;
#[path = "../world/mod.rs"]
mod world;
mod wrapped;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use tortie_agent::kernel::{Linux, Ownership, Rulesets as _};
use tortie_model::scalar::Protocol;
use tortie_policy::change::{diff, from_nothing};
use tortie_policy::ir::{Direction, Origins};
use tortie_policy::{Engine, Ruleset};

use limit::{Limit, bare};
use world::World;

const WORLD: World = World {
    endpoints: 500,
    groups: 50,
    policies: 20,
    protocol: Protocol::Tcp,
    directions: &[Direction::Ingress],
};
/// Ports of a policy that is another, count from here.
const OTHER_PORT: u16 = 7000;

/// What changes, there and back.
#[derive(Clone, Copy)]
enum Step {
    Endpoint,
    Member,
    Policy,
}

const STEPS: [(Step, &str); 3] =
    [(Step::Endpoint, "endpoint"), (Step::Member, "member"), (Step::Policy, "policy")];

fn main() {
    if !namespace::is_inside() {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(std::time::Duration::from_secs(1)).measurement_time(std::time::Duration::from_secs(2));
    ours(&mut group);
    chains(&mut group);
    wrapped::all(&mut group);
    iptables::all(&mut group);
    group.finish();
    criterion.final_summary();
}

impl Step {
    /// Tells the engine.
    fn tell(self, engine: &mut Engine, there: bool) {
        match self {
            Step::Endpoint => {
                let (id, endpoint) = WORLD.endpoint(WORLD.endpoints);
                engine.set_endpoint(&id, there.then_some(&endpoint));
            }
            Step::Member => {
                let (id, endpoint) = world::peer(0, world::PEERS);
                engine.set_endpoint(&id, there.then_some(&endpoint));
            }
            Step::Policy => {
                let (id, body) = WORLD.policy(0, if there { OTHER_PORT } else { world::FIRST_PORT });
                engine.set_policy(&id, Some(&body));
            }
        }
    }

    /// The same where each policy has a chain; a member is the same there as here.
    fn chains(self, base: &Ruleset) -> Option<Ruleset> {
        let mut other = base.clone();
        match self {
            Step::Endpoint => {
                for direction in [Direction::Ingress, Direction::Egress] {
                    WORLD.add_chains(&mut other, direction, WORLD.endpoints);
                }
            }
            Step::Member => return None,
            Step::Policy => {
                let chain = WORLD.chain_of_policy(Direction::Ingress, 0, OTHER_PORT);
                other.chains.insert(world::chains::policy_chain(Direction::Ingress, 0), chain);
            }
        }
        Some(other)
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut engine = Engine::default();
    engine.set_all(&WORLD.snapshot());
    let base = engine.flush().ruleset;
    let mut kernel = Linux::with(Ownership::Shared).expect("a kernel");
    assert_eq!(kernel.ruleset(&base).expect("the rules"), None);
    group.bench_function("full/ours", |bencher| {
        bencher.iter(|| kernel.change_ruleset(&from_nothing(&base)).expect("a load"));
    });
    // The kernel is not told what merged sets are made of.
    let told = Ruleset { origins: Origins::default(), ..base.clone() };
    // After a load the kernel makes its hashes larger, and a dump meanwhile tells members twice or not at all.
    let settled = (0..100).any(|_| kernel.ruleset(&base).expect("the rules").as_ref() == Some(&told));
    assert!(settled, "what is read is what was loaded");
    group.bench_function("read_back/ours", |bencher| {
        bencher.iter(|| assert!(kernel.ruleset(&base).expect("the rules").as_ref() == Some(&told)));
    });
    let mut others = Vec::new();
    for (step, name) in STEPS {
        step.tell(&mut engine, true);
        let other = engine.flush().ruleset;
        step.tell(&mut engine, false);
        assert!(engine.flush().ruleset == base && other != base);
        let (there, back) = (diff(&base, &other), diff(&other, &base));
        let mut change = |changes: &[_]| kernel.change_ruleset(changes).expect("a change");
        group.bench_function(format!("{name}_there_and_back/ours"), |bencher| {
            bencher.iter(|| [&there, &back].map(|changes| change(changes)));
        });
        group.bench_function(format!("{name}_there_and_back/ours_with_diff"), |bencher| {
            bencher.iter(|| [(&base, &other), (&other, &base)].map(|(from, to)| change(&diff(from, to))));
        });
        let mut held = base.clone();
        group.bench_function(format!("{name}_there_and_back/ours_calculated"), |bencher| {
            bencher.iter(|| {
                for is_there in [true, false] {
                    step.tell(&mut engine, is_there);
                    let wanted = engine.flush().ruleset;
                    change(&diff(&held, &wanted));
                    held = wanted;
                }
            });
        });
        let texts = [&there, &back].map(|changes| text::of(changes));
        group.bench_function(format!("{name}_there_and_back/nft"), |bencher| {
            bencher.iter(|| texts.each_ref().map(|text| text::nft(text)));
        });
        others.push((name, other));
    }
    let whole = tortie_policy::nft::render(&base);
    group.bench_function("full/nft", |bencher| bencher.iter(|| text::nft(&whole)));

    let (mut limit, bare_base) = (Limit::open(), bare(&base));
    let load = limit::messages(&from_nothing(&bare_base));
    group.bench_function("full/limit", |bencher| bencher.iter(|| limit.send(&load)));
    for (name, other) in others {
        let other = bare(&other);
        let both = [(&bare_base, &other), (&other, &bare_base)].map(|(a, b)| limit::messages(&diff(a, b)));
        group.bench_function(format!("{name}_there_and_back/limit"), |bencher| {
            bencher.iter(|| both.each_ref().map(|messages| limit.send(messages)));
        });
    }
}

fn chains(group: &mut BenchmarkGroup<'_, WallTime>) {
    let base = WORLD.chains();
    let mut kernel = Linux::with(Ownership::Shared).expect("a kernel");
    kernel.ruleset(&base).expect("the rules");
    let mut change = |changes: &[_]| kernel.change_ruleset(changes).expect("a change");
    let load = from_nothing(&base);
    group.bench_function("full/chains", |bencher| bencher.iter(|| change(&load)));
    for (step, name) in STEPS {
        let Some(other) = step.chains(&base) else { continue };
        let both = [diff(&base, &other), diff(&other, &base)];
        group.bench_function(format!("{name}_there_and_back/chains"), |bencher| {
            bencher.iter(|| both.each_ref().map(|changes| change(changes)));
        });
    }
}
