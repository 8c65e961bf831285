//! A speaker with a peer made of hand-written messages, for what no second speaker of ours would send.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::filter::Filter;
use tortie_bgp::snapshot::SessionState;
use tortie_bgp::speaker::{ConnId, Input, Note, Output, Speaker};
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::wire::attribute::PathAttributes;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::refresh::{self, Subtype};
use tortie_bgp::wire::update::{Encoded, Layout, end_of_rib};
use tortie_bgp::wire::{Capability, GracefulRestart, Kind, Notification, Open, frame};
use tortie_bgp::{PeerConfig, SpeakerConfig};

use super::SECOND;
use super::network::{accept_all, address, config, peer, peer_id};

const OUR_AS: u32 = 64512;
pub(crate) const THEIR_AS: u32 = 65000;
pub(crate) const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Node 0, and what it says to node 1.
pub(crate) struct Raw {
    pub(crate) speaker: Speaker,
    pub(crate) config: SpeakerConfig,
    pub(crate) now: Instant,
    pub(crate) conn: ConnId,
    pub(crate) connections: u64,
    /// Messages since the last look.
    pub(crate) told: Vec<(Kind, Vec<u8>)>,
    pub(crate) closed: bool,
    /// Where the speaker dials.
    pub(crate) dialling: Option<ConnId>,
    pub(crate) notes: Vec<Note>,
}

impl Raw {
    pub(crate) fn new(change: impl FnOnce(&mut PeerConfig)) -> Raw {
        let mut raw = Raw::mute(change);
        raw.input(Input::Originate(BTreeMap::new()));
        raw
    }

    /// That does not know yet what it originates, so it says no End-of-RIB.
    pub(crate) fn mute(change: impl FnOnce(&mut PeerConfig)) -> Raw {
        let now = Instant::now();
        let mut config = config(0, OUR_AS);
        let mut peer = peer(0, 1, THEIR_AS);
        (peer.passive, peer.hold_time) = (true, Duration::ZERO);
        change(&mut peer);
        config.peers.insert(peer_id(1), peer);
        let mut raw = Raw {
            speaker: Speaker::new(false, now),
            config: config.clone(),
            now,
            conn: ConnId::Accepted(0),
            connections: 0,
            told: Vec::new(),
            closed: true,
            dialling: None,
            notes: Vec::new(),
        };
        raw.input(Input::Configure(config));
        raw
    }

    /// A session with these capabilities.
    pub(crate) fn connect(&mut self, capabilities: Vec<Capability>) {
        self.accept(address(1));
        let open = Open { asn: THEIR_AS, hold_time: 0, router_id: [9, 9, 9, 9].into(), capabilities };
        self.send(&open.encode());
        self.send(&frame::keepalive());
        assert_eq!(self.state(), SessionState::Established);
        self.told.clear();
    }

    pub(crate) fn accept(&mut self, from: IpAddr) {
        self.connections += 1;
        (self.conn, self.closed) = (ConnId::Accepted(self.connections), false);
        let remote = SocketAddr::new(from, 40000);
        self.input(Input::Accepted { conn: self.conn, local: address(0), remote });
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle(input, self.now);
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { conn, .. } if conn != self.conn => {}
                Output::Send { data, .. } => {
                    let mut rest = &data[..];
                    while let Some((frame, tail)) = frame::split_within(rest, 65535).unwrap() {
                        self.told.push((frame.kind, frame.body.to_vec()));
                        rest = tail;
                    }
                }
                Output::Close { conn } => {
                    self.closed |= conn == self.conn;
                    self.dialling.take_if(|dialling| *dialling == conn);
                }
                Output::Dial { conn, .. } => self.dialling = Some(conn),
                Output::Note(note) => self.notes.push(note),
                Output::Changes(_) | Output::Converged => {}
            }
        }
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        self.input(Input::Bytes { conn: self.conn, data: message.to_vec() });
    }

    pub(crate) fn mark(&mut self, family: Family, subtype: Subtype) {
        self.send(&refresh::encode(family, subtype));
    }

    pub(crate) fn announce(&mut self, prefixes: &[&str]) {
        for prefix in prefixes {
            let prefix = Prefix::from(prefix.parse::<ipnetwork::IpNetwork>().unwrap());
            let next_hop = match prefix.family() {
                Family::Ipv4 => address(1),
                Family::Ipv6 => "fd00::1".parse().unwrap(),
            };
            let message = update(next_hop, &[prefix], 0);
            self.send(&message);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Tick);
    }

    pub(crate) fn lose(&mut self) {
        self.input(Input::Closed { conn: self.conn, reason: "lost".into() });
    }

    pub(crate) fn state(&self) -> SessionState {
        self.speaker.snapshot(self.now).peers[&peer_id(1)].state
    }

    pub(crate) fn prefixes(&self) -> Vec<String> {
        self.speaker.snapshot(self.now).routes.keys().map(ToString::to_string).collect()
    }

    /// The NOTIFICATION that ended the session.
    pub(crate) fn ended(&self) -> Notification {
        assert!(self.closed);
        let (kind, body) = self.told.last().unwrap();
        assert_eq!(*kind, Kind::Notification);
        Notification::decode(body).unwrap()
    }

    pub(crate) fn faults(&self) -> Vec<&str> {
        fn fault(note: &Note) -> Option<&str> {
            if let Note::Fault { fault, .. } = note { Some(fault) } else { None }
        }
        self.notes.iter().filter_map(fault).collect()
    }
}

