//! Why a workload could not be attached or detached, with what to do about it.

use std::time::Duration;

use tortie_datastore::ipam::IpamError;
use tortie_datastore::{ClientError, StoreError};
use tortie_model::names::NameError;

use super::wiring::WiringError;

/// Why an operation of the service failed. An attach that failed has undone what it did.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A field of the request cannot be used.
    #[error("{field} '{value}' {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it breaks, as a predicate.
        rule: &'static str,
    },
    /// The endpoint has no name.
    #[error("cannot name the workload endpoint")]
    Name(#[from] NameError),
    /// The interface belongs to someone else.
    #[error("interface {interface} already belongs to {owner}; detach that first")]
    Taken {
        /// The host interface.
        interface: String,
        /// Container and interface inside that have it.
        owner: String,
    },
    /// A check found no such endpoint.
    #[error("container {container} has no endpoint for {interface} on this node: {reason}")]
    NotAttached {
        /// The container.
        container: String,
        /// Interface inside.
        interface: String,
        /// What is missing.
        reason: String,
    },
    /// An operator or a migration has stopped the cluster.
    #[error(
        "the datastore is locked (ClusterInformation 'default' has datastoreReady: false); wait until the migration ends"
    )]
    NotReady,
    /// IPAM failed.
    #[error("cannot {action}")]
    Ipam {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        source: Box<IpamError>,
    },
    /// The datastore failed.
    #[error("cannot {action}")]
    Datastore {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        source: Box<ClientError>,
    },
    /// The kernel failed.
    #[error("cannot wire {interface}")]
    Wiring {
        /// The host interface.
        interface: String,
        /// Why not.
        source: WiringError,
    },
    /// Others changed the endpoint all the time.
    #[error("workload endpoint {endpoint} was changed by someone else again and again; try again")]
    Contended {
        /// Its name.
        endpoint: String,
    },
    /// The data plane did not report the interface as wired in time.
    #[error("interface {interface} is not programmed after {waited:?}: {reason}")]
    NotApplied {
        /// The host interface.
        interface: String,
        /// How long was waited.
        waited: Duration,
        /// What the data plane says about it.
        reason: String,
    },
    /// The agent is shutting down.
    #[error("the agent is shutting down; try again")]
    Stopping,
}

/// What a caller can make of an error; HTTP statuses and CNI codes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot succeed as it is (400).
    Invalid,
    /// There is no such workload (404).
    NotFound,
    /// Someone else has what was asked for (409).
    Conflict,
    /// Try again later (503).
    Unavailable,
    /// Anything else (500).
    Failed,
}

impl ErrorKind {
    /// The HTTP status that says so.
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::Invalid => 400,
            ErrorKind::NotFound => 404,
            ErrorKind::Conflict => 409,
            ErrorKind::Unavailable => 503,
            ErrorKind::Failed => 500,
        }
    }
}

impl WorkloadError {
    /// What a caller can make of it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WorkloadError::Invalid { .. } | WorkloadError::Name(_) => ErrorKind::Invalid,
            WorkloadError::NotAttached { .. }
            | WorkloadError::Wiring { source: WiringError::Namespace { .. }, .. } => ErrorKind::NotFound,
            WorkloadError::Wiring { source: WiringError::OwnNamespace { .. }, .. } => ErrorKind::Invalid,
            WorkloadError::Taken { .. }
            | WorkloadError::Wiring { source: WiringError::Occupied { .. }, .. } => ErrorKind::Conflict,
            WorkloadError::NotReady | WorkloadError::Contended { .. } | WorkloadError::Stopping => {
                ErrorKind::Unavailable
            }
            WorkloadError::Ipam { source, .. } => kind_of_ipam(source),
            WorkloadError::Datastore { source, .. } => kind_of_client(source),
            WorkloadError::Wiring { .. } | WorkloadError::NotApplied { .. } => ErrorKind::Failed,
        }
    }

    /// The whole chain of causes, outermost first, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text = format!("{text}: {next}");
            }
            cause = error.source();
        }
        text
    }
}

fn kind_of_ipam(error: &IpamError) -> ErrorKind {
    match error {
        IpamError::UnknownPool { .. } | IpamError::DisabledPool { .. } | IpamError::OutsidePools { .. } => {
            ErrorKind::Invalid
        }
        IpamError::AddressInUse { .. }
        | IpamError::CoolingDown { .. }
        | IpamError::HandleMismatch { .. }
        | IpamError::SequenceMismatch { .. }
        | IpamError::NotEmpty { .. }
        | IpamError::BlockSizeChanged { .. }
        | IpamError::ForeignBlock { .. } => ErrorKind::Conflict,
        IpamError::Contended | IpamError::Superseded => ErrorKind::Unavailable,
        IpamError::Store(error) => kind_of_store(error),
        IpamError::Client(error) => kind_of_client(error),
        IpamError::NoNode { .. }
        | IpamError::NoPool { .. }
        | IpamError::Exhausted { .. }
        | IpamError::BlockLimit { .. }
        | IpamError::Reservation(_)
        | IpamError::Config(_)
        | IpamError::Damaged(_)
        | IpamError::Decode(_) => ErrorKind::Failed,
    }
}

fn kind_of_client(error: &ClientError) -> ErrorKind {
    match error {
        ClientError::Store(error) => kind_of_store(error),
        ClientError::DoesNotExist(_)
        | ClientError::AlreadyExists(_)
        | ClientError::Conflict(_)
        | ClientError::NotSupported { .. }
        | ClientError::Decode(_) => ErrorKind::Failed,
    }
}

fn kind_of_store(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::Unavailable { .. } => ErrorKind::Unavailable,
        StoreError::Compacted { .. } | StoreError::Refused { .. } => ErrorKind::Failed,
    }
}
