//! Arithmetic of one block: who has which address, what is free, and in which order it is given out.
//!
//! Pure: nothing is stored here. Whoever writes a changed block calls [`Block::advance`] once a write and
//! compares the revision it read. No address of a block is special: network and broadcast addresses are given out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::order::{family_bits, from_bits, to_bits};
use super::{AllocationAttribute, Block};

/// Prefix of a block's affinity to a node.
const HOST: &str = "host:";

/// Why a wanted address cannot be assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// The address is not in the block.
    #[error("address {address} is not in block {block}")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The block.
        block: IpNetwork,
    },
    /// Someone has it.
    #[error("address {address} is in use by handle '{handle}'")]
    InUse {
        /// The address.
        address: IpAddr,
        /// The owner's handle; empty when it has none.
        handle: String,
    },
}

/// What is wrong with a stored block: it must not be written to until a person has looked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// `allocations` has not one entry an address.
    #[error("block {block} has {found} allocations, its size is {size}")]
    Length {
        /// The block.
        block: IpNetwork,
        /// Entries it has.
        found: usize,
        /// Entries it should have.
        size: usize,
    },
    /// An allocation points at no attribute.
    #[error(
        "block {block}: the allocation of ordinal {ordinal} points at attribute {attribute}, which is not there"
    )]
    Attribute {
        /// The block.
        block: IpNetwork,
        /// The ordinal.
        ordinal: usize,
        /// The missing attribute.
        attribute: usize,
    },
    /// `unallocated` is not exactly the ordinals without allocation.
    #[error("block {block}: 'unallocated' does not list each free ordinal exactly once")]
    Unallocated {
        /// The block.
        block: IpNetwork,
    },
}

impl Block {
    /// An empty block. `sequence_number` is UnixNano of now, `claim_time` RFC 3339 of now; without `host` the block
    /// is nobody's.
    pub fn new(
        cidr: IpNetwork,
        host: Option<&str>,
        claim_time: Option<String>,
        sequence_number: u64,
    ) -> Block {
        let size = size_of(&cidr);
        Block {
            cidr,
            affinity: host.map(|host| format!("{HOST}{host}")),
            affinity_claim_time: claim_time,
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            attributes: Vec::new(),
            sequence_number,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            other: Map::new(),
        }
    }