/// An UPDATE with this many communities.
pub(crate) fn update(next_hop: IpAddr, prefixes: &[Prefix], communities: usize) -> Vec<u8> {
    let attributes = PathAttributes {
        as_path: vec![2, 1, 0, 0, 0xfd, 0xe8].into(),
        communities: vec![1; communities * 4].into(),
        ..PathAttributes::originated(next_hop)
    };
    let (mut head, mut tail, mut out) = (vec![], vec![], vec![]);
    attributes.encode_head(&mut head);
    attributes.encode_tail(&mut tail);
    if communities == 0 {
        let nlri: Vec<Nlri> = prefixes.iter().copied().map(Nlri::from).collect();
        let layout = Layout::plain(prefixes[0].family());
        assert!(layout.announce(&mut out, Encoded { head: &head, tail: &tail, next_hop }, nlri.iter()));
        return out;
    }
    let IpAddr::V4(next_hop) = next_hop else { panic!("{next_hop}") };
    let section = [&head[..], &[0x40, 3, 4], &next_hop.octets(), &tail].concat();
    out.extend([0xff; 16]);
    out.extend([0, 0, 2, 0, 0]);
    out.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
    out.extend(section);
    out.extend([8, 10]);
    let length = u16::try_from(out.len()).unwrap();
    out[16..18].copy_from_slice(&length.to_be_bytes());
    out
}

pub(crate) fn capabilities(families: &[Family]) -> Vec<Capability> {
    let mut all: Vec<Capability> =
        families.iter().map(|family| Capability::Multiprotocol(family.afi(), 1)).collect();
    all.extend([Capability::RouteRefresh, Capability::EnhancedRefresh, Capability::FourOctetAs(THEIR_AS)]);
    all
}

pub(crate) fn graceful(families: &[(Family, bool)]) -> Capability {
    Capability::GracefulRestart(GracefulRestart {
        restarting: false,
        notification: true,
        time: 100,
        families: families.iter().map(|(family, forwarding)| (family.afi(), 1, *forwarding)).collect(),
    })
}

/// Each family of a session is kept, confirmed and swept by itself (RFC 4724 4.2).
#[test]
fn families_restart_one_by_one() {
    let both = |forwarding: [bool; 2]| {
        let mut all = capabilities(&BOTH);
        all.push(graceful(&[(Family::Ipv4, forwarding[0]), (Family::Ipv6, forwarding[1])]));
        all
    };
    let begin = || {
        let mut raw = Raw::new(|peer| peer.families = BOTH.into());
        raw.connect(both([true, true]));
        raw.announce(&["192.0.2.0/24", "2001:db8::/32"]);
        raw.lose();
        assert_eq!(raw.prefixes(), ["192.0.2.0/24", "2001:db8::/32"]);
        raw
    };
    let mut raw = begin();
    raw.connect(both([true, true]));
    raw.send(&end_of_rib(Family::Ipv6));
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"]);
    raw.send(&end_of_rib(Family::Ipv4));
    assert!(raw.prefixes().is_empty());
    let mut raw = begin();
    raw.connect(both([true, false]));
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"], "forwarding of IPv6 did not survive");
    let mut raw = begin();
    raw.connect(capabilities(&[Family::Ipv6]));
    assert!(raw.prefixes().is_empty(), "no graceful restart any more");
    let mut raw = begin();
    raw.run(SECOND * 99);
    assert_eq!(raw.prefixes().len(), 2);
    raw.run(SECOND);
    assert!(raw.prefixes().is_empty());
}

/// RFC 8654: taken if we said so, whatever the peer said; else Bad Message Length.
#[test]
fn an_extended_update_is_taken_where_it_was_offered() {
    let message = update(address(1), &[], 5000);
    assert!(message.len() > 20_000);
    let mut raw = Raw::new(|_| {});
    let mut all = capabilities(&[Family::Ipv4]);
    raw.connect(all.clone());
    raw.send(&message);
    assert_eq!(raw.prefixes(), ["10.0.0.0/8"]);

    let mut raw = Raw::new(|peer| peer.extended_messages = false);
    all.push(Capability::ExtendedMessage);
    raw.connect(all);
    raw.send(&message);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    assert_eq!(raw.ended(), Notification { code: 1, subcode: 2, data: length.to_vec() });
}

