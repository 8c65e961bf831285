//! Giving addresses back: all of a handle, or certain ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::ipam::{Block, Handle};

use super::draft::Draft;
use super::pools::{Family, block_of};
use super::records::Stored;
use super::{Change, Commit, Extra, Ipam, IpamError, RETRIES};

/// Blocks one transaction releases from. etcd allows 128 operations by default.
const BLOCKS_A_TRANSACTION: usize = 32;

/// Addresses of a block one transaction releases, each perhaps of a handle of its own.
const ADDRESSES_A_TRANSACTION: usize = 64;

/// An address to be released, and what must be true of it (calico-datamodel 4.5, ReleaseIPs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// The handle that must hold it.
    pub handle: Option<String>,
    /// The sequence number it must have been assigned at; it tells an allocation from a later one of the same address.
    pub sequence: Option<u64>,
}

impl From<IpAddr> for Release {
    fn from(address: IpAddr) -> Release {
        Release { address, handle: None, sequence: None }
    }
}

impl Release {
    fn check(&self, block: &Block) -> Result<(), IpamError> {
        let Some(owner) = block.owner(self.address) else { return Ok(()) };
        let found = owner.handle_id.as_deref().unwrap_or_default();
        if let Some(given) = self.handle.as_deref().map(Handle::stored_id)
            && given != found
        {
            return Err(IpamError::HandleMismatch { given: given.to_owned(), found: found.to_owned() });
        }
        let found = block.sequence_of(self.address).unwrap_or_default();
        match self.sequence {
            Some(given) if given != found => Err(IpamError::SequenceMismatch { given, found }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Ipam {
    /// Releases everything a handle holds, and performs `extra` in the same transaction (the first, should the handle
    /// have so many blocks that it takes several). A handle without addresses is no error: `extra` happens all the same.
    ///
    /// # Errors
    /// [`IpamError`]; calling it again continues.
    pub async fn release_by_handle(&self, handle: &str, extra: Extra) -> Result<Change, IpamError> {
        let handle = Handle::stored_id(handle);
        let mut memory = self.memory.lock().await;
        let mut extra = Some(extra);
        let mut change = Change::default();
        let mut conflicts = 0;
        while conflicts < RETRIES {
            let (clock, stored) = futures::join!(self.configured_clock(), self.handle(handle));
            let mut draft = Draft::new(clock?);
            // After a conflict the blocks are read: what is remembered was wrong once already.
            let remembered = (conflicts == 0).then_some(&*memory);
            let (addresses, left) =
                self.release_in_draft(&mut draft, handle, stored?, BLOCKS_A_TRANSACTION, remembered).await?;
            change.attempts += 1;
            match self.commit(&mut memory, draft, Vec::new(), extra.clone().unwrap_or_default()).await? {
                Commit::Again { .. } => conflicts += 1,
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
        let wanted: Vec<Release> = addresses.iter().copied().map(Release::from).collect();
        self.release_certain(&wanted).await
    }

    /// Releases certain addresses as far as they are held as the caller thinks, one transaction a block. Those that were
    /// free are left out of the answer.
    ///
    /// # Errors
    /// [`IpamError::HandleMismatch`], [`IpamError::SequenceMismatch`], with nothing of that block released; addresses of
    /// other blocks may have been.
    pub async fn release_certain(&self, wanted: &[Release]) -> Result<Change, IpamError> {
        let mut memory = self.memory.lock().await;
        let clock = self.configured_clock().await?;
        let mut change = Change::default();
        for (cidr, wanted) in self.by_block(wanted).await? {
            for wanted in wanted.chunks(ADDRESSES_A_TRANSACTION) {
                let mut done = false;
                for _ in 0..RETRIES {
                    let Some((draft, released)) =
                        self.release_draft(&cidr, wanted, Draft::new(clock)).await?
                    else {
                        done = true;
                        break;
                    };
                    change.attempts += 1;
                    let committed = self.commit(&mut memory, draft, Vec::new(), Extra::default()).await?;
                    if let Commit::Done { revision, updates } = committed {
                        change.add(released, revision, updates);
                        done = true;
                        break;
                    }
                }
                if !done {
                    return Err(IpamError::Contended);
                }
            }
        }
        Ok(change)
    }

    /// A draft that releases addresses of a block; `None` when the block is not there.
    async fn release_draft(
        &self,
        cidr: &IpNetwork,
        wanted: &[Release],
        mut draft: Draft,
    ) -> Result<Option<(Draft, Vec<IpAddr>)>, IpamError> {
        let Some(block) = self.block(cidr).await? else { return Ok(None) };
        wanted.iter().try_for_each(|release| release.check(&block.value))?;
        let addresses: Vec<IpAddr> = wanted.iter().map(|release| release.address).collect();
        for handle in handles_of(&block, &addresses) {
            draft.add_handle(&handle, self.handle(&handle).await?);
        }
        draft.add_block(block);
        let released = draft.release(cidr, &addresses);
        Ok(Some((draft, released)))
    }

    /// Addresses by the block they lie in. The pool tells which block that is; without one, a look at all blocks does.
    async fn by_block(&self, wanted: &[Release]) -> Result<BTreeMap<IpNetwork, Vec<Release>>, IpamError> {
        let pools = self.pools().await?;
        let mut grouped: BTreeMap<IpNetwork, Vec<Release>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for release in wanted {
            match pools.iter().find(|pool| pool.spec.cidr.contains(release.address)) {
                Some(pool) => {
                    grouped.entry(block_of(pool, release.address)).or_default().push(release.clone())
                }
                None => homeless.push(release),
            }
        }
        for family in Family::ALL {
            if !homeless.iter().any(|release| release.address.is_ipv6() == family.is_v6()) {
                continue;
            }
            for cidr in self.all_blocks(family).await?.blocks.into_keys() {
                let inside = homeless.iter().filter(|release| cidr.contains(release.address));
                let inside: Vec<Release> = inside.map(|release| (*release).clone()).collect();
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
    pub(super) fn add(&mut self, addresses: Vec<IpAddr>, revision: i64, updates: Vec<crate::syncer::Update>) {
        self.addresses.extend(addresses);
        self.revision = self.revision.max(revision);
        self.updates.extend(updates);
    }
}
