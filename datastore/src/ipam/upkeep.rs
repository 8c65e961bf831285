//! Care for a node's blocks between allocations: claims found half done are settled, the next block is claimed before
//! the present ones run out, and empty ones beyond the first are given back (calico-datamodel 4.8).

use ipnetwork::IpNetwork;
use tortie_model::ipam::{AffinityState, BlockOwner};
use tortie_model::resource::IpPool;

use super::assign::Attempt;
use super::claim::Place;
use super::clock::Clock;
use super::memory::Memory;
use super::own::{Claimed, Found};
use super::pools::{Family, pool_with};
use super::settings::Situation;
use super::{AssignRequest, Change, Commit, Extra, Ipam, IpamError, RETRIES};

/// A node's blocks run low when less than one of so many addresses of a block is free in all of them.
const LOW_PART: usize = 4;

/// How long ago a block must have been claimed to be given back, in seconds: somebody may be about to use it.
const GIVE_BACK_AGE: i64 = 60;

/// Blocks given back in one transaction.
const GIVEN_BACK_AT_ONCE: usize = 32;

impl Ipam {
    /// Waits until an allocation has left the blocks of its node nearly full: time for [`Ipam::prefetch`].
    pub async fn runs_low(&self) {
        self.low.notified().await;
    }

    /// Reads the node's blocks, so that its next allocation finds them in memory, settles claims that other clients left
    /// half done, and claims the next block of each family of which the node has some, when fewer than a quarter of a
    /// block's addresses are free in all of them together. Limits hold as for an allocation; nothing is taken from other
    /// nodes. Only pools the node may use unasked, and for any namespace, are cared for.
    ///
    /// # Errors
    /// [`IpamError`]; nothing depends on its success.
    pub async fn prefetch(&self, host: &str) -> Result<Change, IpamError> {
        let request = AssignRequest { ipv4: 0, ..AssignRequest::new(host, "") };
        let owner = BlockOwner::Host(host.to_owned());
        let mut memory = self.memory.lock().await;
        for attempts in 1..=RETRIES {
            let situation = self.situation(&mut memory, &owner, None).await?;
            let mut attempt = Attempt::new(self, &request, &owner, situation.clone());
            let mut used = Vec::new();
            for family in Family::ALL {
                attempt.survey(&mut memory, family).await?;
                attempt.settle(family);
                let Ok(pools) = situation.candidates(family, &request) else { continue };
                used.extend(attempt.prefetch(&pools, family).await?);
            }
            let compares = situation.compares(&used);
            let committed = self.commit(&mut memory, attempt.draft, compares, Extra::default()).await?;
            if let Commit::Done { revision, updates } = committed {
                return Ok(Change { revision, updates, attempts, ..Change::default() });
            }
        }
        Err(IpamError::Contended)
    }

    /// Gives back the node's empty blocks beyond the first of each family, once they have been its own for a minute.
    ///
    /// # Errors
    /// [`IpamError`]; nothing depends on its success.
    pub async fn give_back(&self, host: &str) -> Result<Change, IpamError> {
        let request = AssignRequest { ipv4: 0, ..AssignRequest::new(host, "") };
        let owner = BlockOwner::Host(host.to_owned());
        let mut memory = self.memory.lock().await;
        for attempts in 1..=RETRIES {
            let situation = self.situation(&mut memory, &owner, None).await?;
            let mut attempt = Attempt::new(self, &request, &owner, situation.clone());
            for family in Family::ALL {
                attempt.survey(&mut memory, family).await?;
                let pools = situation.candidates(family, &request).unwrap_or_default();
                attempt.give_back(&pools, family);
            }
            let committed =
                self.commit(&mut memory, attempt.draft, situation.compares(&[]), Extra::default()).await?;
            if let Commit::Done { revision, updates } = committed {
                return Ok(Change { revision, updates, attempts, ..Change::default() });
            }
        }
        Err(IpamError::Contended)
    }

    /// Whether the blocks the owner is remembered to have run low in a family the request took addresses of, and another
    /// could be claimed.
    pub(super) fn runs_low_in(
        &self,
        memory: &mut Memory,
        request: &AssignRequest,
        owner: &BlockOwner,
    ) -> bool {
        let unasked = AssignRequest { namespace: None, pools: Vec::new(), ..request.clone() };
        let Some(situation) = Situation::remembered(memory, owner, None) else { return false };
        let config = &situation.settings.config;
        if !matches!(owner, BlockOwner::Host(_)) || !config.auto_allocate_blocks {
            return false;
        }
        let clock = self.clock(config.ip_cooldown_seconds);
        let limit = Attempt::new(self, &unasked, owner, situation.clone()).block_limit();
        unasked.wanted().any(|(family, _)| {
            let Ok(pools) = situation.candidates(family, &unasked) else { return false };
            let Some(own) = memory.own(owner, family) else { return false };
            let own = own.iter().filter(|(cidr, _)| pool_with(&pools, cidr).is_some());
            let room = Room::of(own.map(|(cidr, own)| (cidr, situation.usable(&own.block.value, &clock))));
            room.is_low(limit)
        })
    }
}

