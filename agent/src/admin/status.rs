//! What operators and probes ask.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;
use tortie_bgp::net::Handle;
use tortie_datastore::syncer::SyncState;
use tortie_model::local_api::NodeStatus;
use tortie_policy::nft;

use super::{Failure, bgp};
use crate::app::Progress;
use crate::dataplane::question::Asker;
use crate::desired::{Applied, Desired};
use crate::status;

/// Where the answers come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Name of the node.
    pub node: String,
    /// How it stands with the datastore.
    pub datastore: watch::Receiver<SyncState>,
    /// How far the calculation is.
    pub progress: watch::Receiver<Progress>,
    /// What the kernel should hold.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// What the kernel holds.
    pub applied: watch::Receiver<Arc<Applied>>,
    /// The speaker.
    pub speaker: Handle,
    /// The data plane.
    pub kernel: Asker,
    /// When the agent began.
    pub started: Instant,
}

impl Sources {
    /// In sync with the datastore, and the kernel was in shape at least once.
    fn is_ready(&self) -> bool {
        self.progress.borrow().in_sync && self.applied.borrow().ready
    }

    /// Everything that is not as it should be, one line each.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.progress.borrow().lines();
        if let SyncState::Reconnecting { reason } = &*self.datastore.borrow() {
            problems.push(format!("no connection to the datastore, what is known stays in force: {reason}"));
        }
        let applied = self.applied.borrow();
        problems.extend(applied.failures.iter().map(|(object, text)| format!("{object}: {text}")));
        problems
    }
}

pub(super) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/ready/bgp", get(bgp_ready))
        .route("/v1/node/status", get(node_status))
        .route("/v1/node/ruleset", get(ruleset))
        .route("/v1/bgp/routes", get(bgp::routes))
        .route("/v1/bgp/explain", get(bgp::explain))
        .with_state(sources)
}

async fn ready(State(sources): State<Sources>) -> (StatusCode, String) {
    if sources.is_ready() {
        return (StatusCode::OK, "ready\n".into());
    }
    let mut problems = sources.problems();
    if problems.is_empty() {
        problems.push("the first programming of the kernel is under way".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", problems.join("\n")))
}

/// Apart from [`ready`], as calico/node has it: who restarts nodes one after the other asks here too.
async fn bgp_ready(State(sources): State<Sources>) -> (StatusCode, String) {
    let mut faults = Vec::new();
    if sources.progress.borrow().in_sync {
        faults.extend(status::bgp_faults(&sources.speaker.sessions().await, sources.started.elapsed()));
    } else {
        faults.extend(sources.progress.borrow().lines());
    }
    if faults.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", faults.join("\n")))
}

async fn node_status(State(sources): State<Sources>) -> Json<NodeStatus> {
    let speaker = sources.speaker.sessions().await;
    let mut problems = sources.problems();
    problems.extend(
        speaker.listen_errors.iter().map(|(end, reason)| format!("cannot listen for BGP at {end}: {reason}")),
    );
    Json(NodeStatus {
        node: sources.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: sources.is_ready(),
        problems,
        peers: status::peers(&speaker, &jiff::Zoned::now()),
    })
}

/// The table of rules that is wanted, as text for `nft -f`. What is there is `nft`'s to tell: whoever doubts compares.
async fn ruleset(State(sources): State<Sources>) -> Result<String, Failure> {
    let Some(desired) = sources.desired.borrow().clone() else {
        let reason = "no rules are calculated yet: not in sync with the datastore";
        return Err(Failure(StatusCode::SERVICE_UNAVAILABLE, reason.to_owned()));
    };
    // Tens of megabytes for the largest tables; other tasks get another thread.
    let text = tokio::task::spawn_blocking(move || nft::render_table(&desired.ruleset)).await;
    text.map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_needs_both_halves_and_says_what_is_missing() {
        let (progress, progress_reader) = watch::channel(Progress::default());
        let (applied, applied_reader) = watch::channel(Arc::new(Applied::default()));
        let (desired, desired_reader) = watch::channel(None);
        let (datastore, datastore_reader) = watch::channel(SyncState::Listing);
        let (speaker, _table) = tortie_bgp::net::start(None, false);
        let sources = Sources {
            node: "n1".into(),
            datastore: datastore_reader,
            progress: progress_reader,
            desired: desired_reader,
            applied: applied_reader,
            speaker,
            kernel: crate::dataplane::question::channel().0,
            started: Instant::now(),
        };
        let (code, text) = bgp_ready(State(sources.clone())).await;
        assert!(code == StatusCode::SERVICE_UNAVAILABLE && text.contains("not in sync"), "{text}");
        let ask = async || ready(State(sources.clone())).await;
        let (code, text) = ask().await;
        assert!(code == StatusCode::SERVICE_UNAVAILABLE && text.contains("not in sync"), "{text}");

        progress.send_replace(Progress { in_sync: true, ..Progress::default() });
        let (code, text) = ask().await;
        assert!(code == StatusCode::SERVICE_UNAVAILABLE && text.contains("first programming"), "{text}");
        let failures = [("cali1".to_owned(), "cannot add a route".to_owned())].into();
        applied.send_replace(Arc::new(Applied { failures, ..Applied::default() }));
        assert_eq!(ask().await.1, "not ready\ncali1: cannot add a route\n");

        applied.send_replace(Arc::new(Applied { ready: true, ..Applied::default() }));
        assert_eq!(ask().await, (StatusCode::OK, "ready\n".to_owned()));
        assert_eq!(bgp_ready(State(sources.clone())).await.0, StatusCode::OK);
        let status = node_status(State(sources.clone())).await.0;
        assert!(status.ready && status.problems.is_empty() && status.peers.is_empty());

        let refused = ruleset(State(sources.clone())).await.unwrap_err();
        assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
        desired.send_replace(Some(Arc::default()));
        let rules = ruleset(State(sources.clone())).await.unwrap();
        assert!(rules.starts_with("table inet tortie {\n") && rules.contains("unknown workload"), "{rules}");

        // An outage is told, but what works goes on working.
        datastore.send_replace(SyncState::Reconnecting { reason: "gone".into() });
        let status = node_status(State(sources)).await.0;
        assert!(status.ready && status.problems[0].contains("no connection to the datastore"), "{status:?}");
    }
}
