//! One client at a time: which addresses, which keys, which errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tortie_datastore::ipam::{Extra, IpamError};
use tortie_datastore::store::{Compare, Operation};
use tortie_datastore::syncer::Value;
use tortie_model::ipam::{AffinityState, IpamConfig};
use tortie_model::resource::{AllowedUse, IpPool, IpPoolSpec, Node, NodeSpec};
use tortie_model::{Key, Kind, ObjectMeta};

use crate::audit::audit;
use crate::fixture::{
    configure, endpoint_key, ip, ipam, memory, nothing_else, pool, put, want, with_endpoint, without_endpoint,
};

const STRICT: fn() -> IpamConfig =
    || IpamConfig { strict_affinity: true, auto_allocate_blocks: true, ..IpamConfig::default() };

async fn revision(client: &tortie_datastore::Client) -> i64 {
    client.store().list("/").await.unwrap().revision
}

#[tokio::test]
async fn block_affinity_handle_and_endpoint_are_written_at_one_revision() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/16", 26)]).await;
    let before = revision(&client).await;
    let change = ipam(&client).assign(&want("n1", "net.c1"), with_endpoint("net.c1")).await.unwrap();
    assert_eq!(change.revision, before + 1, "one transaction, the claim of the block included");
    let listing = client.store().list("/").await.unwrap();
    let written: Vec<String> = listing
        .entries
        .iter()
        .filter(|kv| kv.mod_revision == change.revision)
        .map(|kv| format!("{} {}", kv.key, String::from_utf8_lossy(&kv.value)))
        .collect();
    let [block, handle, affinity, endpoint] = written.as_slice() else { panic!("{written:#?}") };
    let address = change.addresses[0];
    let cidr = audit(&client).await.blocks.into_keys().next().unwrap();
    assert!(block.starts_with(&format!(
        r#"{} {{"cidr":"{cidr}","affinity":"host:n1","affinity_claim_time":"2026-01-02T03:04:05Z","allocations":[0,null"#,
        Key::Block(cidr)
    )));
    assert!(block.ends_with(
        r#""attributes":[{"handle_id":"net.c1","secondary":{"node":"n1","pod":"net.c1"}}],"sequenceNumber":1767323045000000001,"sequenceNumberForAllocation":{"0":1767323045000000000},"deleted":false}"#
    ), "{block}");
    let affinity_key = Key::BlockAffinity { host: "n1".into(), block: cidr };
    assert_eq!(affinity, &format!(r#"{affinity_key} {{"state":"confirmed","deleted":false}}"#));
    assert_eq!(
        handle,
        &format!(r#"/calico/ipam/v2/handle/net.c1 {{"block":{{"{cidr}":1}},"deleted":false}}"#)
    );
    assert_eq!(endpoint, &format!(r#"{} ["{address}"]"#, endpoint_key("net.c1")));
    let keys: Vec<&Key> = change.updates.iter().map(|update| &update.key).collect();
    assert_eq!(keys, [&Key::Block(cidr), &affinity_key, &Key::Handle("net.c1".into())]);
    assert!(matches!(&change.updates[0].value, Some(Value::Block(b)) if b.owner(address).is_some()));
}

#[tokio::test]
async fn the_same_request_again_keeps_the_address() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/16", 26)]).await;
    let ipam = ipam(&client);
    let first = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    ipam.assign(&want("n1", "b"), nothing_else).await.unwrap();
    let again = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    assert_eq!(first.addresses, again.addresses);
    let audit = audit(&client).await;
    assert_eq!((audit.blocks.len(), audit.held["a"].len(), audit.held["b"].len()), (1, 1, 1));
}

#[tokio::test]
async fn a_released_address_waits_at_the_end_of_the_queue() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let ipam = ipam(&client);
    for n in 0..3 {
        let change = ipam.assign(&want("n1", &n.to_string()), nothing_else).await.unwrap();
        assert_eq!(change.addresses, [ip(&format!("10.65.0.{n}"))], "network address included");
    }
    assert_eq!(ipam.release_by_handle("0", Extra::default()).await.unwrap().addresses, [ip("10.65.0.0")]);
    assert_eq!(ipam.assign(&want("n1", "3"), nothing_else).await.unwrap().addresses, [ip("10.65.0.3")]);
    assert_eq!(ipam.assign(&want("n1", "4"), nothing_else).await.unwrap().addresses, [ip("10.65.0.0")]);
    let error = ipam.assign(&want("n1", "5"), nothing_else).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pool 10.65.0.0/30 is exhausted: no free IPv4 address for node n1; create another IPPool, or delete workloads"
    );
    audit(&client).await;
}

#[tokio::test]
async fn both_families_come_in_one_transaction_or_not_at_all() {
    let client = memory(&["n1"], &[pool("four", "10.65.0.0/30", 30), pool("six", "fd00::/120", 122)]).await;
    let ipam = ipam(&client);
    let mut request = want("n1", "dual");
    request.ipv6 = 1;
    let change = ipam.assign(&request, with_endpoint("dual")).await.unwrap();
    assert_eq!(change.addresses.iter().map(|a| a.is_ipv6()).collect::<Vec<_>>(), [false, true]);
    request.handle = "large".into();
    request.ipv4 = 4;
    assert!(matches!(ipam.assign(&request, nothing_else).await, Err(IpamError::Exhausted { .. })));
    assert_eq!(audit(&client).await.held.keys().collect::<Vec<_>>(), ["dual"]);
    ipam.release_by_handle("dual", without_endpoint("dual")).await.unwrap();
    assert!(audit(&client).await.held.is_empty());
    assert!(client.store().get(&endpoint_key("dual")).await.unwrap().is_none());
}

#[tokio::test]
async fn more_addresses_than_a_block_has_span_blocks() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/28", 30)]).await;
    let mut request = want("n1", "many");
    request.ipv4 = 9;
    let change = ipam(&client).assign(&request, nothing_else).await.unwrap();
    assert_eq!(change.addresses.len(), 9);
    let audit = audit(&client).await;
    assert_eq!((audit.blocks.len(), audit.held["many"].len()), (3, 9));
}

