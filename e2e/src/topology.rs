//! Racks, router and the host outside: namespaces, links, addresses and static routes. No product in here.
//!
//! ```text
//!   rack A 10.1.0.0/24                 rack B 10.2.0.0/24
//!   node1 .11   node2 .12              node3 .11
//!      └── switch ──┘                     │
//!             └─ .1 router .1 ─ switch ───┘
//!                     │ 203.0.113.1
//!                  outside 203.0.113.10
//! ```

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::netns::Netns;
use crate::process::Run;

/// AS number of the router.
pub const ROUTER_AS: u32 = 65000;
/// AS number of the nodes: Calico's default.
pub const NODE_AS: u32 = 64512;
/// The host outside. It knows the nodes' racks and no pool, so it can only answer a node's address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The network of the host outside.
pub const OUTSIDE_NET: &str = "203.0.113.0/24";
/// MTU of every link.
pub const LINK_MTU: u32 = 1500;

/// A rack: one subnet behind one switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rack {
    /// `a` or `b`.
    pub name: &'static str,
    /// The router's address in it.
    pub gateway: Ipv4Addr,
}

/// Rack A.
pub const RACK_A: Rack = Rack { name: "a", gateway: Ipv4Addr::new(10, 1, 0, 1) };
/// Rack B.
pub const RACK_B: Rack = Rack { name: "b", gateway: Ipv4Addr::new(10, 2, 0, 1) };

/// A node's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node's name, also of its namespace.
    pub node: &'static str,
    /// Its address, in a /24.
    pub address: Ipv4Addr,
    /// Its rack.
    pub rack: Rack,
}

/// The nodes in order.
pub const PLACES: [Place; 3] = [
    Place { node: "node1", address: Ipv4Addr::new(10, 1, 0, 11), rack: RACK_A },
    Place { node: "node2", address: Ipv4Addr::new(10, 1, 0, 12), rack: RACK_A },
    Place { node: "node3", address: Ipv4Addr::new(10, 2, 0, 11), rack: RACK_B },
];

/// The drawing shown to people.
pub const DRAWING: &str = "  rack A, 10.1.0.0/24                        rack B, 10.2.0.0/24
  ┌────────────────┐  ┌────────────────┐    ┌────────────────┐
  │ node1          │  │ node2          │    │ node3          │
  │ 10.1.0.11      │  │ 10.1.0.12      │    │ 10.2.0.11      │
  └───────┬────────┘  └───────┬────────┘    └───────┬────────┘
          └────── switch ─────┘                     │ switch
                    │ 10.1.0.1             10.2.0.1 │
                  ┌─┴───────────────────────────────┴┐
                  │ router: BIRD, AS 65000           │
                  └─────────────────┬────────────────┘
                                    │ 203.0.113.1
                         outside 203.0.113.10 (knows no pool)";

/// The namespaces that are no nodes.
#[derive(Debug)]
pub struct Topology {
    /// The router, which also holds the datastore.
    pub router: Netns,
    /// The host outside.
    pub outside: Netns,
    /// The nodes, as in [`PLACES`].
    pub nodes: Vec<Netns>,
    /// The switches of rack A and B: every packet between a node and anything else is seen here.
    pub switches: [Netns; 2],
}

impl Topology {
    /// Builds all of it.
    ///
    /// # Errors
    /// When a command fails.
    pub fn build() -> Result<Topology> {
        let router = Netns::add("router")?;
        router.run("sysctl -q -w net.ipv4.ip_forward=1").ok()?;
        let mut switches = Vec::new();
        for rack in [RACK_A, RACK_B] {
            let switch = Netns::add(&format!("rack-{}", rack.name))?;
            switch.run("ip link add switch type bridge").ok()?;
            switch.run("ip link set switch up").ok()?;
            connect(&switch, "router", &router, &format!("rack-{}", rack.name))?;
            switch.run("ip link set router master switch").ok()?;
            router.run(&format!("ip address add {}/24 dev rack-{}", rack.gateway, rack.name)).ok()?;
            switches.push(switch);
        }
        let mut nodes = Vec::new();
        for place in PLACES {
            let node = Netns::add(place.node)?;
            let switch = &switches[usize::from(place.rack == RACK_B)];
            connect(switch, place.node, &node, "eth0")?;
            switch.run(&format!("ip link set {} master switch", place.node)).ok()?;
            node.run(&format!("ip address add {}/24 dev eth0", place.address)).ok()?;
            node.run(&format!("ip route add default via {}", place.rack.gateway)).ok()?;
            // A new namespace copies these from the machine; the agent has to get along with forwarding off.
            node.run("sysctl -q -w net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=0").ok()?;
            nodes.push(node);
        }
        let outside = Netns::add("outside")?;
        connect(&router, "outside", &outside, "eth0")?;
        router.run("ip address add 203.0.113.1/24 dev outside").ok()?;
        outside.run(&format!("ip address add {OUTSIDE}/24 dev eth0")).ok()?;
        for rack in ["10.1.0.0/24", "10.2.0.0/24"] {
            outside.run(&format!("ip route add {rack} via 203.0.113.1")).ok()?;
        }
        let [rack_a, rack_b] = <[Netns; 2]>::try_from(switches).expect("one switch for each of two racks");
        Ok(Topology { router, outside, nodes, switches: [rack_a, rack_b] })
    }
}

/// A cable between two namespaces.
fn connect(left: &Netns, left_name: &str, right: &Netns, right_name: &str) -> Result<()> {
    left.run(&format!("ip link add {left_name} type veth peer name {right_name} netns {}", right.name()))
        .ok()?;
    left.run(&format!("ip link set {left_name} up")).ok()?;
    right.run(&format!("ip link set {right_name} up")).ok()?;
    Ok(())
}

/// Whether the kernel has IPIP, told by making such a device.
///
/// # Errors
/// When it fails in another way than by not knowing the kind.
pub fn kernel_has_ipip() -> Result<bool> {
    let probe = Netns::add("probe")?;
    let made = probe.run("ip link add probe type ipip local 127.0.0.1 remote 127.0.0.2").output()?;
    probe.delete()?;
    match made {
        output if output.success() => Ok(true),
        output if output.stderr.contains("Unknown device type") => Ok(false),
        output => anyhow::bail!("cannot tell whether the kernel has IPIP: {}", output.text().trim()),
    }
}

/// The kernel's release, for people.
///
/// # Errors
/// When `uname` fails.
pub fn kernel_release() -> Result<String> {
    Ok(Run::line("uname -r").ok()?.trim().to_owned())
}
