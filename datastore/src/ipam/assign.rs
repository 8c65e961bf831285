//! An allocation (calico-datamodel 4.3): what the handle holds already, then blocks of the node, then what `claim` finds.
//!
//! While nothing but the node's own blocks is needed, it is calculated from memory and costs one round trip, the
//! transaction. Else the store is read first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures::future;
use ipnetwork::IpNetwork;
use tortie_model::Key;
use tortie_model::ipam::{AllocationAttribute, Block, BlockOwner, Handle};
use tortie_model::resource::IpPool;

use super::claim::Place;
use super::draft::Draft;
use super::memory::{Memory, OwnBlocks};
use super::own::Claimed;
use super::pools::{self, Family, block_of, pool_with};
use super::records::Stored;
use super::settings::Situation;
use super::{AssignRequest, Change, Commit, DEFAULT_BLOCK_LIMIT, Extra, Ipam, IpamError, RETRIES};

/// One attempt at an allocation.
pub(super) struct Attempt<'a> {
    pub(super) ipam: &'a Ipam,
    pub(super) request: &'a AssignRequest,
    pub(super) owner: &'a BlockOwner,
    pub(super) situation: Situation,
    attribute: AllocationAttribute,
    pub(super) draft: Draft,
    /// What the handle held before, now released in the draft.
    released: Vec<IpAddr>,
    assigned: Vec<IpAddr>,
    /// Claims of the owner as listed, and their blocks as read.
    pub(super) own: BTreeMap<IpNetwork, Claimed>,
}

impl Ipam {
    /// Assigns addresses, all or none, in one transaction with what `extra` adds for them.
    ///
    /// `extra` may be called several times, with different addresses, before one transaction succeeds.
    ///
    /// # Errors
    /// [`IpamError`]; nothing was written then, unless it is [`IpamError::Store`] with an unknown outcome: the same
    /// request again, or releasing the handle, settles that.
    pub async fn assign(
        &self,
        request: &AssignRequest,
        extra: impl Fn(&[IpAddr]) -> Extra + Send + Sync,
    ) -> Result<Change, IpamError> {
        let mut request = request.clone();
        request.handle = Handle::stored_id(&request.handle).to_owned();
        let owner = request.block_owner();
        let handle_key = Key::Handle(request.handle.clone()).to_string();
        let mut memory = self.memory.lock().await;
        let mut by_memory = true;
        for attempts in 1..=RETRIES {
            let remembered =
                if by_memory { self.attempt_by_memory(&mut memory, &request, &owner) } else { None };
            let attempt = match remembered {
                Some(attempt) => attempt,
                None => self.attempt_by_store(&mut memory, &request, &owner).await?,
            };
            let compares = attempt.compares();
            let Attempt { draft, assigned: mut addresses, .. } = attempt;
            addresses.sort_by_key(IpAddr::is_ipv6);
            match self.commit(&mut memory, draft, compares, extra(&addresses)).await? {
                Commit::Done { revision, updates } => {
                    if self.runs_low_in(&mut memory, &request, &owner) {
                        self.low.notify_one();
                    }
                    return Ok(Change { addresses, revision, updates, attempts });
                }
                // A handle that is there has to be read with its blocks.
                Commit::Again { current } => by_memory = !current.iter().any(|kv| kv.key == handle_key),
            }
        }
        Err(IpamError::Contended)
    }

