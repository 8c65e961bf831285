//! Routes as a daemon tells them: the best ones, those of a view, and why a prefix is what it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::net::Handle;
use tortie_bgp::query::{Announcement, Explanation, Query, QueryError, Route, Standing, View};

/// LOCAL_PREF of a route without.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// What is originated, and the best learned routes.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(super) originated: Vec<IpNetwork>,
    pub(super) learned: Vec<Learned>,
}

/// A best learned route with its equals.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    pub(super) prefix: IpNetwork,
    pub(super) next_hops: Vec<IpAddr>,
    pub(super) internal: bool,
    pub(super) local_pref: u32,
}

/// Routes of a view.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Paths {
    pub(super) paths: Vec<Path>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Path {
    pub(super) prefix: IpNetwork,
    pub(super) next_hop: Option<IpAddr>,
    pub(super) local_pref: Option<u32>,
    pub(super) med: Option<u32>,
    pub(super) as_path: String,
    pub(super) communities: Vec<String>,
    /// The peer's name; absent for what this daemon originates.
    pub(super) from: Option<String>,
    pub(super) path_id: Option<u32>,
    pub(super) stale: bool,
    pub(super) state: String,
    pub(super) reason: Option<String>,
}

/// Why a prefix is what it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Why {
    pub(super) asked: IpNetwork,
    /// The longest in the table that holds it.
    pub(super) prefix: Option<IpNetwork>,
    pub(super) originated: bool,
    pub(super) paths: Vec<Path>,
    pub(super) told: Vec<Told>,
    /// Peers left out, because there would be too many.
    pub(super) omitted: usize,
}

/// What becomes of a route on its way to a peer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) peer: String,
    pub(super) announced: bool,
    pub(super) reason: String,
}

/// All routes of a view, sorted by prefix, the best first.
async fn all(handle: &Handle, view: View, peer: Option<&str>) -> Result<Vec<Route>, QueryError> {
    let mut query = Query::new(view, peer);
    let mut routes = Vec::new();
    loop {
        let page = handle.routes(query.clone()).await?;
        routes.extend(page.routes);
        let Some(next) = page.next else { break };
        query.from = next;
    }
    let is_best = |route: &Route| matches!(route.standing, Standing::Originated | Standing::Best);
    routes.sort_by_cached_key(|route| (route.prefix, !is_best(route), route.from.clone(), route.path_id));
    Ok(routes)
}

impl Best {
    pub(super) async fn ask(handle: &Handle, config: &SpeakerConfig) -> Result<Best, QueryError> {
        let mut best = Best::default();
        let mut learned: BTreeMap<IpNetwork, Learned> = BTreeMap::new();
        for route in all(handle, View::Best, None).await? {
            let (Some(from), Some(next_hop)) = (route.from, route.attributes.next_hop) else {
                best.originated.push(route.prefix);
                continue;
            };
            let of_route = learned.entry(route.prefix).or_insert_with(|| Learned {
                prefix: route.prefix,
                next_hops: Vec::new(),
                internal: config
                    .peers
                    .get(&from.id)
                    .is_some_and(|peer| peer.remote_as == peer.local_as.unwrap_or(config.local_as)),
                local_pref: route.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            });
            if !of_route.next_hops.contains(&next_hop) {
                of_route.next_hops.push(next_hop);
            }
        }
        best.learned = learned.into_values().collect();
        best.learned.iter_mut().for_each(|route| route.next_hops.sort_unstable());
        Ok(best)
    }
}

impl Paths {
    pub(super) async fn ask(handle: &Handle, view: View, peer: Option<&str>) -> Result<Paths, QueryError> {
        Ok(Paths { paths: all(handle, view, peer).await?.into_iter().map(Path::new).collect() })
    }
}

impl Path {
    fn new(route: Route) -> Path {
        let (state, reason) = match route.standing {
            Standing::Originated => ("originated", None),
            Standing::Best => ("best", None),
            Standing::Multipath(words) => ("multipath", Some(words)),
            Standing::NotBest(words) => ("not best", Some(words)),
            Standing::Rejected(words) => ("rejected", Some(words)),
            Standing::Unusable(words) => ("unusable", Some(words)),
            Standing::Announced => ("announced", None),
            Standing::Pending => ("pending", None),
            Standing::Withheld(words) => ("withheld", Some(words)),
        };
        Path {
            prefix: route.prefix,
            next_hop: route.attributes.next_hop,
            local_pref: route.attributes.local_pref,
            med: route.attributes.med,
            as_path: route.attributes.as_path,
            communities: route.attributes.communities,
            from: route.from.map(|peer| peer.name),
            path_id: route.path_id,
            stale: route.stale,
            state: state.to_owned(),
            reason,
        }
    }
}

impl Why {
    pub(super) fn new(explanation: Explanation) -> Why {
        let mut told = Vec::new();
        for peer in explanation.peers {
            let name = peer.peer.name;
            let line = |announced, reason| Told { peer: name.clone(), announced, reason };
            told.extend(peer.nothing.map(|reason| line(false, reason)));
            told.extend(peer.routes.into_iter().map(|Announcement { outcome, .. }| match outcome {
                Ok(sent) => line(true, sent.reason),
                Err(reason) => line(false, reason),
            }));
        }
        Why {
            asked: explanation.asked,
            prefix: explanation.prefix,
            originated: explanation.originated.is_some(),
            paths: explanation.paths.into_iter().map(|path| Path::new(path.received)).collect(),
            told,
            omitted: explanation.omitted,
        }
    }
}
