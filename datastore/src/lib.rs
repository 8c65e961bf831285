//! The datastore: etcd's API as the one store protocol, spoken to an etcd cluster or to the embedded server.
//!
//! | module | what it owns |
//! |---|---|
//! | [`store`] | the [`Store`] trait: its written contract, transactions, watches |
//! | [`error`] | what can go wrong, in words a user can act on |
//! | [`ipam`] | addresses for workloads: one transaction an allocation |
//! | [`config`] | configuration file and environment; [`connect`] |
//! | [`etcd`] | the contract over an etcd cluster |
//! | [`server`] | the embedded server of etcd's API over a file |
//! | [`memory`] | the contract in memory, for tests and dry runs |
//! | [`client`] | typed resources over a store: create, update, delete, get, list |
//! | [`init`] | what every cluster has: ClusterInformation and the built-in tiers |
//! | [`syncer`] | list + watch of everything, as one stream of updates with an in-sync mark |

pub mod client;
pub mod config;
pub mod error;
pub mod etcd;
pub mod init;
pub mod ipam;
pub mod memory;
pub mod server;
pub mod store;
pub mod syncer;

pub use client::{Client, ClientError};
pub use config::{StoreConfig, connect};
pub use error::StoreError;
pub use store::Store;
pub use syncer::{SyncEvent, SyncState, Syncer};
