//! Giving addresses back: all of a handle, or certain ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::ipam::{Block, Handle};

use super::assign::block_of;
use super::draft::Draft;
use super::pools::Family;
use super::records::Stored;
use super::{Change, Commit, Extra, Ipam, IpamError, RETRIES};

/// Blocks one transaction releases from. etcd allows 128 operations by default.
const BLOCKS_A_TRANSACTION: usize = 32;

impl Ipam {
    /// Releases everything a handle holds, and performs `extra` in the same transaction (the first, should the handle
    /// have so many blocks that it takes several). A handle without addresses is no error: `extra` happens all the same.
    ///
    /// # Errors
    /// [`IpamError`]; calling it again continues.
    pub async fn release_by_handle(&self, handle: &str, extra: Extra) -> Result<Change, IpamError> {
        let handle = Handle::stored_id(handle);
        let _turn = self.turn.lock().await;
        let mut extra = Some(extra);
        let mut change = Change::default();
        for _ in 0..RETRIES {
            let mut draft = Draft::default();
            let (addresses, left) = self.release_in_draft(&mut draft, handle, BLOCKS_A_TRANSACTION).await?;
            match self.commit(draft, extra.clone().unwrap_or_default()).await? {
                Commit::Again => {}
                Commit::Done { revision, updates } => {
                    extra = None;
                    change.add(addresses, revision, updates);
                    if left == 0 {
                        return Ok(change);
                    }
                }
            }
        }
        Err(IpamError::Contended)
    }

    /// Releases certain addresses, whoever holds them, one transaction a block. Those that were free are left out of the
    /// answer.
    ///
    /// # Errors
    /// [`IpamError`]; addresses of other blocks may have been released.
    pub async fn release_addresses(&self, addresses: &[IpAddr]) -> Result<Change, IpamError> {
        let _turn = self.turn.lock().await;
        let mut change = Change::default();
        for (cidr, addresses) in self.by_block(addresses).await? {
            self.release_from_block(&cidr, &addresses, &mut change).await?;
        }
        Ok(change)
    }

    async fn release_from_block(
        &self,
        cidr: &IpNetwork,
        addresses: &[IpAddr],
        change: &mut Change,
    ) -> Result<(), IpamError> {
        for _ in 0..RETRIES {
            let Some(block) = self.block(cidr).await? else { return Ok(()) };
            let mut draft = Draft::default();
            for handle in handles_of(&block, addresses) {
                draft.add_handle(&handle, self.handle(&handle).await?);
            }
            draft.add_block(block);
            let released = draft.release(cidr, addresses);
            if let Commit::Done { revision, updates } = self.commit(draft, Extra::default()).await? {
                change.add(released, revision, updates);
                return Ok(());
            }
        }
        Err(IpamError::Contended)
    }

    /// Addresses by the block they lie in. The pool tells which block that is; without one, a look at all blocks does.
    async fn by_block(&self, addresses: &[IpAddr]) -> Result<BTreeMap<IpNetwork, Vec<IpAddr>>, IpamError> {
        let pools = self.pools().await?;
        let mut grouped: BTreeMap<IpNetwork, Vec<IpAddr>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for address in addresses {
            match pools.iter().find(|pool| pool.spec.cidr.contains(*address)) {
                Some(pool) => grouped.entry(block_of(pool, *address)).or_default().push(*address),
                None => homeless.push(*address),
            }
        }
        for family in [Family::V4, Family::V6] {
            let of_family: Vec<&IpAddr> =
                homeless.iter().filter(|a| a.is_ipv6() == (family == Family::V6)).collect();
            if of_family.is_empty() {
                continue;
            }
            for cidr in self.all_blocks(family).await?.blocks.into_keys() {
                let inside: Vec<IpAddr> =
                    of_family.iter().filter(|a| cidr.contains(***a)).map(|a| **a).collect();
                if !inside.is_empty() {
                    grouped.entry(cidr).or_default().extend(inside);
                }
            }
        }
        Ok(grouped)
    }
}

/// Handles that hold any of the addresses.
fn handles_of(block: &Stored<Block>, addresses: &[IpAddr]) -> BTreeSet<String> {
    addresses.iter().filter_map(|a| block.value.owner(*a)?.handle_id.clone()).collect()
}

impl Change {
    fn add(&mut self, addresses: Vec<IpAddr>, revision: i64, updates: Vec<crate::syncer::Update>) {
        self.addresses.extend(addresses);
        self.revision = self.revision.max(revision);
        self.updates.extend(updates);
    }
}
