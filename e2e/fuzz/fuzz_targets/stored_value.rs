//! Any bytes as a stored resource of any kind: what decodes encodes to bytes that decode to the same, unknown fields
//! included.
#![no_main]

use libfuzzer_sys::fuzz_target;
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
});
