//! Any text as a key: what parses prints as it was, so no two texts are one key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::{Key, names};

fuzz_target!(|text: &str| {
    // Most inputs miss the long prefixes, so each is also tried behind them.
    for prefix in ["", "/calico/resources/v3/projectcalico.org/", "/calico/ipam/v2/", "/calico/ipam/v2/assignment/"] {
        let text = format!("{prefix}{text}");
        if let Some(key) = Key::parse(&text) {
            assert_eq!(key.to_string(), text);
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
    }
    if let Some(cidr) = names::cidr_from_key(text) {
        assert_eq!(names::cidr_to_key(&cidr), text);
    }
});
