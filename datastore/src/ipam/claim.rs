//! Blocks beyond those an owner has: new ones, empty ones taken over from other nodes, and, unless affinity is strict,
//! addresses borrowed out of other nodes' blocks (calico-datamodel 4.3, steps 4 to 6).

use ipnetwork::IpNetwork;
use tortie_model::ipam::{Block, BlockOrder, BlockOwner};
use tortie_model::resource::IpPool;

use super::IpamError;
use super::assign::Attempt;
use super::records::{Existing, Stored};

/// How long ago another node must have claimed an empty block for it to be taken over, in seconds: it may be about to
/// use it.
const RECLAIM_AGE: i64 = 60;

/// Blocks of a pool that are looked at beyond as many as exist; only reservations make one pass over that many.
const MOST_PASSED_OVER: usize = 1 << 16;

/// Where to look for blocks.
pub(super) struct Place<'a> {
    pub(super) pools: &'a [&'a IpPool],
    pub(super) existing: &'a Existing,
    /// Blocks the owner may hold.
    pub(super) limit: usize,
}

impl Attempt<'_> {
    /// Claims blocks and takes addresses out of them, until none is missing or no block is left.
    ///
    /// # Errors
    /// [`IpamError::BlockLimit`] when another block would be one too many: nothing is borrowed then.
    pub(super) async fn claim(
        &mut self,
        place: &Place<'_>,
        mut held: usize,
        missing: &mut usize,
    ) -> Result<(), IpamError> {
        while *missing > 0 {
            if held >= place.limit {
                let node = self.owner.name().to_owned();
                return Err(IpamError::BlockLimit { node, held, limit: place.limit });
            }
            let claimed = match self.claim_new(place).await? {
                Some(cidr) => Some(cidr),
                None => self.take_over(place).await?,
            };
            let Some(cidr) = claimed else { return Ok(()) };
            held += 1;
            self.take(&cidr, missing);
        }
        Ok(())
    }

    /// Claims, in the draft, a block that does not exist yet, that exists for the owner without its claim, or that is
    /// empty and nobody's.
    pub(super) async fn claim_new(&mut self, place: &Place<'_>) -> Result<Option<IpNetwork>, IpamError> {
        let taken = self.touched();
        for pool in place.pools {
            if self.situation.is_all_reserved(&pool.spec.cidr) {
                continue;
            }
            let order = BlockOrder::new(pool.spec.cidr, pool.spec.block_prefix(), self.owner.name());
            for cidr in order.iter().take(place.existing.blocks.len() + MOST_PASSED_OVER) {
                if taken.contains(&cidr) || self.situation.is_all_reserved(&cidr) {
                    continue;
                }
                match place.existing.overlapping(&cidr) {
                    None => self.draft.create_block(cidr, self.owner),
                    Some((_, Some(block))) if self.is_claimable(block, &cidr) => {
                        self.draft.add_block(block.clone());
                        if block.value.affine_to().as_ref() != Some(self.owner) {
                            self.draft.set_owner(&cidr, Some(self.owner));
                        }
                    }
                    Some(_) => continue,
                }
                let affinity = match self.own.get(&cidr) {
                    Some(own) => Some(own.affinity.clone()),
                    None => self.ipam.affinity(self.owner, &cidr).await?,
                };
                self.draft.confirm(self.owner, cidr, affinity);
                return Ok(Some(cidr));
            }
        }
        Ok(None)
    }

    fn is_claimable(&self, block: &Stored<Block>, cidr: &IpNetwork) -> bool {
        let block = &block.value;
        if block.cidr != *cidr || !self.has_room(block) {
            return false;
        }
        match block.affine_to() {
            // With a claim it is the owner's in full already.
            Some(owner) => owner == *self.owner && !self.own.contains_key(cidr),
            None => !block.is_affine() && self.is_empty(block),
        }
    }

    fn is_empty(&self, block: &Block) -> bool {
        let mut block = block.clone();
        self.draft.clock.refresh(&mut block);
        block.is_empty()
    }

    /// Takes over, in the draft, an empty block of another node, together with its claim.
    async fn take_over(&mut self, place: &Place<'_>) -> Result<Option<IpNetwork>, IpamError> {
        let taken = self.touched();
        for (cidr, block) in self.ranked(place) {
            let Some(BlockOwner::Host(host)) = block.value.affine_to() else { continue };
            let former = BlockOwner::Host(host);
            let claimed = block.value.affinity_claim_time.as_deref();
            // Clients that note no time of their claims are older than this rule.
            let age = claimed.and_then(|time| self.draft.clock.seconds_since(time));
            let old_enough = age.is_none_or(|age| age >= RECLAIM_AGE);
            if former == *self.owner
                || taken.contains(&cidr)
                || !old_enough
                || !self.is_empty(&block.value)
                || !self.has_room(&block.value)
            {
                continue;
            }
            let affinity = self.ipam.affinity(&former, &cidr).await?;
            self.draft.forget_affinity(&former, cidr, affinity);
            let own = self.own.get(&cidr).map(|own| own.affinity.clone());
            self.draft.add_block(block.clone());
            self.draft.set_owner(&cidr, Some(self.owner));
            self.draft.confirm(self.owner, cidr, own);
            return Ok(Some(cidr));
        }
        Ok(None)
    }

    /// From blocks of other nodes, or nobody's, in the order the node would claim them.
    pub(super) fn borrow(&mut self, place: &Place<'_>, missing: &mut usize) {
        for (cidr, block) in self.ranked(place) {
            if *missing == 0 {
                return;
            }
            if self.has_room(self.draft.block(&cidr).unwrap_or(&block.value)) {
                self.draft.add_block(block.clone());
                self.take(&cidr, missing);
            }
        }
    }

    /// The sound blocks of the pools, in the order of pools and of the owner in each.
    fn ranked<'p>(&self, place: &'p Place<'_>) -> Vec<(IpNetwork, &'p Stored<Block>)> {
        let mut found = Vec::new();
        for pool in place.pools {
            let order = BlockOrder::new(pool.spec.cidr, pool.spec.block_prefix(), self.owner.name());
            let sound =
                place.existing.blocks.iter().filter_map(|(cidr, block)| Some((cidr, block.as_ref()?)));
            let mut ranked: Vec<_> =
                sound.filter_map(|(cidr, block)| Some((order.rank(cidr)?, *cidr, block))).collect();
            ranked.sort_by_key(|(rank, ..)| *rank);
            found.extend(ranked.into_iter().map(|(_, cidr, block)| (cidr, block)));
        }
        found
    }
}
