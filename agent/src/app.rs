//! The whole agent: start-up, tasks, the channels between them, and the end.
//!
//! ```text
//!  etcd ─watch─▶ syncer ──SyncEvent──▶ calculation ─watch<Desired>─▶ dataplane ─▶ kernel
//!                                       ▲   │  │                      ▲  │
//!   tortie-cni ─▶ admin ─▶ workloads ───┘   │  └─notify─▶ tunnel      │  └─watch<Applied>─▶ workloads, peering, admin
//!   tortiectl ──▶  │        own writes      │                         │
//!                  └─ status ◀─Progress─────┤                  LearnedQueue
//!           host ──watch<MTU>─▶ calculation └─watch<BgpDesired>─▶ peering ◀─▶ speaker ◀─▶ peers
//!        secrets ──watch<Secrets>──▶ │
//! ```
//!
//! Levels travel in watch channels: a slow reader sees the newest and misses what lay between. Batches of changes are
//! bounded and hold their writer back. A task that ends takes the process with it: half an agent is none, and kernel
//! state outlives both.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tortie_bgp::net::Handle;
use tortie_datastore::Client;
use tortie_datastore::ipam::Ipam;
use tortie_datastore::syncer::Syncer;

use crate::calc::{Calc, Settings};
use crate::config::{Backend, Config};
use crate::dataplane::{Manner, owner};
use crate::desired::Applied;
use crate::kernel::{Linux, Routes};
use crate::learned::LearnedQueue;
use crate::workload::{Search, Service, ServiceConfig};
use crate::{admin, dataplane, logging, peering, startup};

mod blocks;
mod calculation;
mod datastore;
mod exclusive;
mod host;
mod reports;
mod secrets;

pub use calculation::Progress;
use datastore::Datastore;
use exclusive::Claim;
use host::Host;

/// MTU of the host when no interface has the node's address (felix-dataplane 1.8).
const FALLBACK_MTU: u32 = 1460;
/// How long each part of the end may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Tasks by name; all end with this value.
type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// A running agent, besides its tasks.
struct Running {
    datastore: Datastore,
    speaker: Handle,
    /// Ends the local API once its requests are answered.
    no_more: Arc<Notify>,
    /// Given back last of all.
    claim: Claim,
}

/// Runs the agent until a signal.
///
/// # Errors
/// When it cannot start, or one of its tasks fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // First of all: the start may wait for the datastore for long, and process 1 ignores signals nobody handles.
    let mut signals = Signals::listen()?;
    let mut tasks = Tasks::new();
    let agent = tokio::select! {
        agent = begin(&mut tasks, &config) => agent?,
        name = signals.next() => {
            tracing::info!("{name}: stopping before the start is complete");
            return Ok(());
        }
    };
    tracing::info!("Calico node started successfully");
    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: stopping; routes and rules stay in the kernel");
            Ok(())
        }
        error = failure(&mut tasks) => Err(error),
    };
    end(agent, tasks, outcome.is_ok()).await?;
    if outcome.is_ok() {
        // Only then is it surely ours; a stale one is replaced at the next start anyway.
        let _ = std::fs::remove_file(&config.socket);
    }
    outcome
}

/// From nothing to all tasks at work.
async fn begin(tasks: &mut Tasks, config: &Config) -> anyhow::Result<Running> {
    admin::check_free(&config.socket)?;
    let name = startup::name::determine(&config.name)?;
    let datastore = datastore::open(&config.datastore, config.wait_for_datastore).await?;
    // Before the first write, to the datastore or to the kernel; waiting for the datastore disturbs nobody.
    let claim = exclusive::claim()?;
    let client = Client::new(Arc::clone(&datastore.store));
    startup::register(config, &client, &name).await?;
    let ipam = Ipam::new(client.clone(), SystemTime::now);
    if let Err(error) = startup::tunnel::ensure(&client, &ipam, &name).await {
        // Everything but the tunnel works without; the task below goes on trying.
        tracing::warn!("{}", logging::chain(&error));
    }
    startup::name::store(&config.name.file, &name)?;
    if let Err(error) = owner::name_protocols(Path::new(owner::PROTOCOL_NAMES)) {
        tracing::debug!(%error, "route protocols have no names: cannot write {}", owner::PROTOCOL_NAMES);
    }
    let no_more = Arc::new(Notify::new());
    let speaker = start(tasks, config, &name, &client, ipam, Arc::clone(&no_more)).await?;
    Ok(Running { datastore, speaker, no_more, claim })
}

