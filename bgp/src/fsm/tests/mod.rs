//! The state machine by itself: transitions, timers, collisions, and random sequences of events.

mod endings;
mod negotiation;
mod random;
mod refresh;
mod transitions;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{Action, Peer, Settings};
use crate::config::AddPath;
use crate::family::Family;
use crate::snapshot::SessionState;
use crate::speaker::ConnId;
use crate::wire::{Frame, Kind, Open, frame};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

fn settings(passive: bool) -> Settings {
    Settings {
        router_id: Ipv4Addr::new(5, 5, 5, 5),
        local_as: 64512,
        remote_as: 64512,
        family: Family::Ipv4,
        families: vec![Family::Ipv4],
        passive,
        hold_time: Duration::from_secs(90),
        keepalive_time: None,
        connect_retry: Duration::from_secs(5),
        restart_time: Duration::from_secs(120),
        add_path: AddPath::default(),
        extended_next_hop: false,
        extended_messages: true,
        role: None,
        strict_role: false,
        shutdown: None,
    }
}

/// A peer with a clock and what it wanted last.
struct Bench {
    peer: Peer,
    now: Instant,
    actions: Vec<Action>,
}

impl Bench {
    fn new(passive: bool) -> Bench {
        let now = Instant::now();
        Bench { peer: Peer::new(settings(passive), 1, now), now, actions: Vec::new() }
    }

    fn act(&mut self, event: impl FnOnce(&mut Peer, Instant, &mut Vec<Action>)) -> &[Action] {
        self.actions.clear();
        event(&mut self.peer, self.now, &mut self.actions);
        &self.actions
    }

    fn tick(&mut self, seconds: u64) -> &[Action] {
        self.now += Duration::from_secs(seconds);
        self.act(Peer::tick)
    }

    fn receive(&mut self, conn: ConnId, message: &[u8]) -> &[Action] {
        let (frame, _) = frame::split(message).unwrap().unwrap();
        self.act(|peer, now, out| drop(peer.frame(conn, frame, now, out)))
    }

    /// Dials and connects.
    fn connect(&mut self) -> ConnId {
        self.tick(0);
        let [Action::Dial(conn)] = self.actions[..] else { panic!("{:?}", self.actions) };
        self.act(|peer, now, out| peer.connected(conn, LOCAL, now, out));
        conn
    }

    fn accept(&mut self, number: u64) -> ConnId {
        let conn = ConnId::Accepted(number);
        self.act(|peer, now, out| peer.accepted(conn, LOCAL, now, out));
        conn
    }

    fn establish(&mut self, conn: ConnId, id: u8) {
        self.receive(conn, &open(id));
        self.receive(conn, &frame::keepalive());
        assert_eq!(self.state(), SessionState::Established);
    }

    fn state(&self) -> SessionState {
        self.peer.status().0
    }

    fn error(&self) -> &str {
        self.peer.status().2.unwrap_or_default()
    }
}

/// The OPEN of a peer with identifier `id.id.id.id`.
fn open(id: u8) -> Vec<u8> {
    Settings { router_id: Ipv4Addr::new(id, id, id, id), ..settings(false) }.open(false).encode()
}

fn open_of(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = Settings { router_id: Ipv4Addr::new(9, 9, 9, 9), ..settings(false) }.open(false);
    change(&mut open);
    open.encode()
}

/// What a connection sent, as `(kind, code, subcode)`; codes of NOTIFICATIONs only.
fn sent(actions: &[Action], conn: ConnId) -> Vec<(Kind, u8, u8)> {
    let mut all = Vec::new();
    for action in actions {
        if let Action::Send(to, message) = action
            && *to == conn
        {
            let (Frame { kind, body }, _) = frame::split(message).unwrap().unwrap();
            let notification = kind == Kind::Notification;
            all.push(if notification { (kind, body[0], body[1]) } else { (kind, 0, 0) });
        }
    }
    all
}

fn closed(actions: &[Action], conn: ConnId) -> bool {
    actions.contains(&Action::Close(conn))
}
