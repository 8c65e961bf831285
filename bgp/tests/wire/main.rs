//! The codec from outside: what is encoded is decoded again, and no input makes it panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differential;
mod faults;
mod noise;
mod roundtrip;
mod strategies;
