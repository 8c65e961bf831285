//! `tortie-bgpd` and the BGP speakers of others: BIRD 2, FRR and GoBGP as Debian packages them. Topology: hosts around one
//! switch, see `e2e/src/speakers/mod.rs`; each test has a switch of its own and says who stands where.

#[path = "interop/establish.rs"]
mod establish;
