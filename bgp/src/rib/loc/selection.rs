//! Which path of a prefix is best, and which share the load with it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Best, Entry, Path, Table, own_route};
use crate::rib::decision::{Candidate, best, shares};
use crate::table::LearnedRoute;

impl Table {
    pub(super) fn announced(&self, entry: &Entry, selected: Option<usize>) -> Option<Best> {
        match entry.originated {
            Some(attrs) => Some(own_route(attrs)),
            None => self.usable(&self.paths.get(&entry.paths)[selected?])?.1,
        }
    }

    /// A path as the decision sees it and as it would be announced; `None` when it cannot be used.
    pub(super) fn usable(&self, path: &Path) -> Option<(Candidate<'_>, Option<Best>)> {
        let attrs = path.accepted?;
        let set = self.interner.get(attrs);
        if self.own_addresses.contains(&set.next_hop()) {
            return None;
        }
        let source = self.peers.get(&path.peer)?.source?;
        let candidate = Candidate { summary: set.summary(), source, path_id: path.remote_id };
        let best = Best { attrs, peer: path.peer, source: Some(source), local_id: path.local_id };
        Some((candidate, Some(best)))
    }

    /// The index of the best path among all of a prefix.
    pub(super) fn select(&self, entry: &Entry) -> Option<usize> {
        let paths = self.paths.get(&entry.paths);
        if let [path] = paths {
            return self.usable(path).map(|_| 0);
        }
        let usable = paths.iter().enumerate().filter_map(|(at, path)| Some((at, self.usable(path)?.0)));
        let (indices, candidates): (Vec<usize>, Vec<Candidate<'_>>) = usable.unzip();
        best(&candidates).map(|at| indices[at])
    }

    /// The best path with its equals (bgp-behaviour 6.3).
    pub(super) fn learned_route(&self, entry: &Entry, selected: usize) -> LearnedRoute {
        let paths = self.paths.get(&entry.paths);
        let best = self.usable(&paths[selected]).map(|(candidate, _)| candidate);
        let candidates: Vec<Candidate<'_>> = match paths {
            [_] => Vec::new(),
            paths => paths.iter().filter_map(|path| Some(self.usable(path)?.0)).collect(),
        };
        let is_equal = |path: &&Path| match (best, self.usable(path)) {
            (Some(best), Some((other, _))) => shares(best, other, &candidates),
            _ => false,
        };
        let next_hop = |path: &Path| path.accepted.map(|attrs| self.interner.get(attrs).next_hop());
        let next_hops: Vec<IpAddr> = match paths {
            [path] => next_hop(path).into_iter().collect(),
            paths => {
                let all: BTreeSet<IpAddr> = paths.iter().filter(is_equal).filter_map(next_hop).collect();
                all.into_iter().collect()
            }
        };
        LearnedRoute {
            next_hops,
            internal: best.is_some_and(|best| best.source.internal),
            local_pref: best.map_or(0, |best| best.summary.local_pref),
        }
    }
}
