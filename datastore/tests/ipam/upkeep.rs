//! Care for a node's blocks between allocations.

use std::time::Duration;

use tortie_datastore::ipam::{AssignRequest, Extra, Tunnel};
use tortie_model::ipam::{AffinityState, IpamConfig};
use tortie_model::resource::{EncapMode, Node, NodeSpec};
use tortie_model::{Key, ObjectMeta};

use crate::audit::audit;
use crate::fixture::{Time, configure, ipam, memory, net, nothing_else, pool, put, want};

#[tokio::test]
async fn the_next_block_is_claimed_before_the_present_one_is_full() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 28)]).await;
    let ipam = ipam(&client);
    ipam.prefetch("n1").await.unwrap();
    assert!(audit(&client).await.blocks.is_empty(), "a node without addresses needs no block");
    for n in 1..=13 {
        ipam.assign(&want("n1", &n.to_string()), nothing_else).await.unwrap();
        ipam.prefetch("n1").await.unwrap();
        let expected = if n < 13 { 1 } else { 2 };
        assert_eq!(audit(&client).await.blocks.len(), expected, "after {n} addresses of 16");
    }
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 2, "once is enough");
    for n in 14..=20 {
        let change = ipam.assign(&want("n1", &n.to_string()), nothing_else).await.unwrap();
        assert_eq!(change.updates.len(), 2, "block and handle only: the next block is the node's already");
    }
}

#[tokio::test]
async fn an_allocation_tells_when_blocks_run_low() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 29)]).await;
    let ipam = ipam(&client);
    for n in 1..=7 {
        ipam.assign(&want("n1", &n.to_string()), nothing_else).await.unwrap();
        let told = tokio::time::timeout(Duration::ZERO, ipam.runs_low()).await.is_ok();
        assert_eq!(told, n == 7, "after {n} addresses of 8");
    }
}

#[tokio::test]
async fn limits_and_reservations_hold_for_the_next_block_too() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 30)]).await;
    configure(&client, IpamConfig { strict_affinity: true, max_blocks_per_host: 1, ..IpamConfig::absent() })
        .await;
    let ipam = ipam(&client);
    let four = AssignRequest { ipv4: 4, ..want("n1", "four") };
    ipam.assign(&four, nothing_else).await.unwrap();
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 1);
    configure(&client, IpamConfig { strict_affinity: true, ..IpamConfig::default() }).await;
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 1, "blocks are not claimed by themselves");
    configure(&client, IpamConfig::absent()).await;
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 2);
}

#[tokio::test]
async fn empty_blocks_beyond_the_first_are_given_back() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 30), pool("six", "fd00::/120", 122)]).await;
    let time = Time::default();
    let ipam = time.ipam(&client);
    let many = AssignRequest { ipv4: 12, ipv6: 1, ..want("n1", "many") };
    ipam.assign(&many, nothing_else).await.unwrap();
    ipam.assign(&want("n1", "one"), nothing_else).await.unwrap();
    ipam.release_by_handle("many", Extra::default()).await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 5);
    ipam.give_back("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 5, "claimed less than a minute ago");
    time.advance(60);
    ipam.give_back("n1").await.unwrap();
    let found = audit(&client).await;
    let empty =
        |ipv6: bool| found.blocks.values().filter(|b| b.cidr.is_ipv6() == ipv6 && b.is_empty()).count();
    assert_eq!((found.blocks.len(), empty(false), empty(true)), (3, 1, 1));
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks.len(), 3, "one does not undo the other");
    ipam.assign(&want("n1", "next"), nothing_else).await.unwrap();
    audit(&client).await;
}

