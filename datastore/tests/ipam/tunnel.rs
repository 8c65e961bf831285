//! The address of `tunl0`.

use tortie_datastore::Client;
use tortie_datastore::ipam::{Extra, ipip_tunnel_handle};
use tortie_datastore::store::{Operation, Transaction};
use tortie_model::resource::{EncapMode, IpPool, IpPoolSpec, Node, NodeBgp, NodeSpec};
use tortie_model::{AnyResource, ObjectMeta};

use crate::audit::audit;
use crate::fixture::{ipam, memory, nothing_else, pool, want};

fn ipip_pool() -> IpPool {
    let mut pool = pool("ipip", "10.65.0.0/24", 26);
    pool.spec.ipip_mode = Some(EncapMode::CrossSubnet);
    pool
}

fn node(address: Option<std::net::Ipv4Addr>) -> Node {
    let bgp = NodeBgp { ipv4_ipip_tunnel_addr: address, ..NodeBgp::default() };
    Node::new(ObjectMeta::named("n1"), NodeSpec { bgp: Some(bgp), ..NodeSpec::default() })
}

async fn change_pool(client: &Client, change: impl Fn(&mut IpPoolSpec)) {
    let mut pool = client.find::<IpPoolSpec>(None, "ipip").await.unwrap().unwrap();
    change(&mut pool.spec);
    client.update(AnyResource::from(pool)).await.unwrap();
}

#[tokio::test]
async fn a_pool_nobody_can_read_takes_no_address_away() {
    let client = memory(&["n1"], &[ipip_pool()]).await;
    let ipam = ipam(&client);
    let address = ipam.ensure_ipip_address(&node(None)).await.unwrap();
    let key = "/calico/resources/v3/projectcalico.org/ippools/ipip".to_owned();
    let operations = vec![Operation::Put { key, value: b"{".to_vec(), lease: 0 }];
    client.store().transact(Transaction { compares: Vec::new(), operations }).await.unwrap();
    let error = ipam.ensure_ipip_address(&node(address)).await.unwrap_err();
    assert!(error.to_string().contains("ipip"), "{error}");
    assert_eq!(audit(&client).await.blocks.values().map(|block| block.in_use().count()).sum::<usize>(), 1);
}

#[tokio::test]
async fn it_comes_stays_and_goes_with_the_pools() {
    let client = memory(&["n1"], &[pool("plain", "10.64.0.0/24", 26), ipip_pool()]).await;
    let ipam = ipam(&client);
    let address = ipam.ensure_ipip_address(&node(None)).await.unwrap().unwrap();
    assert!(address.to_string().starts_with("10.65.0."));
    let found = audit(&client).await;
    let block = found.blocks.values().next().unwrap();
    let owner = serde_json::to_string(block.owner(address.into()).unwrap()).unwrap();
    assert_eq!(
        owner,
        r#"{"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"}}"#
    );

    let revision = client.store().list("/").await.unwrap().revision;
    assert_eq!(ipam.ensure_ipip_address(&node(Some(address))).await.unwrap(), Some(address));
    assert_eq!(client.store().list("/").await.unwrap().revision, revision, "nothing to write");
    assert_eq!(
        ipam.ensure_ipip_address(&node(None)).await.unwrap(),
        Some(address),
        "the Node was not written"
    );

    change_pool(&client, |spec| spec.ipip_mode = Some(EncapMode::Never)).await;
    assert_eq!(ipam.ensure_ipip_address(&node(Some(address))).await.unwrap(), None);
    assert!(audit(&client).await.held.is_empty());
}

#[tokio::test]
async fn an_address_of_someone_else_or_of_no_pool_is_replaced() {
    let client = memory(&["n1"], &[ipip_pool()]).await;
    let ipam = ipam(&client);
    let mut request = want("n1", "pod");
    request.pools = vec!["ipip".into()];
    let taken = ipam.assign(&request, nothing_else).await.unwrap().addresses[0];
    let std::net::IpAddr::V4(taken) = taken else { panic!("IPv4 wanted") };
    let own = ipam.ensure_ipip_address(&node(Some(taken))).await.unwrap().unwrap();
    assert_ne!(own, taken);
    let outside = "192.0.2.1".parse().unwrap();
    assert_eq!(ipam.ensure_ipip_address(&node(Some(outside))).await.unwrap(), Some(own));
    ipam.release_by_handle(&ipip_tunnel_handle("n1"), Extra::default()).await.unwrap();
    let new = ipam.ensure_ipip_address(&node(Some(own))).await.unwrap().unwrap();
    assert_ne!(new, own, "its allocation was lost, so it may be someone else's by now");
    assert_eq!(audit(&client).await.held.len(), 2);
}

#[tokio::test]
async fn a_disabled_pool_gives_none() {
    let client = memory(&["n1"], &[ipip_pool()]).await;
    change_pool(&client, |spec| spec.disabled = true).await;
    assert_eq!(ipam(&client).ensure_ipip_address(&node(None)).await.unwrap(), None);
}
