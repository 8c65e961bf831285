//! Any octets at any time: whatever a peer did, it is dialled again, and taken when it comes with good manners.

use proptest::prelude::*;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::snapshot::SessionState;
use tortie_bgp::speaker::{ConnId, Input};
use tortie_bgp::wire::refresh::{Subtype, encode};
use tortie_bgp::wire::update::end_of_rib;
use tortie_bgp::wire::{Kind, Notification, Open, frame};

use super::SECOND;
use super::network::{address, peer_id};
use super::raw::{BOTH, Raw, THEIR_AS, capabilities, graceful, update};

#[derive(Clone, Debug)]
enum Op {
    Accept,
    /// The dial under way ends, well or not.
    Dialled(bool),
    Send(Vec<u8>),
    /// Cut after so many octets; the rest comes with the next.
    Cut(Vec<u8>, prop::sample::Index),
    Close,
    Run(u64),
}

fn good_open() -> Vec<u8> {
    let mut all = capabilities(&BOTH);
    all.push(graceful(&[(Family::Ipv4, true), (Family::Ipv6, false)]));
    Open { asn: THEIR_AS, hold_time: 9, router_id: [9, 9, 9, 9].into(), capabilities: all }.encode()
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let framed = (0..8_u8, bytes(60)).prop_map(|(kind, body)| {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(body.len() + 19).unwrap().to_be_bytes());
        message.push(kind);
        message.extend(body);
        message
    });
    let good = prop_oneof![
        3 => Just(good_open()),
        5 => Just(frame::keepalive()),
        1 => Just(end_of_rib(Family::Ipv4)),
        3 => (any::<[u8; 2]>(), 8..25_u8).prop_map(|(net, length)| {
            let prefix = Prefix::new([10, net[0], net[1], 0].into(), length).unwrap();
            update(address(1), &[prefix], 0)
        }),
        1 => (0..900_usize).prop_map(|communities| update(address(1), &[], communities + 1)),
        1 => Just(encode(Family::Ipv6, Subtype::Begin)),
        1 => Just(encode(Family::Ipv4, Subtype::End)),
        1 => Just(Notification::new(6, 4).encode()),
    ];
    let bent =
        (good.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut message, at, octet)| {
            let at = at.index(message.len());
            // A hold time of zero is no offence and makes a session without end.
            if !(22..24).contains(&at) {
                message[at] = octet;
            }
            message
        });
    prop_oneof![8 => good, 2 => bent, 2 => framed, 1 => bytes(100)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Accept),
        2 => any::<bool>().prop_map(Op::Dialled),
        10 => message().prop_map(Op::Send),
        2 => (message(), any::<prop::sample::Index>()).prop_map(|(message, at)| Op::Cut(message, at)),
        1 => Just(Op::Close),
        2 => prop_oneof![0..12_u64, 100..400_u64].prop_map(Op::Run),
    ]
}

fn apply(raw: &mut Raw, op: Op) {
    match op {
        Op::Accept => raw.accept(address(1)),
        Op::Dialled(well) => {
            let Some(conn) = raw.dialling.take() else { return };
            if well {
                raw.conn = conn;
                raw.input(Input::Connected { conn, local: address(0) });
            } else {
                raw.input(Input::DialFailed { conn, reason: "no".into() });
            }
        }
        Op::Send(message) => raw.send(&message),
        Op::Cut(message, at) => raw.send(&message[..at.index(message.len() + 1)]),
        Op::Close => raw.lose(),
        Op::Run(seconds) => (0..seconds).for_each(|_| raw.run(SECOND)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_peer_is_never_given_up(ops in prop::collection::vec(op(), 1..40), passive: bool) {
        let mut raw = Raw::new(|peer| {
            peer.passive = passive;
            peer.hold_time = SECOND * 90;
            peer.families = BOTH.into();
        });
        for op in ops {
            apply(&mut raw, op);
        }
        // Its machine dies without a word; nobody answers for ten minutes, longer than any timer.
        (0..600).for_each(|_| raw.run(SECOND));
        prop_assert_ne!(raw.state(), SessionState::Established);
        prop_assert_eq!(raw.prefixes().len(), 0, "no route survives its peer");
        let mut dialled = false;
        for _ in 0..40 {
            dialled |= raw.dialling.is_some();
            raw.run(SECOND);
        }
        prop_assert_eq!(dialled, !passive, "dialled again");
        raw.told.clear();
        raw.accept(address(1));
        raw.send(&good_open());
        raw.send(&frame::keepalive());
        prop_assert_eq!(raw.state(), SessionState::Established, "{:?}", raw.speaker.snapshot(raw.now).peers[&peer_id(1)]);
        raw.announce(&["192.0.2.0/24"]);
        prop_assert_eq!(raw.prefixes(), ["192.0.2.0/24"]);
        prop_assert!(matches!(raw.conn, ConnId::Accepted(_)));
        prop_assert!(raw.told.iter().all(|(kind, _)| *kind != Kind::Notification));
    }
}

proptest! {
    /// TCP keeps no limits between messages: the same octets in other pieces mean the same.
    #[test]
    fn pieces_make_no_difference(
        messages in prop::collection::vec(message(), 0..30),
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let mut stream = [good_open(), frame::keepalive()].concat();
        stream.extend(messages.concat());
        let mut raws = [(); 2].map(|()| {
            let mut raw = Raw::new(|peer| (peer.passive, peer.families) = (true, BOTH.into()));
            raw.accept(address(1));
            raw
        });
        raws[0].send(&stream);
        let mut rest = &stream[..];
        for size in sizes.iter().cycle() {
            let (piece, tail) = rest.split_at((*size).min(rest.len()));
            raws[1].send(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let [whole, pieces] = raws;
        prop_assert_eq!(&whole.notes, &pieces.notes);
        prop_assert_eq!((whole.closed, whole.prefixes()), (pieces.closed, pieces.prefixes()));
        // Routes and marks are told once for all that came together, or not at all if the session ended meanwhile.
        let lasting = |raw: &Raw| -> Vec<(Kind, Vec<u8>)> {
            raw.told.iter().filter(|(kind, _)| !matches!(kind, Kind::Update | Kind::Refresh)).cloned().collect()
        };
        prop_assert_eq!(lasting(&whole), lasting(&pieces));
    }
}
