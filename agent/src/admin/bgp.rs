//! The speaker's routes and their reasons, with what became of them in the kernel.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use ipnetwork::IpNetwork;
use tortie_bgp::query::{
    Announcement, Attributes, Cursor, Explanation, MOST, Page, PeerName, Query, QueryError, Route, Standing,
    View,
};
use tortie_model::local_api::{
    BgpAnnouncement, BgpAttributes, BgpExplanation, BgpKernel, BgpPath, BgpPeerName, BgpRoute, BgpRoutes,
    BgpStanding, BgpTold,
};

use super::Failure;
use super::query::Pairs;
use super::status::Sources;
use crate::dataplane::question::Fate;

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        let status = match error {
            QueryError::UnknownPeer { .. } => StatusCode::NOT_FOUND,
            QueryError::AmbiguousPeer { .. } | QueryError::NoPeer(_) | QueryError::Cursor(_) => {
                StatusCode::BAD_REQUEST
            }
            QueryError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Failure(status, error.to_string())
    }
}

fn refused(words: String) -> Failure {
    Failure(StatusCode::BAD_REQUEST, words)
}

pub(super) async fn routes(
    State(sources): State<Sources>,
    RawQuery(query): RawQuery,
) -> Result<Json<BgpRoutes>, Failure> {
    let pairs = Pairs::parse(&query.unwrap_or_default(), &["view", "peer", "from"])?;
    let view = match pairs.get("view") {
        None | Some("table") => View::Table,
        Some("best") => View::Best,
        Some("received") => View::Received,
        Some("sent") => View::Sent,
        Some(other) => {
            return Err(refused(format!("unknown view '{other}'; views are table, best, received, sent")));
        }
    };
    let from = pairs.get("from").map(str::parse::<Cursor>).transpose()?.unwrap_or_default();
    let peer = pairs.get("peer").map(str::to_owned);
    let Page { routes, next } = sources.speaker.routes(Query { view, peer, from, limit: MOST }).await?;
    let routes = routes.into_iter().map(route).collect();
    Ok(Json(BgpRoutes { routes, next: next.map(|next| next.to_string()) }))
}

pub(super) async fn explain(
    State(sources): State<Sources>,
    RawQuery(query): RawQuery,
) -> Result<Json<BgpExplanation>, Failure> {
    let pairs = Pairs::parse(&query.unwrap_or_default(), &["prefix", "peer"])?;
    let text = pairs.get("prefix").ok_or_else(|| refused("parameter prefix is missing".to_owned()))?;
    let prefix: IpNetwork = text
        .parse()
        .map_err(|_| refused(format!("'{text}' is no prefix: write 10.0.0.0/24, fd00::/64 or an address")))?;
    let explanation = sources.speaker.explain(prefix, pairs.get("peer").map(str::to_owned)).await?;
    let fate = match explanation.prefix {
        Some(found) => sources.kernel.ask(found).await,
        None => None,
    };
    Ok(Json(explained(sources.node, explanation, fate)))
}

fn explained(node: String, explanation: Explanation, fate: Option<Fate>) -> BgpExplanation {
    let paths = explanation.paths.into_iter().map(|path| BgpPath {
        received: route(path.received),
        import: path.import,
        accepted: path.accepted.map(attributes),
    });
    let peers = explanation.peers.into_iter().map(|told| BgpTold {
        peer: name(told.peer),
        routes: told.routes.into_iter().map(announcement).collect(),
        nothing: told.nothing,
    });
    BgpExplanation {
        node,
        asked: explanation.asked,
        prefix: explanation.prefix,
        originated: explanation.originated.map(attributes),
        paths: paths.collect(),
        kernel: fate.map(kernel),
        peers: peers.collect(),
        omitted: explanation.omitted,
    }
}

fn kernel(fate: Fate) -> BgpKernel {
    let gateways =
        fate.gateways.iter().map(|gateway| format!("{} dev {}", gateway.address, gateway.interface));
    BgpKernel { programmed: fate.programmed, gateways: gateways.collect(), reason: fate.reason }
}

fn announcement(announcement: Announcement) -> BgpAnnouncement {
    let Announcement { from, path_id, outcome } = announcement;
    let from = from.map(name);
    match outcome {
        Ok(sent) => BgpAnnouncement {
            from,
            path_id,
            standing: if sent.pending { BgpStanding::Pending } else { BgpStanding::Announced },
            reason: sent.reason,
            attributes: Some(attributes(sent.attributes)),
        },
        Err(reason) => {
            BgpAnnouncement { from, path_id, standing: BgpStanding::Withheld, reason, attributes: None }
        }
    }
}

fn route(route: Route) -> BgpRoute {
    let (standing, reason) = match route.standing {
        Standing::Originated => (BgpStanding::Originated, None),
        Standing::Best => (BgpStanding::Best, None),
        Standing::Multipath(words) => (BgpStanding::Multipath, Some(words)),
        Standing::NotBest(words) => (BgpStanding::NotBest, Some(words)),
        Standing::Rejected(words) => (BgpStanding::Rejected, Some(words)),
        Standing::Unusable(words) => (BgpStanding::Unusable, Some(words)),
        Standing::Announced => (BgpStanding::Announced, None),
        Standing::Pending => (BgpStanding::Pending, None),
        Standing::Withheld(words) => (BgpStanding::Withheld, Some(words)),
    };
    BgpRoute {
        prefix: route.prefix,
        from: route.from.map(name),
        path_id: route.path_id,
        attributes: attributes(route.attributes),
        stale: route.stale,
        standing,
        reason,
    }
}

fn name(peer: PeerName) -> BgpPeerName {
    let address = if peer.id.port() == 179 { peer.id.ip().to_string() } else { peer.id.to_string() };
    BgpPeerName { name: peer.name, address }
}

fn attributes(attributes: Attributes) -> BgpAttributes {
    BgpAttributes {
        next_hop: attributes.next_hop,
        origin: attributes.origin.to_owned(),
        as_path: attributes.as_path,
        med: attributes.med,
        local_pref: attributes.local_pref,
        atomic_aggregate: attributes.atomic_aggregate,
        aggregator: attributes.aggregator.map(|(number, id)| format!("{number} {id}")),
        communities: attributes.communities,
        extended_communities: attributes.extended_communities,
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list,
        only_to_customer: attributes.only_to_customer,
    }
}
