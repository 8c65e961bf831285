//! The transaction under construction: blocks, affinities and handles as they shall be, with the revisions they were
//! read at. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;
use tortie_model::Key;
use tortie_model::ipam::{
    AffinityState, AllocationAttribute, AssignError, Block, BlockAffinity, BlockOwner, Handle,
};

use super::IpamError;
use super::clock::Clock;
use super::records::Stored;
use super::settings::present_or_absent;
use crate::store::{Operation, Transaction};
use crate::syncer::{Update, Value};

/// A value read (or known to be absent) and what it shall become.
#[derive(Debug)]
struct Edited<T> {
    /// As read; `None` when the key did not exist.
    before: Option<Stored<T>>,
    /// `None` deletes the key.
    after: Option<T>,
    /// Compared even when it stays as it is.
    verified: bool,
    /// Written even when it stays as it is, so that whoever compares its revision notices.
    rewritten: bool,
}

impl<T: Clone> Edited<T> {
    fn unchanged(stored: Stored<T>) -> Edited<T> {
        Edited { after: Some(stored.value.clone()), ..Edited::becoming(Some(stored), None) }
    }

    fn becoming(before: Option<Stored<T>>, after: Option<T>) -> Edited<T> {
        Edited { before, after, verified: false, rewritten: false }
    }
}

/// Everything one transaction shall change.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) clock: Clock,
    blocks: BTreeMap<IpNetwork, Edited<Block>>,
    affinities: BTreeMap<(BlockOwner, IpNetwork), Edited<BlockAffinity>>,
    handles: BTreeMap<String, Edited<Handle>>,
}

/// A key of IPAM's and its new value; `None` when it is gone.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Block(IpNetwork, Option<Block>),
    Affinity(BlockOwner, IpNetwork, Option<BlockAffinity>),
    Handle(String, Option<Handle>),
}

impl Written {
    fn key(&self) -> String {
        match self {
            Written::Block(cidr, _) => Key::Block(*cidr).to_string(),
            Written::Affinity(owner, cidr, _) => owner.affinity_key(cidr),
            Written::Handle(id, _) => Key::Handle(id.clone()).to_string(),
        }
    }

    fn json(&self) -> Option<Vec<u8>> {
        match self {
            Written::Block(_, value) => value.as_ref().map(json),
            Written::Affinity(_, _, value) => value.as_ref().map(json),
            Written::Handle(_, value) => value.as_ref().map(json),
        }
    }

    /// As a watch would deliver it; it does not deliver virtual owners' claims.
    pub(super) fn update(self, revision: i64) -> Option<Update> {
        let (key, value) = match self {
            Written::Block(cidr, block) => {
                (Key::Block(cidr), block.map(|block| Value::Block(Box::new(block))))
            }
            Written::Affinity(BlockOwner::Host(host), block, affinity) => {
                (Key::BlockAffinity { host, block }, affinity.map(Value::Affinity))
            }
            Written::Affinity(BlockOwner::Virtual(_), ..) => return None,
            Written::Handle(id, handle) => (Key::Handle(id), handle.map(Value::Handle)),
        };
        Some(Update { key, value, revision })
    }
}

impl Draft {
    pub(super) fn new(clock: Clock) -> Draft {
        Draft { clock, blocks: BTreeMap::new(), affinities: BTreeMap::new(), handles: BTreeMap::new() }
    }

    /// Takes a block as read; what has cooled down is free. A block already in the draft stays as edited.
    pub(super) fn add_block(&mut self, mut stored: Stored<Block>) {
        self.clock.refresh(&mut stored.value);
        let cidr = stored.value.cidr;
        self.blocks.entry(cidr).or_insert_with(|| Edited::unchanged(stored));
    }

    /// Takes a block as remembered: the transaction makes sure of it even if nothing of it changes.
    pub(super) fn add_remembered_block(&mut self, stored: Stored<Block>) {
        let cidr = stored.value.cidr;
        self.add_block(stored);
        if let Some(edited) = self.blocks.get_mut(&cidr) {
            edited.verified = true;
        }
    }

    /// Adds an empty block whose key does not exist, for an owner.
    pub(super) fn create_block(&mut self, cidr: IpNetwork, owner: &BlockOwner) {
        let mut block = Block::new(cidr, None, None, self.clock.nanoseconds());
        block.set_owner(Some(owner), self.clock.text());
        let edited = self.blocks.entry(cidr).or_insert_with(|| Edited::becoming(None, None));
        edited.after.get_or_insert(block);
    }

    /// Makes a block of the draft someone's, or nobody's.
    pub(super) fn set_owner(&mut self, cidr: &IpNetwork, owner: Option<&BlockOwner>) {
        let time = self.clock.text();
        if let Some(block) = self.block_mut(cidr) {
            block.set_owner(owner, time);
        }
    }

    /// Writes a block of the draft even when it stays as it is.
    pub(super) fn touch(&mut self, cidr: &IpNetwork) {
        if let Some(edited) = self.blocks.get_mut(cidr) {
            edited.rewritten = true;
        }
    }

