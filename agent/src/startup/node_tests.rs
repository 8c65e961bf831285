//! The Node resource over starts, and nodes in each other's way.

use std::sync::Arc;

use super::*;
use tortie_datastore::memory::MemoryStore;

fn client() -> Client {
    Client::new(Arc::new(MemoryStore::default()))
}

fn facts(name: &str, ipv4: &str, detected: bool) -> Facts {
    let detected = detected.then(|| "eth0".to_owned());
    let ipv4 = Decision { address: Some(ipv4.parse().unwrap()), detected, ..Decision::default() };
    Facts {
        name: name.into(),
        addresses: Some(Addresses { ipv4, ..Addresses::default() }),
        ..Facts::default()
    }
}

async fn stored(client: &Client, name: &str) -> Node {
    client.find::<NodeSpec>(None, name).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_start_creates_the_node_and_a_later_one_changes_only_its_own_fields() {
    let client = client();
    let mut first = facts("n1", "10.0.0.1/24", true);
    first.as_number = Some(AsNumber(65001));
    first.k8s_name = Some("kube".into());
    write(&client, &first, true).await.unwrap();
    let mut node = stored(&client, "n1").await;
    assert!(node.metadata.uid.is_some() && node.metadata.creation_timestamp.is_some());
    node.metadata.labels.insert("rack".into(), "a".into());
    node.spec.orch_refs.push(OrchRef { node_name: "o".into(), orchestrator: "other".into() });
    let bgp = node.spec.bgp.as_mut().unwrap();
    bgp.route_reflector_cluster_id = Some(Ipv4Addr::new(1, 1, 1, 1));
    bgp.ipv4_ipip_tunnel_addr = Some(Ipv4Addr::new(10, 64, 0, 1));
    client.update(node.clone().into()).await.unwrap();

    let mut second = facts("n1", "10.0.0.9/24", true);
    second.k8s_name = Some("kube2".into());
    write(&client, &second, true).await.unwrap();
    let after = stored(&client, "n1").await;
    let bgp = after.spec.bgp.as_ref().unwrap();
    assert_eq!(bgp.ipv4_address, Some("10.0.0.9/24".parse().unwrap()));
    assert_eq!(bgp.as_number, Some(AsNumber(65001)), "AS unset keeps what is stored");
    assert_eq!(bgp.route_reflector_cluster_id, Some(Ipv4Addr::new(1, 1, 1, 1)));
    assert_eq!(bgp.ipv4_ipip_tunnel_addr, Some(Ipv4Addr::new(10, 64, 0, 1)));
    assert_eq!(after.metadata.labels["rack"], "a");
    let names: Vec<_> = after.spec.orch_refs.iter().map(|r| r.node_name.as_str()).collect();
    assert_eq!(names, ["o", "kube2"]);

    // Without BGP the addresses are left alone, and nothing is written at all.
    let revision = after.metadata.resource_version.clone();
    write(&client, &Facts { name: "n1".into(), ..Facts::default() }, true).await.unwrap();
    assert_eq!(stored(&client, "n1").await.metadata.resource_version, revision);
}

#[tokio::test]
async fn an_empty_bgp_section_is_never_written() {
    let client = client();
    let mut nothing = facts("n1", "10.0.0.1/24", false);
    nothing.addresses = Some(Addresses::default());
    write(&client, &nothing, true).await.unwrap();
    assert_eq!(stored(&client, "n1").await.spec.bgp, None);
    write_ipip_address(&client, "n1", Some(Ipv4Addr::new(10, 64, 0, 1))).await.unwrap();
    assert!(stored(&client, "n1").await.spec.bgp.is_some());
    write_ipip_address(&client, "n1", None).await.unwrap();
    assert_eq!(stored(&client, "n1").await.spec.bgp, None);
    write_ipip_address(&client, "gone", None).await.unwrap();
}

#[tokio::test]
async fn two_nodes_cannot_have_one_address() {
    let client = client();
    write(&client, &facts("n1", "10.0.0.1/24", false), true).await.unwrap();
    write(&client, &facts("n2", "10.0.0.2/24", true), true).await.unwrap();
    let error = write(&client, &facts("n2", "10.0.0.1/24", true), true).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("Calico node 'n1' is already using the IPv4 address 10.0.0.1"), "{text}");
    assert_eq!(stored(&client, "n2").await.spec.bgp, None, "a detected address is forgotten");

    // One given by hand stays, and the check can be switched off.
    write(&client, &facts("n3", "10.0.0.3/24", false), true).await.unwrap();
    assert!(write(&client, &facts("n3", "10.0.0.1/24", false), true).await.is_err());
    assert!(stored(&client, "n3").await.spec.bgp.is_some());
    write(&client, &facts("n3", "10.0.0.1/24", false), false).await.unwrap();
    // What is stored already is not checked again.
    write(&client, &facts("n3", "10.0.0.1/24", false), true).await.unwrap();
}
