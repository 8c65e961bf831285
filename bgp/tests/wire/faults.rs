//! Faulty messages and what comes of them (RFC 7606, and RFC 4271 6 for the rest).

use tortie_bgp::wire::attribute::push;
use tortie_bgp::wire::update::RawUpdate;
use tortie_bgp::wire::validate::{Outcome, judge};
use tortie_bgp::wire::{Capability, Context, Notification, Open, Reading, Update, WireError, frame};

const PLAIN: Reading = Reading { add_path: false, extended_next_hop: false };
const INTERNAL: Context = Context { internal: true, four_octet: true, ipv4: Some(PLAIN), ipv6: None };
const IPV6: Context = Context { ipv4: None, ipv6: Some(PLAIN), ..INTERNAL };
const EXTERNAL: Context = Context { internal: false, ..INTERNAL };
const NET: [u8; 2] = [8, 10];

/// Flags, code and value of an attribute.
type Raw<'a> = (u8, u8, &'a [u8]);

const ORIGIN: Raw<'static> = (0x40, 1, &[0]);
const PATH: Raw<'static> = (0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe8]);
const NEXT_HOP: Raw<'static> = (0x40, 3, &[10, 0, 0, 1]);

fn section(attributes: &[Raw<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.iter().for_each(|(flags, code, value)| push(&mut out, *flags, *code, value));
    out
}

fn read<'a>(attributes: &'a [u8], announced: &'a [u8], context: Context) -> Result<Update<'a>, WireError> {
    judge(RawUpdate { withdrawn: &[], attributes, announced }, context)
}

/// The outcome of an announcement of 10.0.0.0/8 with these attributes besides the mandatory ones.
fn with(extra: Raw<'_>, context: Context) -> Option<Outcome> {
    let all = section(&[ORIGIN, PATH, NEXT_HOP, extra]);
    outcome(&read(&all, &NET, context).unwrap())
}

/// The outcome of an announcement with exactly these attributes.
fn only(attributes: &[Raw<'_>]) -> Option<Outcome> {
    outcome(&read(&section(attributes), &NET, INTERNAL).unwrap())
}

fn outcome(update: &Update<'_>) -> Option<Outcome> {
    let outcome = match update.faults.as_slice() {
        [] => None,
        [fault] => Some(fault.outcome),
        more => panic!("{more:?}"),
    };
    let withdrawn = outcome == Some(Outcome::Withdraw);
    assert_eq!(update.withdrawn.len(), usize::from(withdrawn));
    assert_eq!(update.announced.len(), usize::from(!withdrawn));
    assert_eq!(update.attributes.is_some(), !withdrawn);
    outcome
}

#[test]
fn sound_announcements() {
    assert_eq!(only(&[ORIGIN, PATH, NEXT_HOP]), None);
    assert_eq!(only(&[NEXT_HOP, ORIGIN, (0x40, 2, &[])]), None, "an empty path, and any order");
    assert_eq!(with((0x80, 4, &[0, 0, 0, 1]), EXTERNAL), None);
    assert_eq!(with((0xe0, 8, &[0, 1, 0, 2]), INTERNAL), None, "partial is no fault");
    assert_eq!(with((0x80, 99, &[1]), INTERNAL), None, "unknown, optional");
}

#[test]
fn routes_are_treated_as_withdrawn() {
    const WITHDRAW: Option<Outcome> = Some(Outcome::Withdraw);
    assert_eq!(only(&[PATH, NEXT_HOP]), WITHDRAW, "ORIGIN missing");
    assert_eq!(only(&[ORIGIN, NEXT_HOP]), WITHDRAW, "AS_PATH missing");
    assert_eq!(only(&[(0x40, 1, &[0, 0]), PATH, NEXT_HOP]), WITHDRAW, "ORIGIN too long");
    assert_eq!(only(&[(0x40, 1, &[7]), PATH, NEXT_HOP]), WITHDRAW, "ORIGIN unknown");
    assert_eq!(only(&[(0xc0, 1, &[0]), PATH, NEXT_HOP]), WITHDRAW, "ORIGIN said to be optional");
    for path in [
        &[2, 2, 0, 0, 0, 1][..],
        &[2, 0],
        &[9, 1, 0, 0, 0, 1],
        &[2, 1, 0, 0, 0, 0],
        &[3, 1, 0, 0, 0, 1],
        &[2],
    ] {
        assert_eq!(only(&[ORIGIN, (0x40, 2, path), NEXT_HOP]), WITHDRAW, "AS_PATH {path:?}");
    }
    for next_hop in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert_eq!(only(&[ORIGIN, PATH, (0x40, 3, &next_hop)]), WITHDRAW, "NEXT_HOP {next_hop:?}");
    }
    assert_eq!(with((0x80, 4, &[1]), INTERNAL), WITHDRAW, "MED");
    assert_eq!(with((0x40, 5, &[0, 0, 1]), INTERNAL), WITHDRAW, "LOCAL_PREF of three octets");
    assert_eq!(with((0xc0, 8, &[1, 2, 3, 4, 5]), INTERNAL), WITHDRAW, "COMMUNITIES of five octets");
    assert_eq!(with((0xc0, 8, &[]), INTERNAL), WITHDRAW, "COMMUNITIES empty");
    assert_eq!(with((0x80, 9, &[1]), INTERNAL), WITHDRAW, "ORIGINATOR_ID");
    assert_eq!(with((0x80, 10, &[1]), INTERNAL), WITHDRAW, "CLUSTER_LIST");
    assert_eq!(with((0xc0, 16, &[0; 7]), INTERNAL), WITHDRAW, "EXTENDED COMMUNITIES");
    assert_eq!(with((0xc0, 32, &[0; 11]), INTERNAL), WITHDRAW, "LARGE_COMMUNITIES");
    assert_eq!(with((0xc0, 35, &[0, 0, 1]), EXTERNAL), WITHDRAW, "ONLY_TO_CUSTOMER (RFC 9234 5)");
    assert_eq!(with((0x80, 35, &[0, 0, 0, 1]), EXTERNAL), WITHDRAW, "ONLY_TO_CUSTOMER not transitive");
    assert_eq!(with((0x40, 99, &[1]), INTERNAL), WITHDRAW, "unknown, well-known");
}

#[test]
fn missing_next_hop_is_a_fault_of_classic_prefixes() {
    let all = section(&[ORIGIN, PATH]);
    let update = read(&all, &NET, INTERNAL).unwrap();
    assert!(update.attributes.is_none());
    assert_eq!(update.faults[0].to_string(), "attribute 3: missing; routes treated as withdrawn");
}

#[test]
fn attributes_are_discarded() {
    const DISCARD: Option<Outcome> = Some(Outcome::Discard);
    assert_eq!(with((0x40, 1, &[2]), INTERNAL), DISCARD, "ORIGIN twice");
    assert_eq!(with((0x40, 6, &[1]), INTERNAL), DISCARD, "ATOMIC_AGGREGATE");
    assert_eq!(with((0xc0, 7, &[1]), INTERNAL), DISCARD, "AGGREGATOR");
    assert_eq!(with((0x40, 5, &[0, 0, 0, 1]), EXTERNAL), DISCARD, "LOCAL_PREF from outside");
    assert_eq!(with((0x80, 9, &[0, 0, 0, 1]), EXTERNAL), DISCARD, "ORIGINATOR_ID from outside");
    assert_eq!(with((0x80, 10, &[0, 0, 0, 1]), EXTERNAL), DISCARD, "CLUSTER_LIST from outside");
    assert_eq!(with((0xc0, 17, &[2, 1, 0, 0, 0, 1]), INTERNAL), DISCARD, "AS4_PATH from a new speaker");
    let all = section(&[ORIGIN, PATH, NEXT_HOP, (0x40, 1, &[2])]);
    assert_eq!(read(&all, &NET, INTERNAL).unwrap().attributes.unwrap().origin, 0, "the first one counts");
}

#[test]
fn sessions_are_reset_when_prefixes_cannot_be_told() {
    let code = |error: WireError| (error.notification().code, error.notification().subcode);
    let sound = section(&[ORIGIN, PATH, NEXT_HOP]);
    for nlri in [&[33, 10, 0, 0, 0, 0][..], &[24, 10, 0]] {
        assert_eq!(code(read(&sound, nlri, INTERNAL).unwrap_err()), (3, 10), "{nlri:?}");
    }
    let reach = [0, 1, 1, 4, 10, 0, 0, 1, 0, 8, 10];
    let twice = section(&[(0x80, 14, &reach), (0x80, 14, &reach)]);
    assert_eq!(code(read(&twice, &[], INTERNAL).unwrap_err()), (3, 1));
    for broken in [&[0, 1, 1, 5, 10, 0, 0, 1, 0, 0, 8, 10][..], &[0, 1, 1, 40, 1], &[0, 1]] {
        let section = section(&[ORIGIN, PATH, (0x80, 14, broken)]);
        assert_eq!(code(read(&section, &[], INTERNAL).unwrap_err()), (3, 9), "{broken:?}");
    }
    assert_eq!(code(RawUpdate::decode(&[0, 9, 1]).unwrap_err()), (3, 1));
    assert_eq!(code(RawUpdate::decode(&[0, 0, 0, 9, 1]).unwrap_err()), (3, 1));
}

#[test]
fn an_octet_too_many_in_the_attributes_costs_the_routes_not_the_session() {
    let mut all = section(&[ORIGIN, PATH, NEXT_HOP]);
    all.push(0x40);
    let update = read(&all, &NET, INTERNAL).unwrap();
    assert_eq!((update.withdrawn.len(), update.announced.len()), (1, 0));
    // Without a prefix in sight nobody knows what to withdraw.
    assert!(read(&all, &[], INTERNAL).is_err());
}

#[test]
fn unknown_transitive_attributes_survive_with_the_partial_flag() {
    let all = section(&[ORIGIN, PATH, NEXT_HOP, (0xc0, 99, &[1, 2, 3]), (0x80, 98, &[4])]);
    let attributes = read(&all, &NET, EXTERNAL).unwrap().attributes.unwrap();
    assert_eq!(*attributes.unknown, [0xe0, 99, 3, 1, 2, 3]);
}

#[test]
fn prefixes_of_a_family_not_negotiated_are_ignored() {
    let update_attributes = section(&[ORIGIN, PATH, NEXT_HOP]);
    let update = read(&update_attributes, &NET, IPV6).unwrap();
    assert!(update.announced.is_empty() && update.withdrawn.is_empty() && update.end_of_rib.is_none());
}

#[test]
fn ipv4_is_accepted_in_the_multiprotocol_attributes() {
    let all = section(&[ORIGIN, PATH, (0x80, 14, &[0, 1, 1, 4, 10, 0, 0, 7, 0, 8, 10])]);
    let update = read(&all, &[], INTERNAL).unwrap();
    assert_eq!(update.announced.len(), 1);
    assert_eq!(update.attributes.unwrap().next_hop, std::net::IpAddr::from([10, 0, 0, 7]));
}

#[test]
fn a_link_local_next_hop_beside_the_global_one_is_passed_over() {
    let mut reach = vec![0, 2, 1, 32];
    let global = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap();
    reach.extend(global.octets());
    reach.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    reach.extend([0, 16, 0xfd, 0x01]);
    let all = section(&[ORIGIN, PATH, (0x80, 14, &reach)]);
    let update = read(&all, &[], IPV6).unwrap();
    assert_eq!(update.attributes.unwrap().next_hop, std::net::IpAddr::V6(global));
}

#[test]
fn an_as4_path_replaces_the_end_of_an_old_path() {
    // 100 23456 | 70000: the old speakers in front stay.
    let old = [2, 3, 0, 100, 0, 50, 0x5b, 0xa0];
    let new = [2, 2, 0, 0, 0, 50, 0, 1, 0x11, 0x70];
    let all = section(&[ORIGIN, (0x40, 2, &old), NEXT_HOP, (0xc0, 17, &new)]);
    let attributes = read(&all, &NET, Context { four_octet: false, ..EXTERNAL }).unwrap().attributes.unwrap();
    assert_eq!(*attributes.as_path, [2, 1, 0, 0, 0, 100, 2, 2, 0, 0, 0, 50, 0, 1, 0x11, 0x70]);
}

#[test]
fn headers_that_end_a_session() {
    let message = |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
    let code = |bytes: &[u8]| frame::split(bytes).unwrap_err().notification();
    assert_eq!(code(&[0; 19]), Notification { code: 1, subcode: 1, data: vec![] });
    for (length, kind) in [(18_u16, 4), (4097, 2), (20, 4), (28, 1), (22, 2), (20, 3)] {
        let expected = Notification { code: 1, subcode: 2, data: length.to_be_bytes().to_vec() };
        assert_eq!(code(&message(length, kind)), expected, "{length} {kind}");
    }
    assert_eq!(code(&message(19, 6)), Notification { code: 1, subcode: 3, data: vec![6] });
    assert_eq!(frame::split(&message(19, 4)[..18]), Ok(None));
}

#[test]
fn opens_that_cannot_be_read() {
    let open = |version: u8, tail: &[u8]| [&[version, 0xfd, 0xe8, 0, 90, 1, 1, 1, 1][..], tail].concat();
    assert_eq!(Open::decode(&open(3, &[0])), Err(WireError::Version(3)));
    assert_eq!(Open::decode(&open(4, &[4, 7, 2, 1, 1])), Err(WireError::Parameter(7)));
    for tail in
        [&[5, 2, 2][..], &[3, 2, 4, 65], &[4, 2, 2, 65, 4], &[5, 2, 3, 65, 1, 0], &[4, 2, 2, 1, 0], &[1]]
    {
        assert!(matches!(Open::decode(&open(4, tail)), Err(WireError::Open(_))), "{tail:?}");
    }
    let extended = open(4, &[255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 1, 0, 0]);
    assert_eq!(Open::decode(&extended).unwrap().asn, 65536, "RFC 9072");
}

#[test]
fn notifications_in_words() {
    let words = |code, subcode, data: &[u8]| Notification { code, subcode, data: data.to_vec() }.to_string();
    assert_eq!(words(6, 4, b""), "Cease/Administrative Reset");
    assert_eq!(words(6, 2, b"\x05cable"), "Cease/Administrative Shutdown (cable)");
    assert_eq!(words(6, 2, b"\x09ca\x1b"), "Cease/Administrative Shutdown", "cut short");
    assert_eq!(words(6, 2, b"\x09ca\x1b\n[31mx"), "Cease/Administrative Shutdown (ca\\u{1b}\\n[31mx)");
    assert_eq!(words(6, 2, "\u{6}a\u{202e}bc".as_bytes()), "Cease/Administrative Shutdown (a\\u{202e}bc)");
    assert_eq!(words(6, 2, b"\x02\xff\xfe"), "Cease/Administrative Shutdown (\u{fffd}\u{fffd})");
    assert_eq!(words(6, 9, b"\x06\x02\x05cable"), "Cease/Administrative Shutdown (cable), hard reset");
    assert_eq!(words(6, 9, b""), "Cease/Hard Reset");
    assert_eq!(words(6, 9, &[6, 9, 6, 9, 6, 2]), "Cease/Hard Reset", "one inside another is enough");
    assert_eq!(words(2, 11, b""), "OPEN Message Error/Role Mismatch");
    assert_eq!(words(7, 1, b""), "ROUTE-REFRESH Message Error/Invalid Message Length");
    assert_eq!(words(8, 0, b""), "Send Hold Timer Expired");
    assert_eq!(words(4, 0, b""), "Hold Timer Expired");
    assert_eq!(words(2, 77, b""), "OPEN Message Error/subcode 77");
    assert_eq!(words(99, 1, b""), "code 99/subcode 1");
}

#[test]
fn classic_and_multiprotocol_prefixes_of_one_message_keep_their_next_hops() {
    let both = Context { ipv6: Some(PLAIN), ..INTERNAL };
    let global = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap();
    let reach = [&[0, 2, 1, 16][..], &global.octets(), &[0, 16, 0xfd, 0x01]].concat();
    let all = section(&[ORIGIN, PATH, NEXT_HOP, (0x80, 14, &reach)]);
    let update = read(&all, &NET, both).unwrap();
    assert_eq!(update.attributes.unwrap().next_hop, std::net::IpAddr::from([10, 0, 0, 1]));
    let (next_hop, prefixes) = update.also.unwrap();
    assert_eq!((next_hop, prefixes.len()), (std::net::IpAddr::V6(global), 1));
    // What makes one a withdrawal makes both.
    let all = section(&[PATH, NEXT_HOP, (0x80, 14, &reach)]);
    let update = read(&all, &NET, both).unwrap();
    assert_eq!((update.withdrawn.len(), update.also), (2, None));
    let all = section(&[ORIGIN, PATH, (0x80, 14, &reach)]);
    let update = read(&all, &NET, both).unwrap();
    assert_eq!((update.withdrawn.len(), update.also), (2, None), "the classic prefixes have no next hop");
}

#[test]
fn long_words_are_cut_between_letters() {
    let notification = Notification::with_words(2, &"ä".repeat(200));
    assert_eq!((notification.data.len(), notification.data[0]), (255, 254));
    assert_eq!(notification.communication().unwrap(), "ä".repeat(127));
    assert_eq!(Notification::with_words(2, "").data, [0]);
}

/// RFC 8654: the limit is what the receiver said, and OPEN and KEEPALIVE are never extended.
#[test]
fn extended_messages_have_their_own_limits() {
    let header = |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
    for (kind, plain, extended) in
        [(1, 4096, 4096), (2, 4096, 65535), (3, 4096, 65535), (4, 19, 19), (5, 4096, 65535)]
    {
        for (limit, longest) in [(frame::MAX_MESSAGE, plain), (frame::EXTENDED_MESSAGE, extended)] {
            assert_eq!(
                frame::split_within(&header(longest, kind), limit).map(|whole| whole.is_some()),
                Ok(kind == 4)
            );
            if let Some(longer) = longest.checked_add(1) {
                let error = frame::split_within(&header(longer, kind), limit).unwrap_err();
                let expected = Notification { code: 1, subcode: 2, data: longer.to_be_bytes().to_vec() };
                assert_eq!(error.notification(), expected, "{kind} {limit}");
            }
        }
    }
    let mut whole = header(60_000, 2);
    whole.resize(60_000, 0);
    let (frame, rest) = frame::split_within(&whole, frame::EXTENDED_MESSAGE).unwrap().unwrap();
    assert_eq!((frame.body.len(), rest.len()), (60_000 - 19, 0));
}

/// RFC 9072 2: the extended form is used where the plain one has no room, and read wherever it is used.
#[test]
fn many_capabilities_make_extended_parameters() {
    let unknown = |octets: usize| Capability::Unknown { code: 200, value: vec![7; octets - 2] };
    for octets in [251, 253, 254, 1999] {
        let mut capabilities = vec![unknown(200); octets / 200];
        capabilities.push(unknown(octets % 200));
        let open = Open { asn: 64512, hold_time: 90, router_id: [1, 1, 1, 1].into(), capabilities };
        let encoded = open.encode();
        let (frame, _) = frame::split(&encoded).unwrap().unwrap();
        assert_eq!(Open::decode(frame.body).unwrap(), open);
        let extended = encoded[28..30] == [255, 255];
        assert_eq!(extended, octets > 253, "{octets}");
    }
}

#[test]
fn only_to_customer_is_read_and_passed_on_without_the_partial_flag() {
    let all = section(&[ORIGIN, PATH, NEXT_HOP, (0xc0, 35, &[0, 0, 0xfd, 0xe8])]);
    let attributes = read(&all, &NET, INTERNAL).unwrap().attributes.unwrap();
    assert_eq!((attributes.only_to_customer, attributes.unknown.len()), (Some(65000), 0));
    let mut tail = Vec::new();
    attributes.encode_tail(&mut tail);
    assert_eq!(tail, [0xc0, 35, 4, 0, 0, 0xfd, 0xe8]);
}

/// RFC 8950: next hops of IPv4 prefixes may be IPv6 ones where that was agreed on, and only there.
#[test]
fn ipv4_prefixes_have_ipv6_next_hops_only_if_agreed_on() {
    let agreed = Context { ipv4: Some(Reading { extended_next_hop: true, ..PLAIN }), ..INTERNAL };
    let global = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let link_local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let both = [global, link_local].concat();
    for (next_hop, expected) in [
        (&[10, 0, 0, 7][..], Some(std::net::IpAddr::from([10, 0, 0, 7]))),
        (&global[..], Some(std::net::IpAddr::from(global))),
        (&both[..], Some(std::net::IpAddr::from(global))),
        (&global[..15], None),
        (&[10, 0, 0, 7, 0, 0, 0, 0][..], None),
    ] {
        let length = u8::try_from(next_hop.len()).unwrap();
        let reach = [&[0, 1, 1, length], next_hop, &[0, 8, 10]].concat();
        let all = section(&[ORIGIN, PATH, (0x80, 14, &reach)]);
        let seen = read(&all, &[], agreed).map(|update| update.attributes.unwrap().next_hop);
        assert_eq!(seen.as_ref().ok(), expected.as_ref(), "{next_hop:?}");
        let plain = read(&all, &[], INTERNAL).map(|update| update.attributes.unwrap().next_hop);
        assert_eq!(plain.is_ok(), next_hop.len() == 4, "not agreed on: {next_hop:?}");
    }
    let ipv6 = Context { ipv6: Some(PLAIN), ..agreed };
    let reach = [&[0, 2, 1, 4, 10, 0, 0, 7, 0][..], &[16, 0xfd, 0x01]].concat();
    assert!(
        read(&section(&[ORIGIN, PATH, (0x80, 14, &reach)]), &[], ipv6).is_err(),
        "never the other way round"
    );
}
