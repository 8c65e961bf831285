//! Which addresses may be given out: reservations, namespaces, limits, cooling down, blocks taken over, virtual owners.

use tortie_datastore::Client;
use tortie_datastore::ipam::{AssignRequest, Extra, IpamError, Release};
use tortie_model::ipam::{AffinityState, ConfigFault, IpamConfig};
use tortie_model::resource::{AllowedUse, IpPoolSpec, NodeSpec, Profile, ProfileSpec};
use tortie_model::{AnyResource, Key, ObjectMeta};

use crate::audit::audit;
use crate::fixture::{Time, configure, ip, ipam, memory, net, nothing_else, pool, put, want};

const RESERVATION: &str = "/calico/resources/v3/projectcalico.org/ipreservations/r";

async fn reserve(client: &Client, cidrs: &[&str]) {
    let value = serde_json::json!({"kind": "IPReservation", "spec": {"reservedCIDRs": cidrs}});
    put(client, RESERVATION, value.to_string().into_bytes()).await;
}

#[tokio::test]
async fn reserved_addresses_are_given_out_only_when_asked_for() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/29", 30)]).await;
    reserve(&client, &["10.65.0.0/30", "10.65.0.6"]).await;
    let ipam = ipam(&client);
    let mut given = Vec::new();
    for handle in ["a", "b", "c"] {
        given.extend(ipam.assign(&want("n1", handle), nothing_else).await.unwrap().addresses);
    }
    assert_eq!(
        given,
        [ip("10.65.0.4"), ip("10.65.0.5"), ip("10.65.0.7")],
        "the reserved block is passed over"
    );
    let error = ipam.assign(&want("n1", "d"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
    for address in ["10.65.0.6", "10.65.0.1"] {
        let certain = ipam.assign_address(ip(address), want("n1", address), nothing_else).await.unwrap();
        assert_eq!(certain.addresses, [ip(address)]);
    }
    // A block that exists, but has only reserved addresses left, is passed over too.
    let error = ipam.assign(&want("n1", "d"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
    audit(&client).await;
}

#[tokio::test]
async fn a_whole_reserved_pool_of_ipv6_is_no_long_search() {
    let client = memory(&["n1"], &[pool("p", "fd00::/48", 122)]).await;
    reserve(&client, &["fd00::/47"]).await;
    let request = AssignRequest { ipv4: 0, ipv6: 1, ..want("n1", "a") };
    let error = ipam(&client).assign(&request, nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
}

#[tokio::test]
async fn a_reservation_that_cannot_be_read_stops_what_is_not_asked_for() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 26)]).await;
    put(&client, RESERVATION, br#"{"spec":{"reservedCIDRs":["10.65.0.0/99"]}}"#.to_vec()).await;
    let ipam = ipam(&client);
    let error = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "IPReservation {RESERVATION} cannot be read: spec.reservedCIDRs has '10.65.0.0/99'"
        )),
        "{error}"
    );
    ipam.assign_address(ip("10.65.0.9"), want("n1", "b"), nothing_else).await.unwrap();
    reserve(&client, &[]).await;
    ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
}

#[tokio::test]
async fn pools_are_chosen_by_the_labels_of_the_namespace() {
    let mut red = pool("a-red", "10.1.0.0/24", 26);
    red.spec.namespace_selector = Some("colour == 'red'".into());
    let mut other = pool("b-rest", "10.2.0.0/24", 26);
    other.spec.namespace_selector = Some("!has(colour)".into());
    let client = memory(&["n1"], &[red, other]).await;
    let profile = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Profile::new(
            ObjectMeta::named("kns.shop"),
            ProfileSpec { labels_to_apply: labels, ..ProfileSpec::default() },
        )
    };
    client.create(profile(&[("pcns.colour", "red"), ("colour", "blue")]).into()).await.unwrap();
    let ipam = ipam(&client);
    let ask = async |namespace: Option<&str>, handle: &str| {
        let request = AssignRequest { namespace: namespace.map(str::to_owned), ..want("n1", handle) };
        ipam.assign(&request, nothing_else).await.unwrap().addresses[0].to_string()
    };
    assert!(ask(Some("shop"), "a").await.starts_with("10.1.0."));
    assert!(ask(Some("unlabelled"), "b").await.starts_with("10.2.0."), "no profile, no labels");
    assert!(ask(None, "c").await.starts_with("10.2.0."));
    assert!(ask(Some("shop"), "d").await.starts_with("10.1.0."), "from memory");
    // The namespace changes its colour; whoever remembers the old one finds out.
    let mut stored = client.find::<ProfileSpec>(None, "kns.shop").await.unwrap().unwrap();
    stored.spec.labels_to_apply.clear();
    client.update(stored.into()).await.unwrap();
    assert!(ask(Some("shop"), "e").await.starts_with("10.2.0."));
}

