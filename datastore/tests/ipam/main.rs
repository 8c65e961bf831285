//! IPAM against a store: what is written, in how many transactions, and that nothing leaks whatever fails or races.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocation;
mod audit;
mod concurrency;
mod crash;
mod fixture;
mod histories;
mod leaks;
mod rules;
mod servers;
mod trips;
mod tunnel;
mod upkeep;