/// What is left in some blocks.
#[derive(Default)]
struct Room {
    blocks: usize,
    free: usize,
    /// Size of the largest.
    size: usize,
}

impl Room {
    fn of<'a>(blocks: impl Iterator<Item = (&'a IpNetwork, usize)>) -> Room {
        blocks.fold(Room::default(), |room, (cidr, free)| {
            let bits = if cidr.is_ipv4() { 32 } else { 128 } - cidr.prefix();
            let size = 1 << bits.min(12);
            Room { blocks: room.blocks + 1, free: room.free + free, size: room.size.max(size) }
        })
    }

    fn is_low(&self, limit: usize) -> bool {
        (1..limit).contains(&self.blocks) && self.free < (self.size / LOW_PART).max(1)
    }
}

impl Attempt<'_> {
    /// Completes or removes the claims of a family that are not confirmed or have no block (calico-datamodel 4.4).
    fn settle(&mut self, family: Family) {
        let own: Vec<(IpNetwork, Claimed)> = self.own.iter().map(|(c, own)| (*c, own.clone())).collect();
        for (cidr, Claimed { affinity, block }) in own {
            if Family::of(&cidr) != family {
                continue;
            }
            match block {
                Found::Block(block) if block.value.affine_to().as_ref() == Some(self.owner) => {
                    if affinity.value.state != AffinityState::Confirmed {
                        // Written as it is: whoever is about to delete it compares its revision.
                        self.draft.add_block(block);
                        self.draft.touch(&cidr);
                        self.draft.confirm(self.owner, cidr, Some(affinity));
                    }
                }
                Found::Block(block) => {
                    self.draft.add_remembered_block(block);
                    self.draft.forget_affinity(self.owner, cidr, Some(affinity));
                }
                Found::Absent => {
                    self.draft.require_absent_block(cidr);
                    self.draft.forget_affinity(self.owner, cidr, Some(affinity));
                }
                Found::Damaged => {}
            }
        }
    }

    /// Claims a block when those the node has run low; returns the pools it depends on.
    async fn prefetch<'p>(
        &mut self,
        pools: &[&'p IpPool],
        family: Family,
    ) -> Result<Vec<&'p IpPool>, IpamError> {
        let clock = self.draft.clock;
        let mut whole: Vec<(IpNetwork, usize)> = Vec::new();
        for (cidr, own) in &self.own {
            if let Found::Block(block) = &own.block
                && Family::of(cidr) == family
                && pool_with(pools, cidr).is_some()
                && block.value.affine_to().as_ref() == Some(self.owner)
            {
                whole.push((*cidr, self.situation.usable(&block.value, &clock)));
            }
        }
        let room = Room::of(whole.iter().map(|(cidr, free)| (cidr, *free)));
        if !self.situation.settings.config.auto_allocate_blocks || !room.is_low(self.block_limit()) {
            return Ok(Vec::new());
        }
        let existing = self.ipam.all_blocks(family).await?;
        let place = Place { pools, existing: &existing, limit: self.block_limit() };
        let claimed = self.claim_new(&place).await?;
        Ok(claimed.and_then(|cidr| pool_with(pools, &cidr)).into_iter().collect())
    }

    /// Gives up empty blocks of a family, except one an address can be taken from.
    fn give_back(&mut self, pools: &[&IpPool], family: Family) {
        let clock = self.draft.clock;
        let mut empty: Vec<(IpNetwork, Claimed)> = Vec::new();
        for (cidr, own) in &self.own {
            if let Found::Block(block) = &own.block
                && Family::of(cidr) == family
                && block.value.affine_to().as_ref() == Some(self.owner)
            {
                let mut now = block.value.clone();
                clock.refresh(&mut now);
                if now.is_empty() {
                    empty.push((*cidr, own.clone()));
                }
            }
        }
        let usable =
            |cidr: &IpNetwork| pool_with(pools, cidr).is_some() && !self.situation.is_all_reserved(cidr);
        let kept = empty.iter().map(|(cidr, _)| *cidr).find(usable).or(empty.first().map(|(cidr, _)| *cidr));
        for (cidr, Claimed { affinity, block }) in empty.into_iter().take(GIVEN_BACK_AT_ONCE) {
            let Found::Block(block) = block else { continue };
            if Some(cidr) == kept || !is_old(&clock, block.value.affinity_claim_time.as_deref()) {
                continue;
            }
            self.draft.add_block(block);
            self.draft.delete_block(&cidr);
            self.draft.forget_affinity(self.owner, cidr, Some(affinity));
        }
    }
}

fn is_old(clock: &Clock, claimed: Option<&str>) -> bool {
    claimed.and_then(|time| clock.seconds_since(time)).is_none_or(|age| age >= GIVE_BACK_AGE)
}