#[tokio::test]
async fn the_smaller_limit_holds_and_nothing_is_borrowed_at_it() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/28", 30)]).await;
    let ipam = ipam(&client);
    let limited = |host: &str, handle: &str, count: usize, limit: usize| AssignRequest {
        ipv4: count,
        max_blocks: limit,
        ..want(host, handle)
    };
    ipam.assign(&limited("n2", "other", 1, 0), nothing_else).await.unwrap();
    ipam.assign(&limited("n1", "a", 4, 1), nothing_else).await.unwrap();
    let error = ipam.assign(&limited("n1", "b", 1, 1), nothing_else).await.unwrap_err();
    assert!(
        matches!(error, IpamError::BlockLimit { held: 1, limit: 1, .. }),
        "n2's block has room, yet nothing is borrowed: {error}"
    );
    configure(&client, IpamConfig { strict_affinity: true, max_blocks_per_host: 2, ..IpamConfig::absent() })
        .await;
    ipam.assign(&limited("n1", "b", 4, 0), nothing_else).await.unwrap();
    for limit in [0, 5] {
        let error = ipam.assign(&limited("n1", "c", 1, limit), nothing_else).await.unwrap_err();
        assert!(matches!(error, IpamError::BlockLimit { held: 2, limit: 2, .. }), "{error}");
    }
    let refused = ipam.configure(|config| config.strict_affinity = false).await.unwrap_err();
    assert!(
        matches!(&refused, IpamError::Config(faults) if *faults == [ConfigFault::LimitWithoutStrictAffinity(2)]),
        "{refused}"
    );
    ipam.configure(|config| config.max_blocks_per_host = 3).await.unwrap();
    ipam.assign(&limited("n1", "c", 1, 0), nothing_else).await.unwrap();
    assert_eq!(ipam.configuration().await.unwrap().max_blocks_per_host, 3);
}

#[tokio::test]
async fn a_released_address_cools_down() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    configure(&client, IpamConfig { ip_cooldown_seconds: 30, ..IpamConfig::absent() }).await;
    let time = Time::default();
    let ipam = time.ipam(&client);
    let mut four = want("n1", "four");
    four.ipv4 = 4;
    ipam.assign(&four, nothing_else).await.unwrap();
    ipam.assign(&four, nothing_else).await.unwrap();
    assert_eq!(audit(&client).await.held["four"].len(), 4, "the same request again keeps all");
    assert_eq!(ipam.release_by_handle("four", Extra::default()).await.unwrap().addresses.len(), 4);
    let found = audit(&client).await;
    assert!(found.held.is_empty());
    let block = &found.blocks[&net("10.65.0.0/30")];
    assert_eq!((block.free(), block.cooling().count()), (0, 4));
    assert!(block.attributes[0].released_at.as_deref() == Some("2026-01-02T03:04:05Z"));

    let error = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
    let error = ipam.assign_address(ip("10.65.0.1"), want("n1", "a"), nothing_else).await.unwrap_err();
    assert!(error.to_string().starts_with("address 10.65.0.1 was released by handle 'four'"), "{error}");
    ipam.assign_address(ip("10.65.0.1"), want("n1", "four"), nothing_else).await.unwrap();
    time.advance(29);
    assert!(ipam.assign(&want("n1", "a"), nothing_else).await.is_err());
    time.advance(1);
    let given = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap().addresses;
    assert_eq!(given, [ip("10.65.0.0")]);
    assert_eq!(audit(&client).await.blocks[&net("10.65.0.0/30")].cooling().count(), 0);
}

#[tokio::test]
async fn an_empty_block_of_another_node_is_taken_over_after_a_minute() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/30", 30)]).await;
    configure(&client, IpamConfig { strict_affinity: true, ..IpamConfig::absent() }).await;
    let time = Time::default();
    let (one, two) = (time.ipam(&client), time.ipam(&client));
    one.assign(&want("n1", "a"), nothing_else).await.unwrap();
    assert!(two.assign(&want("n2", "b"), nothing_else).await.is_err(), "in use");
    one.release_by_handle("a", Extra::default()).await.unwrap();
    time.advance(59);
    assert!(two.assign(&want("n2", "b"), nothing_else).await.is_err(), "claimed less than a minute ago");
    time.advance(1);
    two.assign(&want("n2", "b"), nothing_else).await.unwrap();
    let found = audit(&client).await;
    assert_eq!(found.blocks[&net("10.65.0.0/30")].host(), Some("n2"));
    assert_eq!(found.affinities.len(), 1, "n1's claim is gone");
    assert!(one.assign(&want("n1", "c"), nothing_else).await.is_err(), "n1 still remembers the block");
    audit(&client).await;
}

