//! Selectors: reading one, and asking it about the labels of 10 000 endpoints.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tortie_model::selector::Selector;

const ENDPOINTS: usize = 10_000;
const SELECTORS: [(&str, &str); 3] = [
    ("equal", "app == 'app7'"),
    ("typical", "projectcalico.org/namespace == 'ns3' && app in {'app3', 'app7'} && !has(legacy)"),
    ("substring", "pod contains '77' || pod ends with '3'"),
];

fn labels(n: usize) -> BTreeMap<String, String> {
    [
        ("app", format!("app{}", n % 20)),
        ("pod", format!("pod-{n}")),
        ("projectcalico.org/namespace", format!("ns{}", n % 100)),
        ("projectcalico.org/orchestrator", "k8s".to_owned()),
        ("tier", format!("t{}", n % 3)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn selectors(criterion: &mut Criterion) {
    let endpoints: Vec<_> = (0..ENDPOINTS).map(labels).collect();
    let mut group = criterion.benchmark_group("selector");
    group.sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    for (name, text) in SELECTORS {
        let selector: Selector = text.parse().expect("a selector");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| black_box(text).parse::<Selector>());
        });
        group.throughput(Throughput::Elements(ENDPOINTS as u64));
        group.bench_function(BenchmarkId::new("match", name), |b| {
            b.iter(|| endpoints.iter().filter(|labels| selector.matches(*labels)).count());
        });
    }
    group.finish();
}

criterion_group!(benches, selectors);
criterion_main!(benches);
