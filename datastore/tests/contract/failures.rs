//! A cluster of three whose members die, hang and lose each other, under writers, readers, watches and syncers: no event
//! is lost, none comes twice, no read is stale.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::{Store, StoreError, Syncer};

use crate::chaos::{self, Ledger, PREFIX, Recording, Synced, breathe};
use crate::cluster::{Cluster, MEMBERS};

const WRITERS: usize = 4;

/// Writes that must get through for a cluster to be called working again, and how long that may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens to a cluster.
#[derive(Clone, Copy, Debug)]
enum Blow {
    KillLeader,
    StopTwo,
    IsolateLeader,
    IsolateFollower,
    PauseLeader,
    Compact,
    /// While a member is down, and with it whoever knows no other.
    CompactBehind,
}

/// A cluster and everybody who uses it.
struct Scene {
    cluster: Cluster,
    store: EtcdStore,
    ledger: Arc<Ledger>,
    actors: Vec<JoinHandle<()>>,
    recorders: Vec<JoinHandle<Recording>>,
    readers: Vec<JoinHandle<Synced>>,
}

/// A client that gives up soon, so that much happens; `first` is the endpoint it begins with. The last one knows
/// only one endpoint.
fn client(cluster: &Cluster, first: usize) -> Arc<EtcdStore> {
    let mut options = EtcdOptions { deadline: Duration::from_secs(3), ..cluster.options() };
    if first == MEMBERS {
        options.endpoints.truncate(1);
    } else {
        options.endpoints.rotate_left(first);
    }
    Arc::new(EtcdStore::lazy(options).unwrap())
}

impl Scene {
    async fn start() -> Scene {
        let cluster = Cluster::start().await;
        let ledger = Arc::new(Ledger::default());
        let store = EtcdStore::lazy(cluster.options()).unwrap();
        let start = store.list(PREFIX).await.unwrap().revision;
        let mut actors = Vec::new();
        for i in 0..WRITERS {
            let (store, ledger) = (client(&cluster, i % MEMBERS), ledger.clone());
            actors.push(tokio::spawn(async move { chaos::write(&store, i, &ledger).await }));
        }
        for i in 0..MEMBERS {
            let (store, ledger) = (client(&cluster, i), ledger.clone());
            actors.push(tokio::spawn(async move { chaos::read(&store, &ledger).await }));
        }
        let mut recorders = Vec::new();
        for i in 0..=MEMBERS {
            let (store, ledger) = (client(&cluster, i), ledger.clone());
            recorders.push(tokio::spawn(async move { chaos::record(&store, start, &ledger).await }));
        }
        // Two that keep up, and one that is slow and sees the newest value of each key now and then.
        let mut readers = Vec::new();
        for (i, milliseconds) in [(0, 0), (1, 300), (MEMBERS, 0)] {
            let pause = Duration::from_millis(milliseconds);
            let (syncer, ledger) = (Syncer::start(client(&cluster, i)), ledger.clone());
            readers.push(tokio::spawn(async move { chaos::follow(syncer, pause, &ledger).await }));
        }
        Scene { store, ledger, actors, recorders, readers, cluster }
    }

    fn writes(&self) -> usize {
        self.ledger.writes.load(Ordering::SeqCst)
    }

    /// Waits until so many more writes got through.
    async fn progress(&self, writes: usize, what: &str) {
        let (goal, deadline) = (self.writes() + writes, Instant::now() + PATIENCE);
        while self.writes() < goal {
            assert!(Instant::now() < deadline, "{what}: {} of {goal} writes", self.writes());
            let over = self.actors.iter().any(JoinHandle::is_finished)
                || self.recorders.iter().any(JoinHandle::is_finished)
                || self.readers.iter().any(JoinHandle::is_finished);
            assert!(!over, "{what}: somebody panicked, see above");
            breathe().await;
        }
    }

    /// Deals a blow, sees that work goes on as far as it can, and makes all well again.
    async fn suffer(&mut self, blow: Blow, writes: usize) {
        let leader = self.cluster.settle(&self.cluster.options()).await;
        let (next, other) = ((leader + 1) % MEMBERS, (leader + 2) % MEMBERS);
        let what = format!("{blow:?}");
        match blow {
            Blow::KillLeader => {
                self.cluster.kill(leader);
                self.progress(writes, &what).await;
                self.cluster.start_again(leader);
            }
            Blow::StopTwo => {
                self.cluster.kill(leader);
                self.cluster.kill(next);
                self.nothing_is_answered(other).await;
                self.cluster.start_again(next);
                self.progress(writes, &what).await;
                self.cluster.start_again(leader);
            }
            Blow::IsolateLeader => {
                self.cluster.network.isolate(leader);
                self.progress(writes, &what).await;
                self.nothing_is_answered(leader).await;
                self.cluster.network.heal();
            }
            Blow::IsolateFollower => {
                self.cluster.network.isolate(next);
                self.progress(writes, &what).await;
                self.nothing_is_answered(next).await;
                self.cluster.network.heal();
            }
            Blow::PauseLeader => {
                self.signal(leader, "-STOP");
                self.progress(writes, &what).await;
                self.signal(leader, "-CONT");
            }
            Blow::Compact => self.compact(leader).await,
            Blow::CompactBehind => {
                self.cluster.kill(0);
                self.progress(writes, &what).await;
                self.compact(1).await;
                self.cluster.start_again(0);
            }
        }
        self.progress(writes, &what).await;
    }