#[tokio::test]
async fn claims_left_half_done_are_settled() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/24", 30)]).await;
    let ipam = ipam(&client);
    let certain = |host: &str, address: &str| AssignRequest {
        addresses: vec![address.parse().unwrap()],
        ipv4: 0,
        ..want(host, address)
    };
    ipam.assign(&certain("n1", "10.65.0.1"), nothing_else).await.unwrap();
    ipam.assign(&certain("n2", "10.65.0.5"), nothing_else).await.unwrap();
    let affinity = |block: &str| Key::BlockAffinity { host: "n1".into(), block: net(block) }.to_string();
    let before = audit(&client).await.blocks[&net("10.65.0.0/30")].sequence_number;
    // Giving up an own block, claiming another's, claiming one that was never made.
    put(&client, &affinity("10.65.0.0/30"), br#"{"state":"pendingDeletion","deleted":false}"#.to_vec()).await;
    put(&client, &affinity("10.65.0.4/30"), br#"{"state":"pending","deleted":false}"#.to_vec()).await;
    put(&client, &affinity("10.65.0.8/30"), br#"{"state":"pending","deleted":false}"#.to_vec()).await;
    ipam.prefetch("n1").await.unwrap();
    let found = audit(&client).await;
    let own: Vec<_> = found.affinities.iter().filter(|((host, _), _)| host == "n1").collect();
    assert_eq!(own, [(&("n1".to_owned(), net("10.65.0.0/30")), &AffinityState::Confirmed)]);
    let after = found.blocks[&net("10.65.0.0/30")].sequence_number;
    assert_eq!(after, before + 1, "whoever was about to delete the block notices");
}

#[tokio::test]
async fn a_stale_claim_to_the_very_block_that_comes_next_becomes_a_whole_one() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/29", 30)]).await;
    let ipam = ipam(&client);
    ipam.assign(&AssignRequest { ipv4: 4, ..want("n1", "all") }, nothing_else).await.unwrap();
    let full = audit(&client).await.blocks.into_keys().next().unwrap();
    let next = if full == net("10.65.0.0/30") { net("10.65.0.4/30") } else { net("10.65.0.0/30") };
    let key = Key::BlockAffinity { host: "n1".into(), block: next }.to_string();
    put(&client, &key, br#"{"state":"pending","deleted":false}"#.to_vec()).await;
    ipam.prefetch("n1").await.unwrap();
    assert_eq!(audit(&client).await.blocks[&next].host(), Some("n1"));
}

#[tokio::test]
async fn every_tunnel_has_its_handle_and_attributes() {
    let mut four = pool("four", "10.65.0.0/24", 26);
    four.spec.vxlan_mode = Some(EncapMode::Always);
    let mut six = pool("six", "fd00::/120", 122);
    six.spec.vxlan_mode = Some(EncapMode::CrossSubnet);
    let client = memory(&["n1"], &[four, six]).await;
    let ipam = ipam(&client);
    let node = Node::new(ObjectMeta::named("n1"), NodeSpec::default());
    let mut lines = Vec::new();
    for tunnel in Tunnel::ALL {
        let address = ipam.ensure_tunnel_address(tunnel, &node, None).await.unwrap();
        assert_eq!(ipam.ensure_tunnel_address(tunnel, &node, address).await.unwrap(), address);
        let Some(address) = address else {
            lines.push(format!("{tunnel:?}: none"));
            continue;
        };
        let found = audit(&client).await;
        let block = found.blocks.values().find(|block| block.owner(address).is_some()).unwrap();
        let owner = serde_json::to_string(block.owner(address).unwrap()).unwrap();
        lines.push(format!("{tunnel:?}: {} {owner}", if address.is_ipv6() { "IPv6" } else { "IPv4" }));
    }
    let expected = [
        r#"Wireguard: IPv4 {"handle_id":"wireguard-tunnel-addr-n1","secondary":{"node":"n1","type":"wireguardTunnelAddress"}}"#,
        r#"WireguardV6: IPv6 {"handle_id":"wireguard-v6-tunnel-addr-n1","secondary":{"node":"n1","type":"wireguardV6TunnelAddress"}}"#,
        "Ipip: none",
        r#"Vxlan: IPv4 {"handle_id":"vxlan-tunnel-addr-n1","secondary":{"node":"n1","type":"vxlanTunnelAddress"}}"#,
        r#"VxlanV6: IPv6 {"handle_id":"vxlan-v6-tunnel-addr-n1","secondary":{"node":"n1","type":"vxlanV6TunnelAddress"}}"#,
    ];
    assert_eq!(lines, expected);
    for tunnel in Tunnel::ALL {
        ipam.release_tunnel_address(tunnel, "n1").await.unwrap();
    }
    assert!(audit(&client).await.held.is_empty());
}