#[tokio::test]
async fn pools_that_do_not_fit_are_named_with_their_reason() {
    let mut disabled = pool("a-disabled", "10.1.0.0/24", 26);
    disabled.spec.disabled = true;
    let mut tunnel = pool("b-tunnel", "10.2.0.0/24", 26);
    tunnel.spec.allowed_uses = Some(vec![AllowedUse::Tunnel]);
    let mut manual = pool("c-manual", "10.3.0.0/24", 26);
    manual.spec.assignment_mode = Some("Manual".into());
    let mut selected = pool("d-rack", "10.4.0.0/24", 26);
    selected.spec.node_selector = Some("rack == 'b'".into());
    let client = memory(&["n1"], &[disabled, tunnel, manual, selected, pool("e", "fd00::/120", 122)]).await;
    let ipam = ipam(&client);
    let error = ipam.assign(&want("n1", "h"), nothing_else).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no configured pool selects node n1 for IPv4 addresses (a-disabled is disabled; b-tunnel does not allow \
         Workload; c-manual is only used when asked for (assignmentMode: Manual); d-rack selects nodes by rack == 'b')"
    );
    let ask = async |pools: &[&str]| {
        let mut request = want("n1", "h");
        request.pools = pools.iter().map(|p| (*p).to_owned()).collect();
        ipam.assign(&request, nothing_else).await
    };
    let configured = "a-disabled (10.1.0.0/24), b-tunnel (10.2.0.0/24), c-manual (10.3.0.0/24), d-rack (10.4.0.0/24), \
                      e (fd00::/120)";
    for (pools, expected) in [
        (["nope"], format!("the requested pool nope does not exist; configured are: {configured}")),
        (
            ["10.1.0.0/24"],
            "the requested pool 10.1.0.0/24 is disabled; enable it (spec.disabled: false) or ask for another"
                .into(),
        ),
        (
            ["b-tunnel"],
            "no configured pool selects node n1 for IPv4 addresses (b-tunnel does not allow Workload)".into(),
        ),
        (
            ["e"],
            "no configured pool selects node n1 for IPv4 addresses (none of the requested pools is IPv4)"
                .into(),
        ),
    ] {
        assert_eq!(ask(&pools).await.unwrap_err().to_string(), expected);
    }
    let by_cidr = ask(&["10.3.0.0/24"]).await.unwrap().addresses;
    assert!(by_cidr[0].to_string().starts_with("10.3.0."), "asked for by CIDR, Manual notwithstanding");
    let by_name = ask(&["d-rack"]).await.unwrap().addresses;
    assert!(by_name[0].to_string().starts_with("10.4.0."), "asked for by name, selector notwithstanding");
    assert_eq!(audit(&client).await.held["h"].len(), 1, "the first address was given back");
}

