//! Any bytes as a stored value, of a resource of any kind or of IPAM's: what decodes encodes to bytes that decode to the
//! same, unknown fields included. A block that agrees with itself still does after addresses were given and taken back.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tortie_model::ipam::{AllocationAttribute, Block, BlockAffinity, Handle, IpamConfig};
use tortie_model::{Key, Kind, codec};

fuzz_target!(|bytes: &[u8]| {
    for kind in Kind::all() {
        let key = Key::resource(kind, kind.is_namespaced().then_some("default"), "fuzz");
        if let Ok(resource) = codec::decode(kind, &key, bytes, 1) {
            let stored = codec::encode(&resource);
            let again = codec::decode(kind, &key, &stored, 1).expect("what we write we can read");
            assert_eq!(resource.to_value(), again.to_value());
            assert_eq!(codec::encode(&again), stored);
        }
    }
    round_trip::<BlockAffinity>(bytes);
    round_trip::<Handle>(bytes);
    round_trip::<IpamConfig>(bytes);
    if let Some(block) = round_trip::<Block>(bytes) {
        use_block(block);
    }
});

fn round_trip<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let stored = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&stored).expect("what we write we can read");
    assert_eq!(again, value);
    Some(value)
}

fn use_block(mut block: Block) {
    let whole = block.check().is_ok();
    let (before, free) = (block.in_use().count(), block.free());
    let owner = AllocationAttribute { handle_id: Some("fuzz".to_owned()), ..AllocationAttribute::default() };
    let held = block.held_by("fuzz").len();
    let given = block.assign_next(3, &owner, |_| true);
    let _ = block.assign(block.cidr.ip(), &owner);
    block.advance();
    if whole {
        block.check().expect("still whole");
        assert_eq!(given.len(), free.min(3));
        assert!(given.iter().all(|a| block.owner(*a) == Some(&owner)));
    }
    let released = block.release_handle("fuzz");
    if whole {
        block.check().expect("whole after the release");
        assert!(released.len() >= given.len());
        assert_eq!(block.in_use().count(), before - held);
    }
}
