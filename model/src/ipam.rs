//! IPAM's stored values (calico-datamodel 1.5, 4.2) and the arithmetic of blocks; pure.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

mod block;
mod config;
mod go_rand;
mod order;
mod owner;

pub use block::{AssignError, BlockFault};
pub use config::{COOLDOWN_LIMIT, ConfigFault, IpamConfig, MAX_BLOCKS_LIMIT};
pub use order::BlockOrder;
pub use owner::{BlockOwner, LOAD_BALANCER};

/// A block of addresses and who has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The block's range.
    pub cidr: IpNetwork,
    /// `host:<node>`, `virtual:<owner>`, or nobody's.
    #[serde(default)]
    pub affinity: Option<String>,
    /// When it was claimed, RFC 3339; since 3.32.
    #[serde(rename = "affinity_claim_time", default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// One entry an ordinal: free, or an index into `attributes`.
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals: taken from the head, returned to the tail.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub unallocated: Vec<usize>,
    /// Owners of allocations.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub attributes: Vec<AllocationAttribute>,
    /// Starts at UnixNano of creation, +1 a write.
    #[serde(default)]
    pub sequence_number: u64,
    /// Ordinal (decimal) to the sequence number before the write that assigned it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Only true in the middle of a delete on other stores.
    #[serde(default)]
    pub deleted: bool,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who owns an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationAttribute {
    /// Handle; always written, as clients up to 3.31 expect.
    #[serde(default)]
    pub handle_id: Option<String>,
    /// Node, pod and so on.
    #[serde(default)]
    pub secondary: Option<BTreeMap<String, String>>,
    /// When the address was given back, RFC 3339; present only while it cools down (`ipCooldownSeconds`).
    #[serde(rename = "releasedAt", default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How sure a node is of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AffinityState {
    /// The block is the node's. Very old data has no state, which means this too.
    #[default]
    #[serde(alias = "")]
    Confirmed,
    /// The node is about to claim it.
    Pending,
    /// The node is about to give it up.
    PendingDeletion,
}

/// A node's claim to a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinity {
    /// State of the claim.
    pub state: AffinityState,
    /// Unused on etcd.
    pub deleted: bool,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How many addresses a handle has in which block; an upper bound, the blocks tell the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handle {
    /// Block CIDR to count.
    #[serde(deserialize_with = "null_is_empty")]
    pub block: BTreeMap<String, usize>,
    /// Unused on etcd.
    pub deleted: bool,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Handle {
    /// The id under which a handle is stored: upstream cuts it at a carriage return.
    pub fn stored_id(id: &str) -> &str {
        id.split('\r').next().unwrap_or(id)
    }

    /// Notes that the handle has `count` addresses in `block`; 0 forgets the block.
    pub fn set(&mut self, block: &IpNetwork, count: usize) {
        match count {
            0 => self.block.remove(&block.to_string()),
            count => self.block.insert(block.to_string(), count),
        };
    }
}

/// Go writes an empty list or map it never made as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
