//! Everything the speaker knows of one peer and of one connection.

use std::time::{Duration, Instant};

use super::kept::Kept;
use crate::config::{PeerConfig, PeerId, SpeakerConfig};
use crate::export::ExportRules;
use crate::family::Family;
use crate::filter::{Filter, PeerType};
use crate::fsm::{FamilySession, Peer, PeerRestart, Session, Settings};
use crate::import::ImportRules;
use crate::rib::PeerKey;
use crate::rib::adj_out::Member;
use crate::rib::batch::Form;
use crate::rib::decision::Source;
use crate::rib::loc::Slot;
use crate::rib::missed::Missed;
use crate::speaker::ConnId;
use crate::wire::nlri::Nlri;
use crate::wire::update::Layout;

/// A configured peer.
#[derive(Debug)]
pub(super) struct PeerEntry {
    pub(super) id: PeerId,
    pub(super) config: PeerConfig,
    pub(super) fsm: Peer,
    pub(super) import: ImportRules,
    /// While established.
    pub(super) session: Option<Established>,
    /// Its routes that are kept without it, or not yet confirmed by it.
    pub(super) kept: Kept,
    /// When a session was lost whose routes are kept, and not all of them were told again since.
    pub(super) lost_at: Option<Instant>,
    /// It has told all its routes at least once.
    pub(super) told_all: bool,
    /// How many connections of its making are still taken at once.
    pub(super) admission: Admission,
    /// Its place among the speaker's timers.
    pub(super) timer: Option<Instant>,
}

/// Connections a peer may make: several at once, for it may restart and meet ours, then one a second. One that comes and
/// goes in a loop is no burden to others then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    /// When everything taken so far is paid for, at one a second.
    paid_at: Instant,
}

impl Admission {
    const AT_ONCE: u32 = 10;
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Instant) -> Admission {
        Admission { paid_at: now }
    }

    /// Takes one more connection, or not.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let owed = self.paid_at.saturating_duration_since(now);
        let admitted = owed <= Self::PAUSE * (Self::AT_ONCE - 1);
        if admitted {
            self.paid_at = now + owed + Self::PAUSE;
        }
        admitted
    }
}

/// An established session.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) session: Session,
    pub(super) since: Instant,
    /// One for each family carried.
    pub(super) channels: Vec<Channel>,
}

/// What a session is told of one family.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) carried: FamilySession,
    /// The group it is told routes with; none before its first routes.
    pub(super) group: Option<u32>,
    /// It is being told the whole table.
    pub(super) walk: Option<Walk>,
    /// Paths that changed meanwhile, or while it did not drain its queue.
    pub(super) behind: Option<Missed>,
    /// It asked for everything once more.
    pub(super) refresh_due: bool,
    /// It was told everything once more, and what changed meanwhile comes before the mark that says so.
    pub(super) mark_due: bool,
    pub(super) end_of_rib_due: bool,
}

/// How far a peer was told the whole table. It goes on as the peer drains its queue, so that a slow one costs no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// What comes next.
    pub(super) next: Slot,
    /// It is between the marks of a refresh (RFC 7313).
    pub(super) marked: bool,
}

impl Channel {
    /// From now on changes wait.
    pub(super) fn fall_behind(&mut self) {
        let add_path = self.carried.add_path_send;
        self.behind.get_or_insert_with(|| Missed::new(add_path));
    }

    /// Whether what was decided of a route has yet to be sent.
    pub(super) fn is_pending(&self, slot: Slot, nlri: &Nlri) -> bool {
        self.walk.is_some_and(|walk| slot >= walk.next)
            || self.behind.as_ref().is_some_and(|missed| missed.contains(slot, nlri))
    }
}

impl Established {
    pub(super) fn new(session: Session, since: Instant) -> Established {
        let channel = |carried: &FamilySession| Channel {
            carried: *carried,
            group: None,
            walk: None,
            behind: None,
            refresh_due: false,
            mark_due: false,
            end_of_rib_due: false,
        };
        let channels = session.families.iter().map(channel).collect();
        Established { session, since, channels }
    }

    pub(super) fn channel(&mut self, family: Family) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.carried.family == family)
    }

    /// Some family waits for the queue to drain: with changes, or with a refresh.
    pub(super) fn is_behind(&self) -> bool {
        self.channels.iter().any(|channel| channel.behind.is_some() || channel.refresh_due)
    }
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: PeerKey,
    /// An incomplete message.
    pub(super) partial: Vec<u8>,
    /// Octets handed out to be sent and not yet taken by the kernel.
    pub(super) in_flight: usize,
    /// When that began, or moved last.
    pub(super) progress: Instant,
}

impl PeerEntry {
    /// The start does not wait for it: it has told all, or it restarted itself and may wait for us (RFC 4724 4.1).
    pub(super) fn is_settled(&self) -> bool {
        self.has_told() || self.restart().is_some_and(|restart| restart.restarting)
    }

