//! `tortie-bgpd` and the BGP speakers of others: BIRD 2, FRR and GoBGP as Debian packages them. Topology: hosts around one
//! switch, see `e2e/src/speakers/mod.rs`; each test has a switch of its own and says who stands where.

#[path = "interop/establish.rs"]
mod establish;
#[path = "interop/faulty.rs"]
mod faulty;
#[path = "interop/features.rs"]
mod features;
#[path = "interop/feed.rs"]
mod feed;
#[path = "interop/forwarding.rs"]
mod forwarding;
#[path = "interop/graceful.rs"]
mod graceful;
#[path = "interop/protect.rs"]
mod protect;
#[path = "interop/rack.rs"]
mod rack;
#[path = "interop/reflect.rs"]
mod reflect;
#[path = "interop/refresh.rs"]
mod refresh;
#[path = "interop/rekey.rs"]
mod rekey;
#[path = "interop/silence.rs"]
mod silence;
