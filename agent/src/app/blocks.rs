//! The task that cares for the node's address blocks: the next one is claimed before the present ones are full, so that an
//! attach need not, and empty ones go back. Attaches work without it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tortie_datastore::ipam::Ipam;

use crate::logging::chain;

/// How often blocks are looked at unasked; the first time at start, so that the first attach finds them known.
const PERIOD: Duration = Duration::from_secs(120);

/// Pause after a look that an allocation asked for: where no block is left to claim, the next one asks again.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs for ever.
pub(super) async fn keep(ipam: Ipam, node: String) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        let routine = tokio::select! {
            _ = ticks.tick() => true,
            () = ipam.runs_low() => false,
        };
        let mut complaint = ipam.prefetch(&node).await.err();
        if routine && complaint.is_none() {
            complaint = ipam.give_back(&node).await.err();
        }
        let words = complaint.map(|error| chain(&error)).unwrap_or_default();
        if !words.is_empty() && words != told {
            tracing::warn!("cannot care for this node's address blocks: {words}");
        }
        told = words;
        if !routine {
            sleep(PAUSE).await;
        }
    }
}
