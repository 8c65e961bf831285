//! One operation at a time for an interface; operations on different interfaces do not wait for each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by name. A lock nobody holds takes no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    held: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// Released on drop.
#[derive(Debug)]
pub(super) struct Guard {
    locks: Locks,
    name: String,
    lock: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the lock of a name.
    pub(super) async fn lock(&self, name: &str) -> Guard {
        let lock = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(held.entry(name.to_owned()).or_default())
        };
        Guard { locks: self.clone(), name: name.to_owned(), lock: Some(lock.lock_owned().await) }
    }
}

#[cfg(test)]
impl Locks {
    /// Whether nobody holds or awaits any.
    pub(super) fn is_empty(&self) -> bool {
        self.held.lock().is_ok_and(|held| held.is_empty())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lock = None;
        let mut held = self.locks.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map knows it any more: nobody holds it, nobody waits.
        if held.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            held.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn same_names_wait_others_do_not_and_nothing_is_kept() {
        let locks = Locks::default();
        let first = locks.lock("a").await;
        let _other = locks.lock("b").await;
        let mut second = std::pin::pin!(locks.lock("a"));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(locks.held.lock().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    }
}
