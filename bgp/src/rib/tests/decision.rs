//! The order of criteria, and that the order of arrival plays no part.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::rib::decision::{Candidate, Reason, best, compare, shares};

fn candidate(interner: &Interner, attrs: AttrId, source: Source) -> Candidate<'_> {
    Candidate { summary: interner.get(attrs).summary(), source, path_id: 0 }
}

/// The better path first, with the reason.
#[test]
fn each_criterion_in_its_turn() {
    let mut i = Interner::default();
    let base = attrs(&mut i, 1, |a| a.as_path = path(&[1, 2]).into());
    let preferred =
        attrs(&mut i, 1, |a| (a.as_path, a.local_pref, a.origin) = (path(&[1, 2, 3]).into(), Some(101), 2));
    let shorter = attrs(&mut i, 1, |a| (a.as_path, a.origin) = (path(&[1]).into(), 2));
    let incomplete = attrs(&mut i, 1, |a| (a.as_path, a.origin) = (path(&[1, 2]).into(), 2));
    let med = attrs(&mut i, 1, |a| (a.as_path, a.med) = (path(&[1, 2]).into(), Some(1)));
    let other_as = attrs(&mut i, 1, |a| (a.as_path, a.med) = (path(&[9, 2]).into(), Some(5)));
    let reflected = attrs(&mut i, 1, |a| {
        a.as_path = path(&[1, 2]).into();
        a.cluster_list = vec![1, 1, 1, 1].into();
    });
    let external = Source { internal: false, ..source(9) };
    let same_id = Source { address: ip(200), ..source(1) };
    let cases = [
        ((&preferred, source(1)), (&base, source(1)), Reason::LocalPref),
        ((&shorter, source(1)), (&base, source(1)), Reason::AsPathLength),
        ((&base, source(1)), (&incomplete, source(1)), Reason::Origin),
        ((&base, source(9)), (&med, source(1)), Reason::Med),
        ((&base, external), (&base, source(1)), Reason::ExternalOverInternal),
        ((&other_as, source(1)), (&base, source(2)), Reason::RouterId),
        ((&base, source(1)), (&reflected, source(1)), Reason::ClusterListLength),
        ((&base, source(1)), (&base, same_id), Reason::PeerAddress),
    ];
    for ((a, from_a), (b, from_b), reason) in cases {
        let (a, b) = (candidate(&i, *a, from_a), candidate(&i, *b, from_b));
        assert_eq!(compare(a, b), (Ordering::Less, reason));
        assert_eq!(compare(b, a), (Ordering::Greater, reason));
        assert_eq!(compare(a, a), (Ordering::Equal, Reason::Same));
    }
}

#[test]
fn an_originator_id_stands_for_the_router_id() {
    let mut i = Interner::default();
    let from_low = attrs(&mut i, 1, |a| a.originator_id = Some(Ipv4Addr::new(0, 0, 0, 1)));
    let plain = attrs(&mut i, 1, |_| ());
    let (a, b) = (candidate(&i, from_low, source(9)), candidate(&i, plain, source(1)));
    assert_eq!(compare(a, b), (Ordering::Less, Reason::RouterId));
}

/// A path that lost by MED within its own neighbour AS shares no load, though the best has that MED, too.
#[test]
fn who_lost_by_med_shares_no_load() {
    let mut i = Interner::default();
    let mut of = |neighbour: u32, med: u32| {
        attrs(&mut i, 1, |a| (a.as_path, a.med) = (path(&[neighbour]).into(), Some(med)))
    };
    let (winner, other, loser) = (of(1, 10), of(2, 5), of(2, 10));
    let all = [(winner, 1), (other, 2), (loser, 3)].map(|(attrs, id)| candidate(&i, attrs, source(id)));
    assert_eq!(best(&all), Some(0));
    assert_eq!(all.map(|path| shares(all[0], path, &all)), [true, true, false]);
}

proptest! {
    /// MED makes pairs intransitive; the choice must not depend on the order all the same.
    #[test]
    fn the_best_is_the_same_in_any_order(
        paths in prop::collection::vec((1..4_u32, 0..3_u32, 1..6_u8, any::<bool>()), 1..7),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut interner = Interner::default();
        let all: Vec<(AttrId, Source)> = paths.iter().enumerate().map(|(n, (neighbour, med, id, internal))| {
            let attrs = attrs(&mut interner, 1, |a| (a.as_path, a.med) = (path(&[*neighbour]).into(), Some(*med)));
            let address = ip(u8::try_from(n).unwrap());
            (attrs, Source { internal: *internal, address, ..source(*id) })
        }).collect();
        let candidates: Vec<Candidate<'_>> =
            all.iter().map(|(attrs, source)| candidate(&interner, *attrs, *source)).collect();
        let mut turned = candidates.clone();
        turned.rotate_left(seed.index(candidates.len()));
        turned.reverse();
        let first = candidates[best(&candidates).unwrap()].source.address;
        prop_assert_eq!(turned[best(&turned).unwrap()].source.address, first);
        prop_assert!(best(&[]).is_none());
    }
}
