//! Addresses for workloads and tunnels: blocks, affinities and handles in Calico's layout, one transaction an allocation.
//!
//! The block, the handle, the node's claim to the block and whatever the caller adds (the workload's endpoint) are
//! written together or not at all, so nothing can leak between two writes. Every write compares the revisions it was
//! calculated from; a conflict means to calculate again, at most [`RETRIES`] times. What upstream does in steps
//! (calico-datamodel 4.4, 4.5) is found half done when its client died; the next allocation completes or removes it.
//!
//! | module | what it owns |
//! |---|---|
//! | `assign` | an allocation: from memory in one round trip, else after a look at the store |
//! | `own` | blocks the owner has claims to: taking from them, completing or giving up claims |
//! | `claim` | blocks beyond those the node has: new ones, taken over, borrowed from |
//! | `release` | giving back, by handle or by address |
//! | `affinity` | giving up claims to blocks |
//! | `upkeep` | the node's next block before the present ones run out, and empty ones given back |
//! | `leaks` | addresses nobody lives behind any more: finding them (pure), releasing them |
//! | `configure` | changing IPAM's configuration |
//! | `draft` | the transaction under construction |
//! | `memory` | what is remembered of the store between operations |
//! | `settings`, `reservations`, `pools` | configuration, pools, reservations: which addresses may be used, and why not |
//! | `records` | reading stored values with their revisions |
//! | `clock` | the time of an operation, and what has cooled down by then |
//! | `tunnel` | the addresses of a node's tunnel devices |

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use tortie_model::ipam::{AllocationAttribute, BlockOwner, LOAD_BALANCER};
use tortie_model::resource::AllowedUse;

use crate::Client;
use crate::store::{Compare, KeyValue, Operation, Outcome};
use crate::syncer::Update;

mod affinity;
mod assign;
mod claim;
mod clock;
mod configure;
mod draft;
mod error;
mod leaks;
mod memory;
mod own;
mod pools;
mod records;
mod release;
mod reservations;
mod settings;
mod tunnel;
mod upkeep;

pub use error::IpamError;
pub use leaks::{Allocation, DEFAULT_LEAK_GRACE, Leak, Living, Suspects, allocations_of, find_leaks};
pub use pools::{Family, select_pools};
pub use release::Release;
pub use reservations::ReservationFault;
pub use tunnel::{Tunnel, ipip_tunnel_handle};

use clock::Clock;
use draft::Draft;
use memory::Memory;

/// How often an operation starts over when others write at the same time (calico-datamodel 4.1).
pub const RETRIES: usize = 100;

/// Blocks a host may hold when no limit is configured (calico-datamodel 4.1).
pub const DEFAULT_BLOCK_LIMIT: usize = 20;

/// Allocates and releases addresses. Cheap to clone; clones wait for each other, so that the workloads of one node do
/// not chase each other's revisions, and share what they remember of the node's blocks.
#[derive(Clone)]
pub struct Ipam {
    client: Client,
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Held during an operation: one at a time.
    memory: Arc<tokio::sync::Mutex<Memory>>,
    low: Arc<Notify>,
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
    /// The node; its resource must exist, pools select it by its labels. Not looked at for
    /// [`AllowedUse::LoadBalancer`]: such blocks belong to the virtual owner `load-balancer`.
    pub host: String,
    /// The Kubernetes namespace of the workload, for pools that select by its labels. They are taken from the profile
    /// `kns.<namespace>`, where Calico's controllers put them; without it the namespace has no labels.
    pub namespace: Option<String>,
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
    /// How many blocks the node may hold for this request to claim another; 0 for no limit of its own. The smaller one of
    /// this and the configuration's holds.
    pub max_blocks: usize,
}

impl AssignRequest {
    /// One IPv4 address of the allocator's choice for a workload of a node, without attributes.
    pub fn new(host: impl Into<String>, handle: impl Into<String>) -> AssignRequest {
        AssignRequest {
            host: host.into(),
            namespace: None,
            handle: handle.into(),
            attributes: BTreeMap::new(),
            ipv4: 1,
            ipv6: 0,
            addresses: Vec::new(),
            pools: Vec::new(),
            intended_use: AllowedUse::Workload,
            max_blocks: 0,
        }
    }

    /// Whose blocks the addresses come from.
    fn block_owner(&self) -> BlockOwner {
        match self.intended_use {
            AllowedUse::LoadBalancer => BlockOwner::Virtual(LOAD_BALANCER.to_owned()),
            AllowedUse::Workload | AllowedUse::Tunnel => BlockOwner::Host(self.host.clone()),
        }
    }

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
    /// Transactions that were tried; more than one means that others wrote at the same time.
    pub attempts: usize,
}

/// How a commit ended, unless it failed.
enum Commit {
    Done {
        revision: i64,
        updates: Vec<Update>,
    },
    /// Others wrote; calculate again.
    Again {
        /// The present values of the keys compared.
        current: Vec<KeyValue>,
    },
}

impl Ipam {
    /// An allocator; `now` is the clock for claim times, cooling-off times and the first sequence number of blocks.
    pub fn new(client: Client, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Ipam {
        Ipam { client, now: Arc::new(now), memory: Arc::default(), low: Arc::default() }
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

    /// Forgets what is remembered of the store; the next operation reads everything again. Never needed for a right
    /// answer.
    pub async fn forget(&self) {
        self.memory.lock().await.forget();
    }

    fn clock(&self, cooldown: u32) -> Clock {
        Clock::new((self.now)(), cooldown)
    }

    /// A clock by the stored configuration.
    async fn configured_clock(&self) -> Result<Clock, IpamError> {
        let (config, _) = self.config().await?;
        Ok(self.clock(config.ip_cooldown_seconds))
    }

    /// Writes a draft, provided that `settings` hold, and what the caller adds.
    async fn commit(
        &self,
        memory: &mut Memory,
        draft: Draft,
        settings: Vec<Compare>,
        extra: Extra,
    ) -> Result<Commit, IpamError> {
        let (mut transaction, written) = draft.finish();
        transaction.compares.extend(extra.compares.iter().cloned());
        transaction.operations.extend(extra.operations.iter().cloned());
        if transaction.compares.is_empty() && transaction.operations.is_empty() {
            return Ok(Commit::Done { revision: 0, updates: Vec::new() });
        }
        transaction.compares.extend(settings);
        let compares = transaction.compares.clone();
        match self.client.store().transact(transaction).await? {
            Outcome::Committed { revision } => {
                memory.wrote(&written, revision);
                let updates = written.into_iter().filter_map(|item| item.update(revision)).collect();
                Ok(Commit::Done { revision, updates })
            }
            Outcome::Conflict { current, .. } => {
                memory.learn(&compares, &current);
                if extra.is_superseded(&current) {
                    return Err(IpamError::Superseded);
                }
                Ok(Commit::Again { current })
            }
        }
    }
}
