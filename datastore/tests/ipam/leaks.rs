//! Finding leaks, and releasing nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tortie_datastore::ipam::{
    Allocation, AssignRequest, Extra, IpamError, Leak, Living, Suspects, Tunnel, allocations_of, find_leaks,
};
use tortie_datastore::store::Compare;

use crate::audit::audit;
use crate::fixture::{clock, endpoint_key, ip, ipam, memory, net, nothing_else, pool, want, with_endpoint};

const GRACE: Duration = Duration::from_secs(900);

fn allocation(address: &str, handle: &str, sequence: u64) -> Allocation {
    Allocation {
        address: ip(address),
        block: net("10.65.0.0/26"),
        handle: handle.into(),
        sequence: Some(sequence),
        attributes: BTreeMap::from([("node".into(), "n1".into())]),
    }
}

/// The looks of one node.
#[derive(Default)]
struct Looks {
    handles: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    suspects: Suspects,
}

impl Looks {
    fn at(&mut self, minutes: u64, allocations: &[Allocation]) -> Vec<String> {
        let now = clock() + Duration::from_secs(60 * minutes);
        self.look(now, allocations).iter().map(|leak| leak.handle().to_owned()).collect()
    }

    fn look(&mut self, now: SystemTime, allocations: &[Allocation]) -> Vec<Leak> {
        let living = Living { handles: &self.handles, addresses: &self.addresses };
        find_leaks("n1", allocations, living, now, GRACE, &mut self.suspects)
    }
}

#[test]
fn a_dead_handle_is_a_leak_at_the_second_look_after_the_grace_period() {
    let mut looks = Looks::default();
    looks.handles.insert("alive".into());
    let held = [allocation("10.65.0.1", "dead", 1), allocation("10.65.0.2", "alive", 2)];
    assert!(looks.at(0, &held).is_empty());
    assert!(looks.at(14, &held).is_empty());
    assert_eq!(looks.at(15, &held), ["dead"]);
    assert_eq!(looks.at(16, &held), ["dead"], "until it is released");
    assert!(looks.at(17, &held[1..]).is_empty());
    assert!(looks.at(99, &held).is_empty(), "another leak of the same name begins anew");
}

#[test]
fn one_look_is_not_enough_however_late() {
    let mut looks = Looks::default();
    assert!(looks.at(1000, &[allocation("10.65.0.1", "dead", 1)]).is_empty());
}

#[test]
fn whoever_lived_meanwhile_or_holds_something_else_is_a_new_suspect() {
    let mut looks = Looks::default();
    let held = [allocation("10.65.0.1", "h", 1)];
    looks.at(0, &held);
    looks.handles.insert("h\rcut".into());
    assert!(looks.at(10, &held).is_empty());
    looks.handles.clear();
    assert!(looks.at(20, &held).is_empty(), "it lived at minute 10");
    assert!(looks.at(36, &[allocation("10.65.0.1", "h", 9)]).is_empty(), "assigned again");
    let more = [allocation("10.65.0.1", "h", 9), allocation("10.65.0.3", "h", 10)];
    assert!(looks.at(60, &more).is_empty());
    assert_eq!(looks.at(75, &more), ["h"]);
}

#[test]
fn all_addresses_of_a_handle_or_none() {
    let mut looks = Looks::default();
    looks.addresses.insert(ip("10.65.0.3"));
    let held = [allocation("10.65.0.1", "dual", 1), allocation("10.65.0.3", "dual", 1)];
    looks.at(0, &held);
    assert!(looks.at(20, &held).is_empty(), "an endpoint has one of the addresses");
    looks.addresses.clear();
    looks.at(21, &held);
    let leaks = looks.look(clock() + Duration::from_secs(40 * 60), &held);
    assert_eq!(leaks[0].addresses().collect::<Vec<_>>(), [ip("10.65.0.1"), ip("10.65.0.3")]);
}