#[tokio::test]
async fn a_node_must_exist_and_no_pool_is_an_error_of_its_own() {
    let client = memory(&["n1"], &[]).await;
    let error = ipam(&client).assign(&want("ghost", "h"), nothing_else).await.unwrap_err();
    assert!(error.to_string().starts_with("node ghost does not exist in the datastore"), "{error}");
    let error = ipam(&client).assign(&want("n1", "h"), nothing_else).await.unwrap_err();
    assert!(error.to_string().ends_with("(there is no IPv4 pool: create an IPPool)"), "{error}");
}

#[tokio::test]
async fn without_strict_affinity_a_node_borrows_and_gives_back() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let ipam = ipam(&client);
    ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    let borrowed = ipam.assign(&want("n2", "b"), nothing_else).await.unwrap();
    let found = audit(&client).await;
    assert_eq!(found.blocks.len(), 1);
    assert_eq!(found.affinities.keys().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), ["n1"]);
    let again = ipam.assign(&want("n2", "b"), nothing_else).await.unwrap();
    assert_eq!(again.addresses, borrowed.addresses);

    configure(&client, STRICT()).await;
    assert!(matches!(ipam.assign(&want("n2", "c"), nothing_else).await, Err(IpamError::Exhausted { .. })));
    let mut request = want("n2", "c");
    request.ipv4 = 0;
    request.addresses = vec![ip("10.65.0.3")];
    let error = ipam.assign(&request, nothing_else).await.unwrap_err().to_string();
    assert!(
        error.starts_with("address 10.65.0.3 lies in block 10.65.0.0/30 of node n1, and strict"),
        "{error}"
    );
    ipam.release_by_handle("b", Extra::default()).await.unwrap();
    assert_eq!(audit(&client).await.held.keys().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn the_block_limit_ends_claims_and_names_itself() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 30)]).await;
    configure(&client, IpamConfig { max_blocks_per_host: 2, ..STRICT() }).await;
    let mut request = want("n1", "h");
    request.ipv4 = 8;
    ipam(&client).assign(&request, nothing_else).await.unwrap();
    let error = ipam(&client).assign(&want("n1", "one more"), nothing_else).await.unwrap_err();
    assert!(
        error.to_string().starts_with("node n1 holds 2 blocks and all are full; the limit is 2"),
        "{error}"
    );
}

#[tokio::test]
async fn blocks_are_not_claimed_when_the_configuration_forbids_it() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 30)]).await;
    configure(&client, IpamConfig::default()).await;
    assert!(matches!(
        ipam(&client).assign(&want("n1", "h"), nothing_else).await,
        Err(IpamError::Exhausted { .. })
    ));
    assert!(audit(&client).await.blocks.is_empty());
}

#[tokio::test]
async fn a_certain_address_is_given_to_one_handle() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/24", 26)]).await;
    let ipam = ipam(&client);
    let ask = async |host: &str, handle: &str, address: &str| {
        ipam.assign_address(ip(address), want(host, handle), with_endpoint(handle)).await
    };
    assert_eq!(ask("n1", "a", "10.65.0.77").await.unwrap().addresses, [ip("10.65.0.77")]);
    assert_eq!(ask("n1", "a", "10.65.0.77").await.unwrap().addresses, [ip("10.65.0.77")], "again");
    let error = ask("n1", "b", "10.65.0.77").await.unwrap_err();
    assert_eq!(error.to_string(), "address 10.65.0.77 is already assigned to handle 'a'");
    let error = ask("n1", "b", "10.66.0.1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "address 10.66.0.1 is in no enabled pool that allows Workload; configured are: p (10.65.0.0/24)"
    );
    assert_eq!(ask("n2", "c", "10.65.0.78").await.unwrap().addresses, [ip("10.65.0.78")], "borrowed");
    assert_eq!(ask("n1", "a", "10.65.0.200").await.unwrap().addresses, [ip("10.65.0.200")], "moved");
    let audit = audit(&client).await;
    assert_eq!(audit.held["a"].iter().collect::<Vec<_>>(), [&ip("10.65.0.200")]);
    assert_eq!(audit.blocks[&"10.65.0.64/26".parse().unwrap()].host(), Some("n1"));
}

