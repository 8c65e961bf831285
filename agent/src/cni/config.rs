//! Environment and standard input of a CNI call, to a request for the agent. Pure.
//!
//! Keys nobody knows are tolerated, as CNI demands: the same object carries settings of other plugins of the chain.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};
use tortie_model::local_api::{AttachRequest, DetachRequest, PodName};

use super::plugin::{Failure, INVALID_CONFIG, INVALID_ENVIRONMENT};

/// Looks up a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The network configuration, as far as it is ours.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetConf {
    #[serde(rename = "cniVersion")]
    pub(super) cni_version: String,
    pub(super) name: String,
    /// Where the agent listens.
    pub(super) socket: Option<PathBuf>,
    mtu: u32,
    ipam: IpamConf,
    labels: Labels,
    args: Args,
    #[serde(rename = "runtimeConfig")]
    runtime: RuntimeConf,
    #[serde(rename = "prevResult")]
    pub(super) previous: Option<Previous>,
}

/// Section `ipam`, in the words of calico-ipam.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamConf {
    ipv4_pools: Vec<String>,
    ipv6_pools: Vec<String>,
    subnet: Option<String>,
    #[serde(deserialize_with = "flag")]
    assign_ipv4: Option<bool>,
    #[serde(deserialize_with = "flag")]
    assign_ipv6: Option<bool>,
}

/// Section `args`, by CNI's conventions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    labels: Labels,
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    labels: Labels,
    ips: Vec<String>,
}

/// What the runtime fills in for capabilities.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConf {
    ips: Vec<String>,
}

/// The result of an earlier ADD.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Previous {
    ips: Vec<PreviousIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PreviousIp {
    address: String,
}

/// Labels as an object or as CNI's list of `{key, value}`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    Object(BTreeMap<String, String>),
    List(Vec<Label>),
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::List(Vec::new())
    }
}

impl Labels {
    fn pairs(&self) -> Vec<(String, String)> {
        match self {
            Labels::Object(labels) => {
                labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
            }
            Labels::List(labels) => labels.iter().map(|l| (l.key.clone(), l.value.clone())).collect(),
        }
    }
}

/// calico-ipam wants these as text.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
    }
    match Option::<Flag>::deserialize(from)? {
        None => Ok(None),
        Some(Flag::Bool(value)) => Ok(Some(value)),
        Some(Flag::Text(text)) => match text.as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(serde::de::Error::custom(format!("'{text}' is neither true nor false"))),
        },
    }
}

/// One container's interface.
struct Target {
    container: String,
    interface: String,
    pod: Option<PodName>,
    /// Addresses asked for by `IP=`.
    addresses: Vec<IpAddr>,
}

fn target(environment: Environment<'_>) -> Result<Target, Failure> {
    let mut target = Target {
        container: required(environment, "CNI_CONTAINERID")?,
        interface: required(environment, "CNI_IFNAME")?,
        pod: None,
        addresses: Vec::new(),
    };
    let mut pod = PodName::default();
    for pair in environment("CNI_ARGS").unwrap_or_default().split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::new(INVALID_ENVIRONMENT, format!("CNI_ARGS: '{pair}' is no key=value")));
        };
        match key {
            "K8S_POD_NAME" => pod.name = value.to_owned(),
            "K8S_POD_NAMESPACE" => pod.namespace = value.to_owned(),
            "IP" => {
                let parsed = value.split(',').map(|text| address("CNI_ARGS IP", text, INVALID_ENVIRONMENT));
                target.addresses = parsed.collect::<Result<_, _>>()?;
            }
            // The sandbox is CNI_CONTAINERID; whatever else runtimes add is not ours.
            _ => {}
        }
    }
    match (pod.name.is_empty(), pod.namespace.is_empty()) {
        (false, false) => target.pod = Some(pod),
        (true, true) => {}
        _ => {
            let message = "CNI_ARGS must have both K8S_POD_NAME and K8S_POD_NAMESPACE, or neither";
            return Err(Failure::new(INVALID_ENVIRONMENT, message));
        }
    }
    Ok(target)
}

fn required(environment: Environment<'_>, name: &str) -> Result<String, Failure> {
    environment(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Failure::new(INVALID_ENVIRONMENT, format!("environment variable {name} is missing")))
}

/// An address, with or without a prefix length, which has no meaning here.
fn address(field: &str, text: &str, code: u32) -> Result<IpAddr, Failure> {
    let text = text.trim();
    let parsed = text.parse::<IpNetwork>().map(|network| network.ip());
    parsed.map_err(|_| Failure::new(code, format!("{field}: '{text}' is no IP address")))
}

impl NetConf {
    /// Reads standard input.
    pub(super) fn parse(stdin: &str) -> Result<NetConf, Failure> {
        let invalid = |reason: String| {
            let message = format!("the network configuration on standard input is not valid: {reason}");
            Failure::new(super::plugin::DECODING, message)
        };
        // serde would take a list for the fields in their order.
        if !stdin.trim_start().starts_with('{') {
            return Err(invalid("it is no JSON object".to_owned()));
        }
        serde_json::from_str(stdin).map_err(|error| invalid(error.to_string()))
    }

    /// The request of an ADD or a CHECK.
    pub(super) fn attach_request(&self, environment: Environment<'_>) -> Result<AttachRequest, Failure> {
        let target = target(environment)?;
        let netns = required(environment, "CNI_NETNS")?;
        let mut labels = BTreeMap::new();
        for source in [&self.args.cni.labels, &self.args.labels, &self.labels] {
            labels.extend(source.pairs());
        }
        let mut addresses = target.addresses;
        for (field, wanted) in
            [("runtimeConfig.ips", &self.runtime.ips), ("args.cni.ips", &self.args.cni.ips)]
        {
            for text in wanted.iter().filter(|_| addresses.is_empty()).cloned().collect::<Vec<_>>() {
                addresses.push(address(field, &text, INVALID_CONFIG)?);
            }
        }
        let ipam = &self.ipam;
        let pools: Vec<String> =
            ipam.ipv4_pools.iter().chain(&ipam.ipv6_pools).chain(&ipam.subnet).cloned().collect();
        Ok(AttachRequest {
            network: self.network()?,
            container_id: target.container,
            netns,
            interface: target.interface,
            pod: target.pod,
            labels,
            addresses,
            pools,
            assign_ipv4: ipam.assign_ipv4,
            assign_ipv6: ipam.assign_ipv6.or_else(|| (!ipam.ipv6_pools.is_empty()).then_some(true)),
            mtu: self.mtu,
        })
    }

    /// The request of a CHECK: the addresses are those the ADD gave.
    pub(super) fn check_request(&self, environment: Environment<'_>) -> Result<AttachRequest, Failure> {
        let mut request = self.attach_request(environment)?;
        if let Some(previous) = &self.previous {
            let addresses =
                previous.ips.iter().map(|ip| address("prevResult.ips", &ip.address, INVALID_CONFIG));
            request.addresses = addresses.collect::<Result<_, _>>()?;
        }
        Ok(request)
    }

    /// The request of a DEL.
    pub(super) fn detach_request(&self, environment: Environment<'_>) -> Result<DetachRequest, Failure> {
        let target = target(environment)?;
        Ok(DetachRequest {
            network: self.network()?,
            container_id: target.container,
            interface: target.interface,
            pod: target.pod,
        })
    }

    fn network(&self) -> Result<String, Failure> {
        if self.name.is_empty() {
            return Err(Failure::new(INVALID_CONFIG, "the network configuration has no 'name'"));
        }
        Ok(self.name.clone())
    }
}
