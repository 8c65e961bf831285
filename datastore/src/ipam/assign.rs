//! Which blocks an allocation takes its addresses from (calico-datamodel 4.3): what the handle holds already, blocks of
//! the node, a block nobody has yet, and at last, unless affinity is strict, blocks of others.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use ipnetwork::IpNetwork;
use tortie_model::ipam::{AffinityState, AllocationAttribute, Block, BlockOrder, Handle};
use tortie_model::resource::IpPool;

use super::draft::Draft;
use super::pools::{self, Criteria, Family};
use super::records::{Existing, Settings};
use super::{AssignRequest, Change, Commit, DEFAULT_BLOCK_LIMIT, Extra, Ipam, IpamError, RETRIES};

/// One attempt at an allocation.
struct Attempt<'a> {
    ipam: &'a Ipam,
    request: &'a AssignRequest,
    settings: &'a Settings,
    owner: AllocationAttribute,
    draft: Draft,
    /// What the handle held before, now released in the draft.
    released: Vec<IpAddr>,
    assigned: Vec<IpAddr>,
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
        let _turn = self.turn.lock().await;
        for _ in 0..RETRIES {
            let settings = self.settings(&request.host).await?;
            let mut attempt = Attempt {
                ipam: self,
                request: &request,
                settings: &settings,
                owner: request.owner(),
                draft: Draft::default(),
                released: Vec::new(),
                assigned: Vec::new(),
            };
            attempt.fill().await?;
            let Attempt { draft, assigned: mut addresses, .. } = attempt;
            addresses.sort_by_key(IpAddr::is_ipv6);
            match self.commit(draft, extra(&addresses)).await? {
                Commit::Done { revision, updates } => return Ok(Change { addresses, revision, updates }),
                Commit::Again => {}
            }
        }
        Err(IpamError::Contended)
    }

    /// Reads a handle and its blocks into a draft and releases what it holds there. Returns that, and the handle's
    /// blocks beyond `limit`.
    pub(super) async fn release_in_draft(
        &self,
        draft: &mut Draft,
        handle: &str,
        limit: usize,
    ) -> Result<(Vec<IpAddr>, usize), IpamError> {
        let stored = self.handle(handle).await?;
        let names: Vec<String> =
            stored.iter().flat_map(|stored| stored.value.block.keys().cloned()).collect();
        draft.add_handle(handle, stored);
        let (now, later) = names.split_at(names.len().min(limit));
        let cidrs: Vec<IpNetwork> = now.iter().filter_map(|name| name.parse().ok()).collect();
        for block in self.blocks(&cidrs).await {
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

impl Attempt<'_> {
    async fn fill(&mut self) -> Result<(), IpamError> {
        let handle = &self.request.handle;
        (self.released, _) = self.ipam.release_in_draft(&mut self.draft, handle, usize::MAX).await?;
        for address in &self.request.addresses {
            self.take_certain(*address).await?;
        }
        for (family, count) in [(Family::V4, self.request.ipv4), (Family::V6, self.request.ipv6)] {
            if count > 0 {
                self.take_any(family, count).await?;
            }
        }
        Ok(())
    }

    async fn take_any(&mut self, family: Family, count: usize) -> Result<(), IpamError> {
        let settings = self.settings;
        let criteria = Criteria {
            node: &self.request.host,
            labels: &settings.node.metadata.labels,
            requested: &self.request.pools,
            usage: self.request.intended_use,
        };
        let pools = pools::candidates(&settings.pools, family, &criteria)?;
        let mut missing = count - self.keep(&pools, count);
        if missing == 0 {
            return Ok(());
        }
        let held = self.take_from_own(family, &pools, &mut missing).await?;
        if missing == 0 {
            return Ok(());
        }
        let blocks = self.ipam.all_blocks(family).await?;
        let config = &settings.config;
        if config.auto_allocate_blocks {
            let limit = match config.max_blocks_per_host {
                0 => DEFAULT_BLOCK_LIMIT,
                configured => configured as usize,
            };
            self.take_from_new(&pools, &blocks, held..limit, &mut missing).await?;
        }
        if missing > 0 && !config.strict_affinity {
            self.borrow(&pools, &blocks, &mut missing);
        }
        if missing > 0 {
            let node = self.request.host.clone();
            return Err(IpamError::Exhausted { pools: pools::subject(&pools), family, node });
        }
        Ok(())
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
            if self.draft.take_address(&cidr, address, &self.owner).is_ok() {
                self.assigned.push(address);
                taken += 1;
            }
        }
        taken
    }

    fn take(&mut self, block: &IpNetwork, missing: &mut usize) {
        let given = self.draft.take(block, *missing, &self.owner);
        *missing -= given.len();
        self.assigned.extend(given);
    }

    /// From blocks the node has an affinity to. Completes claims found half done, and removes claims to blocks that
    /// others won (calico-datamodel 4.4). Returns how many blocks the node holds.
    async fn take_from_own(
        &mut self,
        family: Family,
        pools: &[&IpPool],
        missing: &mut usize,
    ) -> Result<usize, IpamError> {
        let host = &self.request.host;
        let mut affinities = self.ipam.affinities(host, family).await?;
        affinities.retain(|(block, _)| pool_of(pools, block).is_some());
        let cidrs: Vec<IpNetwork> = affinities.iter().map(|(block, _)| *block).collect();
        let blocks = self.ipam.blocks(&cidrs).await;
        let mut held = 0;
        for ((cidr, affinity), block) in affinities.into_iter().zip(blocks) {
            let block = match block {
                Err(error @ (IpamError::Damaged(_) | IpamError::Decode(_))) => {
                    tracing::warn!(%cidr, %error, "block left alone");
                    held += 1;
                    continue;
                }
                other => other?,
            };
            if let Some(block) = &block
                && block.value.host() != Some(host)
            {
                self.draft.forget_affinity(host, cidr, affinity);
                continue;
            }
            held += 1;
            let present = self.draft.block(&cidr).or(block.as_ref().map(|stored| &stored.value));
            if *missing == 0 || present.is_some_and(|block| block.free() == 0) {
                continue;
            }
            let whole = affinity.value.state == AffinityState::Confirmed && block.is_some();
            match block {
                Some(block) => self.draft.add_block(block),
                None => self.create_block(cidr),
            }
            if !whole {
                self.draft.confirm(host, cidr, Some(affinity));
            }
            self.take(&cidr, missing);
        }
        Ok(held)
    }

    /// Claims blocks that do not exist yet, or exist for this node without its affinity, within the limit on the number
    /// of blocks held.
    async fn take_from_new(
        &mut self,
        pools: &[&IpPool],
        existing: &Existing,
        mut held: std::ops::Range<usize>,
        missing: &mut usize,
    ) -> Result<(), IpamError> {
        let host = self.request.host.clone();
        for pool in pools {
            let order = BlockOrder::new(pool.spec.cidr, pool.spec.block_prefix(), &host);
            for cidr in order.iter() {
                if *missing == 0 {
                    return Ok(());
                }
                let found = existing.overlapping(&cidr);
                let ours = found
                    .and_then(|(_, block)| block)
                    .filter(|b| b.value.cidr == cidr && b.value.host() == Some(&host) && b.value.free() > 0);
                if self.draft.block(&cidr).is_some() || (found.is_some() && ours.is_none()) {
                    continue;
                }
                let (count, limit) = (held.start, held.end);
                if held.next().is_none() {
                    return Err(IpamError::BlockLimit { node: host, held: count, limit });
                }
                let affinity = self.ipam.affinity(&host, &cidr).await?;
                match ours {
                    Some(block) => self.draft.add_block(block.clone()),
                    None => self.create_block(cidr),
                }
                self.draft.confirm(&host, cidr, affinity);
                self.take(&cidr, missing);
            }
        }
        Ok(())
    }

    /// From blocks of other nodes, or nobody's, in the order the node would claim them.
    fn borrow(&mut self, pools: &[&IpPool], existing: &Existing, missing: &mut usize) {
        for pool in pools {
            let order = BlockOrder::new(pool.spec.cidr, pool.spec.block_prefix(), &self.request.host);
            let whole = existing.blocks.values().flatten();
            let ranked = whole.filter_map(|b| Some((order.rank(&b.value.cidr)?, b)));
            let mut ranked: Vec<_> = ranked.filter(|(_, b)| b.value.free() > 0).collect();
            ranked.sort_by_key(|(rank, _)| *rank);
            for (_, block) in ranked {
                if *missing == 0 {
                    return;
                }
                self.draft.add_block(block.clone());
                self.take(&block.value.cidr, missing);
            }
        }
    }

    /// One certain address (calico-datamodel 4.5, AssignIP).
    async fn take_certain(&mut self, address: IpAddr) -> Result<(), IpamError> {
        let host = &self.request.host;
        let pool = pools::pool_of(&self.settings.pools, address, self.request.intended_use)?;
        let cidr = block_of(pool, address);
        if self.draft.block(&cidr).is_none() {
            match self.ipam.block(&cidr).await? {
                Some(block) => self.draft.add_block(block),
                None => {
                    let affinity = self.ipam.affinity(host, &cidr).await?;
                    self.create_block(cidr);
                    self.draft.confirm(host, cidr, affinity);
                }
            }
        }
        let owner = self.draft.block(&cidr).and_then(Block::host);
        if self.settings.config.strict_affinity && owner != Some(host) {
            let owner = owner.map_or_else(|| "nobody".to_owned(), |node| format!("node {node}"));
            return Err(IpamError::ForeignBlock { address, block: cidr, owner });
        }
        self.draft.take_address(&cidr, address, &self.owner)?;
        self.assigned.push(address);
        Ok(())
    }

    fn create_block(&mut self, cidr: IpNetwork) {
        let now = (self.ipam.now)();
        let nanoseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let claimed = jiff::Timestamp::try_from(now).ok();
        let claimed = claimed.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        self.draft.create_block(Block::new(cidr, Some(&self.request.host), claimed, nanoseconds));
    }
}

/// The block of a pool an address lies in.
pub(super) fn block_of(pool: &IpPool, address: IpAddr) -> IpNetwork {
    let prefix = pool.spec.block_prefix().min(if address.is_ipv4() { 32 } else { 128 });
    let unmasked = IpNetwork::new(address, prefix).expect("the length was cut to the family's");
    IpNetwork::new(unmasked.network(), prefix).expect("the length was valid before")
}

fn pool_of<'a>(pools: &[&'a IpPool], block: &IpNetwork) -> Option<&'a IpPool> {
    pools.iter().copied().find(|pool| {
        Family::of(&pool.spec.cidr) == Family::of(block) && pool.spec.cidr.contains(block.network())
    })
}
