//! The datastore: etcd's API as the one store protocol, spoken to an etcd cluster or to the embedded server.
//!
//! | module | what it owns |
//! |---|---|
//! | [`store`] | the [`Store`] trait: its written contract, transactions, watches |
//! | [`error`] | what can go wrong, in words a user can act on |
//! | [`memory`] | the same contract in memory, for tests and dry runs |
//! | [`ipam`] | addresses for workloads: one transaction an allocation |
//! | [`client`] | typed resources over a store: create, update, apply, delete, get, list |
//! | [`syncer`] | list + watch of everything, as one stream of updates with an in-sync mark |

pub mod client;
pub mod config;
pub mod error;
pub mod etcd;
pub mod ipam;
pub mod memory;
pub mod server;
pub mod store;
pub mod syncer;

pub use client::{Client, ClientError};
pub use error::StoreError;
pub use store::Store;
