//! Any octets as the body of an OPEN. What was read is written to what reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::wire::{Open, frame};

fuzz_target!(|body: &[u8]| {
    match Open::decode(body) {
        Ok(open) => {
            let written = open.encode();
            let (message, rest) = frame::split(&written).expect("a header").expect("a whole message");
            assert!(rest.is_empty());
            let mut read = Open::decode(message.body).expect("what we write can be read");
            // Without the four-octet capability the number is that of the two-octet field.
            if read.asn != open.asn {
                assert_eq!(read.asn, u32::from(tortie_bgp::wire::open::AS_TRANS));
                read.asn = open.asn;
            }
            assert_eq!(read, open);
        }
        Err(error) => drop(error.notification().encode()),
    }
});
