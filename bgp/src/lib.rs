//! A BGP speaker.
//!
//! The core is pure: bytes, commands, table changes and time in; bytes, dials, table changes out; one next deadline.
//! The tokio shell lives in `net` behind the feature of that name. Nothing here knows a kernel or a datastore.
//!
//! - [`Speaker`] is the core; `net::start` runs one with real sockets.
//! - [`wire`] is the codec: structure first, judgement by RFC 7606 after it.
//! - `fsm` holds the state machine of a peer, `rib` the routes, `import` and `export` the rules between the two.
//!
//! What holds everywhere: nothing from the wire makes it panic; an input that concerns one peer never resets another;
//! a decision depends on present routes only, never on their order of arrival; no timer delays an UPDATE.
//!
//! RFCs 4271, 4760, 5492, 6793, 4456, 1997, 8092, 7606, 2918, 7313, 4724, 8538, 4486, 6608, 6286, 7607, 8654, 8950, 9003,
//! 9072, 9234, 9687, 2385, 5082; see `docs/bgp.md` for their status.

pub mod config;
mod export;
pub mod family;
pub mod filter;
mod fsm;
mod import;
#[cfg(feature = "net")]
pub mod net;
pub mod query;
mod rib;
mod roles;
pub mod snapshot;
pub mod speaker;
pub mod table;
pub mod wire;

pub use config::{PeerConfig, PeerId, SpeakerConfig};
pub use speaker::Speaker;