    /// An attempt by what is remembered, for a handle that is not there yet; `None` when that does not suffice.
    fn attempt_by_memory<'a>(
        &'a self,
        memory: &mut Memory,
        request: &'a AssignRequest,
        owner: &'a BlockOwner,
    ) -> Option<Attempt<'a>> {
        if !request.addresses.is_empty() {
            return None;
        }
        let situation = Situation::remembered(memory, owner, request.namespace.as_deref())?;
        let mut attempt = Attempt::new(self, request, owner, situation);
        attempt.draft.add_handle(&request.handle, None);
        for (family, count) in request.wanted() {
            attempt.take_remembered(memory.own(owner, family)?, family, count)?;
        }
        Some(attempt)
    }

    /// An attempt by what the store holds now.
    async fn attempt_by_store<'a>(
        &'a self,
        memory: &mut Memory,
        request: &'a AssignRequest,
        owner: &'a BlockOwner,
    ) -> Result<Attempt<'a>, IpamError> {
        let situation = self.situation(memory, owner, request.namespace.as_deref()).await?;
        let mut attempt = Attempt::new(self, request, owner, situation);
        let stored = self.handle(&request.handle).await?;
        (attempt.released, _) =
            self.release_in_draft(&mut attempt.draft, &request.handle, stored, usize::MAX, None).await?;
        for address in &request.addresses {
            attempt.take_certain(*address).await?;
        }
        for (family, count) in request.wanted() {
            attempt.take_any(memory, family, count).await?;
        }
        Ok(attempt)
    }

    /// Reads a handle's blocks into a draft and releases what it holds there. Returns that, and the handle's
    /// blocks beyond `limit`. Blocks in `memory` are not read, but made sure of.
    pub(super) async fn release_in_draft(
        &self,
        draft: &mut Draft,
        handle: &str,
        stored: Option<Stored<Handle>>,
        limit: usize,
        memory: Option<&Memory>,
    ) -> Result<(Vec<IpAddr>, usize), IpamError> {
        let names: Vec<String> =
            stored.iter().flat_map(|stored| stored.value.block.keys().cloned()).collect();
        draft.add_handle(handle, stored);
        let (now, later) = names.split_at(names.len().min(limit));
        let cidrs: Vec<IpNetwork> = now.iter().filter_map(|name| name.parse().ok()).collect();
        let remembered = |cidr: &IpNetwork| memory.and_then(|memory| memory.block(cidr));
        cidrs.iter().filter_map(remembered).for_each(|block| draft.add_remembered_block(block.clone()));
        let unknown: Vec<IpNetwork> = cidrs.into_iter().filter(|cidr| draft.block(cidr).is_none()).collect();
        for block in self.blocks(&unknown).await {
            if let Some(block) = block? {
                draft.add_block(block);
            }
        }
        for name in now {
            let gone = name.parse().ok().is_none_or(|cidr| draft.block(&cidr).is_none());
            if gone {
                draft.forget_in_handle(handle, name);
            }
        }
        Ok((draft.release_handle(handle), later.len()))
    }
}

