//! A BGP speaker.
//!
//! The core is pure: bytes, commands, table changes and time in; bytes, dials, table changes out; one next deadline.
//! The tokio shell lives in `net` behind the feature of that name. Nothing here knows a kernel or a datastore.

pub mod config;
pub mod filter;
pub mod snapshot;
pub mod table;

pub use config::{PeerConfig, PeerId, SpeakerConfig};
