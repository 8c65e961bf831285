//! Pods: a namespace each, wired by `tortie-cni` the way a container runtime calls it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::netns::Netns;
use crate::node::Node;
use crate::process::{Output, Run, bin_dir};

/// Name of the CNI network.
pub const NETWORK: &str = "lab-net";

/// A pod that has an address.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name, also of its namespace.
    pub name: String,
    /// Index of its node in the lab.
    pub node: usize,
    /// Its namespace.
    pub netns: Netns,
    /// Its address.
    pub address: Ipv4Addr,
    /// The host side of its veth.
    pub host_interface: String,
    /// MAC of the host side.
    pub host_mac: String,
    /// MAC of its own side.
    pub mac: String,
    labels: Vec<(String, String)>,
}

/// A pod to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Index of its node.
    pub node: usize,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
}

impl Pod {
    /// Makes the namespace and calls CNI ADD on the node.
    ///
    /// # Errors
    /// When the plugin fails; with its answer.
    pub fn create(node: &Node, wanted: Wanted<'_>) -> Result<Pod> {
        let mut pod = Pod::prepare(wanted)?;
        let result = pod.cni(node, "ADD")?.ok()?;
        pod.read_result(&result).with_context(|| format!("tortie-cni ADD answered {result}"))?;
        Ok(pod)
    }

    /// Makes only the namespace: a pod that waits for its CNI ADD.
    ///
    /// # Errors
    /// When the namespace exists or the kernel refuses.
    pub fn prepare(wanted: Wanted<'_>) -> Result<Pod> {
        let labels = wanted.labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Pod {
            name: wanted.name.to_owned(),
            node: wanted.node,
            netns: Netns::add(wanted.name)?,
            address: Ipv4Addr::UNSPECIFIED,
            host_interface: String::new(),
            host_mac: String::new(),
            mac: String::new(),
            labels,
        })
    }

    /// The container id: real ones are 64 hex digits; this one can be recognised by people.
    pub fn container_id(&self) -> String {
        format!("{}c0ffee0123456789", self.name.replace('-', ""))
    }

    /// The plugin's call for a command: ADD, DEL, CHECK.
    ///
    /// # Errors
    /// When the binary is not found.
    pub fn cni(&self, node: &Node, command: &str) -> Result<Run> {
        let labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let config = json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "type": "tortie-cni",
            "socket": node.socket(),
            "labels": labels,
        });
        Ok(node
            .netns
            .run(&bin_dir()?.join("tortie-cni").display().to_string())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.container_id())
            .env("CNI_NETNS", self.netns.path().display().to_string())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", bin_dir()?.display().to_string())
            .stdin(config.to_string()))
    }

    /// Calls CNI DEL and removes the namespace.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn remove(&self, node: &Node) -> Result<()> {
        self.cni(node, "DEL")?.ok()?;
        self.netns.delete()
    }

    /// A ping of so many packets from here, 20 a second.
    pub fn ping(&self, to: Ipv4Addr, count: u32) -> Run {
        self.netns.run(&format!("ping -n -c {count} -i 0.05 -W 1 {to}"))
    }

    /// A TCP or UDP exchange with a server of [`crate::traffic`]; the answer is the address the server saw.
    ///
    /// # Errors
    /// When `tortie-lab` is not found.
    pub fn connect(&self, protocol: &str, to: Ipv4Addr, port: u16) -> Result<Output> {
        crate::traffic::connect(&self.netns, protocol, to, port)
    }

    /// Takes over what the plugin's ADD answered: the address, and both ends of the veth.
    ///
    /// # Errors
    /// When the answer lacks one of them.
    pub fn read_result(&mut self, result: &str) -> Result<()> {
        let result: Value = serde_json::from_str(result).context("it is not JSON")?;
        let address = result["ips"][0]["address"].as_str().context("no ips[0].address")?;
        let Some(address) = address.strip_suffix("/32") else { bail!("{address} is no /32") };
        self.address = address.parse().with_context(|| format!("{address} is no IPv4 address"))?;
        let interfaces = result["interfaces"].as_array().context("no interfaces")?;
        let end = |inside: bool| {
            interfaces
                .iter()
                .find(|i| i["sandbox"].as_str().is_some_and(|s| !s.is_empty()) == inside)
                .with_context(|| {
                    format!("no interface {} a sandbox", if inside { "with" } else { "without" })
                })
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (host, own) = (end(false)?, end(true)?);
        (self.host_interface, self.host_mac, self.mac) =
            (text(&host["name"]), text(&host["mac"]), text(&own["mac"]));
        Ok(())
    }
}
