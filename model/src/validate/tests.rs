use super::*;
use crate::Kind;
use crate::codec::from_document;
use crate::defaults;

mod felix;
mod kinds;

/// Paths of the problems of a document, `spec` in YAML.
fn paths(kind: Kind, name: &str, spec: &str) -> Vec<String> {
    let spec: serde_json::Value = serde_yaml::from_str(spec).unwrap();
    let document = serde_json::json!({ "metadata": { "name": name }, "spec": spec });
    let mut resource = from_document(kind, document).unwrap();
    defaults::apply(&mut resource, "default");
    validate(&resource).iter().map(|problem| problem.path().to_owned()).collect()
}

#[track_caller]
fn check(kind: Kind, name: &str, cases: &[(&str, &[&str])]) {
    for (spec, expected) in cases {
        assert_eq!(paths(kind, name, spec), *expected, "{spec}");
    }
}

#[test]
fn pools() {
    check(
        Kind::IpPool,
        "p",
        &[
            ("{cidr: 10.0.0.0/16}", &[]),
            ("{cidr: 10.0.0.0/26}", &[]),
            ("{cidr: 10.0.0.0/27}", &["spec.cidr"]),
            ("{cidr: 10.0.0.0/27, disabled: true}", &[]),
            ("{cidr: 10.0.0.1/16}", &["spec.cidr"]),
            ("{cidr: 169.254.1.0/24}", &["spec.cidr"]),
            ("{cidr: 'fe80::/64'}", &["spec.cidr"]),
            ("{cidr: 0.0.0.0/0}", &["spec.cidr"]),
            ("{cidr: 10.0.0.0/16, blockSize: 19}", &["spec.blockSize"]),
            ("{cidr: 10.0.0.0/16, blockSize: 20}", &[]),
            ("{cidr: 10.0.0.0/16, blockSize: 32}", &[]),
            ("{cidr: 10.0.0.0/16, blockSize: 33}", &["spec.blockSize"]),
            ("{cidr: 'fd00::/48', blockSize: 115}", &["spec.blockSize"]),
            ("{cidr: 'fd00::/48', blockSize: 128}", &[]),
            ("{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: CrossSubnet}", &["spec.ipipMode"]),
            ("{cidr: 'fd00::/48', ipipMode: Always}", &["spec.ipipMode"]),
            ("{cidr: 'fd00::/48', vxlanMode: Always}", &[]),
            ("{cidr: 10.0.0.0/16, nodeSelector: global()}", &["spec.nodeSelector"]),
            ("{cidr: 10.0.0.0/16, nodeSelector: 'a = b'}", &["spec.nodeSelector"]),
            ("{cidr: 10.0.0.0/16, namespaceSelector: 'a == \"b\"'}", &["spec.allowedUses"]),
            ("{cidr: 10.0.0.0/16, namespaceSelector: 'a == \"b\"', allowedUses: [Workload]}", &[]),
            ("{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer]}", &[]),
            ("{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Tunnel]}", &["spec.allowedUses"]),
            (
                "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], ipipMode: Always, disableBGPExport: true, nodeSelector: a == 'b'}",
                &["spec.allowedUses", "spec.disableBGPExport", "spec.nodeSelector"],
            ),
            ("{cidr: 10.0.0.0/16, assignmentMode: Sometimes}", &["spec.assignmentMode"]),
        ],
    );
}

