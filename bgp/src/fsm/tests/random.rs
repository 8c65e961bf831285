//! Random events in random order: what must hold after each.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::wire::update::end_of_rib;
use crate::wire::{Notification, WireError};

#[derive(Clone, Debug)]
enum Op {
    Tick(u64),
    Connected,
    DialFailed,
    Accepted,
    Closed(prop::sample::Index),
    Broken(prop::sample::Index),
    Message(prop::sample::Index, Vec<u8>),
    Reconnect,
    Stop,
    /// Passive, and shut down.
    Settings(bool, bool),
    OverLimit,
    Ask,
    QueueStuck(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    let message = prop_oneof![
        4 => Just(open(9)),
        4 => Just(open(2)),
        8 => Just(frame::keepalive()),
        2 => Just(end_of_rib(Family::Ipv4)),
        1 => Just(Notification::new(6, 7).encode()),
        1 => Just(Notification::new(6, 4).encode()),
        1 => Just(Notification::new(6, 4).hard().encode()),
        1 => (0..4_u8).prop_map(|subtype| frame::message(Kind::Refresh, |out| out.extend([0, 1, subtype, 1]))),
        1 => Just(frame::message(Kind::Refresh, |out| out.extend([0, 1, 1]))),
        1 => Just(open_of(|o| o.hold_time = 0)),
        1 => Just(open_of(|o| o.capabilities.clear())),
        1 => Just(open_of(|o| (o.asn, o.capabilities) = (1, vec![]))),
    ];
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        4 => (0..100_u64).prop_map(Op::Tick),
        4 => Just(Op::Connected),
        1 => Just(Op::DialFailed),
        2 => Just(Op::Accepted),
        1 => index().prop_map(Op::Closed),
        1 => index().prop_map(Op::Broken),
        16 => (index(), message).prop_map(|(index, message)| Op::Message(index, message)),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Stop),
        1 => any::<(bool, bool)>().prop_map(|(passive, shut)| Op::Settings(passive, shut)),
        1 => Just(Op::OverLimit),
        1 => Just(Op::Ask),
        1 => index().prop_map(Op::QueueStuck),
    ]
}

/// What the outside knows.
#[derive(Default)]
struct World {
    dialling: Option<ConnId>,
    open: BTreeSet<ConnId>,
    up: Option<ConnId>,
    accepted: u64,
}

impl World {
    fn note(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Dial(conn) => {
                    assert!(
                        self.open.is_empty() && self.dialling.is_none(),
                        "dials only when there is nothing"
                    );
                    self.dialling = Some(*conn);
                }
                Action::Send(conn, message) => {
                    assert!(self.open.contains(conn), "sends only on open connections");
                    assert!(frame::split(message).unwrap().unwrap().1.is_empty(), "whole messages");
                }
                Action::Close(conn) => {
                    assert!(self.open.remove(conn) | (self.dialling.take_if(|d| d == conn).is_some()));
                }
                Action::Up(session) => {
                    assert!(self.open.contains(&session.conn));
                    assert_eq!(self.up.replace(session.conn), None, "one session at a time");
                }
                Action::Down(_) => assert!(self.up.take().is_some(), "down only what was up"),
                Action::Refresh(_) | Action::Mark(..) => assert!(self.up.is_some()),
            }
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<ConnId> {
        let all: Vec<ConnId> = self.open.iter().copied().collect();
        (!all.is_empty()).then(|| *index.get(&all))
    }
}

fn apply(bench: &mut Bench, world: &mut World, op: Op) {
    match op {
        Op::Tick(seconds) => drop(bench.tick(seconds).len()),
        Op::Connected => {
            let Some(conn) = world.dialling.take() else { return };
            world.open.insert(conn);
            bench.act(|peer, now, out| peer.connected(conn, LOCAL, now, out));
        }
        Op::DialFailed => {
            let Some(conn) = world.dialling.take() else { return };
            bench.act(|peer, now, _| peer.dial_failed(conn, "no", now));
        }
        Op::Accepted => {
            world.accepted += 1;
            world.open.insert(ConnId::Accepted(world.accepted));
            bench.accept(world.accepted);
        }
        Op::Closed(index) => {
            let Some(conn) = world.pick(index) else { return };
            world.open.remove(&conn);
            bench.act(|peer, now, out| peer.closed(conn, "gone", now, out));
        }
        Op::Broken(index) => {
            let Some(conn) = world.pick(index) else { return };
            bench.act(|peer, now, out| peer.broken(conn, &WireError::Marker, now, out));
        }
        Op::Message(index, message) => {
            let Some(conn) = world.pick(index) else { return };
            bench.receive(conn, &message);
        }
        Op::Reconnect => drop(bench.act(Peer::reconnect).len()),
        Op::Settings(passive, shut) => {
            let shutdown = shut.then(|| "cable".to_owned());
            let settings = Settings { passive, shutdown, ..settings(false) };
            bench.act(|peer, now, out| peer.set_settings(settings, now, out));
        }
        Op::OverLimit => {
            bench.act(|peer, now, out| peer.over_limit(Family::Ipv4, 1, now, out));
        }
        Op::Ask => {
            let mut asked = false;
            bench.act(|peer, now, out| asked = peer.request_refresh(now, out));
            assert!(!asked || world.up.is_some());
        }
        Op::QueueStuck(index) => {
            let Some(conn) = world.pick(index) else { return };
            bench.act(|peer, now, out| peer.send_hold_expired(conn, now, out));
        }
        Op::Stop => {
            bench.act(|peer, now, out| peer.stop(2, now, out));
            world.note(&bench.actions);
            assert!(world.open.is_empty() && world.dialling.is_none() && world.up.is_none());
            // As after a new configuration.
            let settings = settings(false);
            bench.act(|peer, now, out| {
                peer.set_settings(Settings { passive: true, ..settings.clone() }, now, out);
                peer.set_settings(settings, now, out);
            });
        }
    }
    world.note(&bench.actions);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn invariants(ops in prop::collection::vec(op(), 1..80)) {
        let mut bench = Bench::new(false);
        let mut world = World::default();
        for op in ops {
            bench.actions.clear();
            apply(&mut bench, &mut world, op);
            prop_assert!(world.open.len() <= 2, "{:?}", world.open);
            prop_assert_eq!(world.up.is_some(), bench.state() == SessionState::Established);
            prop_assert_eq!(world.dialling.is_some() && world.open.is_empty(), bench.state() == SessionState::Connect);
            let silent_session = world.up.is_some_and(|_| bench.peer.deadline().is_none());
            if bench.peer.held.is_some() {
                prop_assert!(world.open.is_empty() && bench.peer.deadline().is_none());
                prop_assert_eq!(bench.state(), SessionState::Idle);
            } else if !bench.peer.settings.passive && !silent_session {
                // An active peer never gives up.
                prop_assert!(bench.peer.deadline().is_some());
            }
        }
    }
}
