//! Why a prefix is what it is: where it comes from, what import and the decision made of it, what each peer is told.
//!
//! Nothing is remembered for this: the rules are asked once more, by the code that decides ([`ExportRules::decide`],
//! [`ImportRules::decide`](crate::import::ImportRules::decide)).

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::Speaker;
use super::peer::PeerEntry;
use super::query::{TOO_LONG, name};
use super::routes::{Group, is_deferred};
use crate::export::{ExportRules, Withheld};
use crate::family::Prefix;
use crate::query::{Announcement, Attributes, Explanation, Path, QueryError, Sent, Told};
use crate::rib::PeerKey;
use crate::rib::loc::{Best, Slot, Table};
use crate::snapshot::SessionState;
use crate::wire::PathAttributes;
use crate::wire::nlri::Nlri;

/// Most announcements told of at once; peers beyond are only counted.
const MOST: usize = 4096;

/// What the rules of a group make of each route of a prefix.
type Verdicts<'a> = Vec<(Best, Result<(PathAttributes<'a>, Option<usize>), String>)>;

impl Speaker {
    /// Everything about a prefix, or about the longest one that holds it; `peer` narrows down who is told what.
    ///
    /// # Errors
    /// A peer that is not known.
    pub fn explain(&self, asked: IpNetwork, peer: Option<&str>) -> Result<Explanation, QueryError> {
        let peer = peer.map(|asked| self.find_peer(asked)).transpose()?;
        let asked = Prefix::from(asked);
        let table = self.routes.table(asked.family());
        let mut explanation = Explanation {
            asked: asked.network(),
            prefix: None,
            originated: None,
            paths: Vec::new(),
            peers: Vec::new(),
            omitted: 0,
        };
        let Some(slot) = longest_match(table, asked) else { return Ok(explanation) };
        explanation.prefix = Some(table.prefix(slot).network());
        explanation.originated =
            table.originated(slot).map(|attrs| Attributes::new(&table.interner.get(attrs).view()));
        explanation.paths = self.explain_paths(table, slot);
        let mut verdicts = BTreeMap::new();
        let mut announcements = 0;
        for (key, entry) in self.peers.iter().filter(|(key, _)| peer.is_none_or(|peer| peer == **key)) {
            if announcements >= MOST {
                explanation.omitted += 1;
                continue;
            }
            let told = self.told(*key, entry, table, slot, &mut verdicts);
            announcements += told.routes.len().max(1);
            explanation.peers.push(told);
        }
        explanation.peers.sort_by_key(|told| told.peer.id);
        Ok(explanation)
    }

    fn explain_paths(&self, table: &Table, slot: Slot) -> Vec<Path> {
        let explain = |(path, received): (&crate::rib::paths::Path, _)| Path {
            received,
            import: self.import_words(table, slot, path).unwrap_or_else(|words| words),
            accepted: path
                .accepted
                .filter(|accepted| *accepted != path.received)
                .map(|attrs| Attributes::new(&table.interner.get(attrs).view())),
        };
        self.received_routes(table, slot).into_iter().map(explain).collect()
    }

    /// What a peer is told. The verdicts of its group are those of all members.
    fn told<'a>(
        &'a self,
        key: PeerKey,
        entry: &PeerEntry,
        table: &'a Table,
        slot: Slot,
        known: &mut BTreeMap<u32, Verdicts<'a>>,
    ) -> Told {
        let (peer, prefix) = (name(entry), table.prefix(slot));
        let nothing = |words: String| Told { peer: peer.clone(), routes: Vec::new(), nothing: Some(words) };
        let Some((_, channel)) = self.channel(key, prefix.family()) else {
            return nothing(no_session(entry, prefix));
        };
        let Some((id, group)) = channel.group.and_then(|id| Some((id, self.routes.group(id)?))) else {
            return nothing("the session has just come up".to_owned());
        };
        let verdicts = known.entry(id).or_insert_with(|| verdicts(group, table, slot, self.routes.relays()));
        if verdicts.is_empty() {
            return nothing("there is no route to announce".to_owned());
        }
        let member = entry.member(key);
        let announcement = |(route, verdict): &(Best, Result<_, String>)| {
            let path_id = u32::from(if channel.carried.add_path_send { route.local_id } else { 0 });
            let sent = |(attributes, rule): &(PathAttributes<'_>, Option<usize>)| {
                if route.peer == key {
                    return Err("it came from this peer".to_owned());
                }
                if member.is_left_out(route.peer, attributes.next_hop) {
                    return Err("its next hop is this peer itself".to_owned());
                }
                Ok(Sent {
                    attributes: Attributes::new(attributes),
                    reason: group.rules.filter.reason(*rule).to_owned(),
                    pending: channel.is_pending(slot, &Nlri { prefix, path_id }),
                })
            };
            Announcement {
                from: self.peer_name(route.peer),
                path_id: channel.carried.add_path_send.then_some(path_id),
                // That it came from there is the first thing to say, whatever the rules would have said.
                outcome: match verdict {
                    Err(_) if route.peer == key => Err("it came from this peer".to_owned()),
                    Err(words) => Err(words.clone()),
                    Ok(verdict) => sent(verdict),
                },
            }
        };
        Told { routes: verdicts.iter().map(announcement).collect(), nothing: None, peer }
    }
}

/// What a group is told of the routes that come into question, before members are left out.
fn verdicts<'a>(group: &Group, table: &'a Table, slot: Slot, relay: bool) -> Verdicts<'a> {
    let routes = match group.rules.form.layout.add_path {
        true => table.all(slot),
        false => table.best(slot).into_iter().collect(),
    };
    let decide = |route: Best| {
        if is_deferred(route, relay) {
            let words =
                "learned routes wait until every peer expected back after the restart has told its own";
            return (route, Err(words.to_owned()));
        }
        let attributes = table.interner.get(route.attrs).view();
        let decided = group.rules.decide(table.prefix(slot), attributes, route.source);
        let decided = decided.map_err(|reason: Withheld| group.rules.words(reason));
        (route, decided.and_then(|(attributes, rule)| fitting(&group.rules, attributes).map(|a| (a, rule))))
    };
    routes.into_iter().map(decide).collect()
}

/// Attributes that fit into a message.
fn fitting<'a>(rules: &ExportRules, attributes: PathAttributes<'a>) -> Result<PathAttributes<'a>, String> {
    if rules.form.fits(&attributes) { Ok(attributes) } else { Err(TOO_LONG.to_owned()) }
}

/// Why nothing of the prefix's family goes to a peer.
fn no_session(entry: &PeerEntry, prefix: Prefix) -> String {
    match entry.fsm.status() {
        (SessionState::Established, ..) => format!("the session does not carry {}", prefix.family()),
        (state, _, None) => format!("there is no session ({state})"),
        (state, _, Some(error)) => format!("there is no session ({state}: {error})"),
    }
}

/// The slot of the longest prefix that is the one asked for or holds it.
fn longest_match(table: &Table, asked: Prefix) -> Option<Slot> {
    let lengths = (0..=asked.length()).rev();
    let prefixes = lengths.filter_map(|length| Prefix::new(asked.address(), length));
    prefixes.into_iter().find_map(|prefix| table.find(prefix))
}
