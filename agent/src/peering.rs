//! Between calc and the speaker: what the speaker is told, and what it has learned as one table.
//!
//! Sessions come up as soon as there is a configuration. Routes are originated only as far as the kernel carries them,
//! and none before the kernel has been brought into shape once: a speaker that restarts says End-of-RIB after its first
//! routes, and whatever is missing then, its peers forget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::net::{Handle, TableEvent};
use tortie_bgp::table::OriginatedRoute;

use crate::desired::{Applied, BgpDesired, Learned};

/// How long a kernel that will not come into shape holds back the first routes: shorter than peers wait for us.
const PATIENCE: Duration = Duration::from_secs(30);

/// What peering listens to and tells.
#[derive(Debug)]
pub struct Channels {
    /// What the speaker should do; `None` until the datastore is in sync.
    pub desired: watch::Receiver<Option<Arc<BgpDesired>>>,
    /// What the kernel carries.
    pub applied: watch::Receiver<Arc<Applied>>,
    /// What peers told.
    pub learned: watch::Sender<Arc<Learned>>,
}

/// What the speaker should be told; `None` is not to be told yet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Orders {
    config: Option<Option<Arc<SpeakerConfig>>>,
    originated: Option<BTreeMap<IpNetwork, OriginatedRoute>>,
}

/// Orders for the present inputs. `patient`: the kernel may still be waited for.
fn orders(desired: Option<&BgpDesired>, applied: &Applied, patient: bool) -> Orders {
    let Some(desired) = desired else { return Orders::default() };
    let carried = || {
        let routes = desired.originated.iter().filter(|(prefix, _)| applied.routes.contains(*prefix));
        routes.map(|(prefix, route)| (*prefix, route.clone())).collect()
    };
    Orders { config: Some(desired.config.clone()), originated: (applied.ready || !patient).then(carried) }
}

/// Takes an event of the speaker into the table.
fn learn(learned: &mut Learned, event: TableEvent) {
    match event {
        TableEvent::Changes(changes) => {
            for change in changes {
                match change.route {
                    Some(route) => learned.routes.insert(change.prefix, route),
                    None => learned.routes.remove(&change.prefix),
                };
            }
        }
        TableEvent::Converged => learned.converged = true,
    }
}

/// Runs until the speaker or the calculation is gone.
pub async fn run(handle: Handle, mut events: mpsc::Receiver<TableEvent>, mut channels: Channels) {
    let mut told = Orders::default();
    let mut learned = Learned::default();
    let mut patience: Option<Instant> = None;
    loop {
        let desired = channels.desired.borrow_and_update().clone();
        if desired.is_some() && patience.is_none() {
            patience = Some(Instant::now() + PATIENCE);
        }
        let patient = patience.is_none_or(|end| Instant::now() < end);
        let applied = Arc::clone(&channels.applied.borrow_and_update());
        let orders = orders(desired.as_deref(), &applied, patient);
        let silent = matches!(orders.config, Some(None));
        give(&handle, &mut told, orders);
        // Without a speaker nobody comes back; routes of an earlier life are not waited for.
        if silent && !learned.converged {
            learned.converged = true;
            channels.learned.send_replace(Arc::new(learned.clone()));
        }
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                learn(&mut learned, event);
                while let Ok(event) = events.try_recv() {
                    learn(&mut learned, event);
                }
                channels.learned.send_replace(Arc::new(learned.clone()));
            }
            changed = channels.desired.changed() => if changed.is_err() { return },
            changed = channels.applied.changed() => if changed.is_err() { return },
            () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() && patient => {}
        }
    }
}

/// Tells the speaker what is new. Routes go first, so that a session that comes up finds them.
fn give(handle: &Handle, told: &mut Orders, orders: Orders) {
    if let Some(routes) = &orders.originated
        && told.originated.as_ref() != Some(routes)
    {
        handle.originate(routes.clone());
        told.originated = orders.originated;
    }
    if orders.config != told.config {
        let before = told.config.take().flatten();
        match &orders.config {
            Some(Some(config)) => handle.configure(SpeakerConfig::clone(config)),
            Some(None) => before.into_iter().for_each(|config| handle.configure(alone(&config))),
            None => {}
        }
        told.config = orders.config;
    }
}

/// A speaker that knows nobody and hears nobody.
fn alone(config: &SpeakerConfig) -> SpeakerConfig {
    let SpeakerConfig { router_id, local_as, cluster_id, .. } = *config;
    SpeakerConfig { router_id, local_as, cluster_id, listen: Vec::new(), peers: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_bgp::table::{LearnedRoute, TableChange};

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn desired(prefixes: &[&str]) -> BgpDesired {
        let route = OriginatedRoute { local_pref: 1 };
        BgpDesired { config: None, originated: prefixes.iter().map(|p| (net(p), route.clone())).collect() }
    }

    fn applied(ready: bool, prefixes: &[&str]) -> Applied {
        Applied { ready, routes: prefixes.iter().map(|p| net(p)).collect(), ..Applied::default() }
    }

    fn originated(desired: &BgpDesired, applied: &Applied, patient: bool) -> Option<Vec<String>> {
        let routes = orders(Some(desired), applied, patient).originated?;
        Some(routes.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn only_what_the_kernel_carries_is_originated() {
        let desired = desired(&["10.64.0.0/26", "10.64.9.1/32"]);
        let both = applied(true, &["10.64.0.0/26", "10.64.9.1/32", "10.64.0.7/32"]);
        assert_eq!(originated(&desired, &both, true).unwrap(), ["10.64.0.0/26", "10.64.9.1/32"]);
        let block = applied(true, &["10.64.0.0/26"]);
        assert_eq!(originated(&desired, &block, true).unwrap(), ["10.64.0.0/26"]);
    }

    #[test]
    fn the_first_routes_wait_for_the_kernel_but_not_for_ever() {
        let desired = desired(&["10.64.0.0/26"]);
        let half = applied(false, &["10.64.0.0/26"]);
        assert_eq!(originated(&desired, &half, true), None);
        assert_eq!(originated(&desired, &half, false).unwrap(), ["10.64.0.0/26"]);
        assert_eq!(orders(None, &applied(true, &[]), false), Orders::default(), "nothing before in sync");
        assert_eq!(orders(Some(&desired), &half, true).config, Some(None));
    }

    #[test]
    fn changes_add_up_to_a_table() {
        let route = |hop: &str| LearnedRoute {
            next_hops: vec![hop.parse().unwrap()],
            internal: true,
            local_pref: 100,
        };
        let change = |prefix: &str, route| TableChange { prefix: net(prefix), route };
        let mut learned = Learned::default();
        let first = vec![
            change("10.65.0.0/26", Some(route("10.0.0.2"))),
            change("10.66.0.0/26", Some(route("10.0.0.3"))),
        ];
        learn(&mut learned, TableEvent::Changes(first));
        assert!(!learned.converged);
        let second = vec![change("10.65.0.0/26", None), change("10.66.0.0/26", Some(route("10.0.0.4")))];
        learn(&mut learned, TableEvent::Changes(second));
        learn(&mut learned, TableEvent::Converged);
        assert!(learned.converged);
        assert_eq!(
            learned.routes.into_iter().collect::<Vec<_>>(),
            [(net("10.66.0.0/26"), route("10.0.0.4"))]
        );
    }
}