#[test]
fn tunnels_are_never_leaks_and_no_grace_means_no_search() {
    let mut looks = Looks::default();
    let mut held: Vec<Allocation> =
        Tunnel::ALL.iter().map(|t| allocation("10.65.0.1", &t.handle("n1"), 1)).collect();
    let mut by_type = allocation("10.65.0.2", "renamed", 1);
    by_type.attributes.insert("type".into(), "vxlanTunnelAddress".into());
    held.push(by_type);
    looks.at(0, &held);
    assert!(looks.at(20, &held).is_empty());
    let (none, nowhere) = (BTreeSet::new(), BTreeSet::new());
    let living = Living { handles: &none, addresses: &nowhere };
    let mut suspects = Suspects::default();
    let dead = [allocation("10.65.0.1", "dead", 1)];
    for minutes in [0, 10_000] {
        let now = clock() + Duration::from_secs(60 * minutes);
        assert!(find_leaks("n1", &dead, living, now, Duration::ZERO, &mut suspects).is_empty());
    }
}

#[test]
fn a_clock_that_goes_back_makes_no_leak() {
    let mut looks = Looks::default();
    let held = [allocation("10.65.0.1", "dead", 1)];
    looks.at(100, &held);
    assert!(looks.at(10, &held).is_empty());
    assert!(looks.at(20, &held).is_empty());
    assert_eq!(looks.at(25, &held), ["dead"]);
}

#[tokio::test]
async fn only_the_nodes_own_allocations_are_looked_at_borrowed_ones_too() {
    let client = memory(&["n1", "n2"], &[pool("p", "10.65.0.0/30", 30)]).await;
    let ipam = ipam(&client);
    ipam.assign(&want("n1", "own"), nothing_else).await.unwrap();
    ipam.assign(&want("n2", "borrowed"), nothing_else).await.unwrap();
    ipam.assign(&AssignRequest::new("n1", "nameless"), nothing_else).await.unwrap();
    let handles = async |node: &str| {
        let found = ipam.node_allocations(node).await.unwrap();
        found.into_iter().map(|allocation| allocation.handle).collect::<Vec<_>>()
    };
    assert_eq!(handles("n1").await, ["own"]);
    assert_eq!(handles("n2").await, ["borrowed"]);
    let block = &audit(&client).await.blocks[&net("10.65.0.0/30")];
    assert_eq!(allocations_of("n2", block).len(), 1);
}

#[tokio::test]
async fn a_leak_is_released_once_and_only_as_it_was_found() {
    let client = memory(&["n1"], &[pool("p", "10.65.0.0/29", 30)]).await;
    let ipam = ipam(&client);
    let five = AssignRequest { ipv4: 5, ..want("n1", "dead") };
    ipam.assign(&five, nothing_else).await.unwrap();
    let mut looks = Looks::default();
    looks.at(0, &ipam.node_allocations("n1").await.unwrap());
    let leaks = looks.look(clock() + GRACE, &ipam.node_allocations("n1").await.unwrap());
    let [leak] = leaks.as_slice() else { panic!("{leaks:?}") };

    // The workload is attached again: it keeps its addresses, but they are a new allocation.
    ipam.assign(&five, with_endpoint("dead")).await.unwrap();
    assert!(ipam.release_leak(leak, Extra::default()).await.unwrap().is_none());
    ipam.assign(&want("n1", "other"), nothing_else).await.unwrap();
    // It got others in place of them.
    ipam.release_by_handle("dead", Extra::default()).await.unwrap();
    ipam.assign(&five, nothing_else).await.unwrap();
    assert!(ipam.release_leak(leak, Extra::default()).await.unwrap().is_none());
    assert_eq!(audit(&client).await.held["dead"].len(), 5);

    looks.at(100, &ipam.node_allocations("n1").await.unwrap());
    looks.handles.insert("other".into());
    let leaks = looks.look(clock() + 100 * GRACE, &ipam.node_allocations("n1").await.unwrap());
    let absent = Extra { compares: vec![Compare::Absent(endpoint_key("dead"))], operations: Vec::new() };
    let error = ipam.release_leak(&leaks[0], absent).await.unwrap_err();
    assert!(matches!(error, IpamError::Superseded), "it has an endpoint: {error}");
    let released = ipam.release_leak(&leaks[0], Extra::default()).await.unwrap().unwrap();
    assert_eq!(released.addresses.len(), 5);
    assert_eq!(audit(&client).await.held.keys().collect::<Vec<_>>(), ["other"]);
    assert!(ipam.release_leak(&leaks[0], Extra::default()).await.unwrap().is_none(), "nothing is left");
}