#[tokio::test]
async fn an_empty_block_of_nobody_is_claimed() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let block = tortie_model::ipam::Block::new(net("10.65.0.0/30"), None, None, 7);
    put(&client, &Key::Block(block.cidr).to_string(), serde_json::to_vec(&block).unwrap()).await;
    ipam(&client).assign(&want("n1", "a"), nothing_else).await.unwrap();
    let found = audit(&client).await;
    assert_eq!(
        (found.blocks[&block.cidr].host(), found.blocks[&block.cidr].sequence_number),
        (Some("n1"), 8)
    );
}

#[tokio::test]
async fn empty_blocks_of_pools_that_no_longer_select_the_node_are_given_up() {
    let mut old = pool("a-old", "10.1.0.0/24", 26);
    old.spec.node_selector = Some("!has(moved)".into());
    let client = memory(&["n1"], &[old, pool("b-new", "10.2.0.0/24", 26)]).await;
    let ipam = ipam(&client);
    ipam.assign(&want("n1", "used"), nothing_else).await.unwrap();
    let mut many = want("n1", "many");
    many.ipv4 = 64;
    ipam.assign(&many, nothing_else).await.unwrap();
    ipam.release_by_handle("many", Extra::default()).await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 2);
    let mut node = client.find::<NodeSpec>(None, "n1").await.unwrap().unwrap();
    node.metadata.labels.insert("moved".into(), "yes".into());
    client.update(node.into()).await.unwrap();
    ipam.assign(&want("n1", "b"), nothing_else).await.unwrap();
    let found = audit(&client).await;
    let old: Vec<_> = found.blocks.keys().filter(|cidr| cidr.to_string().starts_with("10.1.")).collect();
    assert_eq!((old.len(), found.blocks.len()), (1, 2), "the one in use stays");
}

