//! From the speaker to the data plane: learned routes as changes, merged per prefix while nobody looks.
//!
//! Neither side copies a table: a change of one prefix among many costs what one change costs. The reader holds the table.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::desired::LearnedChanges;

/// Changes on their way. A handle; clones share them.
#[derive(Clone, Debug, Default)]
pub struct LearnedQueue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    changes: Mutex<LearnedChanges>,
    changed: Notify,
}

impl LearnedQueue {
    /// Adds changes; the newest of a prefix counts.
    pub fn put(&self, changes: LearnedChanges) {
        if changes.is_empty() {
            return;
        }
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner).merge(changes);
        self.0.changed.notify_one();
    }

    /// Takes all of them.
    pub fn take(&self) -> LearnedChanges {
        std::mem::take(&mut *self.0.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for changes put since the last wait; they may have been taken meanwhile. Cancel-safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}
