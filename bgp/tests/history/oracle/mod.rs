//! What every peer has to know, read off the standards: from the configuration and what live peers announced last, without
//! memory and without a line of the speaker. Of its crate only plain values are used.
//!
//! Deliberately slow and simple: each prefix is decided from nothing, each rule is a sentence of its RFC.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnetwork::IpNetwork;
use tortie_bgp::family::Prefix;
use tortie_bgp::table::{LearnedRoute, OriginatedRoute};
use tortie_bgp::{PeerConfig, SpeakerConfig};

use crate::route::Route;

mod decision;
mod export;
mod filter;
mod import;

/// A peer with a session.
pub(crate) struct Neighbour {
    pub(crate) id: SocketAddr,
    /// BGP identifier.
    pub(crate) router_id: Ipv4Addr,
    /// Several paths of a prefix are announced to it.
    pub(crate) add_path: bool,
    /// What it announced, by prefix and path identifier.
    pub(crate) announced: BTreeMap<(Prefix, u32), Route>,
}

/// All there is to know.
pub(crate) struct Oracle<'a> {
    pub(crate) config: &'a SpeakerConfig,
    /// Our end of all sessions.
    pub(crate) address: Ipv4Addr,
    pub(crate) originated: BTreeMap<IpNetwork, OriginatedRoute>,
    pub(crate) neighbours: Vec<Neighbour>,
}

/// A peer in the terms of the rules.
#[derive(Clone, Copy)]
struct Session<'a> {
    speaker: &'a SpeakerConfig,
    peer: &'a PeerConfig,
    address: IpAddr,
    router_id: Ipv4Addr,
}

impl Session<'_> {
    fn local_as(self) -> u32 {
        self.peer.local_as.unwrap_or(self.speaker.local_as)
    }

    fn internal(self) -> bool {
        self.peer.remote_as == self.local_as()
    }
}

/// A route that may be used, and where it comes from.
#[derive(Clone)]
struct Learned<'a> {
    route: Route,
    from: Session<'a>,
    path_id: u32,
}

/// The routes of one prefix.
struct Choice<'a> {
    originated: Option<Route>,
    /// Those that may be used.
    learned: Vec<Learned<'a>>,
    /// The best of them.
    best: Option<usize>,
    /// All that share the load.
    equal: Vec<usize>,
}

impl<'a> Choice<'a> {
    /// What may be announced, before the rules of a peer: all there is where several paths are wanted, else one route, our
    /// own before learned ones.
    fn offered(&self, several: bool) -> Vec<(Route, Option<Session<'a>>)> {
        let learned = |learned: &Learned<'a>| (learned.route.clone(), Some(learned.from));
        let own = self.originated.iter().map(|route| (route.clone(), None));
        if several {
            return own.chain(self.learned.iter().map(learned)).collect();
        }
        own.chain(self.best.map(|at| learned(&self.learned[at]))).take(1).collect()
    }
}

impl<'a> Oracle<'a> {
    fn session(&self, neighbour: &Neighbour) -> Session<'a> {
        let peer = &self.config.peers[&neighbour.id];
        let (address, router_id) = (neighbour.id.ip(), neighbour.router_id);
        Session { speaker: self.config, peer, address, router_id }
    }

    /// Loc-RIB: the routes that passed import and do not lead to ourselves (RFC 4271 5.1.3), decided.
    fn choices(&self) -> BTreeMap<Prefix, Choice<'a>> {
        let mut learned: BTreeMap<Prefix, Vec<Learned<'a>>> = BTreeMap::new();
        for neighbour in &self.neighbours {
            let from = self.session(neighbour);
            for ((prefix, path_id), route) in &neighbour.announced {
                let of_prefix = learned.entry(*prefix).or_default();
                if let Some(route) = import::import(from, *prefix, route.clone())
                    && route.next_hop != self.address
                {
                    of_prefix.push(Learned { route, from, path_id: *path_id });
                }
            }
        }
        for network in self.originated.keys() {
            learned.entry(Prefix::from(*network)).or_default();
        }
        let choice = |(prefix, learned): (Prefix, Vec<Learned<'a>>)| {
            let (best, equal) = decision::decide(self.config.local_as, &learned);
            (prefix, Choice { originated: self.own(prefix), learned, best, equal })
        };
        learned.into_iter().map(choice).collect()
    }

    /// A route of our own: origin IGP, an empty path, and the preference it was given.
    fn own(&self, prefix: Prefix) -> Option<Route> {
        let own = self.originated.get(&prefix.network())?;
        Some(Route { local_pref: Some(own.local_pref), ..Route::new(self.address) })
    }

    /// Adj-RIB-Out of each neighbour, in their order.
    pub(crate) fn told(&self) -> Vec<BTreeMap<Prefix, Vec<Route>>> {
        let choices = self.choices();
        let told = |neighbour: &Neighbour| {
            let to = self.session(neighbour);
            let routes = |(prefix, choice): (&Prefix, &Choice<'a>)| {
                let offered = choice.offered(neighbour.add_path).into_iter();
                let export = |(route, from)| export::export(to, self.address, *prefix, route, from);
                let mut told: Vec<Route> = offered.filter_map(export).collect();
                told.sort();
                (!told.is_empty()).then_some((*prefix, told))
            };
            choices.iter().filter_map(routes).collect()
        };
        self.neighbours.iter().map(told).collect()
    }

    /// What is to be forwarded where.
    pub(crate) fn table(&self) -> BTreeMap<IpNetwork, LearnedRoute> {
        let learned = |(prefix, choice): (Prefix, Choice<'a>)| {
            let best = &choice.learned[choice.best?];
            let hops = choice.equal.iter().map(|at| IpAddr::V4(choice.learned[*at].route.next_hop));
            let mut next_hops: Vec<IpAddr> = hops.collect();
            next_hops.sort();
            next_hops.dedup();
            let internal = best.from.internal();
            let local_pref = best.route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
            Some((prefix.network(), LearnedRoute { next_hops, internal, local_pref }))
        };
        self.choices().into_iter().filter_map(learned).collect()
    }
}

/// Degree of preference of a route that comes without.
const DEFAULT_LOCAL_PREF: u32 = 100;
