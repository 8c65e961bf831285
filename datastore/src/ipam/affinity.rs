//! Giving up claims to blocks (calico-datamodel 4.4): an empty block goes, a block in use stays nobody's until its
//! addresses are released. Block and claim change in one transaction; upstream marks the claim `pendingDeletion` first,
//! since it cannot.

use ipnetwork::IpNetwork;
use tortie_model::Key;
use tortie_model::ipam::BlockOwner;
use tortie_model::names::cidr_from_key;

use super::clock::Clock;
use super::draft::Draft;
use super::memory::Memory;
use super::{Change, Commit, Extra, Ipam, IpamError, RETRIES};
use crate::store::{Operation, Transaction};

impl Ipam {
    /// Gives up one claim, whatever its state. Nothing happens when there is none.
    ///
    /// # Errors
    /// [`IpamError::NotEmpty`] with `must_be_empty` when addresses are in use or cool down; [`IpamError`].
    pub async fn release_affinity(
        &self,
        owner: &BlockOwner,
        block: IpNetwork,
        must_be_empty: bool,
    ) -> Result<Change, IpamError> {
        let mut memory = self.memory.lock().await;
        let clock = self.configured_clock().await?;
        self.give_up(&mut memory, clock, owner, block, must_be_empty).await
    }

    /// Gives up every claim of a node.
    ///
    /// # Errors
    /// As [`Ipam::release_affinity`], the first, after all others were given up.
    pub async fn release_host_affinities(
        &self,
        host: &str,
        must_be_empty: bool,
    ) -> Result<Change, IpamError> {
        let wanted =
            |owner: &BlockOwner, _: &IpNetwork| matches!(owner, BlockOwner::Host(name) if name == host);
        self.release_affinities(wanted, must_be_empty).await
    }

    /// Gives up every claim to a block of a pool, whoever's.
    ///
    /// # Errors
    /// [`IpamError`], the first, after all others were given up.
    pub async fn release_pool_affinities(&self, pool: &IpNetwork) -> Result<Change, IpamError> {
        let wanted = |_: &BlockOwner, block: &IpNetwork| {
            pool.contains(block.network()) || block.contains(pool.network())
        };
        self.release_affinities(wanted, false).await
    }

    /// Removes a node from IPAM: its claims, then its record.
    ///
    /// # Errors
    /// [`IpamError`]; calling it again continues.
    pub async fn remove_host(&self, host: &str) -> Result<Change, IpamError> {
        let change = self.release_host_affinities(host, false).await?;
        let record = Operation::Delete(Key::IpamHost(host.to_owned()).to_string());
        let transaction = Transaction { compares: Vec::new(), operations: vec![record] };
        self.client.store().transact(transaction).await?;
        Ok(change)
    }

    async fn release_affinities(
        &self,
        wanted: impl Fn(&BlockOwner, &IpNetwork) -> bool,
        must_be_empty: bool,
    ) -> Result<Change, IpamError> {
        let mut memory = self.memory.lock().await;
        let clock = self.configured_clock().await?;
        let (mut change, mut first_error) = (Change::default(), None);
        for (owner, block) in self.all_affinities().await? {
            if !wanted(&owner, &block) {
                continue;
            }
            match self.give_up(&mut memory, clock, &owner, block, must_be_empty).await {
                Ok(done) => {
                    change.attempts += done.attempts;
                    change.add(Vec::new(), done.revision, done.updates);
                }
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(change), Err)
    }

    async fn give_up(
        &self,
        memory: &mut Memory,
        clock: Clock,
        owner: &BlockOwner,
        cidr: IpNetwork,
        must_be_empty: bool,
    ) -> Result<Change, IpamError> {
        for attempts in 1..=RETRIES {
            let (affinity, block) = futures::join!(self.affinity(owner, &cidr), self.block(&cidr));
            let Some(affinity) = affinity? else { return Ok(Change::default()) };
            let mut draft = Draft::new(clock);
            draft.forget_affinity(owner, cidr, Some(affinity));
            match block? {
                None => draft.require_absent_block(cidr),
                // Only what is the owner's own changes, but it has to be so still.
                Some(block) => draft.add_remembered_block(block),
            }
            if let Some(block) = draft.block(&cidr).filter(|b| b.affine_to().as_ref() == Some(owner)) {
                if must_be_empty && !block.is_empty() {
                    let in_use = block.in_use().count() + block.cooling().count();
                    return Err(IpamError::NotEmpty { block: cidr, owner: owner.to_string(), in_use });
                }
                // Without owner, an empty block is deleted.
                draft.set_owner(&cidr, None);
            }
            let committed = self.commit(memory, draft, Vec::new(), Extra::default()).await?;
            if let Commit::Done { revision, updates } = committed {
                return Ok(Change { revision, updates, attempts, ..Change::default() });
            }
        }
        Err(IpamError::Contended)
    }

    /// Every claim there is, by the owner's kind and name.
    async fn all_affinities(&self) -> Result<Vec<(BlockOwner, IpNetwork)>, IpamError> {
        let mut found = Vec::new();
        for kind in ["host", "virtual"] {
            let prefix = format!("{}{kind}/", Key::ipam_prefix());
            for kv in self.client.store().list(&prefix).await?.entries {
                let mut parts = kv.key.get(prefix.len()..).unwrap_or_default().split('/');
                if let (Some(name), Some(_family), Some("block"), Some(cidr), None) =
                    (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
                    && let Some(cidr) = cidr_from_key(cidr)
                {
                    let owner = BlockOwner::parse(&format!("{kind}:{name}"));
                    found.extend(owner.map(|owner| (owner, cidr)));
                }
            }
        }
        Ok(found)
    }
}
