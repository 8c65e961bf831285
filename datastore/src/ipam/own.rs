//! The blocks an owner has claims to: reading them, taking addresses out of them, completing what is half done and giving
//! up what no pool wants any more (calico-datamodel 4.3, step 3, and 4.4).

use ipnetwork::IpNetwork;
use tortie_model::ipam::{AffinityState, Block, BlockAffinity};
use tortie_model::resource::IpPool;

use super::IpamError;
use super::assign::Attempt;
use super::memory::{Memory, Own, OwnBlocks};
use super::pools::{Family, pool_with};
use super::records::Stored;

/// Blocks of pools that no longer select the node which one allocation gives up along the way.
const GIVEN_UP_AT_ONCE: usize = 8;

/// A claim and its block.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) affinity: Stored<BlockAffinity>,
    pub(super) block: Found,
}

/// A block an affinity speaks of.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large kind, and a node has few")]
pub(super) enum Found {
    /// It is there.
    Block(Stored<Block>),
    /// It is not.
    Absent,
    /// It cannot be used, nor its place.
    Damaged,
}

impl Attempt<'_> {
    /// Reads the claims of the owner and their blocks, and remembers those that are whole.
    pub(super) async fn survey(&mut self, memory: &mut Memory, family: Family) -> Result<(), IpamError> {
        let affinities = self.ipam.affinities(self.owner, family).await?;
        let cidrs: Vec<IpNetwork> = affinities.keys().copied().collect();
        let blocks = self.ipam.blocks(&cidrs).await;
        let mut whole = OwnBlocks::new();
        for ((cidr, affinity), block) in affinities.into_iter().zip(blocks) {
            let block = match block {
                Ok(Some(block)) => Found::Block(block),
                Ok(None) => Found::Absent,
                Err(error @ (IpamError::Damaged(_) | IpamError::Decode(_))) => {
                    tracing::warn!(%cidr, %error, "block left alone");
                    Found::Damaged
                }
                Err(error) => return Err(error),
            };
            if let Found::Block(block) = &block
                && affinity.value.state == AffinityState::Confirmed
                && block.value.affine_to().as_ref() == Some(self.owner)
            {
                whole.insert(cidr, Own { affinity: affinity.clone(), block: block.clone() });
            }
            self.own.insert(cidr, Claimed { affinity, block });
        }
        memory.keep_own(self.owner, family, whole);
        Ok(())
    }

    /// From blocks the owner has a claim to. Completes claims found half done, removes claims to blocks that others won
    /// (calico-datamodel 4.4), and gives up empty blocks of pools that no longer select the node. Returns how many
    /// blocks of the pools the owner holds.
    pub(super) fn take_from_own(&mut self, pools: &[&IpPool], family: Family, missing: &mut usize) -> usize {
        let (mut held, mut given_up) = (0, 0);
        let own: Vec<(IpNetwork, Claimed)> = self.own.iter().map(|(c, own)| (*c, own.clone())).collect();
        for (cidr, Claimed { affinity, block }) in own {
            if Family::of(&cidr) != family {
                continue;
            }
            let foreign = |block: &Stored<Block>| block.value.affine_to().as_ref() != Some(self.owner);
            if let Found::Block(block) = &block
                && foreign(block)
            {
                // Compared: by now it may be ours, made by another client that found the claim.
                self.draft.add_remembered_block(block.clone());
                self.draft.forget_affinity(self.owner, cidr, Some(affinity));
                continue;
            }
            if pool_with(pools, &cidr).is_none() {
                if given_up < GIVEN_UP_AT_ONCE && self.give_up_refused(cidr, &affinity, &block) {
                    given_up += 1;
                }
                continue;
            }
            held += 1;
            if *missing > 0 {
                self.take_from_claimed(cidr, affinity, block, missing);
            }
        }
        held
    }

    fn take_from_claimed(
        &mut self,
        cidr: IpNetwork,
        affinity: Stored<BlockAffinity>,
        block: Found,
        missing: &mut usize,
    ) {
        let whole = affinity.value.state == AffinityState::Confirmed;
        match block {
            Found::Damaged => return,
            Found::Block(stored) => {
                // The draft may have it already, with what the handle held released.
                if !self.has_room(self.draft.block(&cidr).unwrap_or(&stored.value)) {
                    return;
                }
                self.draft.add_block(stored);
                if whole {
                    self.draft.require_affinity(self.owner, cidr, affinity);
                } else {
                    self.draft.confirm(self.owner, cidr, Some(affinity));
                }
            }
            Found::Absent if self.situation.is_all_reserved(&cidr) => return,
            Found::Absent => {
                self.draft.create_block(cidr, self.owner);
                self.draft.confirm(self.owner, cidr, Some(affinity));
            }
        }
        self.take(&cidr, missing);
    }

    /// Gives up an empty block whose pool no longer selects the node (calico-datamodel 4.3, step 3).
    fn give_up_refused(&mut self, cidr: IpNetwork, affinity: &Stored<BlockAffinity>, block: &Found) -> bool {
        let Found::Block(stored) = block else { return false };
        let mut now = stored.value.clone();
        self.draft.clock.refresh(&mut now);
        if !now.is_empty() || self.draft.block(&cidr).is_some() || !self.situation.pool_refuses_node(&cidr) {
            return false;
        }
        self.draft.add_block(stored.clone());
        self.draft.delete_block(&cidr);
        self.draft.forget_affinity(self.owner, cidr, Some(affinity.clone()));
        true
    }
}
