//! Host endpoints, staged policies, sets, filters, IPAM's settings, controllers: what each accepts and refuses.

use super::{check, paths};
use crate::Kind;

#[test]
fn host_endpoints() {
    check(
        Kind::HostEndpoint,
        "n1-eth0",
        &[
            ("{node: n1, interfaceName: eth0}", &[]),
            ("{node: n1, interfaceName: '*'}", &[]),
            ("{node: n1, expectedIPs: [10.0.0.1, 'fd00::1']}", &[]),
            ("{node: n1, interfaceName: abcdefghijklmno}", &[]),
            ("{node: n1, interfaceName: abcdefghijklmnop}", &["spec.interfaceName"]),
            ("{node: n1, interfaceName: a/b}", &["spec.interfaceName"]),
            ("{node: n1}", &["spec.interfaceName"]),
            ("{}", &["spec.node", "spec.interfaceName"]),
            ("{node: n1, interfaceName: e, ports: [{name: http, protocol: tcp, port: 80}]}", &[]),
            (
                "{node: n1, interfaceName: e, ports: [{name: 'a b', protocol: ICMP, port: 0}]}",
                &["spec.ports[0].name", "spec.ports[0].protocol", "spec.ports[0].port"],
            ),
        ],
    );
}

#[test]
fn staged_policies() {
    check(
        Kind::StagedNetworkPolicy,
        "p",
        &[
            ("{}", &[]),
            ("{stagedAction: Learn, selector: a == 'b', ingress: [{}]}", &[]),
            ("{stagedAction: Delete}", &[]),
            ("{stagedAction: Delete, tier: sec}", &[]),
            ("{stagedAction: Delete, order: 1}", &["spec"]),
            ("{stagedAction: Delete, types: [Ingress]}", &["spec"]),
            ("{selector: global()}", &["spec.selector"]),
            ("{egress: [{source: {services: {name: s}}}]}", &["spec.egress[0].source.services"]),
            ("{ingress: [{destination: {ports: [80]}}]}", &["spec.ingress[0].destination.ports[0]"]),
        ],
    );
    check(
        Kind::StagedGlobalNetworkPolicy,
        "p",
        &[
            ("{stagedAction: Set, namespaceSelector: a == 'b'}", &[]),
            ("{stagedAction: Delete, applyOnForward: true}", &["spec"]),
            ("{doNotTrack: true}", &["spec.applyOnForward"]),
            ("{preDNAT: true, applyOnForward: true, types: [Egress]}", &["spec.preDNAT"]),
        ],
    );
    for (name, fits) in [("a", true), ("t.a", true), ("a.b.c", false), ("A", false)] {
        assert_eq!(paths(Kind::StagedNetworkPolicy, name, "{}").is_empty(), fits, "{name}");
    }
}

#[test]
fn staged_kubernetes_policies() {
    let peer = |peer: &str| {
        paths(Kind::StagedKubernetesNetworkPolicy, "p", &format!("{{ingress: [{{from: [{peer}]}}]}}"))
    };
    let at = "spec.ingress[0].from[0]";
    assert_eq!(peer("{podSelector: {}, namespaceSelector: {matchLabels: {a: b}}}"), [""; 0]);
    assert_eq!(peer("{}"), [at]);
    assert_eq!(peer("{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}"), [at]);
    assert_eq!(peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}"), [""; 0]);
    assert_eq!(peer("{ipBlock: {cidr: 10.0.0.1}}"), [format!("{at}.ipBlock.cidr")]);
    assert_eq!(
        peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16, x]}}"),
        [0, 1, 2].map(|i| format!("{at}.ipBlock.except[{i}]"))
    );
    check(
        Kind::StagedKubernetesNetworkPolicy,
        "p",
        &[
            ("{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}", &[]),
            ("{podSelector: {matchExpressions: [{key: a, operator: Exists}]}}", &[]),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
                &["spec.podSelector.matchExpressions[0].values"],
            ),
            (
                "{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: [b]}]}}",
                &["spec.podSelector.matchExpressions[0].values"],
            ),
            (
                "{podSelector: {matchExpressions: [{key: '-', operator: Like}]}}",
                &[
                    "spec.podSelector.matchExpressions[0].key",
                    "spec.podSelector.matchExpressions[0].operator",
                ],
            ),
            ("{egress: [{ports: [{port: 80, endPort: 90}, {protocol: UDP, port: dns}]}]}", &[]),
            ("{egress: [{ports: [{port: 80, endPort: 79}]}]}", &["spec.egress[0].ports[0].endPort"]),
            ("{egress: [{ports: [{port: dns, endPort: 79}]}]}", &["spec.egress[0].ports[0].endPort"]),
            (
                "{egress: [{ports: [{port: 0}, {port: 65536}, {protocol: ICMP}]}]}",
                &[
                    "spec.egress[0].ports[0].port",
                    "spec.egress[0].ports[1].port",
                    "spec.egress[0].ports[2].protocol",
                ],
            ),
            ("{policyTypes: [Ingress, Ingress]}", &["spec.policyTypes[1]"]),
            ("{stagedAction: Delete}", &[]),
            ("{stagedAction: Delete, policyTypes: [Egress]}", &["spec"]),
        ],
    );
}

