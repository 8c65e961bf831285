//! Which rule of a policy an element of a merged set comes from: merged rules have one counter an element.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnetwork::IpNetwork;

use super::{Comment, Elements, Reference, Rule, Ruleset};

/// What the sets of merged rules were made of. No kernel is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    /// By the name of a merged set, in the order of the rules.
    pub merged: OrdMap<String, Arc<[Origin]>>,
    /// Peers that are only looked for in merged sets, by the name their own set would have.
    pub peers: OrdMap<String, Elements>,
}

/// One rule among those merged into a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The comment the rule would have by itself.
    pub comment: Comment,
    /// Its peers; any when there are none.
    pub peers: Option<Peers>,
    /// Its protocols and ports; any when there are none.
    pub services: Vec<Service>,
}

/// Ports of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its number.
    pub protocol: u8,
    /// The first port.
    pub low: u16,
    /// The last one.
    pub high: u16,
}

/// Peers of a rule among those merged, all networks of one length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// A set of [`Elements::Addresses`].
    Set(String),
    /// These.
    Nets(Vec<IpNetwork>),
}

/// An element of a merged set: an address, or that of a network, and a protocol with a port, either or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// Address or network.
    pub address: Option<IpAddr>,
    /// Protocol number and port.
    pub service: Option<(u8, u16)>,
}

impl Origin {
    /// The protocol and port of each of its elements.
    pub(crate) fn services(&self) -> impl Iterator<Item = Option<(u8, u16)>> + '_ {
        let any = self.services.is_empty().then_some(None);
        let each = |service: &Service| {
            let protocol = service.protocol;
            (service.low..=service.high).map(move |port| Some((protocol, port)))
        };
        any.into_iter().chain(self.services.iter().flat_map(each))
    }

    /// Whether an element comes from it. `holds` says whether an address is in a set.
    pub(crate) fn covers(&self, element: Element, holds: impl Fn(&str, IpAddr) -> bool) -> bool {
        let service = match element.service {
            Some((protocol, port)) => self
                .services
                .iter()
                .any(|service| service.protocol == protocol && (service.low..=service.high).contains(&port)),
            None => self.services.is_empty(),
        };
        service
            && match (&self.peers, element.address) {
                (None, None) => true,
                (Some(Peers::Set(name)), Some(address)) => holds(name, address),
                (Some(Peers::Nets(nets)), Some(address)) => nets.iter().any(|net| net.network() == address),
                (None, Some(_)) | (Some(_), None) => false,
            }
    }
}

impl Ruleset {
    /// The comment of the rule that an element of a merged set is counted for: the first that gives it.
    pub fn origin(&self, set: &str, element: Element) -> Option<&Comment> {
        let holds = |name: &str, address: IpAddr| {
            let elements =
                self.sets.get(name).map(|set| &set.elements).or_else(|| self.origins.peers.get(name));
            matches!(elements, Some(Elements::Addresses(_, members)) if members.contains(&address))
        };
        let origins = self.origins.merged.get(set)?;
        origins.iter().find(|origin| origin.covers(element, holds)).map(|origin| &origin.comment)
    }

    /// The merged set that a rule looks into, when it does.
    pub fn merged_set<'a>(&self, rule: &'a Rule) -> Option<&'a str> {
        let sets = rule.references().filter_map(|reference| match reference {
            Reference::Set(name) => Some(name),
            Reference::Chain(_) | Reference::Map(_) => None,
        });
        sets.into_iter().find(|name| self.origins.merged.contains_key(*name))
    }
}

impl Elements {
    /// Puts a member of a merged set in, or takes it out.
    pub(crate) fn set(&mut self, element: Element, present: bool) {
        fn put<T: Ord + Clone>(all: &mut imbl::OrdSet<T>, member: T, present: bool) {
            match present {
                true => all.insert(member),
                false => all.remove(&member),
            };
        }
        match (self, element.address, element.service) {
            (Elements::Addresses(_, all), Some(address), None) => put(all, address, present),
            (Elements::Services(_, all), Some(address), Some((protocol, port))) => {
                put(all, (address, protocol, port), present);
            }
            (Elements::ProtocolPorts(all), None, Some(service)) => put(all, service, present),
            _ => {}
        }
    }
}
