//! What is enforced in benchmarks: policies of ten rules that each allow some peers one port, a number of them on each
//! endpoint. As our compiler writes it, as a chain for each policy, and as a list.

// Each benchmark uses its part.
#![allow(dead_code)]

pub(crate) mod chains;

use std::net::Ipv4Addr;
use std::sync::Arc;

use tortie_model::resource::{NetworkPolicySpec, PolicyType, ProfileSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::ir::Direction;
use tortie_policy::snapshot::{Endpoint, EndpointId, PolicyBody, PolicyId, Snapshot};

/// Rules of a policy in each direction.
pub(crate) const RULES: u16 = 10;
/// Endpoints elsewhere that a policy allows.
pub(crate) const PEERS: u32 = 20;
/// The port that the last rule of the last policy allows all endpoints here.
pub(crate) const OPEN_PORT: u16 = 9000;
/// The first port of the other rules.
pub(crate) const FIRST_PORT: u16 = 8000;
const NAMESPACE: &str = "shop";
/// The profile of endpoints without policies.
const OPEN: &str = "open";

/// What is enforced.
#[derive(Clone, Copy)]
pub(crate) struct World {
    /// Endpoints of this node; which policies they have goes by their group.
    pub(crate) endpoints: u32,
    /// Groups of endpoints.
    pub(crate) groups: u32,
    /// Policies of each group; none is a profile that allows everything.
    pub(crate) policies: u32,
    /// The protocol of all rules.
    pub(crate) protocol: Protocol,
    /// In which directions policies apply.
    pub(crate) directions: &'static [Direction],
}

/// The interface of an endpoint.
pub(crate) fn interface(n: u32) -> String {
    format!("cali{n}")
}

/// The address of an endpoint here.
pub(crate) fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a41_0001 + n)
}

/// The address of an endpoint elsewhere that a policy allows.
fn peer_address(policy: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a50_0000 + policy * PEERS + n)
}

/// Which peers a rule names.
enum Peers {
    /// Those of a policy.
    Of(u32),
    /// All endpoints here.
    Here,
}

impl World {
    /// How many policies there are.
    pub(crate) fn all_policies(&self) -> u32 {
        self.groups * self.policies
    }

    /// The input of the compiler.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let policies = 0..self.all_policies();
        let peers = policies.clone().flat_map(|policy| (0..PEERS).map(move |n| peer(policy, n)));
        Snapshot {
            policies: policies.map(|n| self.policy(n, FIRST_PORT)).collect(),
            endpoints: (0..self.endpoints).map(|n| self.endpoint(n)).chain(peers).collect(),
            profiles: [(OPEN.to_owned(), Some(open()))].into(),
            ..Snapshot::default()
        }
    }

    /// Endpoint `n` of this node.
    pub(crate) fn endpoint(&self, n: u32) -> (Arc<EndpointId>, Arc<Endpoint>) {
        let labels = [("group", format!("g{}", n % self.groups)), ("app", "here".to_owned())];
        let (id, endpoint) = endpoint(format!("p{n}"), labels, address(n), Some(interface(n)));
        let profiles = if self.policies == 0 { vec![OPEN.into()] } else { Vec::new() };
        (id, Arc::new(Endpoint { profiles, ..endpoint }))
    }

    /// Policy `n`, its ports beginning with this one.
    pub(crate) fn policy(&self, n: u32, first_port: u16) -> (PolicyId, PolicyBody) {
        let rule = |direction: Direction, (peers, port): (Peers, u16)| {
            let selector = match peers {
                Peers::Of(policy) => format!("role == 'r{policy}'"),
                Peers::Here => "app == 'here'".to_owned(),
            };
            let peer = EntityRule { selector, ..EntityRule::default() };
            let ports = vec![Port::Range(port, port)];
            let (source, destination) = match direction {
                Direction::Ingress => (peer, EntityRule { ports, ..EntityRule::default() }),
                Direction::Egress => (EntityRule::default(), EntityRule { ports, ..peer }),
            };
            Rule { protocol: Some(self.protocol), source, destination, ..allow() }
        };
        let rules = |direction: Direction| match self.directions.contains(&direction) {
            true => self.rules(n, first_port).map(|what| rule(direction, what)).collect(),
            false => Vec::new(),
        };
        let types = self.directions.iter().map(|direction| match direction {
            Direction::Ingress => PolicyType::Ingress,
            Direction::Egress => PolicyType::Egress,
        });
        let spec = NetworkPolicySpec {
            order: Some(f64::from(n)),
            selector: format!("group == 'g{}'", n % self.groups),
            types: types.collect(),
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
            ..NetworkPolicySpec::default()
        };
        let id = PolicyId { name: format!("default.policy{n}"), namespace: NAMESPACE.into() };
        (id, PolicyBody::Network(Box::new(spec)))
    }

    /// Whom the rules of a policy allow which port.
    fn rules(&self, policy: u32, first_port: u16) -> impl Iterator<Item = (Peers, u16)> + '_ {
        (0..RULES).map(move |rule| match self.is_last(policy) && rule + 1 == RULES {
            true => (Peers::Here, OPEN_PORT),
            false => (Peers::Of(policy), first_port + rule),
        })
    }

    /// Whether it is the last policy of its group.
    fn is_last(&self, policy: u32) -> bool {
        policy / self.groups + 1 == self.policies
    }
}

/// Endpoint `n` of those elsewhere that a policy allows; from [`PEERS`] on it is one that was not there before.
pub(crate) fn peer(policy: u32, n: u32) -> (Arc<EndpointId>, Arc<Endpoint>) {
    let labels = [("role", format!("r{policy}")), ("app", "elsewhere".to_owned())];
    let address = match n < PEERS {
        true => peer_address(policy, n),
        false => Ipv4Addr::from(0x0a60_0000 + policy * PEERS + n),
    };
    let (id, endpoint) = endpoint(format!("r{policy}-{n}"), labels, address, None);
    (id, Arc::new(endpoint))
}

fn allow() -> Rule {
    Rule { action: Action::Allow, ..Rule::default() }
}

/// A profile that allows everything.
fn open() -> ProfileSpec {
    ProfileSpec { ingress: vec![allow()], egress: vec![allow()], ..ProfileSpec::default() }
}

fn endpoint(
    name: String,
    labels: [(&'static str, String); 2],
    address: Ipv4Addr,
    interface: Option<String>,
) -> (Arc<EndpointId>, Endpoint) {
    let namespace = [("projectcalico.org/namespace", NAMESPACE.to_owned())];
    let endpoint = Endpoint {
        labels: labels.into_iter().chain(namespace).collect(),
        addresses: [address.into()].into(),
        interface,
        ..Endpoint::default()
    };
    (Arc::new(EndpointId { namespace: NAMESPACE.into(), name }), endpoint)
}
