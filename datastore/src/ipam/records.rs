//! Reading IPAM's stored values together with the revisions that later writes compare.

use std::collections::BTreeMap;

use futures::future;
use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use tortie_model::Key;
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{Block, BlockAffinity, BlockOwner, Handle};
use tortie_model::names::cidr_from_key;

use super::pools::Family;
use super::{Ipam, IpamError};
use crate::store::KeyValue;

/// A value and its mod revision.
#[derive(Clone, Debug)]
pub(super) struct Stored<T> {
    pub(super) value: T,
    pub(super) revision: i64,
}

/// Every block of a family; `None` for one that cannot be read, or contradicts itself: nothing is taken from it, and
/// its place is not free either.
#[derive(Debug, Default)]
pub(super) struct Existing {
    pub(super) blocks: BTreeMap<IpNetwork, Option<Stored<Block>>>,
}

impl Existing {
    /// Takes over a key, when it is a block's.
    fn add(&mut self, kv: &KeyValue) {
        let Some(Key::Block(cidr)) = Key::parse(&kv.key) else { return };
        let block = decode_block(kv).inspect_err(|error| tracing::warn!(%cidr, %error, "block left alone"));
        self.blocks.insert(cidr, block.ok());
    }

    /// The block that has addresses in common with `cidr`, if any. Blocks do not overlap each other.
    pub(super) fn overlapping(&self, cidr: &IpNetwork) -> Option<(&IpNetwork, Option<&Stored<Block>>)> {
        let last = IpNetwork::from(cidr.broadcast());
        let (found, block) = self.blocks.range(..=last).next_back()?;
        let overlap = found.is_ipv4() == cidr.is_ipv4()
            && (found.contains(cidr.network()) || cidr.contains(found.network()));
        overlap.then_some((found, block.as_ref()))
    }
}

impl Ipam {
    pub(super) async fn block(&self, cidr: &IpNetwork) -> Result<Option<Stored<Block>>, IpamError> {
        let found = self.client.store().get(&Key::Block(*cidr).to_string()).await?;
        found.as_ref().map(decode_block).transpose()
    }

    /// Blocks by CIDR, read at once, in the order given; absent ones stay `None`.
    pub(super) async fn blocks(&self, cidrs: &[IpNetwork]) -> Vec<Result<Option<Stored<Block>>, IpamError>> {
        future::join_all(cidrs.iter().map(|cidr| self.block(cidr))).await
    }

    pub(super) async fn all_blocks(&self, family: Family) -> Result<Existing, IpamError> {
        let listing = self.client.store().list(&Key::block_prefix(family.is_v6())).await?;
        let mut existing = Existing::default();
        listing.entries.iter().for_each(|kv| existing.add(kv));
        Ok(existing)
    }

    pub(super) async fn handle(&self, id: &str) -> Result<Option<Stored<Handle>>, IpamError> {
        let found = self.client.store().get(&Key::Handle(id.to_owned()).to_string()).await?;
        Ok(found.as_ref().map(|kv| decode("IPAM handle", kv)).transpose()?)
    }

    pub(super) async fn affinity(
        &self,
        owner: &BlockOwner,
        block: &IpNetwork,
    ) -> Result<Option<Stored<BlockAffinity>>, IpamError> {
        let found = self.client.store().get(&owner.affinity_key(block)).await?;
        Ok(found.as_ref().map(decode_affinity).transpose()?)
    }

    /// The claims of an owner to blocks of a family.
    pub(super) async fn affinities(
        &self,
        owner: &BlockOwner,
        family: Family,
    ) -> Result<BTreeMap<IpNetwork, Stored<BlockAffinity>>, IpamError> {
        let prefix = owner.affinity_prefix(family.is_v6());
        let listing = self.client.store().list(&prefix).await?;
        let mut affinities = BTreeMap::new();
        for kv in &listing.entries {
            if let Some(block) = kv.key.strip_prefix(&prefix).and_then(cidr_from_key) {
                affinities.insert(block, decode_affinity(kv)?);
            }
        }
        Ok(affinities)
    }
}

pub(super) fn decode_affinity(kv: &KeyValue) -> Result<Stored<BlockAffinity>, DecodeError> {
    decode("block affinity", kv)
}

pub(super) fn decode_block(kv: &KeyValue) -> Result<Stored<Block>, IpamError> {
    let stored: Stored<Block> = decode("IPAM block", kv)?;
    stored.value.check()?;
    Ok(stored)
}

/// Very old clients wrote empty values, which read as an object without fields (calico-datamodel 1.5).
pub(super) fn decode<T: DeserializeOwned>(
    kind: &'static str,
    kv: &KeyValue,
) -> Result<Stored<T>, DecodeError> {
    let bytes: &[u8] = if kv.value.is_empty() { b"{}" } else { &kv.value };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match T::deserialize(&mut json) {
        Ok(value) => Ok(Stored { value, revision: kv.mod_revision }),
        Err(source) => Err(DecodeError::Json { key: kv.key.clone(), kind, source }),
    }
}
