//! Addresses of a node that no workload lives behind any more (calico-datamodel 4.8): which they are, decided without
//! the store, and their release, which makes sure that nothing changed since.
//!
//! A caller looks from time to time: it lists the node's allocations ([`allocations_of`] over all blocks, since the node
//! may have borrowed from others), says who lives ([`Living`]), and hands both to [`find_leaks`] with what earlier looks
//! found ([`Suspects`]). Each [`Leak`] that comes back goes to [`Ipam::release_leak`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use tortie_model::ipam::{Block, Handle};

use super::draft::Draft;
use super::pools::Family;
use super::tunnel::Tunnel;
use super::{Change, Commit, Extra, Ipam, IpamError, RETRIES};

/// How long an address is a suspect before it is released (upstream's leakGracePeriod).
pub const DEFAULT_LEAK_GRACE: Duration = Duration::from_secs(15 * 60);

/// The attribute of an allocation that names its node.
const NODE: &str = "node";

/// An address in use by a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// Its block, which may be another node's.
    pub block: IpNetwork,
    /// The handle that holds it.
    pub handle: String,
    /// The sequence number it was assigned at; `None` in very old data.
    pub sequence: Option<u64>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// Who lives on the node.
#[derive(Clone, Copy, Debug)]
pub struct Living<'a> {
    /// Handles of workloads: those with an endpoint of this node, and those being attached right now.
    pub handles: &'a BTreeSet<String>,
    /// Addresses of the node's endpoints: an address in use is no leak, whatever its handle.
    pub addresses: &'a BTreeSet<IpAddr>,
}

/// What earlier looks found: handles nobody lives behind, what they held, and since when. Starts empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects(BTreeMap<String, Suspect>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Suspect {
    held: Held,
    since: SystemTime,
}

/// Addresses with block and sequence number: an allocation, as opposed to an earlier or later one of the same address.
type Held = BTreeMap<IpAddr, (IpNetwork, Option<u64>)>;

/// Everything a dead handle holds. It is released as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    node: String,
    handle: String,
    held: Held,
}

impl Leak {
    /// The handle.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// What it holds.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.held.keys().copied()
    }
}

/// The allocations in a block that say they are a node's. Others, and those that name no node, are none of its business:
/// another node, or another client, answers for them.
pub fn allocations_of(node: &str, block: &Block) -> Vec<Allocation> {
    let mut found = Vec::new();
    for (address, owner) in block.in_use() {
        let (Some(handle), Some(attributes)) = (&owner.handle_id, &owner.secondary) else { continue };
        if attributes.get(NODE).map(String::as_str) == Some(node) && !handle.is_empty() {
            found.push(Allocation {
                address,
                block: block.cidr,
                handle: handle.clone(),
                sequence: block.sequence_of(address),
                attributes: attributes.clone(),
            });
        }
    }
    found
}

/// The leaks among a node's allocations: handles of which nobody lives, neither by name nor behind any of their
/// addresses, that held the same at an earlier look at least `grace` ago. `suspects` takes note for the next look. The
/// addresses of tunnel devices are never leaks while their node asks. A `grace` of zero turns the search off, as upstream.
pub fn find_leaks(
    node: &str,
    allocations: &[Allocation],
    living: Living<'_>,
    now: SystemTime,
    grace: Duration,
    suspects: &mut Suspects,
) -> Vec<Leak> {
    let mut by_handle: BTreeMap<&str, Held> = BTreeMap::new();
    let mut alive = BTreeSet::new();
    for allocation in allocations {
        let handle = allocation.handle.as_str();
        by_handle
            .entry(handle)
            .or_default()
            .insert(allocation.address, (allocation.block, allocation.sequence));
        if is_alive(node, allocation, living) {
            alive.insert(handle);
        }
    }
    by_handle.retain(|handle, _| !grace.is_zero() && !alive.contains(handle));
    let mut leaks = Vec::new();
    let mut seen = BTreeMap::new();
    for (handle, held) in by_handle {
        let earlier = suspects.0.remove(handle).filter(|suspect| suspect.held == held);
        let since = earlier.as_ref().map_or(now, |suspect| suspect.since.min(now));
        if earlier.is_some() && now.duration_since(since).is_ok_and(|age| age >= grace) {
            leaks.push(Leak { node: node.to_owned(), handle: handle.to_owned(), held: held.clone() });
        }
        // A suspect it stays: whether its release succeeds is seen at the next look.
        seen.insert(handle.to_owned(), Suspect { held, since });
    }
    suspects.0 = seen;
    leaks
}

