//! What was last said about learned routes. Thousands of prefixes share a few next hops, so each route is kept once.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;

use crate::table::LearnedRoute;

/// Names a route of [`LearnedRoutes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LearnedId(u32);

/// Routes in use, each with the number of prefixes that have it.
#[derive(Debug, Default)]
pub(super) struct LearnedRoutes {
    routes: Vec<(LearnedRoute, usize)>,
    index: HashMap<LearnedRoute, u32, DefaultHashBuilder>,
    free: Vec<u32>,
}

impl LearnedRoutes {
    pub(super) fn get(&self, id: Option<LearnedId>) -> Option<&LearnedRoute> {
        id.map(|id| &self.routes[id.0 as usize].0)
    }

    /// A prefix that had `old` has `new` from now on.
    pub(super) fn replace(&mut self, old: Option<LearnedId>, new: Option<LearnedRoute>) -> Option<LearnedId> {
        let new = new.map(|route| self.hold(route));
        if let Some(LearnedId(old)) = old {
            let (route, holders) = &mut self.routes[old as usize];
            *holders -= 1;
            if *holders == 0 {
                self.index.remove(route);
                self.free.push(old);
            }
        }
        new
    }

    fn hold(&mut self, route: LearnedRoute) -> LearnedId {
        if let Some(at) = self.index.get(&route) {
            self.routes[*at as usize].1 += 1;
            return LearnedId(*at);
        }
        let at = match self.free.pop() {
            Some(at) => {
                self.routes[at as usize] = (route.clone(), 1);
                at
            }
            None => {
                self.routes.push((route.clone(), 1));
                u32::try_from(self.routes.len() - 1).expect("fewer than 2^32 routes fit into memory")
            }
        };
        self.index.insert(route, at);
        LearnedId(at)
    }
}
