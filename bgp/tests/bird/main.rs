//! Our speaker and a real BIRD 2, joined by a veth between two network namespaces of the test's own.
//!
//! Needs bird2, iproute2 and util-linux, and user namespaces; fails without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod families;
mod lab;
mod options;
#[allow(dead_code, reason = "its main is not ours")]
#[path = "../../examples/speaker.rs"]
mod program;
mod protection;
mod restart;
mod sessions;
mod speaker;