#[test]
fn rules() {
    let cases: &[(&str, &[&str])] = &[
        ("{protocol: TCP, destination: {ports: [80, '1:5', http]}}", &[]),
        ("{destination: {ports: [http]}}", &[]),
        ("{destination: {ports: [80]}}", &["destination.ports[0]"]),
        ("{protocol: ICMP, source: {notPorts: [http]}}", &["source.notPorts[0]"]),
        ("{protocol: 132, destination: {ports: [80]}}", &[]),
        ("{protocol: ICMP, icmp: {type: 8, code: 0}}", &[]),
        ("{icmp: {type: 8}}", &["icmp"]),
        ("{protocol: ICMP, icmp: {code: 0}}", &["icmp.code"]),
        ("{protocol: ICMP, notICMP: {type: 255}}", &["notICMP.type"]),
        ("{ipVersion: 5}", &["ipVersion"]),
        ("{ipVersion: 6, protocol: ICMP}", &["protocol"]),
        ("{ipVersion: 4, notProtocol: ICMPv6}", &["notProtocol"]),
        ("{source: {nets: [10.0.0.0/8]}, destination: {notNets: [172.16.0.0/12]}}", &[]),
        ("{source: {nets: [10.0.0.1/8]}}", &["source.nets[0]"]),
        ("{source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}}", &["destination.nets[0]"]),
        ("{ipVersion: 6, source: {nets: [10.0.0.0/8]}}", &["source.nets[0]"]),
        ("{protocol: ICMPv6, source: {nets: [10.0.0.0/8]}}", &["source.nets[0]"]),
        ("{source: {notNets: [0.0.0.0/0]}}", &["source.notNets[0]"]),
        ("{source: {selector: 'a b'}}", &["source.selector"]),
        ("{source: {selector: global()}}", &["source.selector"]),
        ("{source: {namespaceSelector: global()}}", &[]),
        ("{source: {namespaceSelector: 'global() || all()'}}", &["source.namespaceSelector"]),
        ("{source: {serviceAccounts: {selector: '!'}}}", &["source.serviceAccounts.selector"]),
        ("{source: {services: {name: s, namespace: n}}}", &[]),
        ("{source: {services: {name: s}}}", &["source.services.namespace"]),
        ("{source: {services: {namespace: n}}}", &["source.services.name"]),
        ("{destination: {services: {name: s, namespace: n}}}", &["destination.services"]),
        ("{source: {services: {name: s, namespace: n}, selector: all()}}", &["source.services"]),
        ("{http: {methods: [GET]}}", &[]),
        ("{action: Deny, http: {methods: [GET]}}", &["http"]),
        ("{protocol: UDP, http: {methods: [GET]}}", &["http"]),
    ];
    for (rule, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|path| format!("spec.ingress[0].{path}")).collect();
        assert_eq!(
            paths(Kind::GlobalNetworkPolicy, "p", &format!("{{ingress: [{rule}]}}")),
            expected,
            "{rule}"
        );
    }
    check(
        Kind::NetworkPolicy,
        "p",
        &[
            ("{ingress: [{source: {services: {name: s}}}]}", &[]),
            ("{egress: [{source: {services: {name: s}}}]}", &["spec.egress[0].source.services"]),
            ("{egress: [{http: {}}]}", &["spec.egress[0].http"]),
        ],
    );
}

#[test]
fn policies() {
    check(
        Kind::GlobalNetworkPolicy,
        "p",
        &[
            ("{selector: all(), namespaceSelector: a == 'b'}", &[]),
            ("{selector: 'a ='}", &["spec.selector"]),
            ("{namespaceSelector: global()}", &["spec.namespaceSelector"]),
            ("{types: [Ingress, Ingress]}", &["spec.types[1]"]),
            ("{tier: A.b}", &["spec.tier"]),
            ("{doNotTrack: true, applyOnForward: true}", &[]),
            ("{doNotTrack: true}", &["spec.applyOnForward"]),
            ("{preDNAT: true, doNotTrack: true, applyOnForward: true}", &["spec.preDNAT"]),
            ("{preDNAT: true, applyOnForward: true, egress: [{}]}", &["spec.preDNAT"]),
            ("{performanceHints: [AssumeNeededOnEveryNode, Fast]}", &["spec.performanceHints[1]"]),
        ],
    );
    for (name, fits) in [
        ("a", true),
        ("tier.a", true),
        ("knp.default.a.b", true),
        ("a.b.c", false),
        ("A", false),
        ("-a", false),
        ("", false),
    ] {
        assert_eq!(paths(Kind::NetworkPolicy, name, "{}").is_empty(), fits, "{name}");
    }
    check(
        Kind::Profile,
        "kns.a",
        &[
            ("{labelsToApply: {a: '', 'b/c': d}}", &[]),
            ("{labelsToApply: {a: 'b c'}}", &["spec.labelsToApply[a]"]),
        ],
    );
}