    /// A member without a majority answers no read, however old the answer it could give.
    async fn nothing_is_answered(&self, member: usize) {
        let options =
            EtcdOptions { endpoints: vec![self.cluster.urls()[member].clone()], ..self.cluster.options() };
        let store = EtcdStore::lazy(EtcdOptions { deadline: Duration::from_secs(2), ..options }).unwrap();
        // Until its peers are missed it may still have one's word.
        for _ in 0..2 {
            let before = self.ledger.latest.load(Ordering::SeqCst);
            match store.list(PREFIX).await {
                Ok(listing) => assert!(listing.revision >= before, "{} after {before}", listing.revision),
                Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error}"),
            }
        }
        let error = store.list(PREFIX).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }

    fn signal(&self, member: usize, signal: &str) {
        let status =
            Command::new("kill").args([signal, &self.cluster.pid(member).to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Everything up to the present, under the feet of whoever watches.
    async fn compact(&self, member: usize) {
        let revision = self.store.list("/calico/ipam/").await.unwrap().revision;
        let client = etcd_client::Client::connect([&self.cluster.urls()[member]], None).await.unwrap();
        client.kv_client().compact(revision, None).await.unwrap();
    }

    /// Ends everybody and holds what they saw against what was done.
    async fn end(self, begun: Instant, blows: usize) {
        self.cluster.settle(&self.cluster.options()).await;
        self.ledger.stop.store(true, Ordering::SeqCst);
        for actor in self.actors {
            actor.await.unwrap();
        }
        self.ledger.complete(&self.store).await;
        let mut recordings = Vec::new();
        for recorder in self.recorders {
            recordings.push(recorder.await.unwrap());
        }
        let mut synced = Vec::new();
        for reader in self.readers {
            synced.push(reader.await.unwrap());
        }
        let end = self.ledger.end().expect("it was completed");
        for recording in &recordings {
            chaos::judge_recording(&self.ledger, recording);
        }
        chaos::judge_synced(&self.ledger, &synced, end);
        let resumed: usize = recordings.iter().map(|recording| recording.resumed).sum();
        let relisted: usize = recordings.iter().map(Recording::relisted).sum();
        let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::SeqCst);
        report(&format!(
            "{blows} blows in {:.0} s: {} writes, {} answers lost, {} reads, {} watches resumed {} times and listed anew {} times",
            begun.elapsed().as_secs_f32(),
            count(&self.ledger.writes),
            count(&self.ledger.lost),
            count(&self.ledger.reads),
            recordings.len(),
            resumed,
            relisted,
        ));
        assert!(resumed > 0 && relisted > 0, "no watch was hit");
    }
}

#[expect(clippy::print_stdout, reason = "figures are what the soak is run for")]
fn report(text: &str) {
    println!("{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_members_loses_nothing_else() {
    let (begun, mut scene) = (Instant::now(), Scene::start().await);
    let blows = [Blow::KillLeader, Blow::CompactBehind, Blow::StopTwo, Blow::IsolateLeader];
    for blow in blows {
        scene.suffer(blow, 100).await;
    }
    scene.end(begun, blows.len()).await;
}

/// `make soak`: the same for SOAK_SECONDS and at least 10 000 writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long: make soak"]
async fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(400, |text| text.parse().unwrap());
    let (begun, mut scene) = (Instant::now(), Scene::start().await);
    let every = [
        Blow::KillLeader,
        Blow::IsolateFollower,
        Blow::Compact,
        Blow::StopTwo,
        Blow::PauseLeader,
        Blow::IsolateLeader,
        Blow::CompactBehind,
    ];
    let mut blows = 0;
    while begun.elapsed() < Duration::from_secs(seconds) || scene.writes() < 10_000 {
        scene.suffer(every[blows % every.len()], 300).await;
        blows += 1;
    }
    scene.end(begun, blows).await;
}
