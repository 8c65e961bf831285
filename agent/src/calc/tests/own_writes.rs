//! Own writes enter ahead of the watch, and the watch's late news do not undo them.

use tortie_datastore::syncer::Update;
use tortie_model::{Key, Kind};

use super::world::{World, settings};
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
