//! The agent of a node, as a library so that its parts can be tested against a real kernel.

pub mod cni;
pub mod desired;
pub mod workload;
