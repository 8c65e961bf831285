//! The rule-set judged on a packet, as the kernel would: for tests and for explaining a verdict. Knows only the IR, so it
//! cannot repeat a mistake of the compiler.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::ir::{
    Action, AddressSet, ChainKind, Comment, Element, Elements, Family, Hook, IcmpField, Interface, Match, Op,
    PortSet, Rule, Ruleset, Side, Verdict, WORKLOAD_PREFIX,
};

/// A packet, and what the kernel knows about it when it meets our rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Interface it was received on; `None` for one this node sends itself.
    pub input: Option<String>,
    /// Interface it leaves by; `None` for one addressed to this node.
    pub output: Option<String>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, after any service's destination NAT.
    pub destination: IpAddr,
    /// Destination address and port before that, when there is such a NAT.
    pub original: Option<(IpAddr, u16)>,
    /// Protocol number.
    pub protocol: u8,
    /// Source and destination port, for a protocol that has them.
    pub ports: Option<(u16, u16)>,
    /// Type and code, for ICMP of the packet's family.
    pub icmp: Option<(u8, u8)>,
    /// What connection tracking says.
    pub state: CtState,
    /// Whether the route back to the source leaves by `input`.
    pub reverse_route: bool,
    /// Whether it arrives with our mark, which somebody else set.
    pub marked: bool,
}

/// State of a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtState {
    /// First packet of a flow.
    New,
    /// Of a known flow.
    Established,
    /// Of a known flow that policy no longer allows: it has [`crate::ir::FLOW_MARK`].
    Refused,
    /// An error about a known flow, or a flow it announced.
    Related,
    /// Fits no flow.
    Invalid,
    /// Not tracked, such as neighbour discovery.
    Untracked,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether our table lets it through; another table may still drop it.
    pub allowed: bool,
    /// Whether its source address is replaced.
    pub masqueraded: bool,
    /// Whether it is kept from connection tracking.
    pub untracked: bool,
    /// Rules that matched, in order; the last of a packet that was dropped is the one that dropped it.
    pub trail: Vec<Step>,
}

impl Outcome {
    /// The rule that decided, when one did.
    pub fn rule(&self) -> Option<&Step> {
        self.trail.last()
    }
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 0.
    pub index: usize,
    /// Its comment: tier, policy, index; of merged rules that of the one whose element matched.
    pub comment: String,
    /// What it does.
    pub action: Action,
}

/// Longest path through chains the kernel accepts.
const MAX_DEPTH: usize = 16;

/// Sends a packet through all base chains on its way.
pub fn eval(ruleset: &Ruleset, packet: &Packet) -> Outcome {
    let mut run = Run::new(ruleset, packet);
    let hooks = [
        (Hook::Prerouting, packet.input.is_some()),
        (Hook::Input, packet.input.is_some() && packet.output.is_none()),
        (Hook::Forward, packet.input.is_some() && packet.output.is_some()),
        (Hook::Output, packet.input.is_none()),
        (Hook::Postrouting, packet.output.is_some()),
    ];
    let allowed = hooks.iter().filter(|(_, passed)| *passed).all(|(hook, _)| run.hook(*hook));
    run.outcome(allowed)
}

/// Sends a packet through these chains only, after translation.
pub(crate) fn eval_chains(ruleset: &Ruleset, packet: &Packet, chains: &[&str]) -> Outcome {
    let mut run = Run::new(ruleset, packet);
    run.translated = packet.original.is_some();
    let allowed = chains.iter().all(|name| run.chain(name, 0) != Left::Dropped);
    run.outcome(allowed)
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    trail: Vec<Step>,
    masqueraded: bool,
    marked: bool,
    untracked: bool,
    /// Whether the destination has been translated by now.
    translated: bool,
}

/// Priority at which destinations are translated, in prerouting and output.
const TRANSLATION: i32 = -100;

/// How a chain was left.
#[derive(PartialEq)]
enum Left {
    Accepted,
    Dropped,
    Returned,
}

