//! Names made from a request, and which requests are refused. Pure.

use std::net::IpAddr;

use sha1::{Digest, Sha1};
use tortie_model::local_api::{AttachRequest, DetachRequest, PodName};
use tortie_model::names::{container_interface_name, pod_interface_name, workload_endpoint_name};
use tortie_model::resource::WorkloadEndpointSpec;

use super::WorkloadError;
use super::wiring::{HostLink, Mac};

/// Namespace of endpoints outside Kubernetes (felix-dataplane 9.2).
const DEFAULT_NAMESPACE: &str = "default";
/// IFNAMSIZ less the terminator.
const INTERFACE_LENGTH: usize = 15;
/// Least MTU that carries IPv4.
const LEAST_MTU: u32 = 68;

/// Everything a workload's interface is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node: String,
    pub(super) orchestrator: &'static str,
    pub(super) namespace: String,
    /// Name of the WorkloadEndpoint.
    pub(super) endpoint: String,
    pub(super) network: String,
    pub(super) container: String,
    pub(super) pod: Option<String>,
    /// Interface inside.
    pub(super) interface: String,
    pub(super) host_interface: String,
    /// IPAM handle: `<network>.<container>` (calico-datamodel 4.6).
    pub(super) handle: String,
}

impl Identity {
    pub(super) fn of_attach(node: &str, request: &AttachRequest) -> Result<Identity, WorkloadError> {
        check_wishes(request)?;
        let AttachRequest { network, container_id, interface, pod, .. } = request;
        Identity::new(node, network, container_id, interface, pod.as_ref())
    }

    pub(super) fn of_detach(node: &str, request: &DetachRequest) -> Result<Identity, WorkloadError> {
        let DetachRequest { network, container_id, interface, pod } = request;
        Identity::new(node, network, container_id, interface, pod.as_ref())
    }

    fn new(
        node: &str,
        network: &str,
        container: &str,
        interface: &str,
        pod: Option<&PodName>,
    ) -> Result<Identity, WorkloadError> {
        check_name("network", network)?;
        check_name("container id", container)?;
        check_interface(interface)?;
        if let Some(pod) = pod {
            check_name("pod namespace", &pod.namespace)?;
            check_name("pod name", &pod.name)?;
        }
        let spec = WorkloadEndpointSpec {
            orchestrator: if pod.is_some() { "k8s" } else { "cni" }.to_owned(),
            node: node.to_owned(),
            container_id: container.to_owned(),
            pod: pod.map(|pod| pod.name.clone()).unwrap_or_default(),
            endpoint: interface.to_owned(),
            ..WorkloadEndpointSpec::default()
        };
        Ok(Identity {
            node: node.to_owned(),
            orchestrator: if pod.is_some() { "k8s" } else { "cni" },
            namespace: pod.map_or(DEFAULT_NAMESPACE, |pod| &pod.namespace).to_owned(),
            endpoint: workload_endpoint_name(&spec)?,
            network: network.to_owned(),
            container: container.to_owned(),
            pod: pod.map(|pod| pod.name.clone()),
            interface: interface.to_owned(),
            host_interface: match pod {
                Some(pod) => pod_interface_name(&pod.namespace, &pod.name),
                None => container_interface_name(container),
            },
            handle: format!("{network}.{container}"),
        })
    }

    /// Container and interface inside: whose a host interface is.
    pub(super) fn owner(&self) -> String {
        format!("{}/{}", self.container, self.interface)
    }

    /// Whether a host interface belongs to the same container, attached by another interface inside.
    pub(super) fn is_of_other_interface(&self, link: &HostLink) -> bool {
        let owner = link.owner.as_deref().and_then(|owner| owner.rsplit_once('/'));
        owner.is_some_and(|(container, interface)| container == self.container && interface != self.interface)
    }

    /// Whether a host interface of this owner makes room for ours: that of an earlier container of the same pod does,
    /// for its name does not depend on the container (felix-dataplane 1.1).
    pub(super) fn displaces(&self, owner: &str) -> bool {
        let container = owner.rsplit_once('/').map(|(container, _)| container);
        owner == self.owner() || (self.pod.is_some() && container != Some(&self.container))
    }

    /// MAC of the side inside: locally administered, the same for the same container and interface at every attempt.
    pub(super) fn mac(&self) -> Mac {
        let digest = Sha1::digest(format!("{}/{}/{}", self.node, self.container, self.interface));
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[..6]);
        mac[0] = (mac[0] & 0xfc) | 0x02;
        Mac(mac)
    }
}

fn invalid(field: &'static str, value: impl ToString, rule: &'static str) -> WorkloadError {
    WorkloadError::Invalid { field, value: value.to_string(), rule }
}

