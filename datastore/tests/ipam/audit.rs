//! Reads everything IPAM stored and checks that it agrees with itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_datastore::Client;
use tortie_model::Key;
use tortie_model::ipam::{AffinityState, Block, BlockAffinity, Handle};

/// What IPAM holds.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) blocks: BTreeMap<IpNetwork, Block>,
    pub(crate) affinities: BTreeMap<(String, IpNetwork), AffinityState>,
    /// Addresses by handle, as the blocks say.
    pub(crate) held: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Reads all, and panics on a contradiction: a damaged block, an address given twice, a handle that counts wrongly, a
/// block whose node has no confirmed affinity, a confirmed affinity without block.
pub(crate) async fn audit(client: &Client) -> Audit {
    let mut audit = Audit::default();
    let mut handles: BTreeMap<String, Handle> = BTreeMap::new();
    for kv in client.store().list(Key::ipam_prefix()).await.unwrap().entries {
        match Key::parse(&kv.key) {
            Some(Key::Block(cidr)) => {
                audit.blocks.insert(cidr, serde_json::from_slice(&kv.value).unwrap());
            }
            Some(Key::BlockAffinity { host, block }) => {
                let affinity: BlockAffinity = serde_json::from_slice(&kv.value).unwrap();
                audit.affinities.insert((host, block), affinity.state);
            }
            Some(Key::Handle(id)) => {
                handles.insert(id, serde_json::from_slice(&kv.value).unwrap());
            }
            other => assert_eq!(other, Some(Key::IpamConfig), "{}", kv.key),
        }
    }
    let mut counted: BTreeMap<String, Handle> = BTreeMap::new();
    for (cidr, block) in &audit.blocks {
        block.check().unwrap();
        for (address, owner) in block.in_use() {
            let handle = owner.handle_id.clone().unwrap();
            let count = counted.entry(handle.clone()).or_default().block.entry(cidr.to_string()).or_default();
            *count += 1;
            assert!(audit.held.entry(handle).or_default().insert(address), "{address} twice");
        }
        if let Some(host) = block.host() {
            let state = audit.affinities.get(&(host.to_owned(), *cidr));
            assert_eq!(state, Some(&AffinityState::Confirmed), "{cidr} of {host}");
        }
    }
    assert_eq!(handles, counted, "handles count what blocks hold");
    for (host, cidr) in audit.affinities.keys() {
        assert_eq!(audit.blocks.get(cidr).and_then(Block::host), Some(host.as_str()), "affinity to {cidr}");
    }
    audit
}
