//! The transaction under construction: blocks, affinities and handles as they shall be, with the revisions they were
//! read at. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;
use tortie_model::Key;
use tortie_model::ipam::{AffinityState, AllocationAttribute, AssignError, Block, BlockAffinity, Handle};

use super::IpamError;
use super::records::Stored;
use crate::store::{Compare, Operation, Transaction};
use crate::syncer::Value;

/// A value read (or known to be absent) and what it shall become.
#[derive(Debug)]
struct Edited<T> {
    /// As read; `None` when the key did not exist.
    before: Option<Stored<T>>,
    /// `None` deletes the key.
    after: Option<T>,
}

impl<T: Clone> Edited<T> {
    fn unchanged(stored: Stored<T>) -> Edited<T> {
        Edited { after: Some(stored.value.clone()), before: Some(stored) }
    }
}

/// Everything one transaction shall change.
#[derive(Debug, Default)]
pub(super) struct Draft {
    blocks: BTreeMap<IpNetwork, Edited<Block>>,
    affinities: BTreeMap<(String, IpNetwork), Edited<BlockAffinity>>,
    handles: BTreeMap<String, Edited<Handle>>,
}

/// A key and its new value; `None` when it is gone.
pub(super) type Written = (Key, Option<Value>);

impl Draft {
    /// Takes a block as read. A block already in the draft stays as edited.
    pub(super) fn add_block(&mut self, stored: Stored<Block>) {
        let cidr = stored.value.cidr;
        self.blocks.entry(cidr).or_insert_with(|| Edited::unchanged(stored));
    }

    /// Adds a block whose key does not exist.
    pub(super) fn create_block(&mut self, block: Block) {
        self.blocks.entry(block.cidr).or_insert(Edited { before: None, after: Some(block) });
    }

    /// A handle's present value, `None` when it does not exist.
    pub(super) fn add_handle(&mut self, id: &str, stored: Option<Stored<Handle>>) {
        let edited = match stored {
            Some(stored) => Edited::unchanged(stored),
            None => Edited { before: None, after: Some(Handle::default()) },
        };
        self.handles.entry(id.to_owned()).or_insert(edited);
    }

    /// Makes the host's affinity confirmed, whatever it was.
    pub(super) fn confirm(&mut self, host: &str, block: IpNetwork, stored: Option<Stored<BlockAffinity>>) {
        let mut after = stored.as_ref().map(|s| s.value.clone()).unwrap_or_default();
        after.state = AffinityState::Confirmed;
        after.deleted = false;
        self.affinities.insert((host.to_owned(), block), Edited { before: stored, after: Some(after) });
    }

    /// Removes an affinity to a block the host does not have.
    pub(super) fn forget_affinity(&mut self, host: &str, block: IpNetwork, stored: Stored<BlockAffinity>) {
        self.affinities.insert((host.to_owned(), block), Edited { before: Some(stored), after: None });
    }

    pub(super) fn block(&self, cidr: &IpNetwork) -> Option<&Block> {
        self.blocks.get(cidr)?.after.as_ref()
    }

    /// The block of the draft an address lies in.
    pub(super) fn block_of(&self, address: IpAddr) -> Option<IpNetwork> {
        self.blocks.keys().copied().find(|cidr| cidr.contains(address))
    }

    fn block_mut(&mut self, cidr: &IpNetwork) -> Option<&mut Block> {
        self.blocks.get_mut(cidr)?.after.as_mut()
    }

    /// Up to `count` addresses of a block in the draft.
    pub(super) fn take(
        &mut self,
        cidr: &IpNetwork,
        count: usize,
        owner: &AllocationAttribute,
    ) -> Vec<IpAddr> {
        self.block_mut(cidr).map(|block| block.assign_next(count, owner)).unwrap_or_default()
    }

