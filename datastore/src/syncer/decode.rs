//! Stored bytes to the values a syncer delivers. Pure.

use serde::de::DeserializeOwned;
use tortie_model::codec::{self, DecodeError};
use tortie_model::{Key, Kind};

use super::Value;

/// The key, when the syncer delivers it. IPAM's record of a host holds nothing anybody reads.
pub(super) fn key(text: &str) -> Option<Key> {
    Key::parse(text).filter(|key| !matches!(key, Key::IpamHost(_)))
}

/// The value under a key; [`Value::Invalid`] when the bytes are none.
pub(super) fn value(key: &Key, bytes: &[u8], revision: i64) -> Option<Value> {
    let value = match key {
        Key::Resource { kind, .. } => resource(*kind, key, bytes, revision),
        Key::Block(_) => json(key, "IPAM block", bytes).map(|block| Value::Block(Box::new(block))),
        // Very old data has empty affinities (calico-datamodel 1.5).
        Key::BlockAffinity { .. } if bytes.is_empty() => Ok(Value::Affinity(Default::default())),
        Key::BlockAffinity { .. } => json(key, "block affinity", bytes).map(Value::Affinity),
        Key::Handle(_) => json(key, "IPAM handle", bytes).map(Value::Handle),
        Key::IpamConfig => json(key, "IPAM configuration", bytes).map(Value::IpamConfig),
        Key::IpamHost(_) => return None,
    };
    Some(value.unwrap_or_else(Value::Invalid))
}

/// A resource without the JSON it came from: readers of a syncer do not write it back, and it doubles the memory.
fn resource(kind: Kind, key: &Key, bytes: &[u8], revision: i64) -> Result<Value, DecodeError> {
    let mut resource = codec::decode(kind, key, bytes, revision)?;
    resource.original_mut().0 = None;
    Ok(Value::Resource(Box::new(resource)))
}

fn json<T: DeserializeOwned>(key: &Key, kind: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|source| DecodeError::Json { key: key.to_string(), kind, source })
}
