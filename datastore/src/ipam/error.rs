//! Why IPAM could not do as asked, with what to do about it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{AssignError, BlockFault, ConfigFault};

use super::pools::Family;
use super::reservations::ReservationFault;
use super::{DEFAULT_BLOCK_LIMIT, RETRIES};
use crate::{ClientError, StoreError};

/// Why an allocation or a release failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// No resource of that name.
    #[error("node {node} does not exist in the datastore; its agent creates it at start: is it running?")]
    NoNode {
        /// The node.
        node: String,
    },
    /// No pool is left after all conditions.
    #[error("no configured pool selects node {node} for {family} addresses ({reasons})")]
    NoPool {
        /// The node.
        node: String,
        /// Family wanted.
        family: Family,
        /// Each pool of the family and why not; or what to do when there is none.
        reasons: String,
    },
    /// A pool asked for by name or CIDR does not exist.
    #[error("the requested pool {pool} does not exist; configured are: {configured}")]
    UnknownPool {
        /// As asked for.
        pool: String,
        /// Names and CIDRs of the others.
        configured: String,
    },
    /// A pool asked for gives out nothing.
    #[error("the requested pool {pool} is disabled; enable it (spec.disabled: false) or ask for another")]
    DisabledPool {
        /// As asked for.
        pool: String,
    },
    /// No free address left.
    #[error(
        "{pools} exhausted: no free {family} address for node {node}; create another IPPool, or delete workloads"
    )]
    Exhausted {
        /// `pool 10.0.0.0/24 is`, or several.
        pools: String,
        /// Family wanted.
        family: Family,
        /// The node.
        node: String,
    },
    /// The node may not claim another block.
    #[error(
        "node {node} holds {held} blocks and all are full; the limit is {limit} \
         (the smaller of the request's and maxBlocksPerHost of the IPAM configuration, {DEFAULT_BLOCK_LIMIT} when unset)"
    )]
    BlockLimit {
        /// The node.
        node: String,
        /// Blocks it holds.
        held: usize,
        /// Blocks it may hold.
        limit: usize,
    },
    /// No pool contains the address asked for.
    #[error("address {address} is in no enabled pool that allows {usage}; configured are: {configured}")]
    OutsidePools {
        /// The address.
        address: IpAddr,
        /// What for.
        usage: String,
        /// Names and CIDRs of the pools.
        configured: String,
    },
    /// Another handle has the address asked for.
    #[error("address {address} is already assigned to handle '{handle}'")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The handle that has it.
        handle: String,
    },
    /// The address asked for was given back a short time ago.
    #[error(
        "address {address} was released by handle '{handle}' a short time ago and cools down (ipCooldownSeconds of the \
         IPAM configuration); ask for another, or again later"
    )]
    CoolingDown {
        /// The address.
        address: IpAddr,
        /// The handle that had it.
        handle: String,
    },
    /// An address to be released is held by another handle than the caller thought.
    #[error("the given handle ({given}) does not match ({found}) when attempting to release IP")]
    HandleMismatch {
        /// As the caller thought.
        given: String,
        /// As stored.
        found: String,
    },
    /// An address to be released was given out again since the caller looked.
    #[error("the given sequence number ({given}) does not match ({found}) when attempting to release IP")]
    SequenceMismatch {
        /// As the caller saw it.
        given: u64,
        /// As stored; 0 in very old data.
        found: u64,
    },
    /// A reservation cannot be read, so nothing is assigned unasked.
    #[error(transparent)]
    Reservation(#[from] ReservationFault),
    /// A configuration that must not be stored.
    #[error("the IPAM configuration was not changed: {}", list(.0))]
    Config(Vec<ConfigFault>),
    /// A block still has addresses in use, and only empty ones were to be given up.
    #[error("block {block} of {owner} still has {in_use} addresses in use")]
    NotEmpty {
        /// The block.
        block: IpNetwork,
        /// `host:n1`.
        owner: String,
        /// How many.
        in_use: usize,
    },
    /// Strict affinity forbids to take an address from this block.
    #[error(
        "address {address} lies in block {block} of {owner}, and strictAffinity is on: ask for another address"
    )]
    ForeignBlock {
        /// The address.
        address: IpAddr,
        /// Its block.
        block: IpNetwork,
        /// `node n2`, or nobody.
        owner: String,
    },
    /// A block of another size has the place of the address's block.
    #[error(
        "address {address} belongs into block {block}, but block {present} of another size is there: release what it holds \
         first, or ask for another address"
    )]
    BlockSizeChanged {
        /// The address.
        address: IpAddr,
        /// Its block by the pool's present block size.
        block: IpNetwork,
        /// The block that is stored.
        present: IpNetwork,
    },
    /// A stored block contradicts itself.
    #[error("stored block is damaged")]
    Damaged(#[from] BlockFault),
    /// A condition of the caller's own part of the transaction does not hold.
    #[error("the resource written together with the allocation was changed by someone else")]
    Superseded,
    /// Others wrote the same blocks all the time.
    #[error("gave up after {RETRIES} conflicting writes by others; try again")]
    Contended,
    /// A stored value cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A resource cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AssignError> for IpamError {
    fn from(error: AssignError) -> IpamError {
        match error {
            AssignError::InUse { address, handle } => IpamError::AddressInUse { address, handle },
            AssignError::CoolingDown { address, handle } => IpamError::CoolingDown { address, handle },
            AssignError::Outside { address, .. } => {
                IpamError::AddressInUse { address, handle: String::new() }
            }
        }
    }
}

fn list(faults: &[ConfigFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
