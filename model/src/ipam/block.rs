//! Arithmetic of one block: who has which address, what is free, and in which order it is given out.
//!
//! Pure: nothing is stored here. Whoever writes a changed block calls [`Block::advance`] once a write and
//! compares the revision it read. No address of a block is special: network and broadcast addresses are given out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::order::{family_bits, from_bits, to_bits};
use super::{AllocationAttribute, Block, BlockOwner};

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
    /// Someone gave it back a short time ago, and addresses have to cool down.
    #[error("address {address} was released by handle '{handle}' and cools down")]
    CoolingDown {
        /// The address.
        address: IpAddr,
        /// The former owner's handle; empty when it had none.
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
            affinity: host.map(|host| BlockOwner::Host(host.to_owned()).to_string()),
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
            Some(affinity) => affinity.strip_prefix("host:"),
            None => self.obsolete_host(),
        }
    }

    /// Who the block is affine to; `None` for nobody, and for a form of affinity nobody knows.
    pub fn affine_to(&self) -> Option<BlockOwner> {
        match &self.affinity {
            Some(affinity) => BlockOwner::parse(affinity),
            None => self.obsolete_host().map(|host| BlockOwner::Host(host.to_owned())),
        }
    }

    /// Makes the block `owner`'s, or nobody's. `claim_time` is RFC 3339 of now.
    pub fn set_owner(&mut self, owner: Option<&BlockOwner>, claim_time: Option<String>) {
        self.affinity = owner.map(BlockOwner::to_string);
        self.affinity_claim_time = owner.and(claim_time);
        self.other.shift_remove("hostAffinity");
    }

    /// Whether anyone, node or other owner, has the block.
    pub fn is_affine(&self) -> bool {
        self.affinity.is_some() || self.host().is_some()
    }

    fn obsolete_host(&self) -> Option<&str> {
        self.other.get("hostAffinity").and_then(Value::as_str)
    }

    /// Whether no address is assigned and none cools down.
    pub fn is_empty(&self) -> bool {
        self.allocated().next().is_none()
    }

    /// How many addresses are free.
    pub fn free(&self) -> usize {
        self.unallocated.len()
    }

    /// Free addresses, those free for longest first.
    pub fn free_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.unallocated.iter().filter(|o| **o < self.allocations.len()).map(|o| self.address(*o))
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

    /// Who has an address; `None` when it is free, cools down, or lies outside.
    pub fn owner(&self, address: IpAddr) -> Option<&AllocationAttribute> {
        self.attribute(address).filter(|owner| owner.released_at.is_none())
    }

    /// The attribute an address points at, its former owner's while it cools down.
    fn attribute(&self, address: IpAddr) -> Option<&AllocationAttribute> {
        self.attributes.get((*self.allocations.get(self.ordinal(address)?)?)?)
    }

    /// The sequence number an address was assigned at; `None` in very old data.
    pub fn sequence_of(&self, address: IpAddr) -> Option<u64> {
        self.sequence_number_for_allocation.get(&self.ordinal(address)?.to_string()).copied()
    }

    /// Addresses in use with their owners, lowest first.
    pub fn in_use(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        self.assigned().filter(|(_, owner)| owner.released_at.is_none())
    }

    /// Addresses that were released and cool down, with their former owners, lowest first.
    pub fn cooling(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        self.assigned().filter(|(_, owner)| owner.released_at.is_some())
    }

    fn assigned(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        self.allocated()
            .filter_map(|(ordinal, index)| Some((self.address(ordinal), self.attributes.get(index)?)))
    }

    /// Addresses of a handle, lowest first.
    pub fn held_by(&self, handle: &str) -> Vec<IpAddr> {
        let held = self.in_use().filter(|(_, owner)| owner.handle_id.as_deref() == Some(handle));
        held.map(|(address, _)| address).collect()
    }

    /// Assigns up to `count` free addresses that are `usable`, those free for longest first.
    pub fn assign_next(
        &mut self,
        count: usize,
        owner: &AllocationAttribute,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Vec<IpAddr> {
        let candidates: Vec<IpAddr> = self.free_addresses().filter(|address| usable(*address)).collect();
        // A block that contradicts itself may list as free what somebody has.
        candidates.into_iter().filter(|address| self.assign(*address, owner).is_ok()).take(count).collect()
    }

    /// Assigns one certain address. One that cools down is only given back to the handle that had it.
    ///
    /// # Errors
    /// When it lies outside, cools down, or someone has it, be it the same owner.
    pub fn assign(&mut self, address: IpAddr, owner: &AllocationAttribute) -> Result<(), AssignError> {
        let Some(ordinal) = self.ordinal(address) else {
            return Err(AssignError::Outside { address, block: self.cidr });
        };
        if self.allocations[ordinal].is_some() {
            let present = self.attribute(address);
            let handle = present.and_then(|o| o.handle_id.clone());
            let cooling = present.is_some_and(|o| o.released_at.is_some());
            if !cooling {
                return Err(AssignError::InUse { address, handle: handle.unwrap_or_default() });
            }
            if handle.is_none() || handle != owner.handle_id {
                return Err(AssignError::CoolingDown { address, handle: handle.unwrap_or_default() });
            }
        }
        self.unallocated.retain(|free| *free != ordinal);
        self.take(ordinal, owner);
        self.drop_unused_attributes();
        Ok(())
    }

    /// Releases addresses; returns those that were assigned. Attributes nobody refers to any more are dropped and the
    /// others renumbered.
    pub fn release(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let mut released = Vec::new();
        for address in addresses {
            let Some(ordinal) = self.ordinal(*address) else { continue };
            if self.owner(*address).is_some() {
                self.allocations[ordinal] = None;
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

    /// Makes a free address cool down: it stays its former owner's in name and is given to nobody until
    /// [`Block::end_cooldown`]. `released_at` is RFC 3339. Nothing happens to an address that is not free.
    pub fn cool_down(&mut self, address: IpAddr, former: &AllocationAttribute, released_at: &str) {
        let Some(ordinal) = self.ordinal(address).filter(|o| self.allocations[*o].is_none()) else { return };
        let former = AllocationAttribute { released_at: Some(released_at.to_owned()), ..former.clone() };
        self.unallocated.retain(|free| *free != ordinal);
        self.allocations[ordinal] = Some(self.index_of(&former));
    }

    /// Makes addresses free, at the end of the queue, whose time of release `is_over` (calico-datamodel 4.5). To be done
    /// at each reading of a block.
    pub fn end_cooldown(&mut self, is_over: impl Fn(&str) -> bool) {
        let over = |owner: &AllocationAttribute| owner.released_at.as_deref().is_some_and(&is_over);
        let ended: Vec<usize> = self
            .allocated()
            .filter(|(_, index)| self.attributes.get(*index).is_some_and(over))
            .map(|(ordinal, _)| ordinal)
            .collect();
        if ended.is_empty() {
            return;
        }
        for ordinal in ended {
            self.allocations[ordinal] = None;
            self.unallocated.push(ordinal);
            self.sequence_number_for_allocation.remove(&ordinal.to_string());
        }
        self.drop_unused_attributes();
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
        self.allocations[ordinal] = Some(self.index_of(owner));
        self.sequence_number_for_allocation.insert(ordinal.to_string(), self.sequence_number);
    }

    fn index_of(&mut self, owner: &AllocationAttribute) -> usize {
        let known = self.attributes.iter().position(|attribute| attribute == owner);
        known.unwrap_or_else(|| {
            self.attributes.push(owner.clone());
            self.attributes.len() - 1
        })
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
