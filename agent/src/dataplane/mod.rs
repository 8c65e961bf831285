//! From what is desired to what the kernel holds.
//!
//! ```text
//! watch<Desired> ─┐                    ┌─▶ Applied ─▶ status, readiness, BGP
//! LearnedQueue ───┼─▶ run ─▶ cycle ────┤
//! hints, timers  ─┘   (async)  (blocking, one at a time)  ─▶ kernel
//! ```
//!
//! | file | what it owns |
//! |---|---|
//! | [`owner`] | what is ours |
//! | [`delta`] | desired against actual |
//! | `sysctls`, `neighbours`, `addresses`, `routes`, `tunnel`, `ruleset` | what each kind should be; pure |
//! | `forwarding`, `groups` | all routes with the nexthop objects they use; pure |
//! | [`cycle`] | one cycle: reading, order of writing |
//! | `report` | failures in words |
//! | `reevaluation` | flows that policy no longer allows |
//! | `question` | what became of a learned route, for operators |
//! | this one | when a cycle runs |
//!
//! Inputs are levels: a cycle takes the newest, and whatever came between never existed. Learned routes come as changes, the
//! newest of each prefix, since there may be very many. Nothing is written before the
//! first [`Desired`]; stopping removes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::desired::{Applied, Desired};
use crate::kernel::monitor::{Dirty, Hints, Monitor};
use crate::kernel::{FlowTable, Kernel, KernelError, Linux, Ownership};
use crate::learned::LearnedQueue;

mod addresses;
pub mod cycle;
pub mod delta;
mod forwarding;
mod groups;
mod neighbours;
pub mod owner;
pub mod question;
mod reevaluation;
mod report;
mod routes;
mod ruleset;
mod sysctls;
mod tunnel;

use cycle::Engine;
use question::Question;
use reevaluation::InForce;

/// How often things are done without being asked for.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Everything is read again, whatever the hints said.
    pub resync: Duration,
    /// The rules are looked at.
    pub ruleset_check: Duration,
    /// Pause after a cycle in which something failed.
    pub first_retry: Duration,
    /// It doubles up to this.
    pub last_retry: Duration,
    /// Pause between readings that only foreign routes asked for: another routing daemon may change them all day.
    pub foreign_pause: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            resync: Duration::from_secs(60),
            ruleset_check: Duration::from_secs(10),
            first_retry: Duration::from_millis(250),
            last_retry: Duration::from_secs(30),
            foreign_pause: Duration::from_secs(1),
        }
    }
}

/// How the data plane goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether others may change the table of rules.
    pub ownership: Ownership,
    /// Flows that go on are judged again when the rules change.
    pub reevaluate: bool,
}

/// What the data plane listens to and tells.
#[derive(Debug)]
pub struct Channels {
    /// What the kernel should hold; `None` until the datastore is in sync.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Best routes learned by BGP.
    pub learned: LearnedQueue,
    /// What the kernel holds.
    pub applied: watch::Sender<Arc<Applied>>,
    /// What operators ask; answered between cycles.
    pub questions: mpsc::Receiver<Question>,
}

/// Keeps the kernel of the calling thread's network namespace as desired, until the sender of `desired` is gone.
///
/// # Errors
/// When the kernel cannot be talked to at all. Anything later is in [`Applied::failures`].
pub async fn run(
    desired: watch::Receiver<Option<Arc<Desired>>>,
    learned: LearnedQueue,
    applied: watch::Sender<Arc<Applied>>,
    questions: mpsc::Receiver<Question>,
    manner: Manner,
) -> Result<(), KernelError> {
    let mut kernel = Linux::with(manner.ownership)?;
    let hints = Arc::new(Hints::default());
    let protocols = [owner::LOCAL_PROTOCOL, owner::LEARNED_PROTOCOL];
    let _monitor = Monitor::start(Arc::clone(&hints), kernel.ports(), protocols)?;
    let mut engine = Engine::new(kernel);
    let flows = if manner.reevaluate { Some((FlowTable::open()?, engine.rules_in_force())) } else { None };
    let channels = Channels { desired, learned, applied, questions };
    tokio::select! {
        () = run_on(engine, &hints, channels, Timing::default()) => Ok(()),
        () = reevaluate(flows) => Ok(()),
    }
}

/// Never ends.
async fn reevaluate(flows: Option<(FlowTable, watch::Receiver<Option<Arc<InForce>>>)>) {
    if let Some((table, rules)) = flows {
        reevaluation::run(table, rules).await;
    }
    std::future::pending().await
}