#[tokio::test]
async fn addresses_of_services_come_from_blocks_of_a_virtual_owner() {
    let mut services = pool("lb", "10.9.0.0/24", 30);
    services.spec.allowed_uses = Some(vec![AllowedUse::LoadBalancer]);
    let client = memory(&["n1"], &[services, pool("p", "10.65.0.0/24", 26)]).await;
    let ipam = ipam(&client);
    let request = AssignRequest { intended_use: AllowedUse::LoadBalancer, ..AssignRequest::new("", "lb-1") };
    let address = ipam.assign(&request, nothing_else).await.unwrap().addresses[0];
    assert!(address.to_string().starts_with("10.9.0."));
    let prefix = "/calico/ipam/v2/virtual/load-balancer/ipv4/block/";
    let claims = client.store().list(prefix).await.unwrap().entries;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].value, br#"{"state":"confirmed","deleted":false}"#);
    let cidr = claims[0].key.trim_start_matches(prefix).replace('-', "/");
    let stored = client.store().get(&Key::Block(net(&cidr)).to_string()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&stored.value).contains(r#""affinity":"virtual:load-balancer""#));
    let second = AssignRequest { handle: "lb-2".into(), ..request };
    ipam.assign(&second, nothing_else).await.unwrap();
    assert_eq!(client.store().list(prefix).await.unwrap().entries.len(), 1, "the same block");
    for handle in ["lb-1", "lb-2"] {
        ipam.release_by_handle(handle, Extra::default()).await.unwrap();
    }
    ipam.release_pool_affinities(&net("10.9.0.0/24")).await.unwrap();
    assert!(client.store().list("/calico/ipam/v2/").await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn an_address_is_released_only_as_the_caller_knows_it() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let ipam = ipam(&client);
    let address = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap().addresses[0];
    let sequence = audit(&client).await.blocks[&net("10.65.0.0/30")].sequence_of(address).unwrap();
    let release = |handle: &str, sequence: u64| Release {
        address,
        handle: Some(handle.to_owned()),
        sequence: Some(sequence),
    };
    let error = ipam.release_certain(&[release("b", sequence)]).await.unwrap_err().to_string();
    assert_eq!(error, "the given handle (b) does not match (a) when attempting to release IP");
    let error = ipam.release_certain(&[release("a", 5)]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the given sequence number (5) does not match ({sequence}) when attempting to release IP")
    );
    assert_eq!(audit(&client).await.held.len(), 1);
    assert_eq!(ipam.release_certain(&[release("a", sequence)]).await.unwrap().addresses, [address]);
    assert!(
        ipam.release_certain(&[release("a", sequence)]).await.unwrap().addresses.is_empty(),
        "free already"
    );
}

#[tokio::test]
async fn very_old_data_is_used_and_written_with_sequence_numbers() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let old = r#"{"cidr":"10.65.0.0/30","affinity":null,"hostAffinity":"n1","allocations":[0,null,null,null],
        "unallocated":[1,2,3],"attributes":[{"handle_id":"old","secondary":null}],"strictAffinity":false}"#;
    put(&client, &Key::Block(net("10.65.0.0/30")).to_string(), old.as_bytes().to_vec()).await;
    put(&client, "/calico/ipam/v2/handle/old", br#"{"block":{"10.65.0.0/30":1}}"#.to_vec()).await;
    put(&client, "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-30", Vec::new()).await;
    let ipam = ipam(&client);
    let given = ipam.assign(&want("n1", "a"), nothing_else).await.unwrap().addresses;
    assert_eq!(given, [ip("10.65.0.1")]);
    let stored = client.store().get(&Key::Block(net("10.65.0.0/30")).to_string()).await.unwrap().unwrap();
    let text = String::from_utf8(stored.value).unwrap();
    assert!(text.contains(r#""sequenceNumber":1,"sequenceNumberForAllocation":{"1":0}"#), "{text}");
    assert!(text.contains(r#""hostAffinity":"n1""#) && text.contains(r#""strictAffinity":false"#), "{text}");
    let state = client.store().get("/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-30").await.unwrap().unwrap();
    assert!(state.value.is_empty(), "an empty claim is confirmed");
    ipam.assign(&want("n1", "b"), nothing_else).await.unwrap();
    assert_eq!(ipam.release_by_handle("old", Extra::default()).await.unwrap().addresses, [ip("10.65.0.0")]);
}

#[tokio::test]
async fn claims_are_given_up_by_block_by_node_and_by_pool() {
    let client =
        memory(&["n1", "n2"], &[pool("p", "10.65.0.0/24", 30), pool("six", "fd00::/120", 122)]).await;
    let ipam = ipam(&client);
    let dual = |host: &str| AssignRequest { ipv6: 1, ..want(host, host) };
    ipam.assign(&dual("n1"), nothing_else).await.unwrap();
    ipam.assign(&dual("n2"), nothing_else).await.unwrap();
    put(&client, "/calico/ipam/v2/host/n1", b"{}".to_vec()).await;
    let error = ipam.release_host_affinities("n1", true).await.unwrap_err().to_string();
    assert!(error.ends_with("of host:n1 still has 1 addresses in use"), "{error}");
    assert_eq!(audit_without_record(&client).await, 4);
    ipam.release_by_handle("n1", Extra::default()).await.unwrap();
    ipam.remove_host("n1").await.unwrap();
    let found = audit(&client).await;
    assert_eq!((found.blocks.len(), found.affinities.len()), (2, 2), "all of n1 is gone, its record too");
    ipam.release_pool_affinities(&net("fd00::/120")).await.unwrap();
    let found = audit(&client).await;
    assert_eq!(found.affinities.values().collect::<Vec<_>>(), [&AffinityState::Confirmed]);
    let orphan = found.blocks.values().find(|block| block.cidr.is_ipv6()).unwrap();
    assert!(!orphan.is_affine() && orphan.affinity_claim_time.is_none() && !orphan.is_empty());
    ipam.release_by_handle("n2", Extra::default()).await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 1, "nobody's block goes with its last address");
}

/// Claims, with a record of a host among IPAM's keys that the audit does not know.
async fn audit_without_record(client: &Client) -> usize {
    let entries = client.store().list("/calico/ipam/v2/host/").await.unwrap().entries;
    entries.iter().filter(|kv| kv.key.contains("/block/")).count()
}

#[tokio::test]
async fn a_pool_that_may_not_be_used_unasked_is_used_when_asked_for_from_memory_too() {
    let mut manual = pool("m", "10.3.0.0/24", 26);
    manual.spec.assignment_mode = Some("Manual".into());
    let client = memory(&["n1"], &[manual, pool("p", "10.65.0.0/24", 26)]).await;
    let ipam = ipam(&client);
    for handle in ["a", "b"] {
        let asked = AssignRequest { pools: vec!["m".into()], ..want("n1", handle) };
        let address = ipam.assign(&asked, nothing_else).await.unwrap().addresses[0].to_string();
        assert!(address.starts_with("10.3.0."), "{address}");
    }
    for handle in ["c", "d"] {
        let address = ipam.assign(&want("n1", handle), nothing_else).await.unwrap().addresses[0].to_string();
        assert!(address.starts_with("10.65.0."), "{address}");
    }
    let mut pool = client.find::<IpPoolSpec>(None, "m").await.unwrap().unwrap();
    pool.spec.disabled = true;
    client.update(AnyResource::from(pool)).await.unwrap();
    let asked = AssignRequest { pools: vec!["m".into()], ..want("n1", "e") };
    assert!(matches!(ipam.assign(&asked, nothing_else).await, Err(IpamError::DisabledPool { .. })));
}
