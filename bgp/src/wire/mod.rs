//! BGP messages on the wire: structure first, judgement after it. Pure functions over slices; no session state.
//!
//! A message is cut by [`frame`], taken apart by [`open`], [`update`], [`refresh`] or [`notification`], and an UPDATE is then judged
//! by [`validate`], which knows the outcomes of RFC 7606.

pub mod as_path;
pub mod attribute;
pub mod capability;
pub mod error;
pub mod frame;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod refresh;
pub mod update;
pub mod validate;

pub use attribute::PathAttributes;
pub use capability::{Capability, GracefulRestart};
pub use error::WireError;
pub use frame::{Frame, Kind};
pub use notification::Notification;
pub use open::Open;
pub use validate::{Context, Fault, Reading, Update};

/// The octets `N` at the start of `input`, and what follows.
pub(crate) fn take<const N: usize>(input: &[u8]) -> Option<([u8; N], &[u8])> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    Some((*head, rest))
}

/// `count` octets from the start of `input`, and what follows.
pub(crate) fn take_slice(input: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    input.split_at_checked(count)
}