/// The same on a given kernel.
pub async fn run_on<K: Kernel>(mut engine: Engine<K>, hints: &Hints, mut channels: Channels, timing: Timing) {
    // Of the two inputs only this one is waited for: without it nothing may be written.
    let Ok(mut desired) = channels.desired.wait_for(Option::is_some).await.map(|first| first.clone()) else {
        return;
    };
    let mut schedule = Schedule::new(timing, Instant::now());
    loop {
        // Out of sync again: what was desired last still is.
        desired = channels.desired.borrow_and_update().clone().or(desired);
        let Some(desired) = desired.clone() else { return };
        let learned = channels.learned.take();
        let dirty = schedule.due(Instant::now(), hints.take());
        let cycle =
            blocking(engine, move |engine| engine.cycle(&desired, learned, dirty, Instant::now().into_std()));
        let Some((returned, outcome)) = cycle.await else { return };
        engine = returned;
        schedule.ran(Instant::now(), outcome.retry, outcome.wake.map(Instant::from_std));
        publish(&channels.applied, outcome.applied);
        if wait(&engine, &mut channels, hints, &mut schedule).await.is_break() {
            return;
        }
    }
}

/// Does something with `tool` on a thread that may block, and gives both back; `None` when the runtime is shutting down.
/// If it panics, so does the caller.
async fn blocking<T: Send + 'static, R: Send + 'static>(
    mut tool: T,
    work: impl FnOnce(&mut T) -> R + Send + 'static,
) -> Option<(T, R)> {
    let done = spawn_blocking(move || {
        let outcome = work(&mut tool);
        (tool, outcome)
    });
    match done.await {
        Ok(both) => Some(both),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Until there is a reason for another cycle.
async fn wait<K: Kernel>(
    engine: &Engine<K>,
    channels: &mut Channels,
    hints: &Hints,
    schedule: &mut Schedule,
) -> std::ops::ControlFlow<()> {
    let mut ready = false;
    while !ready {
        tokio::select! {
            changed = channels.desired.changed() => match changed {
                Ok(()) => ready = channels.desired.borrow().is_some(),
                Err(_) => return std::ops::ControlFlow::Break(()),
            },
            () = channels.learned.changed() => ready = true,
            Some(question) = channels.questions.recv() => question.answer(engine),
            () = hints.changed() => ready = schedule.hinted(Instant::now(), hints.take()),
            () = sleep_until(schedule.next) => ready = true,
        }
    }
    std::ops::ControlFlow::Continue(())
}

fn publish(sender: &watch::Sender<Arc<Applied>>, applied: Applied) {
    let before = Arc::clone(&sender.borrow());
    for (object, text) in &applied.failures {
        if before.failures.get(object) != Some(text) {
            tracing::warn!(object, text, "not as it should be");
        }
    }
    for object in before.failures.keys().filter(|object| !applied.failures.contains_key(*object)) {
        tracing::info!(object, "is as it should be again");
    }
    if *before != applied {
        sender.send_replace(Arc::new(applied));
    }
}

/// When the next cycle is due, and what it reads; a plain value.
#[derive(Debug)]
struct Schedule {
    timing: Timing,
    resync: Instant,
    ruleset: Instant,
    foreign: Instant,
    retry: Option<Instant>,
    /// A cycle asked for the next one by then.
    wake: Option<Instant>,
    pause: Duration,
    /// Hints that wait for their turn.
    dirty: Dirty,
    next: Instant,
}

impl Schedule {
    fn new(timing: Timing, now: Instant) -> Schedule {
        Schedule {
            timing,
            resync: now,
            ruleset: now,
            foreign: now,
            retry: None,
            wake: None,
            pause: timing.first_retry,
            dirty: Dirty::default(),
            next: now,
        }
    }

    /// A cycle starts: what it has to read.
    fn due(&mut self, now: Instant, hints: Dirty) -> Dirty {
        self.dirty.merge(hints);
        let mut dirty = std::mem::take(&mut self.dirty);
        if now >= self.resync {
            self.resync = now + self.timing.resync;
            dirty = Dirty::ALL;
        }
        if now >= self.ruleset {
            self.ruleset = now + self.timing.ruleset_check;
            dirty.ruleset = true;
        }
        if dirty.foreign_routes {
            self.foreign = now + self.timing.foreign_pause;
        }
        dirty
    }

    /// A cycle ended.
    fn ran(&mut self, now: Instant, retry: bool, wake: Option<Instant>) {
        self.wake = wake;
        if retry {
            self.retry = Some(now + self.pause);
            self.pause = (self.pause * 2).min(self.timing.last_retry);
        } else {
            self.retry = None;
            self.pause = self.timing.first_retry;
        }
        self.plan_next();
    }

    /// The kernel hinted; whether that calls for a cycle now.
    fn hinted(&mut self, now: Instant, hints: Dirty) -> bool {
        self.dirty.merge(hints);
        self.plan_next();
        let only_foreign = Dirty { foreign_routes: true, ..Dirty::default() };
        self.dirty != Dirty::default() && (self.dirty != only_foreign || now >= self.foreign)
    }

    fn plan_next(&mut self) {
        let foreign = self.dirty.foreign_routes.then_some(self.foreign);
        let waiting = [self.retry, self.wake, foreign].into_iter().flatten();
        self.next = waiting.fold(self.resync.min(self.ruleset), Instant::min);
    }
}

#[cfg(test)]
mod tests;
