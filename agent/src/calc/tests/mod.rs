//! Tests of the calculation: each stage on small clusters, and lists of states walked in every order.

mod bgp;
mod endpoints;
mod own_writes;
mod policies;
mod routes;
mod states;
pub(crate) mod world;
