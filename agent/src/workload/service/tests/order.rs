//! What is written, told and answered, in which order, and who is refused.

use tortie_model::resource::{ClusterInformation, ClusterInformationSpec};

use super::*;

#[tokio::test(start_paused = true)]
async fn endpoint_and_profile_are_upstreams() {
    let world = World::new().await;
    let mut wanted = request("0123456789abcdef");
    wanted.labels.insert("app".into(), "web".into());
    let answer = world.agent(&Faults::none()).attach(wanted).await.unwrap();
    let address = answer.addresses[0];
    let endpoint = world
        .store
        .get("/calico/resources/v3/projectcalico.org/workloadendpoints/default/n1-cni-0123456789abcdef-eth0")
        .await
        .unwrap()
        .unwrap();
    let mut endpoint: serde_json::Value = serde_json::from_slice(&endpoint.value).unwrap();
    let uid = endpoint["metadata"].as_object_mut().unwrap().remove("uid").unwrap();
    assert_eq!(uid.as_str().unwrap().len(), 36);
    assert_eq!(
        endpoint,
        serde_json::json!({
            "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {
                "name": "n1-cni-0123456789abcdef-eth0", "namespace": "default",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {
                    "app": "web", "projectcalico.org/namespace": "default", "projectcalico.org/orchestrator": "cni",
                },
            },
            "spec": {
                "orchestrator": "cni", "node": "n1", "containerID": "0123456789abcdef", "endpoint": "eth0",
                "ipNetworks": [address.to_string()], "profiles": ["net"], "interfaceName": "cali0123456789a",
                "mac": answer.mac,
            },
        })
    );
    let profile = world.client().find::<ProfileSpec>(None, "net").await.unwrap().unwrap();
    assert_eq!(
        serde_json::to_value(&profile.spec).unwrap(),
        serde_json::json!({
            "ingress": [{"action": "Allow", "source": {"selector": "has(net)"}}],
            "egress": [{"action": "Allow"}],
            "labelsToApply": {"net": ""},
        })
    );
    let block = world.store.list("/calico/ipam/v2/assignment/").await.unwrap().entries.remove(0);
    let block: Block = serde_json::from_slice(&block.value).unwrap();
    let attributes = block.owner(address.ip()).unwrap().secondary.clone().unwrap();
    assert_eq!(
        attributes,
        BTreeMap::from([
            ("node".to_owned(), "n1".to_owned()),
            ("timestamp".to_owned(), "2026-01-02 03:04:05 +0000 UTC".to_owned()),
        ])
    );
}

/// Rules are loaded, and these interfaces are wired: name, index, address.
fn guarded(wired: &[(&str, u32, IpAddr)]) -> Arc<Applied> {
    let interfaces = wired.iter().map(|(name, index, address)| {
        ((*name).to_owned(), Wired { index: *index, addresses: [*address].into() })
    });
    Arc::new(Applied { guarded: true, interfaces: interfaces.collect(), ..Applied::default() })
}

#[tokio::test(start_paused = true)]
async fn calc_hears_of_every_write_at_its_revision() {
    let world = World::new().await;
    let (service, applied, mut updates) = world.agent_without_data_plane(&Faults::none());
    applied.send_replace(guarded(&[]));
    let attach = tokio::spawn({
        let service = service.clone();
        async move { service.attach(request("c1")).await }
    });
    let mut heard = BTreeMap::new();
    while !heard.keys().any(|key: &String| key.contains("workloadendpoints")) {
        for update in updates.recv().await.unwrap() {
            heard.insert(update.key.to_string(), update.revision);
        }
    }
    assert!(
        world.links.lock().unwrap().contains_key("calic1"),
        "the interface is there before calc hears of it"
    );
    assert!(!attach.is_finished(), "no answer before the data plane has it");
    let stored = world.store.list("/").await.unwrap().entries;
    for kv in stored.iter().filter(|kv| !kv.key.contains("/ippools/") && !kv.key.contains("/nodes/")) {
        assert_eq!(heard.get(&kv.key), Some(&kv.mod_revision), "{}", kv.key);
    }
    let address = world.state().await.0.into_keys().next().unwrap();
    let index = world.links.lock().unwrap()["calic1"].index;
    for (stale, index, address) in [
        ("the name of an earlier interface", index - 1, address),
        ("the addresses of an earlier endpoint", index, "10.65.0.200".parse().unwrap()),
    ] {
        applied.send_replace(guarded(&[("calic1", index, address)]));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!attach.is_finished(), "{stale} must not pass");
    }
    applied.send_replace(guarded(&[("calic1", index, address)]));
    attach.await.unwrap().unwrap();

    service.detach(of(&request("c1"))).await.unwrap();
    let gone = updates.recv().await.unwrap();
    let revision = world.store.list("/").await.unwrap().revision;
    assert!(gone.iter().all(|update| update.revision == revision));
    let of_endpoint = |u: &&Update| matches!(u.key, Key::Resource { kind: Kind::WorkloadEndpoint, .. });
    assert!(gone.iter().find(of_endpoint).unwrap().value.is_none());
}

