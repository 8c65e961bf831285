//! Metrics for Prometheus: what each policy has counted, read from the kernel when somebody asks. Where and whether is said
//! by FelixConfiguration (`prometheusMetricsEnabled`, `prometheusMetricsHost`, `prometheusMetricsPort`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tortie_policy::counters::{Count, Counters, Fate, Part, Tally};
use tortie_policy::ir::Direction;

use crate::desired::Desired;
use crate::kernel::{chain, read_counters};

/// Pause between attempts to listen.
const RETRY: Duration = Duration::from_secs(10);
/// The text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address; all of the node when absent.
    pub host: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
}

/// Serves metrics where it is wanted, for ever.
pub async fn run(
    mut wanted: watch::Receiver<Option<Listen>>,
    desired: watch::Receiver<Option<Arc<Desired>>>,
) {
    // One scrape at a time: each walks over all rules.
    let reader: Shared = Arc::new(Mutex::new(Reader { desired, tally: Tally::default() }));
    loop {
        let listen = *wanted.borrow_and_update();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return pending().await;
            },
            () = serve(listen, Arc::clone(&reader)) => {}
        }
    }
}

async fn serve(listen: Option<Listen>, reader: Shared) {
    let Some(listen) = listen else { return pending().await };
    let listener = loop {
        match bind(listen).await {
            Ok(listener) => break listener,
            Err(error) => tracing::warn!(%error, port = listen.port, "cannot serve metrics"),
        }
        sleep(RETRY).await;
    };
    let router = Router::new().route("/metrics", get(metrics)).with_state(reader);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "metrics are no longer served");
    }
}

async fn bind(listen: Listen) -> io::Result<TcpListener> {
    match listen.host {
        Some(host) => TcpListener::bind((host, listen.port)).await,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, listen.port)).await {
            Ok(listener) => Ok(listener),
            // A machine without IPv6.
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port)).await,
        },
    }
}

/// What scrapes need, and what they leave to the next.
struct Reader {
    desired: watch::Receiver<Option<Arc<Desired>>>,
    tally: Tally,
}

type Shared = Arc<Mutex<Reader>>;

