//! Giving up nodes' claims to blocks (calico-datamodel 4.4, 1.11): an empty block goes, a block in use stays without
//! owner until its addresses are released. Block and claim change in one transaction.

use ipnetwork::IpNetwork;
use tortie_datastore::store::{Compare, Operation, Outcome, Transaction};
use tortie_datastore::{Client, StoreError};
use tortie_model::Key;
use tortie_model::ipam::Block;

/// A claim changes hands a few times at most while nodes still use the pool.
const ATTEMPTS: usize = 20;

/// Gives up every claim that `wanted` picks, whatever its state.
///
/// # Errors
/// The store's; [`StoreError::Refused`] when others keep changing a block. Calling it again continues.
pub(super) async fn release(
    client: &Client,
    wanted: impl Fn(&str, &IpNetwork) -> bool,
) -> Result<(), StoreError> {
    let hosts = format!("{}host/", Key::ipam_prefix());
    for entry in client.store().list(&hosts).await?.entries {
        if let Some(Key::BlockAffinity { host, block }) = Key::parse(&entry.key)
            && wanted(&host, &block)
        {
            release_one(client, &host, block).await?;
        }
    }
    Ok(())
}

async fn release_one(client: &Client, host: &str, cidr: IpNetwork) -> Result<(), StoreError> {
    let affinity_key = Key::BlockAffinity { host: host.to_owned(), block: cidr }.to_string();
    let block_key = Key::Block(cidr).to_string();
    for _ in 0..ATTEMPTS {
        let Some(affinity) = client.store().get(&affinity_key).await? else { return Ok(()) };
        let mut transaction = Transaction {
            compares: vec![Compare::ModRevision(affinity_key.clone(), affinity.mod_revision)],
            operations: vec![Operation::Delete(affinity_key.clone())],
        };
        match client.store().get(&block_key).await? {
            None => transaction.compares.push(Compare::Absent(block_key.clone())),
            Some(block) => {
                transaction.compares.push(Compare::ModRevision(block_key.clone(), block.mod_revision));
                transaction.operations.extend(without_owner(&block_key, &block.value, host)?);
            }
        }
        if let Outcome::Committed { .. } = client.store().transact(transaction).await? {
            return Ok(());
        }
    }
    Err(StoreError::Refused { reason: format!("block {cidr} of node {host} keeps changing; try again") })
}

/// What becomes of the block when `host` no longer claims it; nothing when it is another's.
fn without_owner(key: &str, value: &[u8], host: &str) -> Result<Option<Operation>, StoreError> {
    let mut block: Block = serde_json::from_slice(value)
        .map_err(|error| StoreError::Refused { reason: format!("value of {key} is not a block: {error}") })?;
    if block.host() != Some(host) {
        return Ok(None);
    }
    if block.is_empty() {
        return Ok(Some(Operation::Delete(key.to_owned())));
    }
    block.affinity = None;
    block.affinity_claim_time = None;
    // The same in very old data.
    block.other.shift_remove("hostAffinity");
    block.advance();
    let value = serde_json::to_vec(&block).expect("IPAM's values have text keys and whole numbers");
    Ok(Some(Operation::Put { key: key.to_owned(), value, lease: 0 }))
}
