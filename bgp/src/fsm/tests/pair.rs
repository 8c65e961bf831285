//! Two machines that dial each other, with every order of events: in the end both hold the same connection.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::wire::notification::{cease, code};

#[derive(Clone, Debug)]
enum Wire {
    Message(Vec<u8>),
    End,
}

/// One TCP connection: its name at each end, and what is under way to each end. `None` when that end closed it.
struct Tcp {
    names: [Option<ConnId>; 2],
    under_way: [VecDeque<Wire>; 2],
}

struct Pair {
    peers: [Peer; 2],
    up: [Option<ConnId>; 2],
    dials: Vec<(usize, ConnId)>,
    connections: Vec<Tcp>,
    accepted: u64,
    now: Instant,
}

impl Pair {
    fn new(ids: [u8; 2], numbers: [u32; 2]) -> Pair {
        let now = Instant::now();
        let peers = [0, 1].map(|end| {
            let router_id = Ipv4Addr::new(ids[end], 0, 0, 1);
            let (local_as, remote_as) = (numbers[end], numbers[1 - end]);
            let settings = Settings { router_id, local_as, remote_as, ..settings(false) };
            Peer::new(settings, u32::try_from(end).unwrap(), now)
        });
        Pair { peers, up: [None; 2], dials: vec![], connections: vec![], accepted: 0, now }
    }

    fn act(&mut self, end: usize, event: impl FnOnce(&mut Peer, Instant, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        event(&mut self.peers[end], self.now, &mut actions);
        for action in actions {
            match action {
                Action::Dial(conn) => self.dials.push((end, conn)),
                Action::Send(conn, message) => self.put(end, conn, Wire::Message(message)),
                Action::Close(conn) => {
                    self.dials.retain(|dial| *dial != (end, conn));
                    self.put(end, conn, Wire::End);
                    for tcp in &mut self.connections {
                        tcp.names[end].take_if(|name| *name == conn);
                    }
                }
                Action::Up(session) => assert_eq!(self.up[end].replace(session.conn), None),
                Action::Down(_) => assert!(self.up[end].take().is_some()),
                Action::Refresh(_) | Action::Mark(..) => panic!("{action:?}"),
            }
        }
    }

    fn put(&mut self, end: usize, conn: ConnId, wire: Wire) {
        if let Some(tcp) = self.connections.iter_mut().find(|tcp| tcp.names[end] == Some(conn)) {
            tcp.under_way[1 - end].push_back(wire);
        }
    }

    /// Something that may happen now, as `choice` picks it; false when there is nothing but time.
    fn step(&mut self, choice: usize) -> bool {
        let arrivals = self.connections.iter().enumerate().flat_map(|(index, tcp)| {
            (0..2).filter(|end| !tcp.under_way[*end].is_empty()).map(move |end| (index, end))
        });
        let arrivals: Vec<(usize, usize)> = arrivals.collect();
        let events = self.dials.len() + arrivals.len();
        if events == 0 {
            return false;
        }
        let choice = choice % events;
        if choice < self.dials.len() {
            let (end, conn) = self.dials.remove(choice);
            self.accepted += 1;
            let accepted = ConnId::Accepted(self.accepted);
            let mut names = [Some(accepted); 2];
            names[end] = Some(conn);
            self.connections.push(Tcp { names, under_way: Default::default() });
            self.act(end, |peer, now, out| peer.connected(conn, LOCAL, now, out));
            self.act(1 - end, |peer, now, out| peer.accepted(accepted, LOCAL, now, out));
        } else {
            let (index, end) = arrivals[choice - self.dials.len()];
            self.arrive(index, end);
        }
        true
    }

    fn arrive(&mut self, index: usize, end: usize) {
        let tcp = &mut self.connections[index];
        let wire = tcp.under_way[end].pop_front().unwrap();
        let Some(conn) = tcp.names[end] else { return };
        match wire {
            Wire::Message(message) => {
                let (frame, _) = frame::split(&message).unwrap().unwrap();
                if frame.kind == Kind::Notification {
                    assert_eq!(frame.body[..2], [code::CEASE, cease::COLLISION], "nothing else goes wrong");
                }
                self.act(end, |peer, now, out| drop(peer.frame(conn, frame, now, out)));
            }
            Wire::End => {
                tcp.names[end] = None;
                self.act(end, |peer, now, out| peer.closed(conn, "closed", now, out));
            }
        }
    }

    /// Both have a session, and it is the same.
    fn settled(&self) -> bool {
        let same = |tcp: &Tcp| tcp.names.iter().all(Option::is_some) && tcp.names == self.up;
        self.up.iter().all(Option::is_some) && self.connections.iter().any(same)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn both_choose_the_same_connection(
        ids in prop_oneof![Just([1, 2]), Just([2, 1]), Just([3, 3])],
        choices in prop::collection::vec(any::<usize>(), 300),
        first_alone in 0..6_usize,
    ) {
        // Equal identifiers are for different AS numbers only (RFC 6286).
        let numbers = if ids[0] == ids[1] { [65001, 65000] } else { [64512, 64512] };
        let mut pair = Pair::new(ids, numbers);
        pair.act(0, |peer, now, out| peer.tick(now, out));
        for choice in &choices[..first_alone] {
            pair.step(*choice);
        }
        pair.act(1, |peer, now, out| peer.tick(now, out));
        let mut busy = true;
        for choice in choices {
            busy = pair.step(choice);
            if !busy && pair.settled() {
                break;
            }
            if !busy {
                pair.now = pair.peers.iter().filter_map(Peer::deadline).min().unwrap().max(pair.now);
                for end in 0..2 {
                    pair.act(end, |peer, now, out| peer.tick(now, out));
                }
            }
        }
        prop_assert!(!busy && pair.settled(), "{:?}", pair.peers);
        prop_assert!(pair.peers.iter().all(|peer| peer.status().0 == SessionState::Established));
        let open = pair.connections.iter().filter(|tcp| tcp.names.iter().any(Option::is_some)).count();
        prop_assert_eq!(open, 1, "and no other");
    }
}
