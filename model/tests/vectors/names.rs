//! Names of workload endpoints, and names in v1 keys (calico-datamodel 1.4, 1.9).

use tortie_model::names::{
    NameError, container_interface_name, escape_name, parse_workload_endpoint_name, pod_interface_name,
    unescape_name, workload_endpoint_name, workload_endpoint_prefix,
};
use tortie_model::resource::WorkloadEndpointSpec;

/// Node, orchestrator, id, endpoint; the id goes where the orchestrator has it.
type Ids = [&'static str; 4];

fn spec([node, orchestrator, id, endpoint]: Ids) -> WorkloadEndpointSpec {
    let mut spec = WorkloadEndpointSpec {
        node: node.into(),
        orchestrator: orchestrator.into(),
        endpoint: endpoint.into(),
        ..WorkloadEndpointSpec::default()
    };
    match orchestrator {
        "k8s" => spec.pod = id.into(),
        "cni" => spec.container_id = id.into(),
        _ => spec.workload = id.into(),
    }
    spec
}

const NAMES: &[(Ids, &str)] = &[
    (["node1", "k8s", "pod", "eth0"], "node1-k8s-pod-eth0"),
    (["node-1", "k8s", "pod-name", "eth0"], "node--1-k8s-pod--name-eth0"),
    (["node--1", "k8s", "pod", "eth0"], "node----1-k8s-pod-eth0"),
    (["a-b-c", "k8s", "d-e-f", "g-h-i"], "a--b--c-k8s-d--e--f-g--h--i"),
    (["n1", "cni", "0123abcd", "eth0"], "n1-cni-0123abcd-eth0"),
    (["n-1", "cni", "a-b", "eth-0"], "n--1-cni-a--b-eth--0"),
    (["n1", "libnetwork", "", "ep"], "n1-libnetwork-libnetwork-ep"),
    (["n-1", "libnetwork", "", "e-p"], "n--1-libnetwork-libnetwork-e--p"),
    (["n1", "openstack", "vm-1", "tap0"], "n1-openstack-vm--1-tap0"),
    (["n1", "open-stack", "vm", "tap0"], "n1-open--stack-vm-tap0"),
    (["host.example.com", "k8s", "web.0", "eth0"], "host.example.com-k8s-web.0-eth0"),
    (["n_1", "k8s", "p_1", "e_1"], "n_1-k8s-p_1-e_1"),
    (["n/1", "k8s", "p%2f", "e"], "n/1-k8s-p%2f-e"),
    (["N", "K8S", "w", "E"], "N-K8S-w-E"),
    (["n", "k8s", "k8s", "k8s"], "n-k8s-k8s-k8s"),
];

#[test]
fn endpoint_names_are_made_and_read() {
    for (ids, name) in NAMES {
        let spec = spec(*ids);
        assert_eq!(workload_endpoint_name(&spec).as_deref(), Ok(*name));
        assert_eq!(workload_endpoint_prefix(&spec).as_deref(), Ok(*name));
        assert_eq!(parse_workload_endpoint_name(name), Some(spec), "{name}");
    }
}

#[test]
fn a_workload_of_libnetwork_is_not_in_its_endpoints_name() {
    let spec = spec(["n1", "libnetwork", "any-thing", "ep"]);
    assert_eq!(workload_endpoint_name(&spec).as_deref(), Ok("n1-libnetwork-libnetwork-ep"));
}

#[test]
fn endpoints_without_a_name_say_why() {
    for (ids, error) in [
        (["", "k8s", "p", "e"], NameError::Missing("node")),
        (["n", "", "p", "e"], NameError::Missing("orchestrator")),
        (["n", "k8s", "", "e"], NameError::Missing("pod")),
        (["n", "cni", "", "e"], NameError::Missing("containerID")),
        (["n", "other", "", "e"], NameError::Missing("workload")),
        (["n", "k8s", "p", ""], NameError::Missing("endpoint")),
        (["", "", "", ""], NameError::Missing("node")),
        (["-n", "k8s", "p", "e"], NameError::Dash { field: "node", value: "-n".into() }),
        (["n-", "k8s", "p", "e"], NameError::Dash { field: "node", value: "n-".into() }),
        (["n", "k8s-", "w", "e"], NameError::Dash { field: "orchestrator", value: "k8s-".into() }),
        (["n", "k8s", "-p", "e"], NameError::Dash { field: "pod", value: "-p".into() }),
        (["n", "cni", "c-", "e"], NameError::Dash { field: "containerID", value: "c-".into() }),
        (["n", "k8s", "p", "-"], NameError::Dash { field: "endpoint", value: "-".into() }),
    ] {
        let found = workload_endpoint_name(&spec(ids)).expect_err("no name");
        assert_eq!(found, error, "{ids:?}");
    }
}

#[test]
fn texts_that_are_no_endpoints_name() {
    for name in [
        "",
        "-",
        "n",
        "n-k8s",
        "n-k8s-p",
        "n-k8s-p-",
        "-k8s-p-e",
        "n--k8s-p-e",
        "n-k8s-p-e-x",
        "n-k8s--p-e",
        "n---k8s-p-e",
        "n-k8s-p---e",
        "--n-k8s-p-e",
        "n-k8s-p-e--",
        "n-libnetwork-x-e",
    ] {
        assert_eq!(parse_workload_endpoint_name(name), None, "{name}");
    }
}

/// Known leading segments, and what names with them begin with.
const PREFIXES: &[(Ids, &str)] = &[
    (["", "", "", ""], ""),
    (["n-1", "", "", ""], "n--1-"),
    (["n-1", "k8s", "", ""], "n--1-k8s-"),
    (["n-1", "k8s", "p-1", ""], "n--1-k8s-p--1-"),
    (["n-1", "cni", "", ""], "n--1-cni-"),
    (["n-1", "libnetwork", "", ""], "n--1-libnetwork-libnetwork-"),
    (["n-1", "other", "w", ""], "n--1-other-w-"),
    // What stands after the first unknown one cannot narrow a prefix.
    (["", "k8s", "p", "e"], ""),
    (["n", "k8s", "", "e"], "n-k8s-"),
];

#[test]
fn prefixes_end_at_the_first_unknown_segment() {
    for (ids, prefix) in PREFIXES {
        assert_eq!(workload_endpoint_prefix(&spec(*ids)).as_deref(), Ok(*prefix));
    }
    assert!(workload_endpoint_prefix(&spec(["n-", "", "", ""])).is_err());
}

/// Names, and how they stand in a v1 key.
const ESCAPED: &[(&str, &str)] = &[
    ("", ""),
    ("plain", "plain"),
    ("default/web", "default%2fweb"),
    ("a/b/c", "a%2fb%2fc"),
    ("/", "%2f"),
    ("%", "%25"),
    ("%2f", "%252f"),
    ("%2F", "%252F"),
    ("%25", "%2525"),
    ("100%/x", "100%25%2fx"),
    ("a b:c", "a b:c"),
    ("ä/ö", "ä%2fö"),
];

#[test]
fn names_are_escaped_in_v1_keys() {
    for (name, escaped) in ESCAPED {
        assert_eq!(escape_name(name), *escaped);
        assert_eq!(unescape_name(escaped), *name);
    }
    // What upstream never writes, but may meet: an escape in capitals or of something else stays.
    for (escaped, name) in
        [("a%2Fb", "a%2Fb"), ("a%20b", "a%20b"), ("%", "%"), ("%2", "%2"), ("%2525", "%25")]
    {
        assert_eq!(unescape_name(escaped), name);
    }
}

/// `cali` and the first 11 digits of `printf NAMESPACE.POD | sha1sum`; outside Kubernetes, of the container's id.
#[test]
fn interfaces_fit_the_kernels_15_characters() {
    for (namespace, pod, name) in [
        ("default", "nginx", "calic440f455693"),
        ("kube-system", "coredns-0", "cali8c346e38bf4"),
        ("default", "frontend-5gs43", "cali7f48edf42e2"),
        ("a.b", "c", "cali62322b00c8c"),
        ("a", "b.c", "cali62322b00c8c"),
        ("prod", "db-0", "cali20aafc107a9"),
    ] {
        assert_eq!(pod_interface_name(namespace, pod), name);
        assert_eq!(name.len(), 15);
    }
    for (id, name) in [("0123456789abcdef", "cali0123456789a"), ("short", "calishort"), ("", "cali")] {
        assert_eq!(container_interface_name(id), name);
    }
}
