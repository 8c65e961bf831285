//! Routes for operators, a page at a time. Reads only.

use super::peer::{Channel, PeerEntry};
use super::{PeerId, Speaker};
use crate::family::Family;
use crate::query::{Attributes, Cursor, MOST, Page, PeerName, Query, QueryError, Route, Standing, View};
use crate::rib::PeerKey;
use crate::rib::adj_out::Told;
use crate::rib::attrs::AttrId;
use crate::rib::loc::{Rank, Slot, Table};
use crate::rib::paths::Path;
use crate::wire::nlri::Nlri;

/// Prefixes looked at for a page, whether or not they have routes to show.
const SCAN: usize = 1 << 13;

/// What the words of [`Standing::Withheld`] say of a route that fits no message.
pub(super) const TOO_LONG: &str = "its attributes leave no room for a prefix in a message the peer takes";

impl Speaker {
    /// A page of routes. What was handled counts once it was polled for.
    ///
    /// # Errors
    /// A peer that is not known, or none where there should be one.
    pub fn routes(&self, query: &Query) -> Result<Page, QueryError> {
        let peer = query.peer.as_deref().map(|asked| self.find_peer(asked)).transpose()?;
        if peer.is_none() && matches!(query.view, View::Received | View::Sent) {
            return Err(QueryError::NoPeer(self.peer_names().collect()));
        }
        let (limit, Cursor { mut family, mut slot }) = (query.limit.clamp(1, MOST), query.from);
        let mut page = Page::default();
        for _ in 0..SCAN {
            if slot >= self.routes.table(family).slots().end {
                if family == Family::Ipv6 {
                    return Ok(page);
                }
                (family, slot) = (Family::Ipv6, 0);
                continue;
            }
            if page.routes.len() >= limit {
                break;
            }
            self.list(query.view, peer, family, slot, &mut page.routes);
            slot += 1;
        }
        page.next = Some(Cursor { family, slot });
        Ok(page)
    }

    fn list(&self, view: View, peer: Option<PeerKey>, family: Family, slot: Slot, routes: &mut Vec<Route>) {
        let table = self.routes.table(family);
        match (view, peer) {
            (View::Sent, Some(peer)) => self.list_sent(peer, table, family, slot, routes),
            (View::Received, Some(peer)) => {
                if table.paths(slot).iter().any(|path| path.peer == peer) {
                    let received = self.received_routes(table, slot);
                    let of_peer = received.into_iter().filter(|(path, _)| path.peer == peer);
                    routes.extend(of_peer.map(|(_, route)| route));
                }
            }
            (View::Table | View::Best | View::Received | View::Sent, _) => {
                if peer.is_none()
                    && let Some(attrs) = table.originated(slot)
                {
                    routes.push(self.route(table, slot, attrs, None, Standing::Originated));
                }
                let paths = self.received_routes(table, slot).into_iter();
                let wanted = paths.filter(|(path, route)| {
                    let used = matches!(route.standing, Standing::Best | Standing::Multipath(_));
                    peer.is_none_or(|peer| path.peer == peer) && (used || view == View::Table)
                });
                routes.extend(wanted.filter_map(|(path, route)| {
                    let attributes = Attributes::new(&table.interner.get(path.accepted?).view());
                    Some(Route { attributes, ..route })
                }));
            }
        }
    }

