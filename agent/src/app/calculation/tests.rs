//! The task between its channels.

use serde_json::json;
use tortie_datastore::syncer::Value;
use tortie_model::codec;

use super::*;
use crate::calc::tests::world::settings;

/// The other ends of the task's channels.
struct Ends {
    events: mpsc::Sender<SyncEvent>,
    own: mpsc::Sender<Vec<Update>>,
    host_mtu: watch::Sender<u32>,
    host_interfaces: watch::Sender<HostInterfaces>,
    secrets: watch::Sender<Arc<Secrets>>,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    bgp: watch::Receiver<Option<Arc<BgpDesired>>>,
    progress: watch::Receiver<Progress>,
    reports: watch::Receiver<Wanted>,
    mtu: watch::Receiver<u32>,
    tunnel: Arc<Notify>,
    tenancy: mpsc::Sender<oneshot::Sender<Option<Tenancy>>>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn start() -> Ends {
    let (events, events_reader) = mpsc::channel(1);
    let (own, own_reader) = mpsc::channel(1);
    let (host_mtu, host_mtu_reader) = watch::channel(1500);
    let (host_interfaces, host_interfaces_reader) = watch::channel(HostInterfaces::default());
    let (secrets, secrets_reader) = watch::channel(Arc::default());
    let (tenancy, tenancy_reader) = mpsc::channel(1);
    let (desired, desired_reader) = watch::channel(None);
    let (bgp, bgp_reader) = watch::channel(None);
    let (progress, progress_reader) = watch::channel(Progress::default());
    let (reports, reports_reader) = watch::channel(Arc::default());
    let (mtu, mtu_reader) = watch::channel(1500);
    let tunnel = Arc::new(Notify::new());
    let channels = Channels {
        events: events_reader,
        own: own_reader,
        tenancy: tenancy_reader,
        host_mtu: host_mtu_reader,
        host_interfaces: host_interfaces_reader,
        secrets: secrets_reader,
        desired,
        bgp,
        progress,
        reports,
        metrics: watch::Sender::new(None),
        mtu,
        tunnel: Arc::clone(&tunnel),
    };
    let task = tokio::spawn(run("n1".into(), Calc::new(settings()), channels));
    Ends {
        events,
        own,
        host_mtu,
        host_interfaces,
        secrets,
        desired: desired_reader,
        bgp: bgp_reader,
        reports: reports_reader,
        progress: progress_reader,
        mtu: mtu_reader,
        tunnel,
        tenancy,
        task,
    }
}

fn update(kind: Kind, namespace: Option<&str>, name: &str, revision: i64, spec: serde_json::Value) -> Update {
    let document =
        json!({"kind": kind.name(), "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let resource = codec::from_document(kind, document).unwrap();
    let key = Key::resource(kind, namespace, name);
    Update { key, value: Some(Value::Resource(Box::new(resource))), revision }
}

fn node(revision: i64) -> Update {
    update(Kind::Node, None, "n1", revision, json!({"bgp": {"ipv4Address": "10.0.0.1/24"}}))
}

fn pool(revision: i64) -> Update {
    update(Kind::IpPool, None, "p", revision, json!({"cidr": "10.64.0.0/16", "ipipMode": "Always"}))
}

fn endpoint(revision: i64) -> Update {
    let spec = json!({"orchestrator": "cni", "node": "n1", "endpoint": "eth0", "containerID": "c0",
                      "interfaceName": "cali1", "ipNetworks": ["10.64.0.1/32"]});
    update(Kind::WorkloadEndpoint, Some("default"), "w", revision, spec)
}

fn lock(revision: i64, ready: bool) -> Update {
    update(Kind::ClusterInformation, None, "default", revision, json!({"datastoreReady": ready}))
}

async fn send(ends: &Ends, updates: Vec<Update>) {
    ends.events.send(SyncEvent::Updates(updates)).await.unwrap();
}

fn interfaces(ends: &mut Ends) -> usize {
    ends.desired.borrow_and_update().as_ref().expect("in sync").interfaces.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wanted_before_in_sync_then_everything() {
    let mut ends = start();
    send(&ends, vec![node(1), pool(2)]).await;
    ends.tunnel.notified().await;
    assert!(ends.desired.borrow().is_none() && ends.bgp.borrow().is_none());
    assert!(ends.progress.borrow().lines()[0].contains("not in sync"));
    ends.events.send(SyncEvent::InSync).await.unwrap();
    ends.bgp.wait_for(Option::is_some).await.unwrap();
    assert_eq!(interfaces(&mut ends), 0);
    assert_eq!(*ends.mtu.borrow(), 1480);
    ends.progress.wait_for(|progress| progress.in_sync && progress.lines().is_empty()).await.unwrap();

    // An own write counts before any watch has seen it; its echo wakes nobody.
    ends.own.send(vec![endpoint(10)]).await.unwrap();
    ends.desired.changed().await.unwrap();
    assert_eq!(interfaces(&mut ends), 1);
    send(&ends, vec![endpoint(10)]).await;
    send(&ends, vec![lock(11, true)]).await;
    send(&ends, vec![]).await;
    assert!(!ends.desired.has_changed().unwrap());

    // Workloads and tunnels follow the host.
    ends.host_mtu.send_replace(9000);
    ends.desired.changed().await.unwrap();
    assert_eq!(ends.desired.borrow().as_ref().unwrap().ipip.as_ref().unwrap().mtu, 8980);
    assert_eq!(*ends.mtu.borrow(), 8980);

    let (asker, answer) = oneshot::channel();
    ends.tenancy.send(asker).await.unwrap();
    let tenancy = answer.await.unwrap().expect("in sync");
    assert_eq!(tenancy.endpoints.iter().map(|e| e.metadata.name.as_str()).collect::<Vec<_>>(), ["w"]);

    // The end of the watch is the end of the task.
    drop(ends.events);
    assert!(ends.task.await.unwrap().unwrap_err().to_string().contains("watch"));
}

/// A host endpoint that names no interface is about the one with its address, as soon as there is one.
#[tokio::test(flavor = "multi_thread")]
async fn host_endpoints_find_their_interface() {
    let mut ends = start();
    let host = json!({"node": "n1", "expectedIPs": ["192.0.2.1"]});
    send(&ends, vec![node(1), update(Kind::HostEndpoint, None, "h", 2, host)]).await;
    ends.events.send(SyncEvent::InSync).await.unwrap();
    ends.progress.wait_for(|progress| progress.in_sync && progress.lines().len() == 1).await.unwrap();
    let interfaces = HostInterfaces::from([("eth0".to_owned(), ["192.0.2.1".parse().unwrap()].into())]);
    ends.host_interfaces.send_replace(interfaces);
    ends.progress.wait_for(|progress| progress.lines().is_empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_keeps_what_was_wanted() {
    let mut ends = start();
    send(&ends, vec![node(1), endpoint(2)]).await;
    ends.events.send(SyncEvent::InSync).await.unwrap();
    ends.desired.wait_for(Option::is_some).await.unwrap();
    let gone = Update { key: endpoint(4).key, value: None, revision: 4 };
    send(&ends, vec![lock(3, false), gone]).await;
    ends.progress.wait_for(|progress| progress.locked.is_some()).await.unwrap();
    assert!(ends.progress.borrow().lines()[0].contains("locked"));
    assert_eq!(interfaces(&mut ends), 1);
    send(&ends, vec![lock(5, true)]).await;
    ends.progress.wait_for(|progress| progress.locked.is_none()).await.unwrap();
    ends.desired.wait_for(|desired| desired.as_ref().is_some_and(|d| d.interfaces.is_empty())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_reaches_the_sessions() {
    let mut ends = start();
    let password = json!({"secretKeyRef": {"name": "bgp", "key": "pw"}});
    let tor = json!({"peerIP": "10.0.0.254", "asNumber": 65100, "password": password});
    send(&ends, vec![node(1), update(Kind::BgpPeer, None, "tor", 2, tor)]).await;
    ends.events.send(SyncEvent::InSync).await.unwrap();
    let passwords = |bgp: &Option<Arc<BgpDesired>>| -> Vec<Option<String>> {
        let config = bgp.as_ref().and_then(|bgp| bgp.config.clone());
        config.iter().flat_map(|config| config.peers.values()).map(|peer| peer.password.clone()).collect()
    };
    ends.bgp.wait_for(Option::is_some).await.unwrap();
    assert!(passwords(&ends.bgp.borrow()).is_empty());
    for text in ["one", "two"] {
        let files = [(("bgp".to_owned(), "pw".to_owned()), Ok(text.to_owned()))].into();
        ends.secrets.send_replace(Arc::new(Secrets { files, ..Secrets::default() }));
        ends.bgp.wait_for(|bgp| passwords(bgp) == [Some(text.to_owned())]).await.unwrap();
    }
    ends.progress.wait_for(|progress| progress.lines().is_empty()).await.unwrap();
    ends.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_asked_of_this_node_are_handed_on() {
    let mut ends = start();
    let report = |name: &str, node: &str, revision| {
        update(Kind::CalicoNodeStatus, None, name, revision, json!({"node": node, "classes": ["BGP"]}))
    };
    send(&ends, vec![node(1), report("a", "n1", 2), report("b", "n2", 3)]).await;
    ends.events.send(SyncEvent::InSync).await.unwrap();
    ends.reports.wait_for(|reports| reports.keys().collect::<Vec<_>>() == ["a"]).await.unwrap();
    send(&ends, vec![report("a", "n2", 4), report("b", "n1", 5)]).await;
    ends.reports.wait_for(|reports| reports.keys().collect::<Vec<_>>() == ["b"]).await.unwrap();
    let key = Key::resource(Kind::CalicoNodeStatus, None, "b");
    send(&ends, vec![Update { key, value: None, revision: 6 }]).await;
    ends.reports.wait_for(|reports| reports.is_empty()).await.unwrap();
    ends.task.abort();
}
