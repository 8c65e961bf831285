//! What the rules of a busy node cost to load, and a change of them: by our own messages (`ours`), and by text through an
//! `nft` process, as the whole table (`nft_whole`) or as what changed (`nft_part`).
//!
//! 1000 policies of 10 rules, 20 of them on each of 500 workloads. The kernel is that of a network namespace of its own:
//! this binary starts itself again inside `unshare`, which needs root for transactions larger than `net.core.wmem_max`.

#![allow(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use criterion::{Criterion, SamplingMode};
use tortie_agent::kernel::{Linux, Ownership, Rulesets as _};
use tortie_model::resource::{NetworkPolicySpec, PolicyType};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::change::{diff, from_nothing};
use tortie_policy::snapshot::{Endpoint, EndpointId, PolicyBody, PolicyId, Snapshot};
use tortie_policy::{Ruleset, compile, nft};

const INSIDE: &str = "TORTIE_BENCH_NAMESPACE";
const POLICIES: u32 = 1000;
const ENDPOINTS: u32 = 500;
const GROUPS: u32 = 50;
const APPS: u32 = 100;

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        let mut criterion = Criterion::default().configure_from_args();
        rules(&mut criterion);
        criterion.final_summary();
        return;
    }
    let root = nix::unistd::geteuid().is_root();
    let namespaces = if root { &["--net"][..] } else { &["--user", "--map-root-user", "--net"] };
    let status = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().expect("the name of this binary"))
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) can be started");
    assert!(status.success(), "failed inside its namespace");
}

fn add_endpoint(snapshot: &mut Snapshot, n: u32, here: bool) {
    let labels = [
        ("group", format!("g{}", n % GROUPS)),
        ("app", format!("a{}", n % APPS)),
        ("projectcalico.org/namespace", "shop".to_owned()),
    ];
    let endpoint = Endpoint {
        labels: labels.into_iter().collect(),
        addresses: [std::net::Ipv4Addr::from(0x0a41_0000 + n).into()].into(),
        interface: here.then(|| format!("cali{n}")),
        ..Endpoint::default()
    };
    let id = EndpointId { namespace: "shop".into(), name: format!("p{n}") };
    snapshot.endpoints.insert(Arc::new(id), Arc::new(endpoint));
}

fn policy(n: u32) -> (PolicyId, PolicyBody) {
    let rule = |r: u16| Rule {
        action: Action::Allow,
        protocol: Some(Protocol::Tcp),
        source: EntityRule { selector: format!("app == 'a{}'", n % APPS), ..EntityRule::default() },
        destination: EntityRule { ports: vec![Port::Range(8000 + r, 8000 + r)], ..EntityRule::default() },
        ..Rule::default()
    };
    let spec = NetworkPolicySpec {
        order: Some(f64::from(n)),
        selector: format!("group == 'g{}'", n % GROUPS),
        types: vec![PolicyType::Ingress],
        ingress: (0..10).map(rule).collect(),
        ..NetworkPolicySpec::default()
    };
    let id = PolicyId { name: format!("default.policy{n}"), namespace: "shop".into() };
    (id, PolicyBody::Network(Box::new(spec)))
}

fn nft(text: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft ends").success(), "nft failed");
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut snapshot = Snapshot { policies: (0..POLICIES).map(policy).collect(), ..Snapshot::default() };
    (0..ENDPOINTS).for_each(|n| add_endpoint(&mut snapshot, n, true));
    let compiled = |n: u32, here: bool| {
        let mut more = snapshot.clone();
        add_endpoint(&mut more, n, here);
        compile(&more).ruleset
    };
    let base = compile(&snapshot).ruleset;
    let (endpoint, member) = (compiled(ENDPOINTS, true), compiled(ENDPOINTS, false));

    let mut kernel = Linux::with(Ownership::Shared).expect("a kernel");
    assert_eq!(kernel.ruleset(&base).expect("the rules"), None);
    group.bench_function("full/ours", |bencher| {
        bencher.iter(|| kernel.change_ruleset(&from_nothing(&base)).expect("a load"));
    });
    group.bench_function("full/nft_whole", |bencher| bencher.iter(|| nft(&nft::render(&base))));

    kernel.ruleset(&base).expect("the rules");
    kernel.change_ruleset(&from_nothing(&base)).expect("a load");
    group.bench_function("read_back/ours", |bencher| {
        bencher.iter(|| assert_eq!(kernel.ruleset(&base).expect("the rules").as_ref(), Some(&base)));
    });
    for (name, other) in [("endpoint", &endpoint), ("member", &member)] {
        // Back and forth: two transactions.
        let mut both = |from: &Ruleset, to: &Ruleset| {
            kernel.change_ruleset(&diff(from, to)).expect("a change");
            kernel.change_ruleset(&diff(to, from)).expect("a change");
        };
        group.bench_function(format!("{name}_there_and_back/ours_with_diff"), |bencher| {
            bencher.iter(|| both(&base, other));
        });
        let (there, back) = (diff(&base, other), diff(other, &base));
        group.bench_function(format!("{name}_there_and_back/ours"), |bencher| {
            bencher.iter(|| {
                kernel.change_ruleset(&there).expect("a change");
                kernel.change_ruleset(&back).expect("a change");
            });
        });
    }
    let member_name = base.sets.keys().next().expect("a set");
    for (name, set, element) in
        [("endpoint", "from-endpoint", "\"cali500\" : drop"), ("member", member_name.as_str(), "10.99.0.1")]
    {
        group.bench_function(format!("{name}_there_and_back/nft_part"), |bencher| {
            bencher.iter(|| {
                nft(&format!("add element inet tortie {set} {{ {element} }}"));
                nft(&format!("delete element inet tortie {set} {{ {element} }}"));
            });
        });
    }
    group.finish();
}
