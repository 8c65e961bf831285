//! What two OPENs agree on, capability by capability.

use super::*;
use crate::config::{AddPath, Role};
use crate::fsm::negotiate::{FamilySession, Session};
use crate::wire::{Capability, WireError};

const CONN: ConnId = ConnId::Dialled(1);
const BOTH: AddPath = AddPath { send: true, receive: true };

fn ours(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings(false);
    change(&mut settings);
    settings
}

fn external(change: impl FnOnce(&mut Settings)) -> Settings {
    ours(|s| {
        s.remote_as = 65000;
        change(s);
    })
}

/// What we make of the OPEN of a speaker with these settings of its own.
fn agree(ours: &Settings, theirs: &Settings) -> Result<Session, WireError> {
    let router_id = Ipv4Addr::new(9, 9, 9, 9);
    let theirs = Settings { router_id, local_as: ours.remote_as, remote_as: ours.local_as, ..theirs.clone() };
    let message = theirs.open(false).encode();
    let (frame, _) = frame::split(&message).unwrap().unwrap();
    ours.negotiate(CONN, LOCAL, &Open::decode(frame.body).unwrap())
}

fn plain(family: Family) -> FamilySession {
    FamilySession { family, add_path_send: false, add_path_receive: false, extended_next_hop: false }
}

#[test]
fn the_session_carries_what_both_want() {
    use Family::{Ipv4, Ipv6};
    for (own, their, carried) in [
        (vec![Ipv4], vec![Ipv4, Ipv6], vec![Ipv4]),
        (vec![Ipv4, Ipv6], vec![Ipv6], vec![Ipv6]),
        (vec![Ipv4, Ipv6], vec![Ipv4, Ipv6], vec![Ipv4, Ipv6]),
    ] {
        let session =
            agree(&ours(|s| s.families = own.clone()), &ours(|s| s.families = their.clone())).unwrap();
        assert_eq!(session.families, carried.into_iter().map(plain).collect::<Vec<_>>(), "{own:?} {their:?}");
        let restart = session.restart.unwrap();
        assert_eq!(restart.families.len(), session.families.len(), "only families of the session");
    }
    let nothing = agree(&ours(|s| s.families = vec![Ipv4]), &ours(|s| s.families = vec![Ipv6]));
    assert_eq!(nothing, Err(WireError::Family(Ipv4)));
}

#[test]
fn paths_have_identifiers_where_one_end_sends_and_the_other_receives() {
    const SEND: AddPath = AddPath { send: true, receive: false };
    const RECEIVE: AddPath = AddPath { send: false, receive: true };
    for (own, their, sends, receives) in [
        (BOTH, BOTH, true, true),
        (BOTH, SEND, false, true),
        (BOTH, RECEIVE, true, false),
        (SEND, SEND, false, false),
        (SEND, RECEIVE, true, false),
        (BOTH, AddPath::default(), false, false),
        (AddPath::default(), BOTH, false, false),
    ] {
        let session = agree(&ours(|s| s.add_path = own), &ours(|s| s.add_path = their)).unwrap();
        let family = session.families[0];
        assert_eq!((family.add_path_send, family.add_path_receive), (sends, receives), "{own:?} {their:?}");
        assert_eq!(session.context(true).ipv4.unwrap().add_path, receives);
    }
}

#[test]
fn an_add_path_mode_without_a_meaning_is_ignored() {
    let ours = ours(|s| s.add_path = BOTH);
    let mut open = Settings { router_id: Ipv4Addr::new(9, 9, 9, 9), ..settings(false) }.open(false);
    open.capabilities.push(Capability::AddPath(vec![(1, 1, 7), (1, 2, 3), (2, 1, 3)]));
    let session = ours.negotiate(CONN, LOCAL, &open).unwrap();
    assert_eq!(session.families, [plain(Family::Ipv4)]);
}

