//! Flows that go on are judged again when the rules change, where that is wanted: those that policy no longer allows are
//! stopped, and let go on when it allows them again.
//!
//! A task of its own, with a socket of its own: no change of rules waits for it. It takes the newest rules, and rests nine
//! times as long as it worked, so it never takes more than a tenth of a processor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tortie_policy::Ruleset;
use tortie_policy::change::{Change, diff};
use tortie_policy::flows::{Places, judge};

use super::blocking;
use crate::desired::Desired;
use crate::kernel::{FlowTable, KernelError, Link, TrackedFlow, chain};

/// Pause after the table could not be read or written.
const RETRY: Duration = Duration::from_secs(10);
/// How much longer it rests than it worked.
const REST: u32 = 9;

/// The rules the kernel holds, and where on this node addresses are.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) ruleset: Arc<Ruleset>,
    places: Places,
}

impl InForce {
    pub(super) fn new(desired: &Desired, links: &BTreeMap<String, Link>) -> InForce {
        let workloads = desired.interfaces.iter().flat_map(|(name, workload)| {
            workload.addresses.iter().map(move |address| (*address, name.clone()))
        });
        let own = links.values().flat_map(|link| link.addresses.iter().map(IpNetwork::ip)).collect();
        InForce {
            ruleset: Arc::clone(&desired.ruleset),
            places: Places { workloads: workloads.collect(), own },
        }
    }
}

/// Whether rules may judge flows that exist in another way than the ones before. New workloads have none.
pub(super) fn may_refuse(before: &Arc<Ruleset>, now: &Arc<Ruleset>) -> bool {
    let is_row = |change: &Change| matches!(change, Change::AddRows(..));
    !Arc::ptr_eq(before, now) && !diff(before, now).iter().all(is_row)
}

/// Runs until nobody tells rules any more.
pub(super) async fn run(mut table: FlowTable, mut rules: watch::Receiver<Option<Arc<InForce>>>) {
    while rules.changed().await.is_ok() {
        loop {
            let Some(newest) = rules.borrow_and_update().clone() else { break };
            let begun = Instant::now();
            let walk = blocking(table, move |table| walk(table, &newest));
            let Some((returned, outcome)) = walk.await else { return };
            table = returned;
            let Err(error) = outcome else {
                sleep(begun.elapsed() * REST).await;
                break;
            };
            let error = chain(&error);
            tracing::warn!(error, "flows that policy no longer allows may go on");
            sleep(RETRY).await;
        }
    }
}

/// Judges all flows of workloads once.
fn walk(table: &mut FlowTable, rules: &InForce) -> Result<(), KernelError> {
    let of_workload = |tracked: &TrackedFlow| {
        let ends = [tracked.flow.source, tracked.flow.destination];
        tracked.master.is_some() || ends.iter().any(|end| rules.places.workloads.contains_key(end))
    };
    let flows = table.flows(of_workload)?;
    let changes = changes(&flows, |tracked| {
        judge(&rules.ruleset, &rules.places, &tracked.flow).map(|outcome| outcome.allowed)
    });
    if changes.is_empty() {
        return Ok(());
    }
    table.set_refused(&changes)?;
    let stopped = changes.iter().filter(|(_, refused)| *refused).count();
    let resumed = changes.len() - stopped;
    tracing::info!(stopped, resumed, judged = flows.len(), "policy changed for flows that go on");
    Ok(())
}

/// Flows to be stopped (true) and to be let go on. What a flow announced goes its way; a flow nobody judges stays as it is,
/// unless it was stopped.
fn changes(
    flows: &[TrackedFlow],
    allowed: impl Fn(&TrackedFlow) -> Option<bool>,
) -> Vec<(&TrackedFlow, bool)> {
    let refused = |tracked: &&TrackedFlow| tracked.master.is_none() && allowed(tracked) == Some(false);
    let refused: BTreeSet<&[u8]> = flows.iter().filter(refused).map(|tracked| &*tracked.tuple).collect();
    let wanted =
        |tracked: &TrackedFlow| refused.contains(tracked.master.as_deref().unwrap_or(&tracked.tuple));
    let differs = |tracked: &&TrackedFlow| tracked.refused != wanted(tracked);
    flows.iter().filter(differs).map(|tracked| (tracked, !tracked.refused)).collect()
}

#[cfg(test)]
mod tests;