#[test]
fn sets_and_reservations() {
    for kind in [Kind::NetworkSet, Kind::GlobalNetworkSet] {
        check(
            kind,
            "s",
            &[
                ("{}", &[]),
                ("{nets: [10.0.0.0/8, 10.0.0.1/8, 10.0.0.1, 'fd00::/8', 'fd00::1']}", &[]),
                ("{nets: [10.0.0.0/33, x, 10.0.0]}", &["spec.nets[0]", "spec.nets[1]", "spec.nets[2]"]),
            ],
        );
    }
    check(
        Kind::IpReservation,
        "r",
        &[
            ("{reservedCIDRs: [10.0.0.1, 10.0.1.0/24, 'fd00::/64']}", &[]),
            ("{reservedCIDRs: [10.0.0.1-10.0.0.9]}", &["spec.reservedCIDRs[0]"]),
        ],
    );
    let mut set =
        crate::resource::NetworkSet::new(crate::ObjectMeta::namespaced("ns", "s"), Default::default());
    set.metadata.labels.insert("projectcalico.org/namespace".into(), "ns".into());
    let problems = super::validate(&set.into());
    assert_eq!(problems[0].path(), "metadata.labels[projectcalico.org/namespace]");
}

#[test]
fn bgp_filters() {
    let rule = |list: &str, rule: &str| paths(Kind::BgpFilter, "f", &format!("{{{list}: [{{{rule}}}]}}"));
    for (list, text, expected) in [
        ("exportV4", "action: Accept", &[] as &[&str]),
        (
            "exportV4",
            "action: Reject, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 9, max: 32}",
            &[],
        ),
        (
            "importV6",
            "action: Reject, cidr: 'fd00::/8', matchOperator: NotEqual, prefixLength: {max: 128}",
            &[],
        ),
        ("exportV4", "action: Accept, source: RemotePeers, interface: 'eth*'", &[]),
        ("exportV4", "action: Accept, cidr: 10.0.0.0/8", &["matchOperator"]),
        ("exportV4", "action: Accept, matchOperator: In", &["matchOperator"]),
        ("exportV4", "action: Accept, cidr: 10.0.0.1/8, matchOperator: In", &["cidr"]),
        ("exportV4", "action: Accept, prefixLength: {min: 33}", &["prefixLength", "prefixLength.min"]),
        (
            "importV6",
            "action: Accept, cidr: 'fd00::/8', matchOperator: In, prefixLength: {max: 129}",
            &["prefixLength.max"],
        ),
        ("exportV4", "action: Accept, interface: abcdefghijklmnop", &["interface"]),
        ("exportV4", "action: Accept, interface: 'a b'", &["interface"]),
        ("exportV4", "action: Accept, peerType: eBGP, asPathPrefix: [1, '1.2']", &[]),
        ("exportV4", "action: Accept, communities: {values: ['1:2']}", &[]),
        ("exportV4", "action: Accept, communities: {values: ['1:2', '1:3']}", &["communities.values"]),
        ("exportV4", "action: Accept, communities: {values: ['1:70000']}", &["communities.values[0]"]),
        ("exportV4", "action: Accept, priority: 0", &["priority"]),
        ("exportV4", "action: Accept, priority: 2147483646", &[]),
        ("exportV4", "action: Accept, priority: 2147483647", &["priority"]),
        ("exportV4", "action: Accept, operations: [{addCommunity: {value: '1:2'}}]", &[]),
        ("exportV4", "action: Reject, operations: [{addCommunity: {value: '1:2'}}]", &["operations"]),
        ("exportV4", "action: Accept, operations: [{}]", &["operations[0]"]),
        (
            "exportV4",
            "action: Accept, operations: [{addCommunity: {value: x}, setPriority: {value: 0}}]",
            &["operations[0]", "operations[0].addCommunity.value", "operations[0].setPriority.value"],
        ),
        (
            "exportV4",
            "action: Accept, operations: [{prependASPath: {prefix: []}}]",
            &["operations[0].prependASPath.prefix"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|path| format!("spec.{list}[0].{path}")).collect();
        assert_eq!(rule(list, text), expected, "{text}");
    }
    let many = ["{setPriority: {value: 1}}"; 11].join(", ");
    let expected = ["spec.importV4[0].operations"];
    assert_eq!(rule("importV4", &format!("action: Accept, operations: [{many}]")), expected);
}

#[test]
fn ipam_settings_and_affinities() {
    check(
        Kind::IpamConfiguration,
        "default",
        &[
            ("{}", &[]),
            ("{strictAffinity: true, maxBlocksPerHost: 1000000, ipCooldownSeconds: 1200}", &[]),
            (
                "{maxBlocksPerHost: -1, ipCooldownSeconds: 1201}",
                &["spec.maxBlocksPerHost", "spec.ipCooldownSeconds"],
            ),
            ("{maxBlocksPerHost: 1000001}", &["spec.maxBlocksPerHost"]),
            ("{kubeVirtVMAddressPersistence: Enabled}", &[]),
            ("{kubeVirtVMAddressPersistence: 'Yes'}", &["spec.kubeVirtVMAddressPersistence"]),
        ],
    );
    check(Kind::IpamConfiguration, "other", &[("{}", &["metadata.name"])]);
    check(
        Kind::BlockAffinity,
        "a",
        &[
            ("{state: confirmed, node: n1, cidr: 10.0.0.0/26, deleted: 'false'}", &[]),
            ("{state: pendingDeletion, node: lb, type: virtual, cidr: 'fd00::/122', deleted: 'true'}", &[]),
            (
                "{state: maybe, type: guest, cidr: x, deleted: 'no'}",
                &["spec.state", "spec.node", "spec.type", "spec.cidr", "spec.deleted"],
            ),
            ("{state: pending, node: n, cidr: 10.0.0.1/26}", &["spec.cidr"]),
        ],
    );
}

#[test]
fn controllers_and_reports() {
    let node = |text: &str| {
        let spec = format!("{{controllers: {{node: {{{text}}}}}}}");
        paths(Kind::KubeControllersConfiguration, "default", &spec)
    };
    let at = "spec.controllers.node";
    assert_eq!(node("reconcilerPeriod: 5m, leakGracePeriod: 15m, syncLabels: Enabled"), [""; 0]);
    assert_eq!(
        node("reconcilerPeriod: '5', leakGracePeriod: x, syncLabels: 'on'"),
        ["reconcilerPeriod", "leakGracePeriod", "syncLabels"].map(|field| format!("{at}.{field}"))
    );
    assert_eq!(
        node(
            "hostEndpoint: {autoCreate: x, templates: [{interfaceCIDRs: [x], nodeSelector: '!', labels: {a: '-'}}]}"
        ),
        [
            "autoCreate",
            "templates[0].interfaceCIDRs[0]",
            "templates[0].nodeSelector",
            "templates[0].labels[a]"
        ]
        .map(|field| format!("{at}.hostEndpoint.{field}"))
    );
    check(
        Kind::KubeControllersConfiguration,
        "default",
        &[
            ("{}", &[]),
            ("{logSeverityScreen: info, healthChecks: Disabled, prometheusMetricsPort: 0}", &[]),
            (
                "{logSeverityScreen: Loud, healthChecks: x, etcdV3CompactionPeriod: '10', prometheusMetricsPort: 65536, debugProfilePort: -1}",
                &[
                    "spec.logSeverityScreen",
                    "spec.healthChecks",
                    "spec.etcdV3CompactionPeriod",
                    "spec.prometheusMetricsPort",
                    "spec.debugProfilePort",
                ],
            ),
            (
                "{controllers: {policy: {reconcilerPeriod: x}, loadBalancer: {assignIPs: Some}, migration: {policyNameMigrator: x}}}",
                &[
                    "spec.controllers.policy.reconcilerPeriod",
                    "spec.controllers.loadBalancer.assignIPs",
                    "spec.controllers.migration.policyNameMigrator",
                ],
            ),
        ],
    );
    check(Kind::KubeControllersConfiguration, "other", &[("{}", &["metadata.name"])]);
    check(
        Kind::CalicoNodeStatus,
        "s",
        &[
            ("{node: n, classes: [Agent, BGP, Routes], updatePeriodSeconds: 0}", &[]),
            ("{node: n, updatePeriodSeconds: 86400}", &[]),
            ("{node: n, updatePeriodSeconds: 86401}", &["spec.updatePeriodSeconds"]),
            ("{}", &["spec.node", "spec.updatePeriodSeconds"]),
            ("{node: n, classes: [BGP, BGP], updatePeriodSeconds: 1}", &["spec.classes[1]"]),
        ],
    );
}

#[test]
fn fields_the_older_kinds_have_too() {
    check(
        Kind::Node,
        "n",
        &[
            ("{wireguard: {interfaceIPv4Address: 10.0.0.1, interfaceIPv6Address: 'fd00::1'}}", &[]),
            (
                "{wireguard: {interfaceIPv4Address: 'fd00::1', interfaceIPv6Address: x}}",
                &["spec.wireguard.interfaceIPv4Address", "spec.wireguard.interfaceIPv6Address"],
            ),
            ("{interfaces: [{name: eth0, addresses: [10.0.0.1, x]}]}", &["spec.interfaces[0].addresses[1]"]),
        ],
    );
    check(
        Kind::BgpConfiguration,
        "default",
        &[
            ("{ipv4NormalRoutePriority: 1, ipv6NormalRoutePriority: 2147483646}", &[]),
            (
                "{ipv4NormalRoutePriority: 0, ipv6NormalRoutePriority: 2147483647}",
                &["spec.ipv4NormalRoutePriority", "spec.ipv6NormalRoutePriority"],
            ),
            ("{programClusterRoutes: EnabledIPIPOnly, ignoredInterfaces: ['docker*']}", &[]),
            (
                "{programClusterRoutes: Perhaps, ignoredInterfaces: ['']}",
                &["spec.programClusterRoutes", "spec.ignoredInterfaces[0]"],
            ),
        ],
    );
    let qos = |qos: &str| {
        let spec = format!("{{node: n, orchestrator: k8s, pod: p, endpoint: e, qosControls: {{{qos}}}}}");
        paths(Kind::WorkloadEndpoint, "", &spec)
    };
    assert_eq!(qos("ingressBandwidth: 1000000, egressPacketRate: 5, dscp: EF"), [""; 0]);
    assert_eq!(qos("dscp: 63"), [""; 0]);
    assert_eq!(qos("egressBurst: -1, dscp: 64"), ["spec.qosControls.egressBurst", "spec.qosControls.dscp"]);
    check(
        Kind::NetworkPolicy,
        "p",
        &[
            ("{ingress: [{http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}}]}", &[]),
            ("{ingress: [{http: {paths: [{}]}}]}", &["spec.ingress[0].http.paths[0]"]),
            ("{ingress: [{http: {paths: [{exact: /a, prefix: /b}]}}]}", &["spec.ingress[0].http.paths[0]"]),
        ],
    );
}
