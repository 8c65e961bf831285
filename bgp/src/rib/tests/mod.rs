//! Decision, table and what groups are told.

mod adj_out;
mod decision;
mod loc;

use std::net::{IpAddr, Ipv4Addr};

use super::PeerKey;
use super::attrs::{AttrId, Interner};
use super::decision::Source;
use crate::family::Prefix;
use crate::wire::PathAttributes;
use crate::wire::as_path;

fn prefix(text: &str) -> Prefix {
    Prefix::from(text.parse::<ipnetwork::IpNetwork>().unwrap())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn source(last: u8) -> Source {
    Source { internal: true, client: false, router_id: Ipv4Addr::new(last, 0, 0, last), address: ip(last) }
}

/// Attributes with this next hop, changed.
fn attrs(interner: &mut Interner, last: u8, change: impl FnOnce(&mut PathAttributes<'static>)) -> AttrId {
    let mut attributes = PathAttributes::originated(ip(last));
    change(&mut attributes);
    interner.intern(&attributes)
}

fn path(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().rev().fold(Vec::new(), |path, number| as_path::prepend(&path, *number))
}

#[test]
fn equal_attributes_are_one_and_unmarked_ones_are_forgotten() {
    let mut interner = Interner::default();
    let first = attrs(&mut interner, 1, |a| a.med = Some(7));
    assert_eq!(first, attrs(&mut interner, 1, |a| a.med = Some(7)));
    let other = attrs(&mut interner, 2, |a| a.med = Some(7));
    assert_ne!(first, other, "the next hop counts");
    for med in 0..2000 {
        attrs(&mut interner, 1, |a| a.med = Some(med));
    }
    assert!(interner.wants_sweep());
    let mut marks = interner.marks();
    marks.mark(first);
    interner.sweep(&marks);
    assert_eq!(interner.len(), 1);
    assert!(!interner.wants_sweep());
    assert_eq!(first, attrs(&mut interner, 1, |a| a.med = Some(7)), "what is marked stays");
    let new = attrs(&mut interner, 3, |_| ());
    assert_eq!((interner.get(new).next_hop(), interner.get(first).next_hop()), (ip(3), ip(1)));
}

#[test]
fn a_view_is_what_was_interned() {
    let mut interner = Interner::default();
    let full = PathAttributes {
        origin: 2,
        as_path: path(&[1, 2, 3]).into(),
        med: Some(1),
        local_pref: Some(2),
        atomic_aggregate: true,
        aggregator: Some((70000, Ipv4Addr::new(1, 2, 3, 4))),
        communities: vec![0, 1, 0, 2].into(),
        originator_id: Some(Ipv4Addr::new(4, 3, 2, 1)),
        cluster_list: vec![1, 1, 1, 1].into(),
        extended_communities: vec![0; 8].into(),
        large_communities: vec![0; 12].into(),
        only_to_customer: Some(65000),
        unknown: vec![0xe0, 99, 1, 5].into(),
        ..PathAttributes::originated(ip(1))
    };
    let attrs = interner.intern(&full);
    assert_eq!(interner.get(attrs).view(), full);
    let summary = interner.get(attrs).summary();
    assert_eq!((summary.hops, summary.neighbour_as, summary.clusters), (3, 1, 1));
    let changed = interner.derive(attrs, |attributes| Some(PathAttributes { origin: 0, ..attributes }));
    assert_eq!(interner.get(changed.unwrap()).view(), PathAttributes { origin: 0, ..full });
    assert_eq!(interner.derive(attrs, |_| None), None);
}