    /// One certain address of a block in the draft.
    pub(super) fn take_address(
        &mut self,
        cidr: &IpNetwork,
        address: IpAddr,
        owner: &AllocationAttribute,
    ) -> Result<(), IpamError> {
        let outside = AssignError::Outside { address, block: *cidr };
        let assigned = self.block_mut(cidr).map_or(Err(outside), |block| block.assign(address, owner));
        assigned.map_err(|error| {
            let handle = match error {
                AssignError::InUse { handle, .. } => handle,
                AssignError::Outside { .. } => String::new(),
            };
            IpamError::AddressInUse { address, handle }
        })
    }

    /// Takes every address of every block in the draft away from a handle; returns them.
    pub(super) fn release_handle(&mut self, handle: &str) -> Vec<IpAddr> {
        let blocks = self.blocks.values_mut().filter_map(|edited| edited.after.as_mut());
        blocks.flat_map(|block| block.release_handle(handle)).collect()
    }

    /// Releases addresses of a block in the draft; returns those that were assigned.
    pub(super) fn release(&mut self, cidr: &IpNetwork, addresses: &[IpAddr]) -> Vec<IpAddr> {
        self.block_mut(cidr).map(|block| block.release(addresses)).unwrap_or_default()
    }

    /// Forgets blocks a handle names but which are not there.
    pub(super) fn forget_in_handle(&mut self, handle: &str, block: &str) {
        if let Some(value) = self.handles.get_mut(handle).and_then(|h| h.after.as_mut()) {
            value.block.remove(block);
        }
    }

    /// The transaction and what it writes. Unchanged values are neither compared nor written.
    pub(super) fn finish(mut self) -> (Transaction, Vec<Written>) {
        self.count_handles();
        for edited in self.blocks.values_mut() {
            // An empty block nobody has is of no use to anyone (calico-datamodel 4.5).
            edited.after = edited.after.take().filter(|block| !block.is_empty() || block.is_affine());
            if edited.changed()
                && let Some(block) = &mut edited.after
            {
                block.advance();
            }
        }
        for edited in self.handles.values_mut() {
            edited.after = edited.after.take().filter(|handle| !handle.block.is_empty());
        }
        let mut out = (Transaction::default(), Vec::new());
        for (cidr, edited) in self.blocks {
            write(&mut out, Key::Block(cidr), edited, |block| Value::Block(Box::new(block)));
        }
        for ((host, block), edited) in self.affinities {
            write(&mut out, Key::BlockAffinity { host, block }, edited, Value::Affinity);
        }
        for (id, edited) in self.handles {
            write(&mut out, Key::Handle(id), edited, Value::Handle);
        }
        out
    }

    /// Handles count what the blocks of the draft say.
    fn count_handles(&mut self) {
        for (id, handle) in &mut self.handles {
            let Some(handle) = &mut handle.after else { continue };
            for (cidr, edited) in &self.blocks {
                handle.set(cidr, edited.after.as_ref().map_or(0, |block| block.held_by(id).len()));
            }
        }
    }
}

impl<T: PartialEq> Edited<T> {
    fn changed(&self) -> bool {
        self.before.as_ref().map(|stored| &stored.value) != self.after.as_ref()
    }
}

fn write<T: PartialEq + Serialize>(
    (transaction, written): &mut (Transaction, Vec<Written>),
    key: Key,
    edited: Edited<T>,
    wrap: impl Fn(T) -> Value,
) {
    // A value rewritten as it was still has to move its revision, for whoever compares it.
    let confirmed_again = matches!(key, Key::BlockAffinity { .. });
    if !edited.changed() && !confirmed_again {
        return;
    }
    let text = key.to_string();
    transaction.compares.push(match &edited.before {
        Some(stored) => Compare::ModRevision(text.clone(), stored.revision),
        None => Compare::Absent(text.clone()),
    });
    match &edited.after {
        Some(value) => {
            let value = serde_json::to_vec(value).expect("IPAM's values have text keys and whole numbers");
            transaction.operations.push(Operation::Put { key: text, value, lease: 0 });
        }
        None => transaction.operations.push(Operation::Delete(text)),
    }
    written.push((key, edited.after.map(wrap)));
}
