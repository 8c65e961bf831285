//! What the kernel alone takes: messages made beforehand, with nothing in them that decides about no packet.

// Each benchmark uses its part.
#![allow(dead_code)]

use std::os::fd::AsFd as _;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use tortie_policy::Ruleset;
use tortie_policy::change::Change;
use tortie_policy::ir::{Chain, Comment, Origins, Rule, Set, VerdictMap};
use tortie_policy::netlink::transaction::{Table, Transaction};

/// Room for the largest transaction.
const BUFFERS: usize = 256 << 20;

/// A socket, and nothing known of what was sent before.
pub(crate) struct Limit(Socket);

/// The messages of a change to a table that exists.
pub(crate) fn messages(changes: &[Change]) -> Transaction {
    Transaction::new(changes, Table { exists: true, flags: 0 }, 1)
}

impl Limit {
    pub(crate) fn open() -> Limit {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
        socket.bind_auto().expect("its address");
        socket.connect(&SocketAddr::new(0, 0)).expect("a way to the kernel");
        socket.set_cap_ack(true).expect("short answers");
        setsockopt(&socket.as_fd(), sockopt::SndBufForce, &BUFFERS).expect("room: needs root");
        Limit(socket)
    }

    pub(crate) fn send(&mut self, messages: &Transaction) {
        self.0.send(messages.bytes(), 0).expect("a transaction");
        let (answer, _) = self.0.recv_from_full().expect("an answer");
        let word =
            |at: usize| answer.get(at..).and_then(|rest| rest.first_chunk()).map(|w| u32::from_ne_bytes(*w));
        let (sequence, error) = (word(8), word(16));
        assert_eq!((sequence, error), (Some(messages.last()), Some(0)), "refused");
    }
}

/// The same without counters and comments.
pub(crate) fn bare(ruleset: &Ruleset) -> Ruleset {
    let comment = Comment::default;
    let rule = |rule: &Rule| Rule { counter: false, comment: comment(), ..rule.clone() };
    let chain = |chain: &Chain| Chain {
        comment: comment(),
        base: chain.base,
        rules: chain.rules.iter().map(rule).collect(),
    };
    let map = |map: &VerdictMap| VerdictMap { comment: comment(), ..map.clone() };
    let set = |set: &Set| Set { comment: comment(), counter: false, ..set.clone() };
    Ruleset {
        origins: Origins::default(),
        sets: ruleset.sets.iter().map(|(name, part)| (name.clone(), set(part))).collect(),
        maps: ruleset.maps.iter().map(|(name, part)| (name.clone(), map(part))).collect(),
        chains: ruleset.chains.iter().map(|(name, part)| (name.clone(), chain(part))).collect(),
    }
}