    /// No more routes of an earlier run are expected from it: it said so, or it will not say.
    pub(super) fn has_told(&self) -> bool {
        self.told_all || (self.session.is_some() && self.restart().is_none())
    }

    fn restart(&self) -> Option<&PeerRestart> {
        self.session.as_ref()?.session.restart.as_ref()
    }

    pub(super) fn source(&self, session: &Session) -> Source {
        Source {
            internal: self.fsm.settings().local_as == self.fsm.settings().remote_as,
            client: self.config.reflector_client,
            router_id: session.remote_id,
            address: self.id.ip(),
        }
    }

    pub(super) fn member(&self, key: PeerKey) -> Member {
        Member { peer: key, address: self.id.ip() }
    }

    /// The rules for what a session is told of a family.
    pub(super) fn export_rules(
        &self,
        speaker: &SpeakerConfig,
        session: &Session,
        carried: FamilySession,
    ) -> ExportRules {
        let settings = self.fsm.settings();
        let family = carried.family;
        let layout = Layout { family, add_path: carried.add_path_send, max_message: session.max_message };
        let may_be_next_hop = Family::of(session.local) == family || carried.extended_next_hop;
        ExportRules {
            form: Form { layout, four_octet: session.four_octet },
            peer_type: settings.peer_type(),
            local_as: settings.local_as,
            own_address: may_be_next_hop.then_some(session.local),
            extended_next_hop: carried.extended_next_hop,
            next_hop: self.config.next_hop,
            client: self.config.reflector_client,
            cluster_id: speaker.cluster_id,
            role: settings.role(),
            closed: is_closed(&self.config, settings.peer_type(), &self.config.export),
            filter: self.config.export.clone(),
        }
    }
}

/// What the state machine of a peer needs of its configuration.
pub(super) fn settings(id: PeerId, peer: &PeerConfig, speaker: &SpeakerConfig) -> Settings {
    Settings {
        router_id: speaker.router_id,
        local_as: peer.local_as.unwrap_or(speaker.local_as),
        remote_as: peer.remote_as,
        family: Family::of(id.ip()),
        families: families(id, peer),
        passive: peer.passive,
        hold_time: peer.hold_time,
        keepalive_time: peer.keepalive_time,
        connect_retry: peer.connect_retry,
        restart_time: peer.restart_time,
        add_path: peer.add_path,
        extended_next_hop: peer.extended_next_hop,
        extended_messages: peer.extended_messages,
        role: peer.role,
        strict_role: peer.strict_role,
        shutdown: peer.shutdown.clone(),
    }
}

fn families(id: PeerId, peer: &PeerConfig) -> Vec<Family> {
    if peer.families.is_empty() { vec![Family::of(id.ip())] } else { peer.families.iter().copied().collect() }
}

/// What is done with the routes of a peer.
pub(super) fn import_rules(peer: &PeerConfig, settings: &Settings, speaker: &SpeakerConfig) -> ImportRules {
    ImportRules {
        local_as: settings.local_as,
        allow_own_as: peer.allow_own_as,
        router_id: speaker.router_id,
        cluster_id: speaker.cluster_id,
        peer_type: settings.peer_type(),
        role: settings.role().map(|role| (role, settings.remote_as)),
        closed: is_closed(peer, settings.peer_type(), &peer.import),
        filter: peer.import.clone(),
    }
}

/// Whether nothing may pass in a direction because it has no filter (RFC 8212).
fn is_closed(peer: &PeerConfig, peer_type: PeerType, filter: &Filter) -> bool {
    peer.require_policy && peer_type == PeerType::External && filter.is_empty()
}

impl Conn {
    pub(super) fn new(peer: PeerKey, now: Instant) -> Conn {
        Conn { peer, partial: Vec::new(), in_flight: 0, progress: now }
    }

    /// When a queue that does not move ends the session (RFC 9687: eight minutes or twice the hold time).
    pub(super) fn send_hold(&self, hold_time: Duration) -> Option<Instant> {
        const SHORTEST: Duration = Duration::from_secs(480);
        (self.in_flight > 0 && !hold_time.is_zero()).then(|| self.progress + SHORTEST.max(hold_time * 2))
    }
}

impl PeerEntry {
    /// When something is to be done for this peer; `conn` is that of its session.
    pub(super) fn deadline(&self, conn: Option<&Conn>) -> Option<Instant> {
        let hold = self.session.as_ref().map(|established| established.session.hold_time);
        let send_hold = conn.zip(hold).and_then(|(conn, hold)| conn.send_hold(hold));
        self.fsm.deadline().into_iter().chain(self.kept.deadline()).chain(send_hold).min()
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        self.session.as_ref().map(|established| established.session.conn)
    }
}
