//! UPDATE messages, of sessions with and without add-path, with AS numbers of four octets and of two.

use netgauze_bgp_pkt::BgpMessage;
use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::wire::PathAttributes;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout};

use super::routes::{Routes, Session};
use super::{bend, bends, strategies, write};

fn session() -> impl Strategy<Value = Session> {
    let parts = (any::<bool>(), any::<bool>());
    parts.prop_map(|(four_octet, add_path)| Session { four_octet, add_path })
}

fn nlri(family: Family, add_path: bool) -> impl Strategy<Value = Nlri> {
    let path_id = if add_path { any::<u32>().boxed() } else { Just(0).boxed() };
    (strategies::prefix(family), path_id)
        .prop_map(|(prefix, path_id): (Prefix, u32)| Nlri { prefix, path_id })
}

/// A message and what it means. Attributes of which both have the same notion: extended communities of unknown types, attributes
/// without a meaning and identifiers that netgauze wants to be addresses are left out.
fn message() -> impl Strategy<Value = (Session, Vec<u8>, Routes)> {
    let parts = (session(), strategies::family()).prop_flat_map(|(session, f)| {
        let nlri = || nlri(f, session.add_path);
        (Just((session, f)), strategies::attributes(f), vec(nlri(), 1..60), prop::bool::weighted(0.3))
    });
    parts.prop_map(|((session, family), attributes, nlri, withdraw)| {
        let attributes = PathAttributes {
            extended_communities: (&[]).into(),
            unknown: (&[]).into(),
            only_to_customer: None,
            ..attributes
        };
        let layout = Layout { add_path: session.add_path, ..Layout::plain(family) };
        let mut out = vec![];
        if withdraw {
            layout.withdraw(&mut out, nlri.iter());
            return (session, out, Routes::withdrawn(nlri));
        }
        let (head, tail) = if session.four_octet { wide(&attributes) } else { attributes.encode_narrow() };
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        assert!(layout.announce(&mut out, encoded, nlri.iter()));
        (session, out, Routes::announced(&attributes, nlri))
    })
}

fn wide(attributes: &PathAttributes<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut head, mut tail) = (vec![], vec![]);
    attributes.encode_head(&mut head);
    attributes.encode_tail(&mut tail);
    (head, tail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_reads_as_it_was_meant((session, message, meant) in message()) {
        let read = session.theirs(&message).map(|update| Routes::of_theirs(&update));
        prop_assert_eq!(read, Some(meant));
    }

    #[test]
    fn what_they_write_reads_the_same((session, message, meant) in message()) {
        let update = session.theirs(&message).unwrap();
        prop_assert_eq!(session.ours(&write(&BgpMessage::Update(update))), Some(meant));
    }

    /// Where they find a fault and we do not, it is for them to say; where both find none they agree.
    #[test]
    fn what_is_bent_reads_the_same_if_it_reads_at_all(
        (session, mut message, _) in message(),
        bends in bends(),
    ) {
        bend(&mut message, bends);
        if let (Some(ours), Some(theirs)) = (session.ours(&message), session.theirs(&message)) {
            prop_assert_eq!(ours, Routes::of_theirs(&theirs));
        }
    }
}