/// Stops everything. Nothing in the kernel is touched: traffic goes on without this process.
async fn end(agent: Running, mut tasks: Tasks, healthy: bool) -> anyhow::Result<()> {
    if healthy {
        // What was begun over the local API is finished, with everything it needs still at work: half an attach would
        // stay behind. The API's task ends as soon as it has none left, the others only when they fail.
        agent.no_more.notify_one();
        if tokio::time::timeout(FAREWELL, tasks.join_next()).await.is_err() {
            tracing::warn!("requests over the local API were broken off: they took too long");
        }
    }
    tasks.shutdown().await;
    if tokio::time::timeout(FAREWELL, agent.speaker.shutdown()).await.is_err() {
        tracing::warn!("BGP sessions did not close in time");
    }
    if let Some(embedded) = agent.datastore.embedded {
        embedded.stop().await.context("the embedded datastore did not stop cleanly")?;
    }
    drop(agent.claim);
    Ok(())
}

/// Starts every task; returns the speaker. `no_more` ends the local API once its requests are answered.
async fn start(
    tasks: &mut Tasks,
    config: &Config,
    name: &str,
    client: &Client,
    ipam: Ipam,
    no_more: Arc<Notify>,
) -> anyhow::Result<Handle> {
    let settings = settings(config, name, client).await?;
    let restarted = has_own_routes()?;
    let (desired, desired_reader) = watch::channel(None);
    let (bgp, bgp_reader) = watch::channel(None);
    let (reports, reports_reader) = watch::channel(Arc::default());
    let (metrics, metrics_reader) = watch::channel(None);
    let (progress, progress_reader) = watch::channel(Progress::default());
    let (applied, applied_reader) = watch::channel(Arc::new(Applied::default()));
    let learned = LearnedQueue::default();
    let (mtu, mtu_reader) = watch::channel(settings.host_mtu);
    let (host_mtu, host_mtu_reader) = watch::channel(settings.host_mtu);
    let (host_interfaces, host_interfaces_reader) = watch::channel(host::interfaces()?);
    let secrets = secrets::Directory::open(config.secrets.clone()).await;
    let (own, own_reader) = mpsc::channel(64);
    let (tenancy, tenancy_reader) = mpsc::channel(1);
    let tunnel = Arc::new(Notify::new());
    let (speaker, table) =
        tortie_bgp::net::start_on_thread(None, restarted).context("the BGP speaker cannot be started")?;
    // One allocator for all: its clones take turns.
    let mut service = ServiceConfig::new(client.clone(), name, mtu_reader);
    service.ipam = ipam.clone();
    let workloads = Service::new(service, applied_reader.clone(), own);
    let syncer = Syncer::start(Arc::clone(client.store()));
    let listener = admin::listen(&config.socket)?;
    let (asker, questions) = dataplane::question::channel();
    let sources = admin::Sources {
        node: name.to_owned(),
        datastore: syncer.state,
        progress: progress_reader,
        desired: desired_reader.clone(),
        applied: applied_reader.clone(),
        speaker: speaker.clone(),
        kernel: asker,
        started: Instant::now(),
    };
    let leaks = Search::new(workloads.clone(), tenancy, config.leak_grace);
    let router = admin::router(sources, workloads);

    let channels = calculation::Channels {
        events: syncer.events,
        own: own_reader,
        tenancy: tenancy_reader,
        host_mtu: host_mtu_reader,
        host_interfaces: host_interfaces_reader,
        secrets: secrets.reader(),
        desired,
        bgp,
        progress,
        reports,
        metrics,
        mtu,
        tunnel: Arc::clone(&tunnel),
    };
    spawn(tasks, "calculation", calculation::run(name.to_owned(), Calc::new(settings), channels));
    let manner = Manner { ownership: config.ownership, reevaluate: config.reevaluate };
    let data_plane = dataplane::run(desired_reader.clone(), learned.clone(), applied, questions, manner);
    spawn(tasks, "data plane", async move { Ok(data_plane.await?) });
    let reporter = reports::Reporter {
        client: client.clone(),
        speaker: speaker.clone(),
        wanted: reports_reader,
        bgp: bgp_reader.clone(),
    };
    spawn(tasks, "reports", lasting(reporter.run()));
    let channels = peering::Channels { desired: bgp_reader, applied: applied_reader, learned };
    spawn(tasks, "peering", lasting(peering::run(speaker.clone(), table, channels)));
    let host = Host { config: config.clone(), client: client.clone(), name: name.to_owned(), mtu: host_mtu };
    spawn(tasks, "metrics", lasting(crate::metrics::run(metrics_reader, desired_reader)));
    spawn(tasks, "secrets", lasting(secrets.watch()));
    spawn(tasks, "host", lasting(host.watch()));
    spawn(tasks, "host interfaces", lasting(host::watch_interfaces(host_interfaces)));
    spawn(tasks, "address blocks", lasting(blocks::keep(ipam.clone(), name.to_owned())));
    let tunnel = startup::tunnel::keep(client.clone(), ipam, name.to_owned(), tunnel);
    spawn(tasks, "tunnel address", lasting(tunnel));
    spawn(tasks, "search for leaks", lasting(leaks.run(SystemTime::now)));
    let api = axum::serve(listener, router).with_graceful_shutdown(async move { no_more.notified().await });
    spawn(tasks, "local API", async move { Ok(api.await?) });
    Ok(speaker)
}