#[test]
fn tiers() {
    check(Kind::Tier, "security", &[("{order: 5}", &[]), ("{}", &[])]);
    check(
        Kind::Tier,
        "default",
        &[
            ("{order: 1000000}", &[]),
            ("{}", &["spec.order"]),
            ("{order: 1000000, defaultAction: Pass}", &["spec.defaultAction"]),
        ],
    );
    check(Kind::Tier, "a.b", &[("{}", &["metadata.name"])]);
}

#[test]
fn bgp() {
    check(
        Kind::BgpPeer,
        "p",
        &[
            ("{peerIP: 10.0.0.1, asNumber: 1}", &[]),
            ("{peerIP: '10.0.0.1:1790'}", &[]),
            ("{peerIP: '[fd00::1]:1790'}", &[]),
            ("{peerIP: 10.0.0}", &["spec.peerIP"]),
            ("{node: a, nodeSelector: all()}", &["spec.nodeSelector"]),
            ("{peerIP: 10.0.0.1, peerSelector: all()}", &["spec.peerSelector"]),
            ("{peerSelector: all(), asNumber: 1}", &["spec.asNumber"]),
            ("{localWorkloadSelector: all(), asNumber: 1}", &[]),
            ("{localWorkloadSelector: all()}", &["spec.asNumber"]),
            (
                "{localWorkloadSelector: all(), peerIP: 10.0.0.1, asNumber: 1}",
                &["spec.localWorkloadSelector"],
            ),
            ("{reachableBy: 10.0.0.1}", &["spec.reachableBy"]),
            ("{peerIP: 'fd00::1', reachableBy: 10.0.0.1}", &["spec.reachableBy"]),
            (
                "{peerIP: 10.0.0.1, keepOriginalNextHop: true, nextHopMode: Keep}",
                &["spec.keepOriginalNextHop"],
            ),
            ("{maxRestartTime: 1m30s}", &[]),
            ("{maxRestartTime: '90'}", &["spec.maxRestartTime"]),
            ("{sourceAddress: Maybe, reversePeering: No}", &["spec.sourceAddress", "spec.reversePeering"]),
        ],
    );
    check(
        Kind::BgpConfiguration,
        "default",
        &[
            (
                "{nodeToNodeMeshEnabled: false, asNumber: 64513, logSeverityScreen: debug, listenPort: 1790}",
                &[],
            ),
            (
                "{logSeverityScreen: Loud, listenPort: 0, bindMode: x}",
                &["spec.logSeverityScreen", "spec.listenPort", "spec.bindMode"],
            ),
            ("{nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 1m}", &["spec.nodeMeshMaxRestartTime"]),
            ("{serviceClusterIPs: [{cidr: 10.0.0.1/24}]}", &["spec.serviceClusterIPs[0].cidr"]),
            ("{communities: [{name: a, value: '1:2'}]}", &["spec.communities"]),
            (
                "{communities: [{name: a, value: '1:70000'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [a, b, '1:2:3']}]}",
                &["spec.communities[0].value", "spec.prefixAdvertisements[0].communities[1]"],
            ),
            ("{localWorkloadPeeringIPV4: 'fd00::1'}", &["spec.localWorkloadPeeringIPV4"]),
        ],
    );
    check(
        Kind::BgpConfiguration,
        "node.n1",
        &[("{logSeverityScreen: Info, listenPort: 179}", &[]), ("{asNumber: 1}", &["spec.asNumber"])],
    );
    check(Kind::BgpConfiguration, "other", &[("{}", &["metadata.name"])]);
}

