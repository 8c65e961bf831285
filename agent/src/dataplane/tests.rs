//! When cycles run.

use std::sync::Arc;

use super::*;
use crate::dataplane::cycle::tests::{machine, workload};
use crate::desired::{LearnedChanges, RouteTarget};
use crate::kernel::fake::FakeKernel;

const HOUR: Duration = Duration::from_secs(3600);

fn quick() -> Timing {
    let soon = Duration::from_millis(5);
    Timing { resync: HOUR, ruleset_check: HOUR, first_retry: soon, last_retry: 2 * soon, foreign_pause: HOUR }
}

struct Running {
    kernel: FakeKernel,
    hints: Arc<Hints>,
    desired: watch::Sender<Option<Arc<Desired>>>,
    learned: LearnedQueue,
    asker: question::Asker,
    applied: watch::Receiver<Arc<Applied>>,
    task: tokio::task::JoinHandle<()>,
}

fn start(timing: Timing) -> Running {
    let kernel = FakeKernel::new(machine(&[("cali1", true)]));
    let (desired, desired_seen) = watch::channel(None);
    let learned = LearnedQueue::default();
    learned.put(LearnedChanges { converged: true, ..LearnedChanges::default() });
    let (applied, applied_seen) = watch::channel(Arc::new(Applied::default()));
    let (asker, questions) = question::channel();
    let channels = Channels { desired: desired_seen, learned: learned.clone(), applied, questions };
    let hints = Arc::new(Hints::default());
    let (engine, given) = (Engine::new(kernel.clone()), Arc::clone(&hints));
    let task = tokio::spawn(async move { run_on(engine, &given, channels, timing).await });
    Running { kernel, hints, desired, learned, asker, applied: applied_seen, task }
}

fn wants(address: &str) -> Option<Arc<Desired>> {
    let interfaces = [("cali1".to_string(), workload(&[address], 1))].into();
    let routes = [("192.168.1.0/26".parse().unwrap(), RouteTarget::Blackhole)].into();
    Some(Arc::new(Desired { interfaces, routes, ..Desired::default() }))
}

impl Running {
    async fn until(&mut self, what: &str, holds: impl FnMut(&Arc<Applied>) -> bool) {
        let seen = tokio::time::timeout(Duration::from_secs(20), self.applied.wait_for(holds));
        seen.await.unwrap_or_else(|_| panic!("{what} did not come true")).unwrap();
    }
}

#[tokio::test]
async fn nothing_is_touched_before_the_first_desired_state_and_the_end_leaves_everything() {
    let mut running = start(quick());
    running.hints.mark(Dirty::ALL);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.kernel.calls(), 0);
    running.desired.send_replace(wants("192.168.1.1"));
    running.until("ready", |applied| applied.ready).await;
    let ours = |kernel: &FakeKernel| kernel.state().routes.values().filter(|r| r.protocol == 80).count();
    let routes = ours(&running.kernel);
    // Out of sync: what was wanted last goes on being kept.
    running.desired.send_replace(None);
    running.kernel.drift(|state| state.routes.clear());
    running.hints.mark(Dirty { routes: true, ..Dirty::default() });
    let deadline = Instant::now() + Duration::from_secs(20);
    while ours(&running.kernel) < routes {
        assert!(Instant::now() < deadline, "not repaired");
        tokio::task::yield_now().await;
    }
    running.kernel.take_writes();
    let before = running.kernel.state();
    drop(running.desired);
    running.task.await.unwrap();
    assert_eq!(running.kernel.state(), before);
}

#[tokio::test]
async fn what_fails_is_named_and_tried_again_until_it_holds() {
    // A watch shows the last value only: the failure has to last until somebody looked.
    let mut running = start(Timing { first_retry: Duration::from_millis(500), ..quick() });
    // The first call is the load of the rules.
    running.kernel.fail_at(0, nix::errno::Errno::EPERM);
    running.desired.send_replace(wants("192.168.1.1"));
    running.until("the failure is named", |applied| applied.failures.contains_key("ruleset")).await;
    running.until("it holds", |applied| applied.ready && applied.failures.is_empty()).await;
    assert!(running.applied.borrow().interfaces.contains_key("cali1"));
}

#[tokio::test]
async fn a_change_costs_its_difference_and_no_reading() {
    let mut running = start(quick());
    running.desired.send_replace(wants("192.168.1.1"));
    running.until("ready", |applied| applied.ready).await;
    let calls = running.kernel.calls();
    running.kernel.take_writes();
    running.desired.send_replace(wants("192.168.1.2"));
    let new = "192.168.1.2/32".parse().unwrap();
    running.until("the new address is routed", |applied| applied.routes.contains(&new)).await;
    let writes = running.kernel.take_writes();
    assert_eq!(
        writes.len(),
        5,
        "route and neighbour come, route and neighbour go, connections go: {writes:#?}"
    );
    assert_eq!(running.kernel.calls() - calls, writes.len());
}

#[tokio::test]
async fn questions_are_answered_between_cycles() {
    let mut running = start(quick());
    running.desired.send_replace(wants("192.168.1.1"));
    running.until("ready", |applied| applied.ready).await;
    let prefix = "172.30.0.0/16".parse().unwrap();
    assert_eq!(running.asker.ask(prefix).await, None);
    let next_hops = vec!["fd00::9".parse().unwrap()];
    let route = tortie_bgp::table::LearnedRoute { next_hops, internal: true, local_pref: 100 };
    let routes = [(prefix, Some(route))].into();
    running.learned.put(LearnedChanges { routes, converged: true });
    running.until("it is noted", |applied| !applied.failures.is_empty()).await;
    let fate = running.asker.ask(prefix).await.unwrap();
    let reason = "the next hop fd00::9 is of the other address family";
    assert_eq!((fate.programmed, fate.reason.as_deref()), (false, Some(reason)));
}

#[test]
fn the_schedule_spaces_retries_and_foreign_hints() {
    let second = Duration::from_secs(1);
    let timing = Timing {
        resync: 60 * second,
        ruleset_check: 30 * second,
        first_retry: second,
        last_retry: 4 * second,
        foreign_pause: second,
    };
    let start = Instant::now();
    let mut schedule = Schedule::new(timing, start);
    assert_eq!(schedule.due(start, Dirty::default()), Dirty::ALL);
    let mut now = start;
    for pause in [1, 2, 4, 4] {
        schedule.ran(now, true, None);
        assert_eq!(schedule.next, now + pause * second);
        now = schedule.next;
        assert_eq!(schedule.due(now, Dirty::default()), Dirty::default());
    }
    schedule.ran(now, false, Some(now + second));
    assert_eq!(schedule.next, now + second, "what a cycle asked for");
    schedule.ran(now, false, None);
    assert_eq!(schedule.next, start + 30 * second, "the check of the rules");
    let ruleset = Dirty { ruleset: true, ..Dirty::default() };
    assert_eq!(schedule.due(schedule.next, Dirty::default()), ruleset);
    let foreign = Dirty { foreign_routes: true, ..Dirty::default() };
    let now = start + 32 * second;
    schedule.ran(now, false, None);
    assert!(schedule.hinted(now, foreign), "the first at once");
    assert_eq!(schedule.due(now, Dirty::default()), foreign);
    schedule.ran(now, false, None);
    assert!(!schedule.hinted(now + second / 2, foreign), "the second later");
    assert_eq!(schedule.next, now + second);
    assert!(
        schedule.hinted(now + second / 2, Dirty { links: true, ..Dirty::default() }),
        "others never wait"
    );
    assert_eq!(schedule.due(start + 60 * second, Dirty::default()), Dirty::ALL);
}