/// A task that cannot fail.
async fn lasting(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

fn spawn(
    tasks: &mut Tasks,
    name: &'static str,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    tasks.spawn(async move { (name, task.await) });
}

/// What the calculation has to know of this machine.
async fn settings(config: &Config, name: &str, client: &Client) -> anyhow::Result<Settings> {
    let mtu = host::mtu(client, name).await?;
    Ok(Settings {
        node: name.to_owned(),
        bgp: config.backend == Backend::Bird,
        ipv6: config.ipv6_support,
        router_id: config.router_id,
        service_cluster_ips: config.service_cluster_ips.clone(),
        endpoint_to_host: config.endpoint_to_host,
        ipip_mtu: config.ipip_mtu,
        host_mtu: mtu.unwrap_or(FALLBACK_MTU),
        log_group: config.log_group,
        stop_refused: config.reevaluate,
    })
}

/// Whether an agent ran here before and left its routes: peers may still forward by what it told them.
fn has_own_routes() -> anyhow::Result<bool> {
    let routes =
        Linux::open().and_then(|mut kernel| kernel.routes()).context("cannot read the kernel's routes")?;
    let own = [owner::LOCAL_PROTOCOL, owner::LEARNED_PROTOCOL];
    Ok(routes.iter().any(|(_, route)| own.contains(&route.protocol)))
}

/// The signals that end the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let listen = || {
            let terminate = signal(SignalKind::terminate())?;
            Ok::<_, std::io::Error>(Signals { terminate, interrupt: signal(SignalKind::interrupt())? })
        };
        listen().context("cannot listen for SIGTERM and SIGINT")
    }

    /// Waits for one, and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for a task that ends, which none should.
async fn failure(tasks: &mut Tasks) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok((name, Ok(())))) => anyhow!("the task '{name}' ended by itself"),
        Some(Ok((name, Err(error)))) => error.context(format!("the task '{name}' failed")),
        Some(Err(error)) => anyhow!("a task broke off: {error}"),
        None => anyhow!("no task is left"),
    }
}
