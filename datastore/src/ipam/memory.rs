//! What an allocator remembers of the store between operations, so that an allocation from a block the node has needs
//! one round trip.
//!
//! Nothing here has to be true: every transaction compares the revisions of what it was calculated from. A conflict
//! returns what the keys hold now, which corrects the memory. Only a new IPReservation is no key that could be compared;
//! a watch tells of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc::error::TryRecvError;
use tortie_model::Key;
use tortie_model::ipam::{AffinityState, Block, BlockAffinity, BlockOwner};

use super::draft::Written;
use super::pools::Family;
use super::records::{self, Stored};
use super::settings::{Labels, Settings};
use crate::store::{Compare, KeyValue, Watch};

/// Namespaces remembered; beyond, all are forgotten.
const NAMESPACES: usize = 512;

/// A block whose owner has a confirmed claim to it.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) affinity: Stored<BlockAffinity>,
    pub(super) block: Stored<Block>,
}

/// The blocks of an owner, in key order of their CIDRs.
pub(super) type OwnBlocks = BTreeMap<IpNetwork, Own>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    settings: Option<Arc<Settings>>,
    reservations_watch: Option<Watch>,
    nodes: BTreeMap<String, Labels>,
    namespaces: BTreeMap<String, Labels>,
    own: BTreeMap<(BlockOwner, Family), OwnBlocks>,
}

impl Memory {
    /// The settings, unless they may be out of date.
    pub(super) fn settings(&mut self) -> Option<Arc<Settings>> {
        if !self.reservations_unchanged() {
            self.settings = None;
            self.reservations_watch = None;
        }
        self.settings.clone()
    }

    /// Whether the watch is alive and has told of nothing.
    pub(super) fn reservations_unchanged(&mut self) -> bool {
        let Some(watch) = &mut self.reservations_watch else { return false };
        loop {
            match watch.batches.try_recv() {
                Ok(Ok(batch)) if batch.events.is_empty() => {}
                Err(TryRecvError::Empty) => return true,
                Ok(_) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    pub(super) fn keep_settings(&mut self, settings: Arc<Settings>) {
        self.settings = Some(settings);
    }

    pub(super) fn keep_watch(&mut self, watch: Option<Watch>) {
        self.reservations_watch = watch;
    }

    pub(super) fn node(&self, name: &str) -> Option<&Labels> {
        self.nodes.get(name)
    }

    pub(super) fn keep_node(&mut self, name: &str, labels: Labels) {
        self.nodes.insert(name.to_owned(), labels);
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    pub(super) fn keep_namespace(&mut self, name: &str, labels: Labels) {
        if self.namespaces.len() >= NAMESPACES {
            self.namespaces.clear();
        }
        self.namespaces.insert(name.to_owned(), labels);
    }

    /// All blocks of an owner; `None` when they were never listed.
    pub(super) fn own(&self, owner: &BlockOwner, family: Family) -> Option<&OwnBlocks> {
        self.own.get(&(owner.clone(), family))
    }

    pub(super) fn keep_own(&mut self, owner: &BlockOwner, family: Family, blocks: OwnBlocks) {
        self.own.insert((owner.clone(), family), blocks);
    }

    /// A block, whoever's, as last seen.
    pub(super) fn block(&self, cidr: &IpNetwork) -> Option<&Stored<Block>> {
        self.own.values().find_map(|blocks| blocks.get(cidr)).map(|own| &own.block)
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Memory::default();
    }

    /// Takes over what a transaction wrote at a revision.
    pub(super) fn wrote(&mut self, written: &[Written], revision: i64) {
        for item in written {
            match item {
                Written::Block(cidr, block) => {
                    let stored = block.clone().map(|value| Stored { value, revision });
                    self.saw_block(cidr, stored);
                }
                Written::Affinity(owner, cidr, affinity) => {
                    let block = written.iter().find_map(|item| match item {
                        Written::Block(found, Some(block)) if found == cidr => Some(block),
                        Written::Block(..) | Written::Affinity(..) | Written::Handle(..) => None,
                    });
                    let stored = affinity.clone().map(|value| Stored { value, revision });
                    self.saw_affinity(
                        owner,
                        cidr,
                        stored,
                        block.map(|b| Stored { value: b.clone(), revision }),
                    );
                }
                Written::Handle(..) => {}
            }
        }
    }

    /// Takes over what a conflict returned: the present values of the keys compared.
    pub(super) fn learn(&mut self, compares: &[Compare], current: &[KeyValue]) {
        for compare in compares {
            let (key, wanted) = match compare {
                Compare::Absent(key) => (key, None),
                Compare::ModRevision(key, revision) => (key, Some(*revision)),
            };
            let found = current.iter().find(|kv| kv.key == *key);
            if found.map(|kv| kv.mod_revision) != wanted {
                self.learn_one(key, found);
            }
        }
    }

    fn learn_one(&mut self, key: &str, found: Option<&KeyValue>) {
        match Key::parse(key) {
            Some(Key::Block(cidr)) => {
                self.saw_block(&cidr, found.and_then(|kv| records::decode_block(kv).ok()))
            }
            Some(Key::BlockAffinity { host, block }) => {
                let affinity = found.and_then(|kv| records::decode_affinity(kv).ok());
                self.saw_affinity(&BlockOwner::Host(host), &block, affinity, None);
            }
            Some(Key::Handle(_) | Key::IpamHost(_)) => {}
            Some(Key::IpamConfig | Key::Resource { .. }) => {
                self.settings = None;
                self.nodes.clear();
                self.namespaces.clear();
            }
            // A virtual owner's claim, or a key of the caller's.
            None => self.own.retain(|(owner, _), _| matches!(owner, BlockOwner::Host(_))),
        }
    }

    fn saw_block(&mut self, cidr: &IpNetwork, stored: Option<Stored<Block>>) {
        for ((owner, _), blocks) in &mut self.own {
            let Some(own) = blocks.get_mut(cidr) else { continue };
            match &stored {
                Some(stored) if stored.value.affine_to().as_ref() == Some(owner) => {
                    own.block = stored.clone()
                }
                _ => drop(blocks.remove(cidr)),
            }
        }
    }

    fn saw_affinity(
        &mut self,
        owner: &BlockOwner,
        cidr: &IpNetwork,
        affinity: Option<Stored<BlockAffinity>>,
        block: Option<Stored<Block>>,
    ) {
        let Some(blocks) = self.own.get_mut(&(owner.clone(), Family::of(cidr))) else { return };
        let block = block.or_else(|| blocks.remove(cidr).map(|own| own.block));
        let confirmed = affinity.filter(|affinity| affinity.value.state == AffinityState::Confirmed);
        if let (Some(affinity), Some(block)) = (confirmed, block) {
            blocks.insert(*cidr, Own { affinity, block });
        } else {
            blocks.remove(cidr);
        }
    }
}