#[tokio::test]
async fn a_pool_made_anew_with_another_block_size_gives_no_address_twice() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/24", 26)]).await;
    let held = ipam(&client).assign_address(ip("10.65.0.5"), want("n1", "a"), nothing_else).await.unwrap();
    let mut changed = client.find::<IpPoolSpec>(None, "p").await.unwrap().unwrap();
    changed.spec.block_size = Some(28);
    client.update(changed.into()).await.unwrap();
    for host in ["n1", "n2"] {
        let again = ipam(&client).assign_address(held.addresses[0], want(host, "b"), nothing_else).await;
        assert_eq!(
            again.unwrap_err().to_string(),
            "address 10.65.0.5 belongs into block 10.65.0.0/28, but block 10.65.0.0/26 of another size is there: release what \
             it holds first, or ask for another address"
        );
    }
    assert_eq!(audit(&client).await.blocks.len(), 1);
}

#[tokio::test]
async fn addresses_are_released_one_by_one_whoever_holds_them() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/29", 30)]).await;
    let ipam = ipam(&client);
    let mut request = want("n1", "many");
    request.ipv4 = 6;
    let held = ipam.assign(&request, nothing_else).await.unwrap().addresses;
    let mut asked = held[1..5].to_vec();
    asked.push(ip("192.0.2.1"));
    let mut released = ipam.release_addresses(&asked).await.unwrap().addresses;
    released.sort();
    let mut expected = held[1..5].to_vec();
    expected.sort();
    assert_eq!(released, expected);
    assert_eq!(audit(&client).await.held["many"].len(), 2);
    client.delete(&pool_id("p"), None).await.unwrap();
    assert_eq!(ipam.release_addresses(&held).await.unwrap().addresses.len(), 2, "without a pool too");
    assert!(audit(&client).await.held.is_empty());
}

fn pool_id(name: &str) -> tortie_datastore::client::Identifier {
    tortie_datastore::client::Identifier { kind: Kind::IpPool, namespace: None, name: name.into() }
}

#[tokio::test]
async fn claims_found_half_done_are_completed_or_removed() {
    let pools: [IpPool; 1] = [pool("p", "10.65.0.0/24", 30)];
    let affinity = |host: &str, block: &str| {
        Key::BlockAffinity { host: host.into(), block: block.parse().unwrap() }.to_string()
    };
    let pending = br#"{"state":"pending","deleted":false}"#.to_vec();

    let client = memory(&["n1", "n2"], &pools).await;
    put(&client, &affinity("n1", "10.65.0.8/30"), pending.clone()).await;
    let change = ipam(&client).assign(&want("n1", "a"), nothing_else).await.unwrap();
    assert_eq!(change.addresses, [ip("10.65.0.8")], "the block it was about to claim");
    audit(&client).await;

    // Another node won the block: the claim goes, another block is taken.
    put(&client, &affinity("n2", "10.65.0.8/30"), pending.clone()).await;
    let change = ipam(&client).assign(&want("n2", "b"), nothing_else).await.unwrap();
    assert!(!"10.65.0.8/30".parse::<ipnetwork::IpNetwork>().unwrap().contains(change.addresses[0]));
    let found = audit(&client).await;
    assert_eq!(found.affinities.len(), 2);

    // Interrupted while giving the block up: still the node's, so it is confirmed again.
    put(&client, &affinity("n1", "10.65.0.8/30"), br#"{"state":"pendingDeletion","deleted":false}"#.to_vec())
        .await;
    ipam(&client).assign(&want("n1", "c"), nothing_else).await.unwrap();
    let found = audit(&client).await;
    assert_eq!(
        found.affinities[&("n1".to_owned(), "10.65.0.8/30".parse().unwrap())],
        AffinityState::Confirmed
    );
}

#[tokio::test]
async fn a_damaged_block_is_left_alone() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/29", 30)]).await;
    let ipam = ipam(&client);
    let first = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap().addresses[0];
    let found = audit(&client).await;
    let (cidr, mut block) = found.blocks.into_iter().next().unwrap();
    block.unallocated.clear();
    let damaged = serde_json::to_vec(&block).unwrap();
    put(&client, &Key::Block(cidr).to_string(), damaged.clone()).await;
    let second = ipam.assign(&want("n1", "b"), nothing_else).await.unwrap().addresses[0];
    assert!(cidr.contains(first) && !cidr.contains(second), "{cidr} {first} {second}");
    assert!(matches!(ipam.release_by_handle("a", Extra::default()).await, Err(IpamError::Damaged(_))));
    let stored = client.store().get(&Key::Block(cidr).to_string()).await.unwrap().unwrap();
    assert_eq!(stored.value, damaged);
}