    /// Whether the parts of the block agree with each other. All other methods stay within bounds when they do not,
    /// but their results mean little then.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn check(&self) -> Result<(), BlockFault> {
        let (block, size) = (self.cidr, size_of(&self.cidr));
        if self.allocations.len() != size {
            return Err(BlockFault::Length { block, found: self.allocations.len(), size });
        }
        for (ordinal, attribute) in self.allocated() {
            if attribute >= self.attributes.len() {
                return Err(BlockFault::Attribute { block, ordinal, attribute });
            }
        }
        let listed: BTreeSet<usize> = self.unallocated.iter().copied().collect();
        let free = (0..size).filter(|o| self.allocations[*o].is_none());
        if listed.len() != self.unallocated.len() || !free.eq(listed.iter().copied()) {
            return Err(BlockFault::Unallocated { block });
        }
        Ok(())
    }

    /// The node the block is affine to. Reads the obsolete field `hostAffinity` too.
    pub fn host(&self) -> Option<&str> {
        match &self.affinity {
            Some(affinity) => affinity.strip_prefix(HOST),
            None => self.other.get("hostAffinity").and_then(Value::as_str),
        }
    }

    /// Whether anyone, node or other owner, has the block.
    pub fn is_affine(&self) -> bool {
        self.affinity.is_some() || self.host().is_some()
    }

    /// Whether no address is assigned.
    pub fn is_empty(&self) -> bool {
        self.allocated().next().is_none()
    }

    /// How many addresses are free.
    pub fn free(&self) -> usize {
        self.unallocated.len()
    }

    /// The ordinal of an address: its distance from the block's base.
    pub fn ordinal(&self, address: IpAddr) -> Option<usize> {
        self.cidr
            .contains(address)
            .then(|| (to_bits(address) - to_bits(self.cidr.network())) as usize)
            .filter(|ordinal| *ordinal < self.allocations.len())
    }

    /// The address of an ordinal below the block's size.
    pub fn address(&self, ordinal: usize) -> IpAddr {
        from_bits(to_bits(self.cidr.network()).wrapping_add(ordinal as u128), self.cidr.is_ipv4())
    }

    /// Who has an address; `None` when it is free or outside.
    pub fn owner(&self, address: IpAddr) -> Option<&AllocationAttribute> {
        self.attributes.get((*self.allocations.get(self.ordinal(address)?)?)?)
    }

    /// Addresses in use with their owners, lowest first.
    pub fn in_use(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        self.allocated()
            .filter_map(|(ordinal, index)| Some((self.address(ordinal), self.attributes.get(index)?)))
    }

    /// Addresses of a handle, lowest first.
    pub fn held_by(&self, handle: &str) -> Vec<IpAddr> {
        let held = self.in_use().filter(|(_, owner)| owner.handle_id.as_deref() == Some(handle));
        held.map(|(address, _)| address).collect()
    }

    /// Assigns up to `count` free addresses, those free for longest first.
    pub fn assign_next(&mut self, count: usize, owner: &AllocationAttribute) -> Vec<IpAddr> {
        let count = count.min(self.unallocated.len());
        let ordinals: Vec<usize> = self.unallocated.drain(..count).collect();
        let mut given = Vec::with_capacity(count);
        for ordinal in ordinals {
            if ordinal < self.allocations.len() {
                self.take(ordinal, owner);
                given.push(self.address(ordinal));
            }
        }
        given
    }

    /// Assigns one certain address.
    ///
    /// # Errors
    /// When it lies outside or someone has it, be it the same owner.
    pub fn assign(&mut self, address: IpAddr, owner: &AllocationAttribute) -> Result<(), AssignError> {
        let Some(ordinal) = self.ordinal(address) else {
            return Err(AssignError::Outside { address, block: self.cidr });
        };
        if self.allocations[ordinal].is_some() {
            let handle = self.owner(address).and_then(|o| o.handle_id.clone()).unwrap_or_default();
            return Err(AssignError::InUse { address, handle });
        }
        self.unallocated.retain(|free| *free != ordinal);
        self.take(ordinal, owner);
        Ok(())
    }

    /// Releases addresses; returns those that were assigned. Attributes nobody refers to any more are dropped and the
    /// others renumbered.
    pub fn release(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let mut released = Vec::new();
        for address in addresses {
            let Some(ordinal) = self.ordinal(*address) else { continue };
            if self.allocations[ordinal].take().is_some() {
                self.unallocated.push(ordinal);
                self.sequence_number_for_allocation.remove(&ordinal.to_string());
                released.push(*address);
            }
        }
        self.drop_unused_attributes();
        released
    }

    /// Releases every address of a handle; returns them.
    pub fn release_handle(&mut self, handle: &str) -> Vec<IpAddr> {
        let held = self.held_by(handle);
        self.release(&held)
    }

    /// Counts a write. To be called once before each write of the block.
    pub fn advance(&mut self) {
        self.sequence_number = self.sequence_number.wrapping_add(1);
    }

    /// Ordinals in use and their attribute indices.
    fn allocated(&self) -> impl Iterator<Item = (usize, usize)> {
        self.allocations.iter().enumerate().filter_map(|(ordinal, index)| Some((ordinal, (*index)?)))
    }

    fn take(&mut self, ordinal: usize, owner: &AllocationAttribute) {
        let known = self.attributes.iter().position(|attribute| attribute == owner);
        let index = known.unwrap_or_else(|| {
            self.attributes.push(owner.clone());
            self.attributes.len() - 1
        });
        self.allocations[ordinal] = Some(index);
        self.sequence_number_for_allocation.insert(ordinal.to_string(), self.sequence_number);
    }

    fn drop_unused_attributes(&mut self) {
        let used: BTreeSet<usize> = self.allocated().map(|(_, index)| index).collect();
        let renumbered: BTreeMap<usize, usize> =
            used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let mut index = 0;
        self.attributes.retain(|_| {
            index += 1;
            used.contains(&(index - 1))
        });
        for allocation in self.allocations.iter_mut().flatten() {
            *allocation = renumbered.get(allocation).copied().unwrap_or(*allocation);
        }
    }
}

/// Addresses in a block. Blocks have 4096 at most; a larger CIDR is no block and counts as that many.
fn size_of(cidr: &IpNetwork) -> usize {
    1 << (family_bits(cidr) - cidr.prefix()).min(12)
}

#[cfg(test)]
mod tests;