    /// Every path of a prefix as it was received, with what became of it.
    pub(super) fn received_routes<'a>(&self, table: &'a Table, slot: Slot) -> Vec<(&'a Path, Route)> {
        let ranks = table.ranks(slot);
        let paths = table.paths(slot).iter().zip(ranks);
        let show = |(path, (rank, words)): (&'a Path, (Rank, String))| {
            let standing = match rank {
                Rank::Rejected => {
                    Standing::Rejected(self.import_words(table, slot, path).unwrap_or_else(|words| words))
                }
                Rank::NoSource => Standing::Unusable("its peer has not had a session".to_owned()),
                Rank::OwnNextHop => Standing::Unusable("its next hop is this speaker itself".to_owned()),
                Rank::Best => Standing::Best,
                Rank::Multipath(_) => Standing::Multipath(words),
                Rank::Beaten(_) => Standing::NotBest(words),
            };
            (path, self.route(table, slot, path.received, Some(path), standing))
        };
        paths.map(show).collect()
    }

    /// What import says of a path: the reason it is accepted for, or refused.
    pub(super) fn import_words(&self, table: &Table, slot: Slot, path: &Path) -> Result<String, String> {
        let Some(entry) = self.peers.get(&path.peer) else { return Err("its peer is gone".to_owned()) };
        let received = table.interner.get(path.received).view();
        match entry.import.decide(table.prefix(slot), received) {
            Ok((_, Some(rule))) => Ok(entry.import.filter.reason(Some(rule)).to_owned()),
            Ok((_, None)) => Ok("no rule rejects it".to_owned()),
            Err(reason) => Err(entry.import.words(reason)),
        }
    }

    fn route(
        &self,
        table: &Table,
        slot: Slot,
        attrs: AttrId,
        path: Option<&Path>,
        standing: Standing,
    ) -> Route {
        Route {
            prefix: table.prefix(slot).network(),
            from: path.and_then(|path| self.peer_name(path.peer)),
            path_id: path.map(|path| path.remote_id).filter(|id| *id != 0),
            attributes: Attributes::new(&table.interner.get(attrs).view()),
            stale: path.is_some_and(|path| path.stale),
            standing,
        }
    }

    fn list_sent(&self, peer: PeerKey, table: &Table, family: Family, slot: Slot, routes: &mut Vec<Route>) {
        let Some((entry, channel)) = self.channel(peer, family) else { return };
        let Some(group) = channel.group.and_then(|id| self.routes.group(id)) else { return };
        let member = entry.member(peer);
        let told = group.out.get(slot).into_iter().filter(|(_, told)| member.sees(*told, &table.interner));
        for (id, Told { attrs, source }) in told {
            let nlri = Nlri { prefix: table.prefix(slot), path_id: id.into() };
            let standing = if !group.rules.form.fits(&table.interner.get(attrs).view()) {
                Standing::Withheld(TOO_LONG.to_owned())
            } else if channel.is_pending(slot, &nlri) {
                Standing::Pending
            } else {
                Standing::Announced
            };
            routes.push(Route {
                from: self.peer_name(source),
                path_id: channel.carried.add_path_send.then_some(nlri.path_id),
                ..self.route(table, slot, attrs, None, standing)
            });
        }
    }

    /// What a peer with a session is told of a family.
    pub(super) fn channel(&self, peer: PeerKey, family: Family) -> Option<(&PeerEntry, &Channel)> {
        let entry = self.peers.get(&peer)?;
        let channels = &entry.session.as_ref()?.channels;
        Some((entry, channels.iter().find(|channel| channel.carried.family == family)?))
    }

    /// Whom an operator means: a name, an address, or an address with a port.
    pub(super) fn find_peer(&self, asked: &str) -> Result<PeerKey, QueryError> {
        let fits = |entry: &&PeerEntry| {
            let address = |id: PeerId| asked.parse().is_ok_and(|ip: std::net::IpAddr| ip == id.ip());
            entry.config.name == asked || asked.parse() == Ok(entry.id) || address(entry.id)
        };
        let found: Vec<&PeerEntry> = self.peers.values().map(AsRef::as_ref).filter(fits).collect();
        let asked = asked.to_owned();
        match found[..] {
            [] => Err(QueryError::UnknownPeer { asked, peers: self.peer_names().collect() }),
            [entry] => Ok(self.keys[&entry.id]),
            _ => Err(QueryError::AmbiguousPeer { asked, peers: found.into_iter().map(name).collect() }),
        }
    }

    fn peer_names(&self) -> impl Iterator<Item = PeerName> {
        self.keys.values().filter_map(|key| self.peer_name(*key))
    }

    /// `None` for this speaker itself.
    pub(super) fn peer_name(&self, key: PeerKey) -> Option<PeerName> {
        self.peers.get(&key).map(|entry| name(entry))
    }
}

pub(super) fn name(entry: &PeerEntry) -> PeerName {
    PeerName { name: entry.config.name.clone(), id: entry.id }
}