impl AssignRequest {
    /// Families of which addresses of the allocator's choice are wanted, and how many.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (Family, usize)> + use<> {
        [(Family::V4, self.ipv4), (Family::V6, self.ipv6)].into_iter().filter(|(_, count)| *count > 0)
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        ipam: &'a Ipam,
        request: &'a AssignRequest,
        owner: &'a BlockOwner,
        situation: Situation,
    ) -> Attempt<'a> {
        Attempt {
            ipam,
            request,
            owner,
            attribute: request.owner(),
            draft: Draft::new(ipam.clock(situation.settings.config.ip_cooldown_seconds)),
            released: Vec::new(),
            assigned: Vec::new(),
            own: BTreeMap::new(),
            situation,
        }
    }

    /// What has to hold besides the draft: the settings, with the pools the addresses are of.
    fn compares(&self) -> Vec<crate::store::Compare> {
        let pools = &self.situation.settings.pools;
        let used: Vec<&IpPool> =
            pools.iter().filter(|pool| self.assigned.iter().any(|a| pool.spec.cidr.contains(*a))).collect();
        self.situation.compares(&used)
    }

    /// All from blocks that are remembered, or `None`.
    fn take_remembered(&mut self, own: &OwnBlocks, family: Family, count: usize) -> Option<()> {
        let situation = self.situation.clone();
        let pools = situation.candidates(family, self.request).ok()?;
        let mut missing = count;
        for (cidr, own) in own {
            if missing == 0 {
                break;
            }
            if pool_with(&pools, cidr).is_none() || !self.has_room(&own.block.value) {
                continue;
            }
            self.draft.add_block(own.block.clone());
            self.draft.require_affinity(self.owner, *cidr, own.affinity.clone());
            self.take(cidr, &mut missing);
        }
        (missing == 0).then_some(())
    }

    async fn take_any(&mut self, memory: &mut Memory, family: Family, count: usize) -> Result<(), IpamError> {
        let situation = self.situation.clone();
        let pools = situation.candidates(family, self.request)?;
        let mut missing = count - self.keep(&pools, count);
        if missing == 0 {
            return Ok(());
        }
        self.survey(memory, family).await?;
        let held = self.take_from_own(&pools, family, &mut missing);
        if missing == 0 {
            return Ok(());
        }
        let existing = self.ipam.all_blocks(family).await?;
        let place = Place { pools: &pools, existing: &existing, limit: self.block_limit() };
        let config = &situation.settings.config;
        if config.auto_allocate_blocks {
            self.claim(&place, held, &mut missing).await?;
        }
        if missing > 0 && !config.strict_affinity {
            self.borrow(&place, &mut missing);
        }
        if missing > 0 {
            let node = self.request.host.clone();
            return Err(IpamError::Exhausted { pools: pools::subject(&pools), family, node });
        }
        Ok(())
    }

    /// The smaller of the request's limit and the configuration's, where they are set (calico-datamodel 4.3, step 4).
    pub(super) fn block_limit(&self) -> usize {
        let configured = self.situation.settings.config.max_blocks_per_host as usize;
        let set = [configured, self.request.max_blocks].into_iter().filter(|limit| *limit > 0);
        set.min().unwrap_or(DEFAULT_BLOCK_LIMIT)
    }

    /// Gives the handle back what it held, as far as it is wanted; returns how many.
    fn keep(&mut self, pools: &[&IpPool], count: usize) -> usize {
        let fits = |address: &IpAddr| {
            pools.iter().any(|p| p.spec.cidr.contains(*address)) && !self.assigned.contains(address)
        };
        let kept: Vec<IpAddr> = self.released.iter().copied().filter(fits).take(count).collect();
        let mut taken = 0;
        for address in kept {
            let Some(cidr) = self.draft.block_of(address) else { continue };
            if self.draft.take_address(&cidr, address, &self.attribute).is_ok() {
                self.assigned.push(address);
                taken += 1;
            }
        }
        taken
    }

    /// Takes usable addresses out of a block of the draft.
    pub(super) fn take(&mut self, block: &IpNetwork, missing: &mut usize) {
        let situation = &self.situation;
        let usable = |address: IpAddr| !situation.is_reserved(address);
        let given = self.draft.take(block, *missing, &self.attribute, usable);
        *missing -= given.len();
        self.assigned.extend(given);
    }

    /// Whether a block has an address that may be given out. What has cooled down counts.
    pub(super) fn has_room(&self, block: &Block) -> bool {
        self.usable(block) > 0
    }

    /// How many addresses of a block may be given out.
    pub(super) fn usable(&self, block: &Block) -> usize {
        self.situation.usable(block, &self.draft.clock)
    }

    /// One certain address (calico-datamodel 4.5, AssignIP). Reservations do not apply.
    async fn take_certain(&mut self, address: IpAddr) -> Result<(), IpamError> {
        let pools = &self.situation.settings.pools;
        let cidr = block_of(pools::pool_of(pools, address, self.request.intended_use)?, address);
        if self.draft.block(&cidr).is_none() {
            let (block, affinity) =
                future::join(self.ipam.block(&cidr), self.ipam.affinity(self.owner, &cidr)).await;
            match (block?, affinity?) {
                (Some(block), _) => self.draft.add_block(block),
                (None, affinity) => {
                    self.refuse_overlap(address, &cidr).await?;
                    self.draft.create_block(cidr, self.owner);
                    self.draft.confirm(self.owner, cidr, affinity);
                }
            }
        }
        let owner = self.draft.block(&cidr).and_then(Block::affine_to);
        if self.situation.settings.config.strict_affinity && owner.as_ref() != Some(self.owner) {
            let owner = owner.map_or_else(
                || "nobody".to_owned(),
                |owner| match owner {
                    BlockOwner::Host(name) => format!("node {name}"),
                    BlockOwner::Virtual(name) => format!("the virtual owner {name}"),
                },
            );
            return Err(IpamError::ForeignBlock { address, block: cidr, owner });
        }
        self.draft.take_address(&cidr, address, &self.attribute)?;
        self.assigned.push(address);
        Ok(())
    }

    /// A pool made anew with another block size may find blocks of the earlier one in its way: an address is in one block.
    async fn refuse_overlap(&self, address: IpAddr, cidr: &IpNetwork) -> Result<(), IpamError> {
        let existing = self.ipam.all_blocks(Family::of(cidr)).await?;
        match existing.overlapping(cidr) {
            Some((present, _)) => {
                Err(IpamError::BlockSizeChanged { address, block: *cidr, present: *present })
            }
            None => Ok(()),
        }
    }

    /// Blocks of the draft that are assigned from or claimed.
    pub(super) fn touched(&self) -> BTreeSet<IpNetwork> {
        self.draft.blocks().map(|block| block.cidr).collect()
    }
}
