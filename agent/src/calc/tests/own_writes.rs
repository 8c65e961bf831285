//! Own writes enter ahead of the watch, and the watch's late news do not undo them.

use tortie_datastore::syncer::Update;
use tortie_model::ipam::{AllocationAttribute, Block};
use tortie_model::{Key, Kind};

use super::world::{Stored, World, net, settings};
use crate::calc::Calc;

fn key() -> Key {
    Key::resource(Kind::WorkloadEndpoint, Some("default"), "a")
}

/// The endpoint with an address ending in `last`, or its removal.
fn update(last: Option<u8>, revision: i64) -> Update {
    let value = last.map(|last| {
        let world = World::default().endpoint("default/a", "n1", "cali1", &[&format!("10.64.0.{last}/32")]);
        world.0[&key()].value(&key())
    });
    Update { key: key(), value, revision }
}

/// A calculation whose watch has reported everything up to revision 5.
fn calc() -> Calc {
    let mut calc = Calc::new(settings());
    for mut update in World::nodes(1).updates() {
        update.revision = 5;
        calc.apply(update);
    }
    calc.in_sync();
    calc.flush().unwrap();
    calc
}

/// The address after a flush: `Some(None)` when the endpoint went.
fn flushed(calc: &mut Calc) -> Option<Option<String>> {
    let output = calc.flush()?;
    let interface = output.desired.interfaces.get("cali1");
    Some(interface.map(|i| i.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
}

fn at(last: u8) -> Option<Option<String>> {
    Some(Some(format!("10.64.0.{last}")))
}

#[test]
fn an_own_write_counts_at_once_and_its_echo_is_nothing() {
    let mut calc = calc();
    calc.apply_own(update(Some(1), 10));
    assert_eq!(flushed(&mut calc), at(1));
    calc.apply(update(Some(1), 10));
    assert_eq!(flushed(&mut calc), None);
    calc.apply(update(Some(2), 12));
    assert_eq!(flushed(&mut calc), at(2));
}

#[test]
fn an_old_value_seen_late_does_not_roll_back() {
    let mut calc = calc();
    calc.apply_own(update(Some(2), 10));
    calc.apply(update(Some(1), 8));
    assert_eq!(flushed(&mut calc), at(2));
    // Nor does it bring back what was deleted.
    calc.apply_own(update(None, 11));
    calc.apply(update(Some(2), 10));
    assert_eq!(flushed(&mut calc), Some(None));
    calc.apply(update(None, 11));
    calc.apply(update(Some(3), 12));
    assert_eq!(flushed(&mut calc), at(3));
}

#[test]
fn an_own_write_that_comes_after_its_echo_is_history() {
    let mut calc = calc();
    calc.apply(update(Some(1), 10));
    calc.apply(update(None, 11));
    calc.apply_own(update(Some(1), 10));
    assert_eq!(flushed(&mut calc), Some(None));
    // Own writes out of order count by revision too.
    calc.apply_own(update(None, 21));
    calc.apply_own(update(Some(1), 20));
    assert_eq!(flushed(&mut calc), None);
}

#[test]
fn who_lives_here_is_told_once_everything_is_known() {
    let mut block = Block::new(net("10.64.0.0/26"), Some("n2"), None, 1);
    let owner = |node: &str, handle: &str| AllocationAttribute {
        handle_id: Some(handle.into()),
        secondary: Some([("node".to_owned(), node.to_owned())].into()),
        ..AllocationAttribute::default()
    };
    block.assign("10.64.0.0".parse().unwrap(), &owner("n1", "net.a")).unwrap();
    block.assign("10.64.0.1".parse().unwrap(), &owner("n2", "net.b")).unwrap();
    let mut world = World::nodes(2).endpoint("default/a", "n1", "cali1", &["10.64.0.0/32"]).endpoint(
        "default/b",
        "n2",
        "cali2",
        &["10.64.0.1/32"],
    );
    world.0.insert(Key::Block(block.cidr), Stored::Block(Box::new(block)));
    let mut calc = Calc::new(settings());
    world.updates().into_iter().for_each(|update| calc.apply(update));
    assert_eq!(calc.tenancy(), None, "not in sync");
    calc.in_sync();
    let tenancy = calc.tenancy().unwrap();
    assert_eq!(tenancy.endpoints.iter().map(|e| e.metadata.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(tenancy.allocations.iter().map(|a| a.handle.as_str()).collect::<Vec<_>>(), ["net.a"]);
    // An endpoint that cannot be read may be one of this node.
    let unreadable = Stored::Unreadable(Kind::WorkloadEndpoint).value(&key());
    calc.apply(Update { key: key(), value: Some(unreadable), revision: 50 });
    assert_eq!(calc.tenancy(), None);
}
