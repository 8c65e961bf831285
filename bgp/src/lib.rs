//! A BGP speaker.
//!
//! The core is pure: bytes, commands, table changes and time in; bytes, dials, table changes out; one next deadline.
//! The tokio shell lives in `net` behind the feature of that name. Nothing here knows a kernel or a datastore.

pub mod config;
mod export;
pub mod family;
pub mod filter;
mod fsm;
mod import;
#[cfg(feature = "net")]
pub mod net;
mod rib;
pub mod snapshot;
pub mod speaker;
pub mod table;
pub mod wire;

pub use config::{PeerConfig, PeerId, SpeakerConfig};
pub use speaker::Speaker;
