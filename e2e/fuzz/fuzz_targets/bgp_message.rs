//! Any octets as a stream of messages, for a receiver of ordinary and of extended ones.
//!
//! Never panics; what is cut off fits its bounds and is followed by the rest; what was read of the short messages is
//! written to what reads as the same; each error has a NOTIFICATION.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::wire::update::RawUpdate;
use tortie_bgp::wire::{Kind, Notification, Open, frame, refresh};

fn read(kind: Kind, body: &[u8]) {
    match kind {
        Kind::Open => {
            if let Err(error) = Open::decode(body) {
                drop(error.notification().encode());
            }
        }
        Kind::Update => {
            if let Ok(raw) = RawUpdate::decode(body) {
                let sections = raw.withdrawn.len() + raw.attributes.len() + raw.announced.len();
                assert_eq!(sections + 4, body.len(), "nothing is lost");
            }
        }
        Kind::Notification => {
            if let Some(read) = Notification::decode(body) {
                drop(read.to_string());
                let written = read.encode();
                assert_eq!(Notification::decode(&written[frame::HEADER..]), Some(read));
            }
        }
        Kind::Keepalive => assert!(body.is_empty()),
        Kind::Refresh => {
            if let Some((family, subtype)) = refresh::decode(body) {
                let written = refresh::encode(family, subtype);
                assert_eq!(refresh::decode(&written[frame::HEADER..]), Some((family, subtype)));
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut stream)) = input.split_first() else { return };
    let longest = if choice & 1 == 0 { frame::MAX_MESSAGE } else { frame::EXTENDED_MESSAGE };
    loop {
        match frame::split_within(stream, longest) {
            Ok(Some((message, rest))) => {
                assert_eq!(message.body.len() + frame::HEADER + rest.len(), stream.len());
                assert!(message.body.len() + frame::HEADER <= longest);
                read(message.kind, message.body);
                stream = rest;
            }
            Ok(None) => {
                // The octets said to be missing never are more than a message.
                assert!(stream.is_empty() || frame::missing(stream) <= longest);
                return;
            }
            Err(error) => return drop(error.notification().encode()),
        }
    }
});
