//! The search for what is held for workloads that are gone: endpoints whose interface is missing, addresses without an
//! endpoint.
//!
//! What is held by whom comes from calc, so a look costs the datastore nothing. Only what two looks, a grace period apart,
//! found unchanged is taken away, and only after the datastore itself was asked once more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tortie_datastore::ipam::{DEFAULT_LEAK_GRACE, Living, Suspects, find_leaks};
use tortie_model::Key;
use tortie_model::resource::WorkloadEndpoint;

use super::service::Service;
use crate::calc::Tenancy;
use crate::logging::chain;

/// How often the node looks at most; a third of a shorter grace period.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// How often at least.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Where calc is asked who lives on this node.
pub type Asker = mpsc::Sender<oneshot::Sender<Option<Tenancy>>>;

/// An endpoint whose interface was missing, and since when.
#[derive(Debug)]
struct Missing {
    container: String,
    since: SystemTime,
}

/// The search on one node.
#[derive(Debug)]
pub struct Search {
    service: Service,
    node: String,
    tenancy: Asker,
    /// How long something must look abandoned; zero turns the search off.
    grace: Duration,
    suspects: Suspects,
    missing: BTreeMap<Key, Missing>,
}

impl Search {
    /// One for the node of a service. `grace` is what [`DEFAULT_LEAK_GRACE`] is the default of.
    pub fn new(service: Service, tenancy: Asker, grace: Option<Duration>) -> Search {
        Search {
            node: service.node().to_owned(),
            service,
            tenancy,
            grace: grace.unwrap_or(DEFAULT_LEAK_GRACE),
            suspects: Suspects::default(),
            missing: BTreeMap::new(),
        }
    }

    /// Looks from time to time.
    pub async fn run(mut self, now: fn() -> SystemTime) {
        let pause = match self.grace {
            Duration::ZERO => LONGEST_PAUSE,
            grace => (grace / 3).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        };
        let mut looks = interval(pause);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The clock of the host may jump; what counts is how long something has been looking abandoned.
        let (begun, clock) = (now(), Instant::now());
        loop {
            looks.tick().await;
            self.look(begun + clock.elapsed()).await;
        }
    }

    /// Takes away what earlier looks found abandoned already.
    pub async fn look(&mut self, now: SystemTime) {
        let (answer, tenancy) = oneshot::channel();
        if self.tenancy.send(answer).await.is_err() {
            return;
        }
        let Ok(Some(tenancy)) = tenancy.await else { return };
        self.remove_gone(&tenancy, now).await;
        self.release_leaks(&tenancy, now).await;
    }

    /// Endpoints of containers whose interface has been missing for the grace period: the attach that wrote them was
    /// broken off, or the container went while no agent ran and nobody called detach.
    async fn remove_gone(&mut self, tenancy: &Tenancy, now: SystemTime) {
        if self.grace.is_zero() {
            return;
        }
        let mut seen = BTreeMap::new();
        for endpoint in tenancy.endpoints.iter().filter(|endpoint| is_ours(endpoint)) {
            if self.service.has_interface(endpoint).await {
                continue;
            }
            let key = endpoint.key();
            let container = endpoint.spec.container_id.clone();
            let earlier = self.missing.remove(&key).filter(|missing| missing.container == container);
            let since = earlier.as_ref().map_or(now, |missing| missing.since.min(now));
            if earlier.is_some() && now.duration_since(since).is_ok_and(|age| age >= self.grace) {
                self.remove(endpoint, tenancy).await;
            }
            seen.insert(key, Missing { container, since });
        }
        self.missing = seen;
    }

    async fn remove(&self, endpoint: &WorkloadEndpoint, tenancy: &Tenancy) {
        let addresses = addresses_of(endpoint);
        let held = tenancy.allocations.iter().find(|held| addresses.contains(&held.address));
        let name = endpoint.metadata.name.as_str();
        match self.service.remove_gone(endpoint, held.map(|held| held.handle.as_str())).await {
            Ok(true) => tracing::info!(
                endpoint = name,
                interface = endpoint.spec.interface_name,
                ?addresses,
                "removed the endpoint of a workload whose interface is gone"
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    endpoint = name,
                    error = chain(&error),
                    "cannot remove a workload that is gone"
                );
            }
        }
    }

    async fn release_leaks(&mut self, tenancy: &Tenancy, now: SystemTime) {
        let addresses: BTreeSet<IpAddr> = tenancy.endpoints.iter().flat_map(addresses_of).collect();
        let living = Living { handles: &BTreeSet::new(), addresses: &addresses };
        let leaks = find_leaks(&self.node, &tenancy.allocations, living, now, self.grace, &mut self.suspects);
        for leak in leaks {
            let (handle, addresses) = (leak.handle(), leak.addresses().collect::<Vec<_>>());
            match self.service.release_leak(&leak).await {
                Ok(true) => tracing::info!(handle, ?addresses, "released addresses no workload has"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(handle, ?addresses, error = chain(&error), "cannot release a leak");
                }
            }
        }
    }
}

/// Whether an attach of ours could have written it. Other orchestrators make their interfaces when they like.
fn is_ours(endpoint: &WorkloadEndpoint) -> bool {
    ["k8s", "cni"].contains(&endpoint.spec.orchestrator.as_str()) && !endpoint.spec.container_id.is_empty()
}

fn addresses_of(endpoint: &WorkloadEndpoint) -> Vec<IpAddr> {
    endpoint.spec.ip_networks.iter().map(|network| network.ip()).collect()
}