#[test]
fn nodes_and_endpoints() {
    check(
        Kind::Node,
        "n1",
        &[
            ("{bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64'}}", &[]),
            ("{bgp: {}}", &["spec.bgp"]),
            ("{bgp: {ipv4Address: 'fd00::1/64'}}", &["spec.bgp.ipv4Address"]),
            ("{bgp: {ipv6Address: 10.0.0.1}}", &["spec.bgp.ipv6Address"]),
            (
                "{addresses: [{address: x, type: Home}]}",
                &["spec.addresses[0].address", "spec.addresses[0].type"],
            ),
            ("{orchRefs: [{nodeName: a}]}", &["spec.orchRefs[0].orchestrator"]),
            ("{vxlanTunnelMACAddr: '66:1e:00:00:00'}", &["spec.vxlanTunnelMACAddr"]),
        ],
    );
    let endpoint = |rest: &str| {
        paths(
            Kind::WorkloadEndpoint,
            "",
            &format!("{{node: n, orchestrator: k8s, pod: p, endpoint: eth0, {rest}}}"),
        )
    };
    assert_eq!(
        endpoint("ipNetworks: [10.0.0.1/32, 10.0.0.2, 'fd00::1/128'], mac: 'ca:fe:1d:52:bb:e9'"),
        [] as [&str; 0]
    );
    assert_eq!(endpoint("ipNetworks: [10.0.0.0/24]"), ["spec.ipNetworks[0]"]);
    assert_eq!(
        endpoint("ipNetworks: [10.0.0.1], ipNATs: [{internalIP: 10.0.0.2, externalIP: 'fd00::1'}]"),
        ["spec.ipNATs[0].internalIP", "spec.ipNATs[0].externalIP"]
    );
    assert_eq!(endpoint("interfaceName: cali0123456789ab, mac: x"), ["spec.interfaceName", "spec.mac"]);
    assert_eq!(
        endpoint("ports: [{name: a b, protocol: ICMP, port: 0}]"),
        ["spec.ports[0].name", "spec.ports[0].protocol", "spec.ports[0].port"]
    );
    check(Kind::WorkloadEndpoint, "", &[("{node: n, orchestrator: k8s, endpoint: e}", &["spec.pod"])]);
    check(
        Kind::WorkloadEndpoint,
        "wrong",
        &[("{node: n, orchestrator: k8s, pod: p, endpoint: e}", &["metadata.name"])],
    );
}

#[test]
fn felix_parameters() {
    check(
        Kind::FelixConfiguration,
        "default",
        &[
            ("{ipv6Support: true, routeRefreshInterval: 90s, healthPort: 9099}", &[]),
            (
                "{ipv6Support: 'on', routeRefreshInterval: '90', healthPort: 99999}",
                &["spec.ipv6Support", "spec.routeRefreshInterval", "spec.healthPort"],
            ),
            ("{nodeSelector: all()}", &["spec.nodeSelector"]),
            ("{defaultEndpointToHostAction: Reject}", &["spec.defaultEndpointToHostAction"]),
        ],
    );
    check(Kind::ClusterInformation, "other", &[("{}", &["metadata.name"])]);
}

#[test]
fn labels_and_annotations() {
    let mut node = crate::resource::Node::new(crate::ObjectMeta::named("n"), Default::default());
    node.metadata.labels.insert("ok.example/name".into(), "V_1.x".into());
    node.metadata.annotations.insert("note".into(), "any text at all".into());
    assert_eq!(validate(&node.clone().into()), []);
    node.metadata.labels.insert("-bad".into(), "v".into());
    node.metadata.labels.insert("long".into(), "x".repeat(64));
    node.metadata.annotations.insert("big".into(), "x".repeat(256 << 10));
    let paths: Vec<String> = validate(&node.into()).iter().map(|p| p.path().to_owned()).collect();
    assert_eq!(paths, ["metadata.labels", "metadata.labels[long]", "metadata.annotations"]);
}

#[test]
fn durations_are_gos() {
    for good in ["0", "30s", "1m30s", "1.5h", "100ms", "-1s", "2us"] {
        assert!(is_go_duration(good), "{good}");
    }
    for bad in ["", "30", "s", "1 s", "1x", "1m30", "."] {
        assert!(!is_go_duration(bad), "{bad}");
    }
}