async fn metrics(State(reader): State<Shared>) -> Response {
    let mut reader = reader.lock().await;
    let desired = reader.desired.borrow().clone();
    let read = move || read_counters(desired.as_ref().map(|desired| &*desired.ruleset));
    match spawn_blocking(read).await {
        Ok(Ok(readings)) => {
            reader.tally.take(readings);
            ([(CONTENT_TYPE, FORMAT)], render(reader.tally.counters())).into_response()
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, chain(&error) + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Names and helps of the metrics; each is one of packets and one of bytes.
const FAMILIES: [(&str, &str); 5] = [
    ("tortie_policy", "that rules of a policy matched"),
    ("tortie_staged_policy", "that rules of a staged policy would have decided about"),
    ("tortie_tier_end", "that no policy of a tier decided about, so that its default action did"),
    ("tortie_profile", "that rules of a profile matched"),
    ("tortie_rule", "that met another rule of the table"),
];

/// Counters in Prometheus' text format.
pub fn render(counters: &Counters) -> String {
    let mut families: BTreeMap<&str, Vec<(String, Count)>> = BTreeMap::new();
    for ((part, direction, fate), count) in counters.iter() {
        let (family, mut labels) = labels(part);
        labels.extend(direction.map(|direction| ("direction", direction_name(direction))));
        labels.push(("action", fate_name(*fate)));
        let labels: Vec<String> =
            labels.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        families.entry(family).or_default().push((labels.join(","), *count));
    }
    let mut text = String::new();
    for (family, help) in FAMILIES {
        let lines = families.get(family).map(Vec::as_slice).unwrap_or_default();
        let name = |unit: &str| (format!("{family}_{unit}_total"), help);
        series(&mut text, &name("packets"), "Packets", lines.iter().map(|(of, count)| (of, count.packets)));
        series(&mut text, &name("bytes"), "Bytes", lines.iter().map(|(of, count)| (of, count.bytes)));
    }
    text
}

fn series<'a>(
    text: &mut String,
    (name, help): &(String, &str),
    unit: &str,
    values: impl Iterator<Item = (&'a String, u64)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {unit} {help}.\n# TYPE {name} counter");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

/// The metric something is counted in, and its labels.
fn labels(part: &Part) -> (&'static str, Vec<(&'static str, &str)>) {
    match part {
        Part::Policy { tier, namespace, name } => {
            ("tortie_policy", vec![("tier", tier), ("namespace", namespace), ("policy", name)])
        }
        Part::Staged { namespace, name } => {
            ("tortie_staged_policy", vec![("namespace", namespace), ("policy", name)])
        }
        Part::TierEnd(tier) => ("tortie_tier_end", vec![("tier", tier)]),
        Part::Profile(profile) => ("tortie_profile", vec![("profile", profile)]),
        Part::Other(rule) => ("tortie_rule", vec![("rule", rule)]),
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Allow => "allow",
        Fate::Deny => "deny",
        Fate::Pass => "pass",
        Fate::Log => "log",
        Fate::None => "none",
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use tortie_policy::counters::key;
    use tortie_policy::ir::{Action, Verdict};

    use super::*;

    #[test]
    fn counters_are_told_in_the_text_format() {
        let accept = Action::Verdict(Verdict::Accept);
        let counted = [
            ("in-1", "tier default policy shop/web ingress[0]", accept.clone(), 3),
            ("in-2", "tier default policy shop/web ingress[0]", accept, 4),
            ("in-1", "tier default policy all ingress[1]", Action::Reject, 1),
            ("in-1", "tier default end", Action::Reject, 0),
            ("out-1", "profile kns.shop egress[0]", Action::Verdict(Verdict::Return), 9),
            (
                "staged-in-1",
                "staged policy shop/new would deny ingress[0]",
                Action::Verdict(Verdict::Return),
                2,
            ),
            ("prerouting", "source is not the workload's", Action::Verdict(Verdict::Drop), 5),
            ("prerouting", "a \"quoted\" \\ text", Action::Verdict(Verdict::Drop), 6),
        ];
        let counters = counted.iter().filter_map(|(chain, origin, action, packets)| {
            Some((key(chain, origin, action)?, Count { packets: *packets, bytes: packets * 40 }))
        });
        let expected = r#"# HELP tortie_policy_packets_total Packets that rules of a policy matched.
# TYPE tortie_policy_packets_total counter
tortie_policy_packets_total{tier="default",namespace="",policy="all",direction="ingress",action="deny"} 1
tortie_policy_packets_total{tier="default",namespace="shop",policy="web",direction="ingress",action="allow"} 7
# HELP tortie_policy_bytes_total Bytes that rules of a policy matched.
# TYPE tortie_policy_bytes_total counter
tortie_policy_bytes_total{tier="default",namespace="",policy="all",direction="ingress",action="deny"} 40
tortie_policy_bytes_total{tier="default",namespace="shop",policy="web",direction="ingress",action="allow"} 280
# HELP tortie_staged_policy_packets_total Packets that rules of a staged policy would have decided about.
# TYPE tortie_staged_policy_packets_total counter
tortie_staged_policy_packets_total{namespace="shop",policy="new",direction="ingress",action="deny"} 2
# HELP tortie_staged_policy_bytes_total Bytes that rules of a staged policy would have decided about.
# TYPE tortie_staged_policy_bytes_total counter
tortie_staged_policy_bytes_total{namespace="shop",policy="new",direction="ingress",action="deny"} 80
# HELP tortie_tier_end_packets_total Packets that no policy of a tier decided about, so that its default action did.
# TYPE tortie_tier_end_packets_total counter
tortie_tier_end_packets_total{tier="default",direction="ingress",action="deny"} 0
# HELP tortie_tier_end_bytes_total Bytes that no policy of a tier decided about, so that its default action did.
# TYPE tortie_tier_end_bytes_total counter
tortie_tier_end_bytes_total{tier="default",direction="ingress",action="deny"} 0
# HELP tortie_profile_packets_total Packets that rules of a profile matched.
# TYPE tortie_profile_packets_total counter
tortie_profile_packets_total{profile="kns.shop",direction="egress",action="allow"} 9
# HELP tortie_profile_bytes_total Bytes that rules of a profile matched.
# TYPE tortie_profile_bytes_total counter
tortie_profile_bytes_total{profile="kns.shop",direction="egress",action="allow"} 360
# HELP tortie_rule_packets_total Packets that met another rule of the table.
# TYPE tortie_rule_packets_total counter
tortie_rule_packets_total{rule="a \"quoted\" \\ text",action="deny"} 6
tortie_rule_packets_total{rule="source is not the workload's",action="deny"} 5
# HELP tortie_rule_bytes_total Bytes that met another rule of the table.
# TYPE tortie_rule_bytes_total counter
tortie_rule_bytes_total{rule="a \"quoted\" \\ text",action="deny"} 240
tortie_rule_bytes_total{rule="source is not the workload's",action="deny"} 200
"#;
        assert_eq!(render(&counters.collect()), expected);
    }
}