#[test]
fn ipv6_next_hops_for_ipv4_need_both_ends() {
    for (own, their) in [(true, true), (true, false), (false, true)] {
        let session =
            agree(&ours(|s| s.extended_next_hop = own), &ours(|s| s.extended_next_hop = their)).unwrap();
        assert_eq!(session.families[0].extended_next_hop, own && their);
    }
    let both = |s: &mut Settings| {
        s.families = vec![Family::Ipv4, Family::Ipv6];
        s.extended_next_hop = true;
    };
    let session = agree(&ours(both), &ours(both)).unwrap();
    assert!(!session.family(Family::Ipv6).unwrap().extended_next_hop, "only IPv4 needs it");
}

#[test]
fn long_messages_need_both_ends() {
    for (own, their, longest) in [(true, true, 65535), (true, false, 4096), (false, true, 4096)] {
        let session =
            agree(&ours(|s| s.extended_messages = own), &ours(|s| s.extended_messages = their)).unwrap();
        assert_eq!(session.max_message, longest);
    }
}

#[test]
fn refresh_and_notifications_over_restarts() {
    let session = agree(&settings(false), &settings(false)).unwrap();
    assert!(session.refresh && session.enhanced_refresh);
    assert!(session.restart.is_some_and(|restart| restart.notification));
    let no_restart = ours(|s| s.restart_time = Duration::ZERO);
    assert_eq!(agree(&no_restart, &settings(false)).unwrap().restart, None);
    assert_eq!(agree(&settings(false), &no_restart).unwrap().restart, None);
    let mut open = Settings { router_id: Ipv4Addr::new(9, 9, 9, 9), ..settings(false) }.open(false);
    open.capabilities.retain(|capability| *capability != Capability::RouteRefresh);
    let session = settings(false).negotiate(CONN, LOCAL, &open).unwrap();
    assert!(!session.refresh && !session.enhanced_refresh, "the enhanced one builds on the plain one");
}

#[test]
fn roles_fit_or_there_is_no_session() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let all = [Provider, RouteServer, RouteServerClient, Customer, Peer];
    let fit = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    for own in all {
        for their in all {
            let agreed = agree(&external(|s| s.role = Some(own)), &external(|s| s.role = Some(their)));
            if fit.contains(&(own, their)) {
                assert_eq!(agreed.unwrap().remote_role, Some(their));
            } else {
                assert_eq!(agreed, Err(WireError::Role { own, received: Some(their.code()) }));
            }
        }
    }
}

#[test]
fn a_peer_without_a_role_is_refused_only_when_strict() {
    let silent = external(|_| {});
    let lenient = agree(&external(|s| s.role = Some(Role::Customer)), &silent).unwrap();
    assert_eq!(lenient.remote_role, None);
    let strict = external(|s| (s.role, s.strict_role) = (Some(Role::Customer), true));
    let error = agree(&strict, &silent).unwrap_err();
    assert_eq!(error.to_string(), "peer announces no role, wanted is provider since we are customer");
    assert_eq!((error.notification().code, error.notification().subcode), (2, 11));
    assert_eq!(agree(&silent, &strict).unwrap().remote_role, None, "a role we have no use for");
}

#[test]
fn roles_that_contradict_each_other_or_mean_nothing_are_refused() {
    let ours = external(|s| s.role = Some(Role::Peer));
    for codes in [&[4, 3][..], &[3, 4], &[77]] {
        let mut open = Settings { local_as: 65000, ..settings(false) }.open(false);
        open.router_id = Ipv4Addr::new(9, 9, 9, 9);
        open.capabilities.extend(codes.iter().map(|code| Capability::Role(*code)));
        assert!(matches!(ours.negotiate(CONN, LOCAL, &open), Err(WireError::Role { .. })), "{codes:?}");
    }
}

#[test]
fn internal_sessions_have_no_roles() {
    let provider = ours(|s| (s.role, s.strict_role) = (Some(Role::Provider), true));
    assert_eq!(agree(&provider, &provider).unwrap().remote_role, None);
}