/// And sent where the peer said so, provided that we did, too.
#[test]
fn long_messages_go_to_those_who_take_them() {
    for (ours, theirs, longest) in
        [(true, true, 4097..65536), (true, false, 1000..4097), (false, true, 1000..4097)]
    {
        let mut raw = Raw::new(|peer| peer.extended_messages = ours);
        let block = |i: u32| format!("10.0.{}.{}/32", i >> 8, i & 255).parse().unwrap();
        let routes = (0..5000).map(|i| (block(i), OriginatedRoute { local_pref: 100 })).collect();
        let mut all = capabilities(&[Family::Ipv4]);
        all.extend(theirs.then_some(Capability::ExtendedMessage));
        raw.connect(all);
        raw.input(Input::Originate(routes));
        let most = raw.told.iter().map(|(_, body)| body.len() + 19).max().unwrap();
        assert!(longest.contains(&most), "{ours} {theirs}: {most}");
    }
}

#[test]
fn too_many_prefixes_end_the_session_for_good() {
    let mut raw = Raw::new(|peer| peer.max_prefixes = Some(2));
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.announce(&["192.0.2.0/24", "198.51.100.0/24", "192.0.2.0/24"]);
    assert_eq!((raw.state(), raw.prefixes().len()), (SessionState::Established, 2));
    raw.announce(&["203.0.113.0/24"]);
    assert_eq!(raw.ended(), Notification::too_many(Family::Ipv4, 2));
    assert!(raw.prefixes().is_empty());
    raw.run(SECOND * 10_000);
    assert_eq!(raw.state(), SessionState::Idle);
    raw.accept(address(1));
    assert_eq!(raw.ended(), Notification::new(6, 5), "refused while it is down");
    let mut config = raw.config.clone();
    config.peers.get_mut(&peer_id(1)).unwrap().max_prefixes = Some(3);
    raw.input(Input::Configure(config));
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.announce(&["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]);
    assert_eq!(raw.prefixes().len(), 3);
}

#[test]
fn a_stranger_is_told_that_he_is_rejected() {
    let mut raw = Raw::new(|_| {});
    raw.accept(address(77));
    assert_eq!(raw.ended(), Notification::new(6, 5));
}

/// Who connects in a loop gets the connection closed and no more.
#[test]
fn strangers_in_a_loop_are_refused_without_a_word() {
    let mut raw = Raw::new(|_| {});
    for _ in 0..100 {
        raw.accept(address(77));
        assert!(raw.closed);
    }
    assert_eq!(raw.told.len(), 10);
}

#[test]
fn a_header_that_comes_in_pieces_and_is_wrong_ends_the_connection() {
    for length in [0_u16, 18, 5000] {
        let mut raw = Raw::new(|_| {});
        raw.accept(address(1));
        let header = [&[0xff; 16][..], &length.to_be_bytes(), &[1]].concat();
        raw.send(&header[..7]);
        raw.send(&[&header[7..], &[0; 100]].concat());
        assert_eq!(raw.ended(), Notification { code: 1, subcode: 2, data: length.to_be_bytes().to_vec() });
    }
}

/// RFC 8212: optional, and a filter set later lets in what was there all the time.
#[test]
fn a_session_that_needs_a_filter_carries_nothing_without_one() {
    let mut raw = Raw::new(|peer| (peer.require_policy, peer.export) = (true, Filter::default()));
    raw.input(Input::Originate(
        [("172.16.0.0/26".parse().unwrap(), OriginatedRoute { local_pref: 1 })].into(),
    ));
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.announce(&["192.0.2.0/24"]);
    assert!(raw.prefixes().is_empty());
    assert_eq!(raw.speaker.snapshot(raw.now).peers[&peer_id(1)].announced, 0);
    let mut config = raw.config.clone();
    config.peers.get_mut(&peer_id(1)).unwrap().import = accept_all();
    raw.input(Input::Configure(config));
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"]);
}

/// Two connections of a peer that is back may meet, and each end closes another one: the session of a moment between is no
/// second restart (RFC 4724 4.2 is about those), but a longer one is.
#[test]
fn a_session_of_a_moment_is_no_restart() {
    let capabilities = || [capabilities(&[Family::Ipv4]), vec![graceful(&[(Family::Ipv4, true)])]].concat();
    let mut raw = Raw::new(|_| {});
    raw.connect(capabilities());
    raw.announce(&["192.0.2.0/24"]);
    raw.send(&end_of_rib(Family::Ipv4));
    raw.run(SECOND * 20);
    raw.lose();
    raw.connect(capabilities());
    raw.run(Duration::from_millis(10));
    raw.lose();
    raw.connect(capabilities());
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"], "nothing was lost by the moment");
    raw.run(SECOND * 5);
    raw.lose();
    assert_eq!(raw.prefixes(), [""; 0], "a second loss without a word in between");
}