impl<'a> Run<'a> {
    fn new(ruleset: &'a Ruleset, packet: &'a Packet) -> Run<'a> {
        Run {
            ruleset,
            packet,
            trail: Vec::new(),
            masqueraded: false,
            marked: packet.marked,
            untracked: false,
            translated: false,
        }
    }

    fn outcome(self, allowed: bool) -> Outcome {
        Outcome { allowed, masqueraded: self.masqueraded, untracked: self.untracked, trail: self.trail }
    }

    /// Whether the packet survives the base chains of a hook.
    fn hook(&mut self, hook: Hook) -> bool {
        let mut chains: Vec<(i32, &str, ChainKind)> = Vec::new();
        for (name, chain) in &self.ruleset.chains {
            if let Some(base) = chain.base.filter(|b| b.hook == hook)
                && (base.kind == ChainKind::Filter || self.packet.state == CtState::New)
            {
                chains.push((base.priority, name, base.kind));
            }
        }
        chains.sort_unstable_by_key(|(priority, name, _)| (*priority, *name));
        chains.into_iter().all(|(priority, name, kind)| {
            let early = matches!(hook, Hook::Prerouting | Hook::Output) && priority < TRANSLATION;
            self.translated = self.packet.original.is_some() && !self.untracked && !early;
            (kind == ChainKind::Nat && self.untracked) || self.chain(name, 0) != Left::Dropped
        })
    }

    fn state(&self) -> CtState {
        if self.untracked { CtState::Untracked } else { self.packet.state }
    }

    /// Runs a chain. One that does not exist, or that lies too deep, could not be loaded: the packet is dropped.
    fn chain(&mut self, name: &str, depth: usize) -> Left {
        let Some(chain) = self.ruleset.chains.get(name).filter(|_| depth < MAX_DEPTH) else {
            return Left::Dropped;
        };
        for (index, rule) in chain.rules.iter().enumerate() {
            if !rule.matches.iter().all(|m| self.holds(m)) {
                continue;
            }
            let verdict = match &rule.action {
                Action::Verdict(verdict) => Some(verdict),
                Action::Lookup(interface, map) => self.lookup(*interface, map),
                Action::Reject => Some(&Verdict::Drop),
                Action::Log { .. } => None,
                Action::Mark(set) => {
                    self.marked = *set;
                    None
                }
                Action::NoTrack => {
                    self.untracked = true;
                    None
                }
                Action::Masquerade => {
                    self.masqueraded = true;
                    return Left::Accepted;
                }
            };
            if verdict.is_some() || matches!(rule.action, Action::Log { .. }) {
                let comment = self.origin(rule).unwrap_or(&rule.comment).to_string();
                let action = rule.action.clone();
                self.trail.push(Step { chain: name.to_owned(), index, comment, action });
            }
            match verdict {
                None => {}
                Some(Verdict::Accept) => return Left::Accepted,
                Some(Verdict::Drop) => return Left::Dropped,
                Some(Verdict::Return) => return Left::Returned,
                Some(Verdict::Goto(chain)) => return self.chain(chain, depth + 1),
                Some(Verdict::Jump(chain)) => match self.chain(chain, depth + 1) {
                    Left::Returned => {}
                    left @ (Left::Accepted | Left::Dropped) => return left,
                },
            }
        }
        Left::Returned
    }

    /// Comment of the rule of a policy that a merged rule matched for.
    fn origin(&self, rule: &Rule) -> Option<&'a Comment> {
        let set = self.ruleset.merged_set(rule)?;
        rule.matches.iter().find_map(|condition| self.ruleset.origin(set, self.element(condition)?))
    }

    /// What of the packet a condition looks up in a set, when it can be a merged one.
    fn element(&self, condition: &Match) -> Option<Element> {
        let service = self.port(Side::Destination).map(|port| (self.packet.protocol, port));
        if let Match::Row(side, _, length, _) = condition {
            Some(Element { address: masked(self.address(*side), *length), service })
        } else if let Match::Address(side, _, _, AddressSet::Masked(length, _)) = condition {
            Some(Element { address: masked(self.address(*side), *length), service: None })
        } else if let Match::Address(side, ..) = condition {
            Some(Element { address: Some(self.address(*side)), service: None })
        } else {
            matches!(condition, Match::ProtocolPort(..) | Match::Port(Side::Destination, ..))
                .then_some(Element { address: None, service })
        }
    }

    fn lookup(&self, interface: Interface, map: &str) -> Option<&'a Verdict> {
        let name = self.interface(interface)?;
        self.ruleset.maps.get(map)?.elements.get(name)
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.packet;
        let family = Family::of(packet.source);
        match condition {
            Match::Family(wanted) => family == *wanted,
            Match::WorkloadInterface(interface) => {
                self.interface(*interface).is_some_and(|name| name.starts_with(WORKLOAD_PREFIX))
            }
            Match::Established => {
                matches!(self.state(), CtState::Established | CtState::Related | CtState::Refused)
            }
            Match::Refused => self.state() == CtState::Refused,
            Match::Invalid => self.state() == CtState::Invalid,
            Match::Protocol(op, number) => is(*op, packet.protocol == *number),
            Match::Address(side, wanted, op, set) => {
                family == *wanted && is(*op, self.address_in(self.address(*side), set))
            }
            Match::Port(side, op, set) => {
                self.port(*side).is_some_and(|port| is(*op, self.port_in(port, set)))
            }
            Match::Service(side, wanted, op, set) => {
                family == *wanted
                    && self.port(*side).is_some_and(|port| {
                        is(*op, self.service_in((self.address(*side), packet.protocol, port), set))
                    })
            }
            Match::Row(side, wanted, length, set) => {
                family == *wanted
                    && self
                        .port(Side::Destination)
                        .zip(masked(self.address(*side), *length))
                        .is_some_and(|(port, address)| self.service_in((address, packet.protocol, port), set))
            }
            Match::ProtocolPort(side, op, set) => self
                .port(*side)
                .is_some_and(|port| is(*op, self.protocol_port_in((packet.protocol, port), set))),
            Match::Icmp(wanted, field, op, low, high) => {
                let byte = packet.icmp.map(|(icmp_type, code)| match field {
                    IcmpField::Type => icmp_type,
                    IcmpField::Code => code,
                });
                family == *wanted
                    && packet.protocol == wanted.icmp()
                    && byte.is_some_and(|byte| is(*op, (*low..=*high).contains(&byte)))
            }
            Match::NoReverseRoute => !packet.reverse_route,
            Match::LocalDestination => packet.output.is_none(),
            Match::LocalSource => packet.input.is_none(),
            Match::Mark(op) => is(*op, self.marked),
            Match::Translated => self.translated,
        }
    }

    fn interface(&self, interface: Interface) -> Option<&str> {
        match interface {
            Interface::Input => self.packet.input.as_deref(),
            Interface::Output => self.packet.output.as_deref(),
        }
    }

    fn address(&self, side: Side) -> IpAddr {
        match (side, self.packet.original) {
            (Side::Source, _) => self.packet.source,
            (Side::Destination, Some((original, _))) if !self.translated => original,
            (Side::Destination, _) => self.packet.destination,
        }
    }

    fn port(&self, side: Side) -> Option<u16> {
        self.packet.ports.map(|(source, destination)| match (side, self.packet.original) {
            (Side::Source, _) => source,
            (Side::Destination, Some((_, original))) if !self.translated => original,
            (Side::Destination, _) => destination,
        })
    }

    fn elements(&self, set: &str) -> Option<&Elements> {
        self.ruleset.sets.get(set).map(|set| &set.elements)
    }

    fn address_in(&self, address: IpAddr, set: &AddressSet) -> bool {
        match set {
            AddressSet::Prefix(net) => net.contains(address),
            AddressSet::Named(name) => match self.elements(name) {
                Some(Elements::Addresses(_, members)) => members.contains(&address),
                Some(Elements::Prefixes(_, members)) => members.iter().any(|net| net.contains(address)),
                Some(Elements::Ports(_) | Elements::Services(..) | Elements::ProtocolPorts(_)) | None => {
                    false
                }
            },
            AddressSet::Masked(length, name) => match self.elements(name) {
                Some(Elements::Addresses(_, members)) => {
                    masked(address, *length).is_some_and(|address| members.contains(&address))
                }
                _ => false,
            },
        }
    }

    fn port_in(&self, port: u16, set: &PortSet) -> bool {
        match set {
            PortSet::Range(low, high) => (*low..=*high).contains(&port),
            PortSet::Named(name) => match self.elements(name) {
                Some(Elements::Ports(members)) => {
                    members.iter().any(|(low, high)| (*low..=*high).contains(&port))
                }
                Some(
                    Elements::Addresses(..)
                    | Elements::Prefixes(..)
                    | Elements::Services(..)
                    | Elements::ProtocolPorts(_),
                )
                | None => false,
            },
        }
    }

    fn service_in(&self, service: (IpAddr, u8, u16), set: &str) -> bool {
        matches!(self.elements(set), Some(Elements::Services(_, members)) if members.contains(&service))
    }

    fn protocol_port_in(&self, member: (u8, u16), set: &str) -> bool {
        matches!(self.elements(set), Some(Elements::ProtocolPorts(members)) if members.contains(&member))
    }
}

/// The address of the network of this length that an address is in.
fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    IpNetwork::new(address, length).ok().map(|net| net.network())
}

fn is(op: Op, found: bool) -> bool {
    match op {
        Op::Is => found,
        Op::IsNot => !found,
    }
}
