//! Any text as a user's file: read, defaulted and validated, or refused with reasons.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::strict;

fuzz_target!(|text: &str| {
    for document in strict::documents("fuzz", text).unwrap_or_default() {
        let _ = strict::read(&document.value, "default");
    }
});
