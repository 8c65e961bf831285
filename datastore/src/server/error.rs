//! Refusals and failures of the embedded server. Refusals carry etcd's own words and codes, since clients match on them.

use std::path::PathBuf;

use tonic::{Code, Status};

/// A request that cannot be done (etcd `api/v3rpc/rpctypes/error.go`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    #[error("nested transactions are not supported by the embedded datastore; use an etcd cluster")]
    NestedTransaction,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTooLong,
    /// The file did not take the write; the store is as it was before.
    #[error("the embedded datastore could not write its file: {0}")]
    NotStored(String),
    /// More is stored than [`super::Limits::bytes`] allows.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A snapshot could not be made.
    #[error("the embedded datastore could not copy its file: {0}")]
    NoSnapshot(String),
    /// The server stops, or its file failed for good.
    #[error("the embedded datastore is shutting down")]
    Stopped,
    /// Parts of etcd's API that make no sense for one process.
    #[error("{0} is not supported by the embedded datastore; use an etcd cluster")]
    Unsupported(&'static str),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let code = match refusal {
            Refusal::EmptyKey
            | Refusal::KeyNotFound
            | Refusal::ValueProvided
            | Refusal::LeaseProvided
            | Refusal::TooManyOperations
            | Refusal::DuplicateKey
            | Refusal::InvalidSort => Code::InvalidArgument,
            Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTooLong => Code::OutOfRange,
            Refusal::LeaseNotFound => Code::NotFound,
            Refusal::LeaseExists => Code::FailedPrecondition,
            Refusal::NestedTransaction | Refusal::Unsupported(_) => Code::Unimplemented,
            Refusal::NotStored(_) | Refusal::NoSpace | Refusal::NoSnapshot(_) => Code::ResourceExhausted,
            Refusal::Stopped => Code::Unavailable,
        };
        Status::new(code, refusal.to_string())
    }
}

/// Why the server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be made or written.
    #[error("cannot use the data directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process has the data.
    #[error("the datastore in {} is in use by another process: stop it, or use another directory", .0.display())]
    InUse(PathBuf),
    /// A snapshot is no snapshot of the embedded server, or cut short, or changed.
    #[error("snapshot {}: {reason}", .path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("datastore file {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start the thread of the embedded datastore")]
    Thread(#[source] std::io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Everybody who can reach the address could change the network.
    #[error(
        "refusing to listen on {0} without TLS; listen on a loopback address, or give the server a certificate \
         (--cert-file, --key-file, and --trusted-ca-file for those of its clients), or pass --insecure if everybody who \
         can reach {0} may change the network"
    )]
    NotLoopback(std::net::SocketAddr),
    /// The server failed while serving.
    #[error("serving the embedded datastore failed")]
    Serve(#[source] tonic::transport::Error),
}
