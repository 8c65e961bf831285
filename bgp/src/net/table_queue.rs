//! Changes of the learned table on their way out: merged per prefix while nobody reads.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc;

use super::TableEvent;
use crate::table::TableChange;

#[derive(Debug)]
pub(super) struct TableQueue {
    sender: mpsc::Sender<TableEvent>,
    changes: BTreeMap<IpNetwork, TableChange>,
    converged: bool,
    /// Nobody listens any more.
    closed: bool,
}

impl TableQueue {
    pub(super) fn new(sender: mpsc::Sender<TableEvent>) -> TableQueue {
        TableQueue { sender, changes: BTreeMap::new(), converged: false, closed: false }
    }

    pub(super) fn push(&mut self, changes: Vec<TableChange>) {
        if !self.closed {
            self.changes.extend(changes.into_iter().map(|change| (change.prefix, change)));
        }
    }

    pub(super) fn converged(&mut self) {
        self.converged = true;
    }

    /// Sends what waits as soon as there is room; waits for ever when nothing does. Cancel-safe.
    pub(super) async fn send(&mut self) {
        if self.closed || (self.changes.is_empty() && !self.converged) {
            return std::future::pending().await;
        }
        match self.sender.reserve().await {
            Ok(permit) if !self.changes.is_empty() => {
                permit.send(TableEvent::Changes(std::mem::take(&mut self.changes).into_values().collect()));
            }
            Ok(permit) => {
                self.converged = false;
                permit.send(TableEvent::Converged);
            }
            Err(_) => self.closed = true,
        }
    }
}
