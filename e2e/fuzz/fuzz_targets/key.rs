//! Any text as a key: what parses prints as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::Key;

fuzz_target!(|text: &str| {
    if let Some(key) = Key::parse(text) {
        assert_eq!(Key::parse(&key.to_string()), Some(key));
    }
});
