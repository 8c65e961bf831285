//! Any text as a user's file: read, defaulted and validated, or refused with reasons that name a place. What is read is
//! written as JSON that reads as the same resource; the old v1 form becomes a v3 document that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::strict;

fuzz_target!(|text: &str| {
    let lines = text.lines().count() + 1;
    let documents = match strict::documents("fuzz", text) {
        Ok(documents) => documents,
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|e| (1..=lines).contains(&e.origin.line) && e.column >= 1), "{errors:?}");
            return;
        }
    };
    for document in documents {
        assert!((1..=lines).contains(&document.origin.line));
        let json = document.value.to_string();
        let again = strict::documents("fuzz", &json).expect("JSON is read");
        assert!(again.iter().all(|d| d.value == document.value), "{json}");
        match strict::read(&document.value, "default") {
            Ok(resource) => {
                let written = resource.to_value();
                let again = strict::read(&written, "default").expect("what we write we read");
                assert_eq!(again.to_value(), written);
            }
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
});
