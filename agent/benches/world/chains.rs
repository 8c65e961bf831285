//! The same with a chain for each endpoint that jumps to a chain for each policy, as Calico has it; behind the same base
//! chains as ours, so that nothing but the shape differs. And with lists in place of the maps, as iptables would have it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use tortie_policy::ir::{
    Action, AddressSet, Chain, Comment, Direction, Elements, Family, InterfaceName, Match, Op, PortSet, Rule,
    Ruleset, Set, Side, Verdict,
};
use tortie_policy::nft;

use super::{FIRST_PORT, PEERS, Peers, World, address, interface, peer_address};

/// The set of all endpoints here.
const HERE: &str = "here";

/// Names in a direction: of the map, of what leads to it, of chains.
struct Names {
    map: &'static str,
    interface: &'static str,
    endpoint: &'static str,
    policy: &'static str,
}

fn names(direction: Direction) -> Names {
    match direction {
        Direction::Ingress => {
            Names { map: "to-endpoint", interface: "oifname", endpoint: "tw-", policy: "pi-" }
        }
        Direction::Egress => {
            Names { map: "from-endpoint", interface: "iifname", endpoint: "fw-", policy: "po-" }
        }
    }
}

/// Name of the chain of an endpoint.
fn endpoint_chain(direction: Direction, n: u32) -> String {
    format!("{}{}", names(direction).endpoint, interface(n))
}

/// Name of the chain of a policy.
pub(crate) fn policy_chain(direction: Direction, n: u32) -> String {
    format!("{}{n}", names(direction).policy)
}

fn peers_set(policy: u32) -> String {
    format!("peers-{policy}")
}

fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, counter: true, action, comment: Comment::default() }
}

fn uncounted(action: Action) -> Rule {
    Rule { counter: false, ..rule(Vec::new(), action) }
}

impl World {
    /// A chain for each endpoint and each policy.
    pub(crate) fn chains(&self) -> Ruleset {
        let mut ruleset = Ruleset::default();
        let mut put = |name: String, addresses: &mut dyn Iterator<Item = Ipv4Addr>| {
            let elements = Elements::Addresses(Family::V4, addresses.map(IpAddr::V4).collect());
            ruleset.sets.insert(name, Set::new(Comment::default(), elements));
        };
        for policy in 0..self.all_policies() {
            put(peers_set(policy), &mut (0..PEERS).map(|n| peer_address(policy, n)));
        }
        put(HERE.to_owned(), &mut (0..self.endpoints).map(address));
        for direction in [Direction::Ingress, Direction::Egress] {
            if self.directions.contains(&direction) {
                for n in 0..self.all_policies() {
                    ruleset
                        .chains
                        .insert(policy_chain(direction, n), self.chain_of_policy(direction, n, FIRST_PORT));
                }
            }
            (0..self.endpoints).for_each(|n| self.add_chains(&mut ruleset, direction, n));
        }
        ruleset
    }

    /// One endpoint more.
    pub(crate) fn add_chains(&self, ruleset: &mut Ruleset, direction: Direction, n: u32) {
        let Some(map) = ruleset.maps.get_mut(names(direction).map) else { panic!("no map to an endpoint") };
        let name = InterfaceName::new(&interface(n)).expect("the name of an interface");
        if !self.directions.contains(&direction) {
            map.elements.insert(name, Verdict::Drop);
            return;
        }
        let chain = endpoint_chain(direction, n);
        map.elements.insert(name, Verdict::Goto(chain.clone()));
        ruleset.chains.insert(chain, self.chain_of_endpoint(direction, n));
    }

    /// Asks each policy of an endpoint; one that allows says so by the mark.
    fn chain_of_endpoint(&self, direction: Direction, n: u32) -> Chain {
        let allowed = match direction {
            Direction::Ingress => Verdict::Accept,
            Direction::Egress => Verdict::Return,
        };
        let mut rules = vec![uncounted(Action::Mark(false))];
        for policy in 0..self.policies {
            let chain = policy_chain(direction, policy * self.groups + n % self.groups);
            rules.push(uncounted(Action::Verdict(Verdict::Jump(chain))));
            let marked = vec![Match::Mark(Op::Is)];
            rules.push(Rule { counter: false, ..rule(marked, Action::Verdict(allowed.clone())) });
        }
        rules.push(rule(Vec::new(), Action::Verdict(Verdict::Drop)));
        Chain { comment: Comment::default(), base: None, rules }
    }

    /// The rules of a policy. Protocol, peer, port: in that order Calico asks.
    pub(crate) fn chain_of_policy(&self, direction: Direction, n: u32, first_port: u16) -> Chain {
        let side = match direction {
            Direction::Ingress => Side::Source,
            Direction::Egress => Side::Destination,
        };
        let rules = self.rules(n, first_port).map(|(peers, port)| {
            let set = match peers {
                Peers::Of(policy) => peers_set(policy),
                Peers::Here => HERE.to_owned(),
            };
            let matches = vec![
                Match::Protocol(Op::Is, self.protocol.number()),
                Match::Address(side, Family::V4, Op::Is, AddressSet::Named(set)),
                Match::Port(Side::Destination, Op::Is, PortSet::Range(port, port)),
            ];
            rule(matches, Action::Mark(true))
        });
        Chain { comment: Comment::default(), base: None, rules: rules.collect() }
    }

    /// The same as text, where each interface is a rule of a list; the first endpoints come last.
    pub(crate) fn list(&self) -> String {
        let mut text = nft::render_table(&self.chains());
        for direction in [Direction::Ingress, Direction::Egress] {
            let Names { map, interface: word, .. } = names(direction);
            let mut list = String::new();
            for n in (0..self.endpoints).rev() {
                let (name, chain) = (interface(n), endpoint_chain(direction, n));
                let _ = writeln!(list, "\t\t{word} \"{name}\" goto {chain}");
            }
            let lookup = format!("\t\t{word} vmap @{map}\n");
            assert!(text.contains(&lookup), "no lookup in {map}");
            text = text.replace(&lookup, &list);
        }
        text
    }
}
