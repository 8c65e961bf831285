//! The agent of a node, as a library so that its parts can be tested against a real kernel.

pub mod dataplane;
pub mod desired;
pub mod fib;
pub mod kernel;