#[tokio::test]
async fn an_endpoint_changed_by_others_ends_the_operation() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 26)]).await;
    put(&client, &endpoint_key("a"), b"{}".to_vec()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let extra = move |_: &[std::net::IpAddr]| {
        counted.fetch_add(1, Ordering::Relaxed);
        Extra { compares: vec![Compare::Absent(endpoint_key("a"))], operations: Vec::new() }
    };
    let error = ipam(&client).assign(&want("n1", "a"), extra).await.unwrap_err();
    assert!(matches!(error, IpamError::Superseded), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(audit(&client).await.held.is_empty());
    let stale = Extra {
        compares: vec![Compare::ModRevision(endpoint_key("a"), 1)],
        operations: vec![Operation::Delete(endpoint_key("a"))],
    };
    assert!(matches!(ipam(&client).release_by_handle("a", stale).await, Err(IpamError::Superseded)));
}

#[tokio::test]
async fn an_empty_block_of_nobody_goes_with_its_last_address() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let ipam = ipam(&client);
    ipam.assign(&want("n1", "former"), nothing_else).await.unwrap();
    let key = Key::Block("10.65.0.0/30".parse().unwrap()).to_string();
    ipam.release_host_affinities("n1", false).await.unwrap();
    ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    assert!(audit(&client).await.affinities.is_empty(), "borrowed from nobody");
    ipam.release_by_handle("former", Extra::default()).await.unwrap();
    assert!(client.store().get(&key).await.unwrap().is_some());
    ipam.release_by_handle("a\rcut", Extra::default()).await.unwrap();
    assert!(client.store().get(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn pools_are_chosen_by_the_nodes_labels() {
    let of_rack = |name: &str, cidr: &str, selector: &str| {
        let mut pool = pool(name, cidr, 26);
        pool.spec.node_selector = Some(selector.into());
        pool
    };
    let pools = [
        of_rack("a", "10.1.0.0/24", "rack == 'a'"),
        of_rack("b", "10.2.0.0/24", "rack == 'b' && all()"),
        of_rack("c", "10.3.0.0/24", "rack =="),
    ];
    let client = memory(&[], &pools).await;
    for rack in ["a", "b"] {
        let mut metadata = ObjectMeta::named(rack);
        metadata.labels.insert("rack".into(), rack.into());
        client.create(Node::new(metadata, NodeSpec::default()).into()).await.unwrap();
    }
    client.create(Node::new(ObjectMeta::named("bare"), NodeSpec::default()).into()).await.unwrap();
    let ipam = ipam(&client);
    for (node, start) in [("a", "10.1.0."), ("b", "10.2.0.")] {
        let address = ipam.assign(&want(node, node), nothing_else).await.unwrap().addresses[0];
        assert!(address.to_string().starts_with(start), "{node}: {address}");
    }
    let error = ipam.assign(&want("bare", "x"), nothing_else).await.unwrap_err().to_string();
    let expected = "no configured pool selects node bare for IPv4 addresses (a selects nodes by rack == 'a'; b selects \
                    nodes by rack == 'b' && all(); c has an invalid selector 'rack =='";
    assert!(error.starts_with(expected), "{error}");
}
