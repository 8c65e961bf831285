//! What each message does in each state (RFC 4271 8.2.2).

use std::time::Instant;

use super::action::{Action, Mark};
use super::connection::Stage;
use super::peer::{Dial, Peer};
use crate::speaker::ConnId;
use crate::wire::frame::{HEADER, message};
use crate::wire::notification::code;
use crate::wire::refresh::{self, Subtype};
use crate::wire::update::RawUpdate;
use crate::wire::validate::{Update, judge};
use crate::wire::{Frame, Kind, Notification, Open, WireError, frame};

/// Octets of a ROUTE-REFRESH without its header.
const REFRESH: usize = 4;

impl Peer {
    /// A whole message came; an UPDATE of an established session is handed back, judged.
    pub(crate) fn frame<'a>(
        &mut self,
        conn: ConnId,
        frame: Frame<'a>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Option<Update<'a>> {
        let connection = self.find(conn)?;
        let mut update = None;
        match (connection.stage, frame.kind) {
            (_, Kind::Notification) => self.notified(conn, frame.body, now, out),
            (Stage::OpenSent, Kind::Open) => self.opened(conn, frame.body, now, out),
            (Stage::OpenConfirm, Kind::Keepalive) => self.establish(conn, now, out),
            (Stage::Established, Kind::Keepalive) => connection.heard(now),
            (Stage::Established, Kind::Update) => {
                connection.heard(now);
                update = self.update(conn, frame.body, now, out);
            }
            (Stage::Established, Kind::Refresh) => self.refreshed(conn, frame.body, now, out),
            (stage, _) => {
                let subcode = match stage {
                    Stage::OpenSent => 1,
                    Stage::OpenConfirm => 2,
                    Stage::Established => 3,
                };
                self.fail(conn, Notification::new(code::FSM, subcode), now, out);
            }
        }
        self.note_state(now);
        update
    }

    fn opened(&mut self, conn: ConnId, body: &[u8], now: Instant, out: &mut Vec<Action>) {
        let Some(local) = self.find(conn).map(|connection| connection.local) else { return };
        let session = Open::decode(body).and_then(|open| self.settings.negotiate(conn, local, &open));
        let session = match session {
            Ok(session) => session,
            Err(error) => return self.fail_with(conn, &error, now, out),
        };
        if !self.survives_collision(conn, session.remote_id, now, out) {
            return;
        }
        if let Some(connection) = self.find(conn) {
            connection.confirm(session, now);
            out.push(Action::Send(conn, frame::keepalive()));
        }
    }

    fn establish(&mut self, conn: ConnId, now: Instant, out: &mut Vec<Action>) {
        let others: Vec<ConnId> = self.connections.iter().map(|c| c.id).filter(|id| *id != conn).collect();
        others.into_iter().for_each(|other| self.cease(other, out));
        if let Dial::Dialling { conn, .. } = self.dial {
            out.push(Action::Close(conn));
        }
        self.dial = Dial::Off;
        let Some(connection) = self.find(conn) else { return };
        connection.establish(now);
        if let Some(session) = connection.session.clone() {
            out.push(Action::Up(Box::new(session)));
        }
    }

    fn update<'a>(
        &mut self,
        conn: ConnId,
        body: &'a [u8],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Option<Update<'a>> {
        let internal = self.settings.local_as == self.settings.remote_as;
        let context = self.find(conn)?.session.as_ref()?.context(internal);
        match RawUpdate::decode(body).and_then(|raw| judge(raw, context)) {
            Ok(update) => Some(update),
            Err(error) => {
                self.fail_with(conn, &error, now, out);
                None
            }
        }
    }

    /// Marks count only where both ends announced them. What is of another family or means nothing is ignored.
    fn refreshed(&mut self, conn: ConnId, body: &[u8], now: Instant, out: &mut Vec<Action>) {
        let Some(session) = self.find(conn).and_then(|connection| connection.session.as_ref()) else {
            return;
        };
        let enhanced = session.enhanced_refresh;
        let is_mark = body.get(2).is_some_and(|subtype| (1..=2).contains(subtype));
        if body.len() < REFRESH || enhanced && is_mark && body.len() != REFRESH {
            let error = if enhanced {
                WireError::Refresh(message(Kind::Refresh, |out| out.extend(body)))
            } else {
                WireError::Length(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX))
            };
            return self.fail_with(conn, &error, now, out);
        }
        let Some((family, subtype)) = refresh::decode(body) else { return };
        if session.family(family).is_none() {
            return;
        }
        out.extend(match subtype {
            Subtype::Request => Some(Action::Refresh(family)),
            Subtype::Begin => enhanced.then_some(Action::Mark(family, Mark::Begin)),
            Subtype::End => enhanced.then_some(Action::Mark(family, Mark::End)),
        });
    }

    /// Asks the peer for all its routes once more (RFC 2918); false when there is no session or it cannot be asked.
    #[cfg_attr(not(test), expect(dead_code, reason = "the command that uses it is not there yet"))]
    pub(crate) fn request_refresh(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let established = self.connections.iter().find(|c| c.stage == Stage::Established);
        let Some(session) = established.and_then(|c| c.session.as_ref()).filter(|s| s.refresh) else {
            return false;
        };
        let conn = session.conn;
        let families: Vec<_> = session.families.iter().map(|carried| carried.family).collect();
        for family in families {
            self.send(conn, refresh::encode(family, Subtype::Request), now, out);
        }
        true
    }
}
