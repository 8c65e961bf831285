//! Addresses for workloads and tunnels: blocks, affinities and handles in Calico's layout, one transaction an allocation.
//!
//! The block, the handle, the node's claim to the block and whatever the caller adds (the workload's endpoint) are
//! written together or not at all, so nothing can leak between two writes. Every write compares the revisions it was
//! calculated from; a conflict means to read again, at most [`RETRIES`] times. What upstream does in steps
//! (calico-datamodel 4.4, 4.5) is found half done when its client died; the next allocation completes or removes it.
//!
//! | module | what it owns |
//! |---|---|
//! | `assign` | which blocks an allocation takes its addresses from |
//! | `release` | giving back, by handle or by address |
//! | `draft` | the transaction under construction |
//! | `pools` | which pools a node may use, and why not |
//! | `records` | reading stored values with their revisions |
//! | `tunnel` | the address of `tunl0` |

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tortie_model::ipam::AllocationAttribute;
use tortie_model::resource::AllowedUse;

use crate::Client;
use crate::store::{Compare, KeyValue, Operation, Outcome, Transaction};
use crate::syncer::Update;

mod assign;
mod draft;
mod error;
mod pools;
mod records;
mod release;
mod tunnel;

pub use error::IpamError;
pub use pools::{Family, select_pools};
pub use tunnel::ipip_tunnel_handle;

use draft::Draft;

/// How often an operation starts over when others write at the same time (calico-datamodel 4.1).
pub const RETRIES: usize = 100;

/// Blocks a host may hold when no limit is configured (calico-datamodel 4.1).
pub const DEFAULT_BLOCK_LIMIT: usize = 20;

/// Allocates and releases addresses. Cheap to clone; clones wait for each other, so that the workloads of one node do
/// not chase each other's revisions.
#[derive(Clone)]
pub struct Ipam {
    client: Client,
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Ipam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ipam").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Addresses wanted. Afterwards the handle holds exactly these and nothing else: what it held before is kept where it
/// fits and released where not, so the same request again leaks nothing.
#[derive(Clone, Debug)]
pub struct AssignRequest {
    /// The node; its resource must exist, pools select it by its labels.
    pub host: String,
    /// Who holds the addresses, such as `k8s-pod-network.<container id>`.
    pub handle: String,
    /// Secondary attributes of the allocation: node, pod, namespace, type.
    pub attributes: BTreeMap<String, String>,
    /// How many IPv4 addresses of the allocator's choice.
    pub ipv4: usize,
    /// How many IPv6 addresses of the allocator's choice.
    pub ipv6: usize,
    /// Certain addresses, besides those counted.
    pub addresses: Vec<IpAddr>,
    /// Pools to choose from, by name or CIDR; empty means those that select the node.
    pub pools: Vec<String>,
    /// What for.
    pub intended_use: AllowedUse,
}

impl AssignRequest {
    fn owner(&self) -> AllocationAttribute {
        AllocationAttribute {
            handle_id: Some(self.handle.clone()),
            secondary: Some(self.attributes.clone()),
            ..AllocationAttribute::default()
        }
    }
}

/// What the caller adds to the transaction.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Conditions; when one fails the whole operation ends with [`IpamError::Superseded`].
    pub compares: Vec<Compare>,
    /// Writes, on keys that are not IPAM's.
    pub operations: Vec<Operation>,
}

impl Extra {
    fn is_superseded(&self, current: &[KeyValue]) -> bool {
        let revision = |key: &str| current.iter().find(|kv| kv.key == key).map(|kv| kv.mod_revision);
        self.compares.iter().any(|compare| match compare {
            Compare::Absent(key) => revision(key).is_some(),
            Compare::ModRevision(key, wanted) => revision(key) != Some(*wanted),
        })
    }
}

/// What an operation did.
#[derive(Debug, Default)]
pub struct Change {
    /// The addresses: assigned, IPv4 first; or released.
    pub addresses: Vec<IpAddr>,
    /// Revision of the last transaction; 0 when nothing was written.
    pub revision: i64,
    /// What was written to IPAM's keys, in the form a watch would deliver it.
    pub updates: Vec<Update>,
}

/// How a commit ended, unless it failed.
enum Commit {
    Done {
        revision: i64,
        updates: Vec<Update>,
    },
    /// Others wrote; calculate again.
    Again,
}

impl Ipam {
    /// An allocator; `now` is the clock for claim times and the first sequence number of blocks.
    pub fn new(client: Client, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Ipam {
        Ipam { client, now: Arc::new(now), turn: Arc::default() }
    }

    /// Assigns one certain address: [`Ipam::assign`] with nothing else wanted.
    ///
    /// # Errors
    /// As [`Ipam::assign`]; [`IpamError::AddressInUse`] when another handle has it.
    pub async fn assign_address(
        &self,
        address: IpAddr,
        mut request: AssignRequest,
        extra: impl Fn(&[IpAddr]) -> Extra + Send + Sync,
    ) -> Result<Change, IpamError> {
        request.addresses = vec![address];
        (request.ipv4, request.ipv6) = (0, 0);
        self.assign(&request, extra).await
    }

    async fn commit(&self, draft: Draft, extra: Extra) -> Result<Commit, IpamError> {
        let (mut transaction, written) = draft.finish();
        transaction.compares.extend(extra.compares.iter().cloned());
        transaction.operations.extend(extra.operations.iter().cloned());
        let Transaction { compares, operations } = &transaction;
        if compares.is_empty() && operations.is_empty() {
            return Ok(Commit::Done { revision: 0, updates: Vec::new() });
        }
        match self.client.store().transact(transaction).await? {
            Outcome::Committed { revision } => {
                let updates =
                    written.into_iter().map(|(key, value)| Update { key, value, revision }).collect();
                Ok(Commit::Done { revision, updates })
            }
            Outcome::Conflict { current, .. } if extra.is_superseded(&current) => Err(IpamError::Superseded),
            Outcome::Conflict { .. } => Ok(Commit::Again),
        }
    }
}
