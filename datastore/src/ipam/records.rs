//! Reading IPAM's stored values together with the revisions that later writes compare.

use std::collections::BTreeMap;

use futures::future;
use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{Block, BlockAffinity, Handle, IpamConfig};
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec};
use tortie_model::{AnyResource, Key, Kind, Object};

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
    /// The block that has addresses in common with `cidr`, if any. Blocks do not overlap each other.
    pub(super) fn overlapping(&self, cidr: &IpNetwork) -> Option<(&IpNetwork, Option<&Stored<Block>>)> {
        let last = IpNetwork::from(cidr.broadcast());
        let (found, block) = self.blocks.range(..=last).next_back()?;
        let overlap = found.is_ipv4() == cidr.is_ipv4()
            && (found.contains(cidr.network()) || cidr.contains(found.network()));
        overlap.then_some((found, block.as_ref()))
    }
}

/// What an allocation is decided by besides blocks.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: IpamConfig,
    pub(super) pools: Vec<IpPool>,
    pub(super) node: Node,
}

impl Ipam {
    pub(super) async fn settings(&self, node: &str) -> Result<Settings, IpamError> {
        let found = self.client.find::<NodeSpec>(None, node);
        let (config, pools, found) = futures::join!(self.config(), self.pools(), found);
        let node = found?.ok_or_else(|| IpamError::NoNode { node: node.to_owned() })?;
        Ok(Settings { config: config?, pools: pools?, node })
    }

    async fn config(&self) -> Result<IpamConfig, IpamError> {
        let key = Key::IpamConfig.to_string();
        let Some(kv) = self.client.store().get(&key).await? else { return Ok(IpamConfig::absent()) };
        Ok(decode("IPAM configuration", &kv)?.value)
    }

    /// All pools. One that cannot be read is left out: nothing is allocated from it.
    pub(super) async fn pools(&self) -> Result<Vec<IpPool>, IpamError> {
        let list = self.client.list(Kind::IpPool, None).await?;
        for error in &list.invalid {
            tracing::warn!(%error, "pool left out");
        }
        let pool = |any: AnyResource| Object::<IpPoolSpec>::try_from(any).ok();
        Ok(list.items.into_iter().filter_map(pool).collect())
    }

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
        for kv in &listing.entries {
            let Some(Key::Block(cidr)) = Key::parse(&kv.key) else { continue };
            let block =
                decode_block(kv).inspect_err(|error| tracing::warn!(%cidr, %error, "block left alone"));
            existing.blocks.insert(cidr, block.ok());
        }
        Ok(existing)
    }

    pub(super) async fn handle(&self, id: &str) -> Result<Option<Stored<Handle>>, IpamError> {
        let found = self.client.store().get(&Key::Handle(id.to_owned()).to_string()).await?;
        Ok(found.as_ref().map(|kv| decode("IPAM handle", kv)).transpose()?)
    }

    pub(super) async fn affinity(
        &self,
        host: &str,
        block: &IpNetwork,
    ) -> Result<Option<Stored<BlockAffinity>>, IpamError> {
        let key = Key::BlockAffinity { host: host.to_owned(), block: *block }.to_string();
        let found = self.client.store().get(&key).await?;
        Ok(found.as_ref().map(|kv| decode("block affinity", kv)).transpose()?)
    }

    /// The affinities of a host, in key order.
    pub(super) async fn affinities(
        &self,
        host: &str,
        family: Family,
    ) -> Result<Vec<(IpNetwork, Stored<BlockAffinity>)>, IpamError> {
        let listing = self.client.store().list(&Key::affinity_prefix(host, family.is_v6())).await?;
        let mut affinities = Vec::with_capacity(listing.entries.len());
        for kv in &listing.entries {
            if let Some(Key::BlockAffinity { block, .. }) = Key::parse(&kv.key) {
                affinities.push((block, decode("block affinity", kv)?));
            }
        }
        Ok(affinities)
    }
}

fn decode_block(kv: &KeyValue) -> Result<Stored<Block>, IpamError> {
    let stored: Stored<Block> = decode("IPAM block", kv)?;
    stored.value.check()?;
    Ok(stored)
}

/// Very old clients wrote empty values, which read as an object without fields (calico-datamodel 1.5).
fn decode<T: DeserializeOwned>(kind: &'static str, kv: &KeyValue) -> Result<Stored<T>, DecodeError> {
    let bytes: &[u8] = if kv.value.is_empty() { b"{}" } else { &kv.value };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match T::deserialize(&mut json) {
        Ok(value) => Ok(Stored { value, revision: kv.mod_revision }),
        Err(source) => Err(DecodeError::Json { key: kv.key.clone(), kind, source }),
    }
}
