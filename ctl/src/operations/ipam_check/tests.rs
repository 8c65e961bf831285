use tortie_model::ObjectMeta;

use super::*;

fn block(json: &str) -> Block {
    serde_json::from_str(json).unwrap()
}

/// n1's block: a workload, a leak, a tunnel, an address that cools down; and n2 borrowed one.
fn inputs() -> Inputs {
    let stored = r#"{"cidr":"10.65.0.0/29","affinity":"host:n1","allocations":[0,1,2,3,4,5,null,null],"unallocated":[6,7],
        "attributes":[{"handle_id":"net.used","secondary":{"node":"n1","namespace":"shop","pod":"till","timestamp":"t"}},
            {"handle_id":"net.dead","secondary":{"node":"n1"}},
            {"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"}},
            {"handle_id":"net.gone","secondary":{"node":"n1"},"releasedAt":"2026-01-02T03:04:05Z"},
            {"handle_id":"net.borrowed","secondary":{"node":"n2"}},
            {"handle_id":"lb-1","secondary":{"type":"loadBalancer"}}],
        "sequenceNumber":9,"sequenceNumberForAllocation":{"0":1,"1":7,"2":3,"4":5,"5":5}}"#;
    let mut node = Node::new(ObjectMeta::named("n1"), NodeSpec::default());
    node.spec.bgp = Some(tortie_model::resource::NodeBgp {
        ipv4_ipip_tunnel_addr: Some("10.65.0.2".parse().unwrap()),
        ..Default::default()
    });
    let endpoint = |name: &str, address: &str| {
        let spec = WorkloadEndpointSpec {
            ip_networks: vec![address.parse().unwrap()],
            ..WorkloadEndpointSpec::default()
        };
        let metadata = ObjectMeta { namespace: Some("shop".into()), ..ObjectMeta::named(name) };
        WorkloadEndpoint::new(metadata, spec)
    };
    let handle = |id: &str, revision: i64| (id.to_owned(), revision, Handle::default());
    let spec = IpPoolSpec { cidr: "10.65.0.0/24".parse().unwrap(), ..IpPoolSpec::default() };
    Inputs {
        blocks: vec![block(stored)],
        claims: vec![("n1".into(), "10.65.0.0/29".parse().unwrap())],
        handles: ["net.used", "net.dead", "ipip-tunnel-addr-n1", "net.borrowed", "lb-1"]
            .iter()
            .zip(1..)
            .map(|(id, revision)| handle(id, revision))
            .collect(),
        pools: vec![IpPool::new(ObjectMeta::named("p"), spec)],
        nodes: vec![node],
        endpoints: vec![endpoint("a", "10.65.0.0/32"), endpoint("b", "10.65.0.4/32")],
        ..Inputs::default()
    }
}

fn leaked(report: &Report) -> Vec<&str> {
    report.allocations.values().flatten().filter(|one| one.is_leaked()).map(|one| one.ip.as_str()).collect()
}

#[test]
fn what_nobody_uses_is_leaked_and_nothing_else() {
    let report = check(&inputs());
    assert_eq!(leaked(&report), ["10.65.0.1"]);
    assert_eq!(
        (report.problems.as_slice(), report.leaked_handles.as_slice()),
        ([].as_slice(), [].as_slice())
    );
    let line = serde_json::to_string(&report.allocations[&"10.65.0.0".parse().unwrap()]).unwrap();
    assert_eq!(
        line,
        r#"[{"ip":"10.65.0.0","handle":"net.used","sequenceNumber":1,"pod":"till","namespace":"shop","node":"n1","type":"","creationTimestamp":"t","inUse":true,"borrowed":false,"coolingDown":false,"owners":["Workload(shop/a)"]}]"#
    );
    assert!(report.allocations[&"10.65.0.4".parse().unwrap()][0].borrowed);
    assert!(report.allocations[&"10.65.0.3".parse().unwrap()][0].cooling_down);
}

#[test]
fn contradictions_are_named() {
    let mut inputs = inputs();
    inputs.blocks.push(block(
        r#"{"cidr":"10.65.0.8/30","affinity":"host:n2","allocations":[null,null,null,null],"unallocated":[0,1,2]}"#,
    ));
    inputs.claims.push(("n3".into(), "10.65.0.8/30".parse().unwrap()));
    inputs.claims.push(("n3".into(), "10.65.0.12/30".parse().unwrap()));
    inputs.endpoints[1].spec.ip_networks =
        ["10.65.0.0/32", "10.65.0.7/32", "192.0.2.1/32"].iter().map(|n| n.parse().unwrap()).collect();
    inputs.handles.retain(|(id, ..)| id != "net.used");
    inputs.handles.push(("net.empty".into(), 77, Handle::default()));
    let report = check(&inputs);
    assert_eq!(
        report.problems,
        [
            "block 10.65.0.8/30: 'unallocated' does not list each free ordinal exactly once",
            "10.65.0.0 is used by several: Workload(shop/a), Workload(shop/b)",
            "10.65.0.7 is used by Workload(shop/b) but not allocated",
            "192.0.2.1 is used by Workload(shop/b) and in no active pool",
            "handle net.used holds addresses but is not there itself",
            "node n3 claims block 10.65.0.8/30, which is node n2's",
            "node n3 claims block 10.65.0.12/30, which is not there",
            "block 10.65.0.8/30 is node n2's, which does not claim it",
        ]
    );
    let empty = LeakedHandle { id: "net.empty".into(), uid: String::new(), revision: "77".into() };
    assert_eq!(report.leaked_handles, [empty]);
}

#[test]
fn only_what_all_reports_call_leaked_counts() {
    let first = check(&inputs());
    let mut later = inputs();
    later.endpoints[1].spec.ip_networks = vec!["10.65.0.1/32".parse().unwrap()];
    let later = check(&later);
    assert_eq!(leaked(&later), ["10.65.0.4"]);
    let ips = |reports: &[Report]| leaked_in_all(reports).0.into_iter().map(|one| one.ip).collect::<Vec<_>>();
    assert!(ips(&[check(&inputs()), later]).is_empty());
    assert_eq!(ips(&[check(&inputs()), first]), ["10.65.0.1"]);
    let mut again = inputs();
    again.blocks[0].sequence_number_for_allocation.insert("1".into(), 8);
    assert!(ips(&[check(&inputs()), check(&again)]).is_empty(), "allocated anew in between");
    assert!(ips(&[]).is_empty());
}

#[test]
fn a_report_reads_as_it_was_written() {
    let report = check(&inputs());
    let text = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
