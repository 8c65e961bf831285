//! Two connections with one peer (RFC 4271 6.8): which of them stays.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::action::{Action, Loss};
use super::connection::{Connection, Stage};
use super::peer::{FIRST_RETRY, Peer, SETTLED};
use crate::speaker::ConnId;
use crate::wire::notification::{cease, code};
use crate::wire::{Notification, frame};

impl Peer {
    /// RFC 4271 6.8: one connection of two must go. The one dialled by the higher identifier stays.
    pub(super) fn survives_collision(
        &mut self,
        conn: ConnId,
        remote_id: Ipv4Addr,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(other) = self.connections.iter().find(|c| c.id != conn) else { return true };
        let (other_id, stage) = (other.id, other.stage);
        if stage == Stage::Established {
            return self.survives_session(conn, other_id, now, out);
        }
        if conn.is_accepted() == self.dialled_stays(remote_id) {
            // The other one stays, provided that it is known to live.
            if stage == Stage::OpenSent {
                return true;
            }
            self.cease(conn, out);
            return false;
        }
        self.cease(other_id, out);
        true
    }

    /// In a collision the connection we dialled stays (RFC 4271 6.8; RFC 6286 2.3 for equal identifiers).
    fn dialled_stays(&self, remote_id: Ipv4Addr) -> bool {
        (self.settings.router_id, self.settings.local_as) > (remote_id, self.settings.remote_as)
    }

    /// A second connection while the session is up. The peer dials only when it has no session: if it was the one that
    /// dialled before, or long after the session began, it restarted and the old connection is dead (RFC 4724 5).
    /// Else it is a late collision, and the session stays; a KEEPALIVE shows soon whether its connection still lives.
    fn survives_session(
        &mut self,
        conn: ConnId,
        established: ConnId,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let settled = self.find(established).is_some_and(|c| now.duration_since(c.since) >= SETTLED);
        if established.is_accepted() || settled {
            self.remove(established);
            self.last_error = Some("peer restarted and connected anew".to_owned());
            out.extend([Action::Close(established), Action::Down(Loss::Graceful)]);
            return true;
        }
        self.cease(conn, out);
        self.send(established, frame::keepalive(), now, out);
        false
    }

    /// The peer closed a connection for the sake of another one. Should both be gone, since each end had chosen a
    /// different one, then only the end that may dial in a collision dials at once.
    pub(super) fn collided(&mut self, connection: &Connection, now: Instant, out: &mut Vec<Action>) {
        if connection.stage == Stage::Established {
            out.push(Action::Down(Loss::Graceful));
        }
        let remote = connection.session.as_ref().map(|session| session.remote_id);
        if remote.is_some_and(|remote| self.dialled_stays(remote)) {
            self.redial(now, FIRST_RETRY);
        } else {
            self.redial(now, self.settings.connect_retry);
        }
    }

    /// Closes a connection that lost a collision.
    pub(super) fn cease(&mut self, conn: ConnId, out: &mut Vec<Action>) {
        self.remove(conn);
        let cease = Notification::new(code::CEASE, cease::COLLISION).encode();
        out.extend([Action::Send(conn, cease), Action::Close(conn)]);
    }
}