/// Names become parts of keys and file names.
fn check_name(field: &'static str, value: &str) -> Result<(), WorkloadError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if value.len() > 253 || !value.bytes().all(fits) || !value.bytes().any(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid(field, value, "must be 1 to 253 letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

fn check_interface(name: &str) -> Result<(), WorkloadError> {
    let fits = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if name.is_empty()
        || name.len() > INTERFACE_LENGTH
        || !name.bytes().all(fits)
        || name == "."
        || name == ".."
    {
        return Err(invalid(
            "interface",
            name,
            "is no interface name: 1 to 15 visible characters without '/' and ':'",
        ));
    }
    Ok(())
}

fn check_wishes(request: &AttachRequest) -> Result<(), WorkloadError> {
    if request.netns.is_empty() {
        return Err(invalid("netns", "", "must be the path of the workload's network namespace"));
    }
    if request.mtu != 0 && !(LEAST_MTU..=65_535).contains(&request.mtu) {
        return Err(invalid("mtu", request.mtu, "must be from 68 to 65535, or 0 for the agent's choice"));
    }
    let of_family = |ipv6: bool| request.addresses.iter().filter(move |a| a.is_ipv6() == ipv6).count();
    if of_family(false) > 1 || of_family(true) > 1 {
        let listed: Vec<String> = request.addresses.iter().map(IpAddr::to_string).collect();
        return Err(invalid("addresses", listed.join(", "), "must be one of each family at most"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AttachRequest {
        AttachRequest {
            network: "net".into(),
            container_id: "0123456789abcdef".into(),
            netns: "/run/netns/p".into(),
            interface: "eth0".into(),
            ..AttachRequest::default()
        }
    }

    fn pod(mut request: AttachRequest) -> AttachRequest {
        request.pod = Some(PodName { namespace: "shop".into(), name: "web-0".into() });
        request
    }

    #[test]
    fn containers_and_pods_are_named_as_upstream_names_them() {
        let container = Identity::of_attach("node-1", &request()).unwrap();
        assert_eq!(container.endpoint, "node--1-cni-0123456789abcdef-eth0");
        assert_eq!(
            (container.namespace.as_str(), container.host_interface.as_str()),
            ("default", "cali0123456789a")
        );
        assert_eq!(container.handle, "net.0123456789abcdef");
        let pod = Identity::of_attach("node-1", &pod(request())).unwrap();
        assert_eq!(pod.endpoint, "node--1-k8s-web--0-eth0");
        assert_eq!(pod.namespace, "shop");
        assert_eq!(pod.host_interface, pod_interface_name("shop", "web-0"));
    }

    #[test]
    fn the_mac_is_local_and_always_the_same() {
        let identity = Identity::of_attach("n1", &request()).unwrap();
        assert_eq!(identity.mac(), Identity::of_attach("n1", &request()).unwrap().mac());
        assert_eq!(identity.mac().0[0] & 3, 2, "unicast, locally administered: {}", identity.mac());
        let mut other = request();
        other.container_id.push('0');
        assert_ne!(identity.mac(), Identity::of_attach("n1", &other).unwrap().mac());
    }

    #[test]
    fn a_pod_displaces_its_earlier_container_and_nobody_else() {
        let container = Identity::of_attach("n1", &request()).unwrap();
        let pod = Identity::of_attach("n1", &pod(request())).unwrap();
        for (owner, by_container, by_pod) in [
            ("0123456789abcdef/eth0", true, true),
            ("0123456789abcdef/eth1", false, false),
            ("another/eth0", false, true),
        ] {
            assert_eq!((container.displaces(owner), pod.displaces(owner)), (by_container, by_pod), "{owner}");
        }
    }

    #[test]
    fn bad_requests_name_field_and_value() {
        let refused = |change: fn(&mut AttachRequest)| {
            let mut request = request();
            change(&mut request);
            Identity::of_attach("n1", &request).unwrap_err().to_string()
        };
        for (text, start) in [
            (refused(|r| r.network = "a/b".into()), "network 'a/b' must be"),
            (refused(|r| r.container_id.clear()), "container id '' must be"),
            (refused(|r| r.interface = "a-very-long-name".into()), "interface 'a-very-long-name' is no"),
            (refused(|r| r.interface = "../x".into()), "interface '../x' is no"),
            (refused(|r| r.netns.clear()), "netns '' must be"),
            (refused(|r| r.mtu = 67), "mtu '67' must be"),
            (
                refused(|r| r.addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]),
                "addresses '10.0.0.1, 10.0.0.2' must be",
            ),
            (
                refused(|r| r.pod = Some(PodName { namespace: "a".into(), name: "..".into() })),
                "pod name '..' must be",
            ),
            (
                refused(|r| r.pod = Some(PodName { namespace: "a".into(), name: "-x".into() })),
                "cannot name the workload endpoint",
            ),
        ] {
            assert!(text.starts_with(start), "{text}");
        }
    }
}