#[tokio::test(start_paused = true)]
async fn many_at_once_get_their_own() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        // Each asks twice at the same time, as a runtime that lost patience does.
        for _ in 0..2 {
            let service = service.clone();
            tasks.spawn(async move { (n, service.attach(request(&format!("c{n:03}"))).await.unwrap()) });
        }
    }
    let mut answers: BTreeMap<i32, AttachResponse> = BTreeMap::new();
    while let Some(result) = tasks.join_next().await {
        let (n, answer) = result.unwrap();
        if let Some(before) = answers.insert(n, answer.clone()) {
            assert_eq!(before, answer);
        }
    }
    assert_eq!(world.state().await.0.len(), 100);
    let detaching = (0..100).map(|n| service.detach(of(&request(&format!("c{n:03}")))));
    futures::future::try_join_all(detaching).await.unwrap();
    assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()));
    assert!(service.locks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_made_again_takes_over_and_a_late_delete_is_harmless() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    let first = service.attach(pod("old")).await.unwrap();
    let second = service.attach(pod("new")).await.unwrap();
    assert_ne!(first.addresses, second.addresses);
    let foreign = service.check(pod("old")).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::NotFound);
    service.detach(of(&pod("old"))).await.unwrap();
    let (used, links) = world.state().await;
    assert_eq!(used.keys().copied().collect::<Vec<_>>(), [second.addresses[0].ip()]);
    assert_eq!(links, ["new/eth0"]);
    service.check(pod("new")).await.unwrap();
    service.detach(of(&pod("new"))).await.unwrap();
    assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn interfaces_of_others_are_not_taken() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    // Outside Kubernetes the name is made of the first characters of the container's id.
    service.attach(request("0123456789a-first")).await.unwrap();
    let error = service.attach(request("0123456789a-second")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "interface cali0123456789a already belongs to 0123456789a-first/eth0; detach that first"
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
    service.detach(of(&request("0123456789a-second"))).await.unwrap();
    assert_eq!(world.state().await.1, ["0123456789a-first/eth0"]);
    let second_interface = AttachRequest { interface: "eth1".into(), ..request("0123456789a-first") };
    assert_eq!(service.attach(second_interface.clone()).await.unwrap_err().kind(), ErrorKind::Conflict);
    // What a runtime does next; the first interface's address is none of its business.
    service.detach(of(&second_interface)).await.unwrap();
    let (used, links) = world.state().await;
    assert_eq!((used.len(), links), (1, vec!["0123456789a-first/eth0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_locked_datastore_is_left_alone() {
    let world = World::new().await;
    let spec = ClusterInformationSpec { datastore_ready: Some(false), ..ClusterInformationSpec::default() };
    let information = ClusterInformation::new(ObjectMeta::named("default"), spec);
    world.client().create(information.into()).await.unwrap();
    let service = world.agent(&Faults::none());
    for error in [
        service.attach(request("c1")).await.unwrap_err(),
        service.detach(of(&request("c1"))).await.unwrap_err(),
    ] {
        assert!(matches!(error, WorkloadError::NotReady));
        assert_eq!(error.kind().status(), 503);
    }
}

#[tokio::test(start_paused = true)]
async fn families_and_addresses_are_as_asked() {
    let world = World::new().await;
    let cidr = "fd00::/112".parse().unwrap();
    let six = IpPool::new(ObjectMeta::named("six"), IpPoolSpec { cidr, ..IpPoolSpec::default() });
    world.client().create(six.into()).await.unwrap();
    let service = world.agent(&Faults::none());
    let mut number = 0;
    let mut ask = async |change: fn(&mut AttachRequest)| {
        number += 1;
        let mut wanted = request(&format!("c{number}"));
        change(&mut wanted);
        let answer = service.attach(wanted).await?;
        Ok::<String, WorkloadError>(
            answer.addresses.iter().map(|a| if a.is_ipv4() { '4' } else { '6' }).collect(),
        )
    };
    assert_eq!(ask(|_| {}).await.unwrap(), "4");
    assert_eq!(ask(|r| r.assign_ipv6 = Some(true)).await.unwrap(), "46");
    assert_eq!(ask(|r| r.pools = vec!["fd00::/112".into(), "p".into()]).await.unwrap(), "46");
    assert_eq!(ask(|r| (r.assign_ipv4, r.assign_ipv6) = (Some(false), Some(true))).await.unwrap(), "6");
    assert_eq!(ask(|r| r.addresses = vec!["10.65.0.77".parse().unwrap()]).await.unwrap(), "4");
    let error = ask(|r| r.assign_ipv4 = Some(false)).await.unwrap_err();
    assert!(error.to_string().starts_with("assignIpv4 'false' leaves no family"), "{error}");
    let error = ask(|r| r.addresses = vec!["10.65.0.77".parse().unwrap()]).await.unwrap_err();
    assert_eq!(
        error.chain(),
        "cannot allocate addresses: address 10.65.0.77 is already assigned to handle 'net.c5'"
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn no_interface_is_made_while_no_rules_are_loaded() {
    let world = World::new().await;
    let (service, applied, _updates) = world.agent_without_data_plane(&Faults::none());
    let failures = [("ruleset".to_owned(), "cannot run nft".to_owned())].into();
    applied.send_replace(Arc::new(Applied { failures, ..Applied::default() }));
    // Time stands still but for this: the attach waits as long as it may.
    let error = service.attach(request("c1")).await.unwrap_err();
    assert!(error.chain().contains("ruleset: cannot run nft"), "{}", error.chain());
    assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()));

    let attach = tokio::spawn({
        let service = service.clone();
        async move { service.attach(request("c1")).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.links.lock().unwrap().is_empty());
    applied.send_replace(guarded(&[]));
    let made = tokio::time::timeout(Duration::from_secs(5), async {
        while !world.links.lock().unwrap().contains_key("calic1") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    made.await.unwrap();
    attach.abort();
}