    /// Removes a block of the draft.
    pub(super) fn delete_block(&mut self, cidr: &IpNetwork) {
        if let Some(edited) = self.blocks.get_mut(cidr) {
            edited.after = None;
        }
    }

    /// Makes sure that a block's key is still absent.
    pub(super) fn require_absent_block(&mut self, cidr: IpNetwork) {
        self.blocks.entry(cidr).or_insert(Edited { verified: true, ..Edited::becoming(None, None) });
    }

    /// A handle's present value, `None` when it does not exist.
    pub(super) fn add_handle(&mut self, id: &str, stored: Option<Stored<Handle>>) {
        let edited = match stored {
            Some(stored) => Edited::unchanged(stored),
            None => Edited::becoming(None, Some(Handle::default())),
        };
        self.handles.entry(id.to_owned()).or_insert(edited);
    }

    /// Makes the owner's claim confirmed, whatever it was.
    pub(super) fn confirm(
        &mut self,
        owner: &BlockOwner,
        block: IpNetwork,
        stored: Option<Stored<BlockAffinity>>,
    ) {
        let mut after = stored.as_ref().map(|s| s.value.clone()).unwrap_or_default();
        after.state = AffinityState::Confirmed;
        after.deleted = false;
        let edited = Edited { rewritten: true, ..Edited::becoming(stored, Some(after)) };
        self.affinities.insert((owner.clone(), block), edited);
    }

    /// Makes sure that a claim is still as it was.
    pub(super) fn require_affinity(
        &mut self,
        owner: &BlockOwner,
        block: IpNetwork,
        stored: Stored<BlockAffinity>,
    ) {
        let edited = Edited { verified: true, ..Edited::unchanged(stored) };
        self.affinities.entry((owner.clone(), block)).or_insert(edited);
    }

    /// Removes a claim, or makes sure that there is none.
    pub(super) fn forget_affinity(
        &mut self,
        owner: &BlockOwner,
        block: IpNetwork,
        stored: Option<Stored<BlockAffinity>>,
    ) {
        let edited = Edited { verified: true, ..Edited::becoming(stored, None) };
        self.affinities.insert((owner.clone(), block), edited);
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().filter_map(|edited| edited.after.as_ref())
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

    /// Up to `count` usable addresses of a block in the draft.
    pub(super) fn take(
        &mut self,
        cidr: &IpNetwork,
        count: usize,
        owner: &AllocationAttribute,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Vec<IpAddr> {
        self.block_mut(cidr).map(|block| block.assign_next(count, owner, usable)).unwrap_or_default()
    }

    /// One certain address of a block in the draft.
    pub(super) fn take_address(
        &mut self,
        cidr: &IpNetwork,
        address: IpAddr,
        owner: &AllocationAttribute,
    ) -> Result<(), IpamError> {
        let outside = AssignError::Outside { address, block: *cidr };
        Ok(self.block_mut(cidr).map_or(Err(outside), |block| block.assign(address, owner))?)
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

    /// The transaction and what it writes. Unchanged values are not written, and only compared where asked for.
    pub(super) fn finish(mut self) -> (Transaction, Vec<Written>) {
        self.cool_down();
        self.count_handles();
        for edited in self.blocks.values_mut() {
            // An empty block nobody has is of no use to anyone (calico-datamodel 4.5).
            edited.after = edited.after.take().filter(|block| !block.is_empty() || block.is_affine());
            if edited.is_written()
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
            write(&mut out, edited, |block| Written::Block(cidr, block));
        }
        for ((owner, cidr), edited) in self.affinities {
            write(&mut out, edited, |affinity| Written::Affinity(owner.clone(), cidr, affinity));
        }
        for (id, edited) in self.handles {
            write(&mut out, edited, |handle| Written::Handle(id.clone(), handle));
        }
        out
    }

    /// What was in use before and is free now was released, and cools down where that is configured.
    fn cool_down(&mut self) {
        let Some(mark) = self.clock.release_mark() else { return };
        for edited in self.blocks.values_mut() {
            let (Some(before), Some(after)) = (&edited.before, &mut edited.after) else { continue };
            for (address, former) in before.value.in_use() {
                if after.owner(address).is_none() {
                    after.cool_down(address, former, &mark);
                }
            }
        }
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
    fn is_changed(&self) -> bool {
        self.before.as_ref().map(|stored| &stored.value) != self.after.as_ref()
    }

    fn is_written(&self) -> bool {
        self.rewritten || self.is_changed()
    }
}

fn write<T: PartialEq>(
    (transaction, written): &mut (Transaction, Vec<Written>),
    edited: Edited<T>,
    name: impl Fn(Option<T>) -> Written,
) {
    let is_written = edited.is_written();
    if !is_written && !edited.verified {
        return;
    }
    let revision = edited.before.as_ref().map_or(0, |stored| stored.revision);
    let item = name(edited.after);
    let key = item.key();
    transaction.compares.push(present_or_absent(key.clone(), revision));
    if is_written {
        transaction.operations.push(match item.json() {
            Some(value) => Operation::Put { key, value, lease: 0 },
            None => Operation::Delete(key),
        });
        written.push(item);
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("IPAM's values have text keys and whole numbers")
}
