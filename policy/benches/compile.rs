//! Compiling what a busy node of a large cluster enforces: 500 of 10 000 endpoints are here, 1000 policies.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use tortie_model::rule::EntityRule;
use tortie_policy::snapshot::{PolicyBody, PolicyId};
use tortie_policy::{Engine, compile, nft};

mod cluster;

use cluster::{APPS, NAMESPACES, endpoint, policy, snapshot};

/// The same with selectors that no single value of a label decides: sets of values, and a label that must be there.
fn loose_policy(n: u32) -> (PolicyId, PolicyBody) {
    let (id, body) = policy(n);
    let PolicyBody::Network(mut spec) = body else { return (id, body) };
    spec.selector = format!("app in {{'app{}', 'app{}'}}", n % APPS, (n + 7) % APPS);
    for (rule, selector) in spec.ingress.iter_mut().zip([
        format!("pod in {{'p{n}', 'p{}'}} || pod == 'p{}'", n + 100, n + 200),
        format!("has(canary) && pod starts with 'p{n}'"),
    ]) {
        rule.source = EntityRule { selector, namespace_selector: "all()".into(), ..EntityRule::default() };
    }
    (id, PolicyBody::Network(spec))
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    // As many endpoints here and the same policies, in a cluster of a tenth and in the whole one.
    for (name, snapshot) in [
        ("500_of_1000_endpoints", snapshot(1000, 1000, policy)),
        ("500_of_10000_endpoints", snapshot(10_000, 1000, policy)),
        ("loose_500_of_10000_endpoints", snapshot(10_000, 1000, loose_policy)),
    ] {
        let compiled = compile(&snapshot);
        assert_eq!(compiled.problems, []);
        assert_eq!(snapshot.endpoints.values().filter(|e| e.interface.is_some()).count(), 500);
        group.bench_function(BenchmarkId::new("compile", name), |b| b.iter(|| compile(&snapshot)));
        group.bench_function(BenchmarkId::new("render", name), |b| b.iter(|| nft::render(&compiled.ruleset)));
    }
    group.finish();
}

/// One change in a cluster of 100 000 endpoints and 2000 policies, of which 500 endpoints are here, and in one of a tenth.
fn changing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy_change");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    for (endpoints, policies) in [(10_000, 2000), (100_000, 2000)] {
        let snapshot = snapshot(endpoints, policies, policy);
        let begin = || {
            let mut engine = Engine::default();
            engine.set_all(&snapshot);
            engine.flush();
            engine
        };
        let size = format!("{endpoints}_endpoints");
        group.bench_function(BenchmarkId::new("all", &size), |b| b.iter(begin));
        let mut engine = begin();
        let (remote, there) = endpoint(1 + NAMESPACES, endpoints);
        assert_eq!(there.interface, None);
        group.bench_function(BenchmarkId::new("remote_endpoint", &size), |b| {
            b.iter(|| {
                engine.set_endpoint(&remote, None);
                engine.flush();
                engine.set_endpoint(&remote, Some(&there));
                engine.flush()
            })
        });
        let (local, here) = endpoint(1, endpoints);
        assert!(here.interface.is_some());
        group.bench_function(BenchmarkId::new("local_endpoint", &size), |b| {
            b.iter(|| {
                engine.set_endpoint(&local, None);
                engine.flush();
                engine.set_endpoint(&local, Some(&here));
                engine.flush()
            })
        });
        let (id, body) = policy(1);
        group.bench_function(BenchmarkId::new("policy", &size), |b| {
            b.iter(|| {
                engine.set_policy(&id, None);
                engine.flush();
                engine.set_policy(&id, Some(&body));
                engine.flush()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, compiling, changing);
criterion_main!(benches);
