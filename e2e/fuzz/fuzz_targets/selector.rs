//! Any text: parses or is refused; what parses prints to a text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::selector::Selector;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let printed = selector.to_string();
        assert_eq!(printed.parse::<Selector>().expect("canonical text parses"), selector, "{printed}");
    }
});
