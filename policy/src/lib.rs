//! From network policy to an nf_tables rule-set; pure.
//!
//! ```text
//! Snapshot ──▶ select, order ──▶ compile ──▶ Ruleset (ir) ──▶ nft::render  (text for `nft -f -`, for people, golden files)
//!                                               └──────────▶ eval         (the same IR judged on a packet)
//! ```

pub mod snapshot;

pub use snapshot::Snapshot;

/// The compiled rules of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {}
