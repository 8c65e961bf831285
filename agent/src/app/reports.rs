//! The task that writes the reports CalicoNodeStatus resources of this node ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::net::Handle;
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{CalicoNodeStatusSpec, CalicoNodeStatusStatus};

use crate::desired::BgpDesired;
use crate::logging::chain;
use crate::status::report::{Facts, report};

/// Time between reports where the resource names none, and after a report that could not be written.
const PERIOD: Duration = Duration::from_secs(10);

/// Reports by name of the resource that asks for one.
pub(super) type Wanted = Arc<BTreeMap<String, CalicoNodeStatusSpec>>;

/// What the task works with.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) client: Client,
    pub(super) speaker: Handle,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) bgp: watch::Receiver<Option<Arc<BgpDesired>>>,
}

/// When each report is due; `None` is not again.
#[derive(Debug, Default)]
struct Schedule(BTreeMap<String, (CalicoNodeStatusSpec, Option<Instant>)>);

impl Schedule {
    /// The reports due now. One that is new or asks for something else is due at once.
    fn due(&mut self, wanted: &Wanted, now: Instant) -> Vec<String> {
        self.0.retain(|name, (spec, _)| wanted.get(name) == Some(spec));
        let is_due = |name: &&String| match self.0.get(*name) {
            None => true,
            Some((_, next)) => next.is_some_and(|next| next <= now),
        };
        wanted.keys().filter(is_due).cloned().collect()
    }

    /// A report was written, or could not be.
    fn done(&mut self, name: &str, spec: &CalicoNodeStatusSpec, written: bool, now: Instant) {
        let period = spec.update_period_seconds.map_or(PERIOD, |period| Duration::from_secs(period.into()));
        let next = match (written, period.is_zero()) {
            (false, _) => Some(now + PERIOD),
            (true, true) => None,
            (true, false) => Some(now + period),
        };
        self.0.insert(name.to_owned(), (spec.clone(), next));
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|(_, next)| *next).min()
    }
}

impl Reporter {
    /// Runs until the calculation is gone.
    pub(super) async fn run(mut self) {
        let started = Timestamp::now();
        let mut schedule = Schedule::default();
        let mut configured: Option<(Arc<SpeakerConfig>, Timestamp)> = None;
        loop {
            let config = self.bgp.borrow_and_update().as_ref().and_then(|bgp| bgp.config.clone());
            configured = match (config, configured) {
                (Some(config), Some((last, at))) if Arc::ptr_eq(&config, &last) => Some((last, at)),
                (Some(config), _) => Some((config, Timestamp::now())),
                (None, _) => None,
            };
            let wanted = self.wanted.borrow_and_update().clone();
            for name in schedule.due(&wanted, Instant::now()) {
                let Some(spec) = wanted.get(&name) else { continue };
                let speaker = self.speaker.snapshot().await;
                let facts = Facts {
                    speaker: &speaker,
                    router_id: configured.as_ref().map(|(config, _)| config.router_id),
                    started,
                    configured: configured.as_ref().map(|(_, at)| *at),
                    now: Timestamp::now(),
                };
                let written = self.write(&name, report(&spec.classes, &facts)).await;
                schedule.done(&name, spec, written, Instant::now());
            }
            let next = schedule.next();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = self.bgp.changed() => if changed.is_err() { return },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Whether the report is written; another writer in between is no reason to hurry.
    async fn write(&self, name: &str, report: CalicoNodeStatusStatus) -> bool {
        match self.try_write(name, report).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("cannot write the report of CalicoNodeStatus {name}: {}", chain(&error));
                false
            }
        }
    }

    async fn try_write(&self, name: &str, report: CalicoNodeStatusStatus) -> Result<(), ClientError> {
        let Some(mut stored) = self.client.find::<CalicoNodeStatusSpec>(None, name).await? else {
            return Ok(());
        };
        stored.status = serde_json::to_value(report).ok();
        self.client.update(stored.into()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tortie_datastore::memory::MemoryStore;
    use tortie_model::resource::{CalicoNodeStatus, NodeStatusClass};
    use tortie_model::{Kind, codec};

    use super::*;

    fn spec(period: Option<u32>) -> CalicoNodeStatusSpec {
        CalicoNodeStatusSpec {
            node: "n1".into(),
            classes: vec![NodeStatusClass::Agent],
            update_period_seconds: period,
        }
    }

    fn wanted(period: Option<u32>) -> Wanted {
        Arc::new([("s".to_owned(), spec(period))].into())
    }

    #[test]
    fn reports_are_due_by_period_once_or_when_asked_differently() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        let every = wanted(Some(30));
        assert_eq!(schedule.due(&every, now), ["s"]);
        schedule.done("s", &every["s"], true, now);
        assert!(schedule.due(&every, after(29)).is_empty());
        assert_eq!(schedule.next(), Some(after(30)));
        assert_eq!(schedule.due(&every, after(30)), ["s"]);
        let once = wanted(Some(0));
        assert_eq!(schedule.due(&once, after(1)), ["s"], "it asks for something else");
        schedule.done("s", &once["s"], false, after(1));
        assert_eq!(schedule.due(&once, after(11)), ["s"], "it could not be written");
        schedule.done("s", &once["s"], true, after(11));
        assert!(schedule.due(&once, after(9999)).is_empty() && schedule.next().is_none());
        assert!(schedule.due(&Wanted::default(), after(9999)).is_empty());
        assert_eq!(schedule.due(&once, after(9999)), ["s"], "it was deleted and made again");
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_written_into_the_resource_again_and_again() {
        let client = Client::new(Arc::new(MemoryStore::default()));
        let document = json!({"kind": "CalicoNodeStatus", "metadata": {"name": "s"},
                              "spec": {"node": "n1", "classes": ["Agent"], "updatePeriodSeconds": 30}});
        let asked = codec::from_document(Kind::CalicoNodeStatus, document).unwrap();
        let asked = client.create(asked).await.unwrap().metadata().resource_version.clone();
        let (speaker, _table) = tortie_bgp::net::start(None, false);
        let (sender, wanted_reader) = watch::channel(Wanted::default());
        let (_bgp, bgp) = watch::channel(None);
        let reporter = Reporter { client: client.clone(), speaker, wanted: wanted_reader, bgp };
        let task = tokio::spawn(reporter.run());
        sender.send_replace(wanted(Some(30)));
        let stored = async || client.find::<CalicoNodeStatusSpec>(None, "s").await.unwrap().unwrap();
        let newer = async |than: Option<String>| -> CalicoNodeStatus {
            let begin = Instant::now();
            loop {
                let stored = stored().await;
                if stored.metadata.resource_version != than {
                    return stored;
                }
                assert!(begin.elapsed() < Duration::from_secs(60), "no report in time");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let first = newer(asked).await;
        assert_eq!(first.status.unwrap()["agent"]["birdV4"]["state"], "NotReady");
        newer(first.metadata.resource_version).await;
        task.abort();
    }
}
