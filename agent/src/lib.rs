//! The agent of a node, as a library so that its parts can be tested against a real kernel.

pub mod admin;
pub mod app;
pub mod calc;
pub mod cni;
pub mod config;
pub mod dataplane;
pub mod desired;
pub mod fib;
pub mod kernel;
pub mod learned;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod peering;
pub mod startup;
pub mod status;
pub mod workload;