fn is_alive(node: &str, allocation: &Allocation, living: Living<'_>) -> bool {
    let kind = allocation.attributes.get("type").map(String::as_str);
    let tunnel =
        |tunnel: Tunnel| kind == Some(tunnel.attribute()) || allocation.handle == tunnel.handle(node);
    living.handles.iter().any(|handle| Handle::stored_id(handle) == allocation.handle)
        || living.addresses.contains(&allocation.address)
        || Tunnel::ALL.into_iter().any(tunnel)
}

impl Ipam {
    /// The allocations of a node in all blocks, its own and those it borrowed from. A block that cannot be read is left
    /// out: nothing is released from it either.
    ///
    /// # Errors
    /// The store's.
    pub async fn node_allocations(&self, node: &str) -> Result<Vec<Allocation>, IpamError> {
        let mut found = Vec::new();
        for family in Family::ALL {
            let existing = self.all_blocks(family).await?;
            for block in existing.blocks.values().flatten() {
                found.extend(allocations_of(node, &block.value));
            }
        }
        Ok(found)
    }

    /// Releases a leak, if the handle still holds exactly what it held when the leak was found, each address by the same
    /// allocation and for the same node; `None` when not. `extra` joins the transaction: a condition that the workload
    /// has no endpoint, say.
    ///
    /// # Errors
    /// [`IpamError`]; [`IpamError::Superseded`] when a condition of `extra` does not hold.
    pub async fn release_leak(&self, leak: &Leak, extra: Extra) -> Result<Option<Change>, IpamError> {
        let mut memory = self.memory.lock().await;
        let clock = self.configured_clock().await?;
        for attempts in 1..=RETRIES {
            let mut draft = Draft::new(clock);
            let stored = self.handle(&leak.handle).await?;
            // An interrupted client may have left addresses its handle does not count.
            let mut cidrs: BTreeSet<IpNetwork> = leak.held.values().map(|(block, _)| *block).collect();
            cidrs.extend(
                stored.iter().flat_map(|s| s.value.block.keys()).filter_map(|c| c.parse::<IpNetwork>().ok()),
            );
            draft.add_handle(&leak.handle, stored);
            for block in self.blocks(&cidrs.into_iter().collect::<Vec<_>>()).await {
                if let Some(block) = block? {
                    draft.add_block(block);
                }
            }
            if !leak.is_all(&draft) {
                return Ok(None);
            }
            let addresses = draft.release_handle(&leak.handle);
            let committed = self.commit(&mut memory, draft, Vec::new(), extra.clone()).await?;
            if let Commit::Done { revision, updates } = committed {
                return Ok(Some(Change { addresses, revision, updates, attempts }));
            }
        }
        Err(IpamError::Contended)
    }
}

impl Leak {
    /// Whether the blocks of the draft hold for the handle exactly what it leaked.
    fn is_all(&self, draft: &Draft) -> bool {
        let mut held = Held::new();
        for block in draft.blocks() {
            for (address, owner) in block.in_use() {
                if owner.handle_id.as_deref() != Some(&self.handle) {
                    continue;
                }
                let node = owner.secondary.as_ref().and_then(|attributes| attributes.get(NODE));
                if node != Some(&self.node) {
                    return false;
                }
                held.insert(address, (block.cidr, block.sequence_of(address)));
            }
        }
        held == self.held
    }
}
