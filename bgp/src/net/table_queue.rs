//! Changes of the learned table on their way out: merged per prefix while nobody reads.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc;

use super::TableEvent;
use crate::table::TableChange;

#[derive(Debug)]
pub(super) struct TableQueue {
    sender: Option<mpsc::Sender<TableEvent>>,
    changes: BTreeMap<IpNetwork, TableChange>,
    converged: bool,
    /// Nobody listens any more.
    closed: bool,
}

impl TableQueue {
    pub(super) fn new(sender: Option<mpsc::Sender<TableEvent>>) -> TableQueue {
        let closed = sender.is_none();
        TableQueue { sender, changes: BTreeMap::new(), converged: false, closed }
    }

    pub(super) fn push(&mut self, changes: Vec<TableChange>) {
        if !self.closed {
            self.changes.extend(changes.into_iter().map(|change| (change.prefix, change)));
        }
    }

    pub(super) fn converged(&mut self) {
        self.converged = true;
    }

    /// Sends what waits if there is room at once.
    pub(super) fn try_send(&mut self) {
        let waits = !self.closed && (self.converged || !self.changes.is_empty());
        if let Some(permit) =
            self.sender.as_ref().filter(|_| waits).and_then(|sender| sender.try_reserve().ok())
        {
            permit.send(next(&mut self.changes, &mut self.converged));
        }
    }

    /// Sends what waits as soon as there is room; waits for ever when nothing does. Cancel-safe.
    pub(super) async fn send(&mut self) {
        let waits = !self.closed && (self.converged || !self.changes.is_empty());
        let Some(sender) = self.sender.as_ref().filter(|_| waits) else {
            return std::future::pending().await;
        };
        match sender.reserve().await {
            Ok(permit) => permit.send(next(&mut self.changes, &mut self.converged)),
            Err(_) => self.closed = true,
        }
    }
}

/// What comes next of what waits: changes before the word that they are complete.
fn next(changes: &mut BTreeMap<IpNetwork, TableChange>, converged: &mut bool) -> TableEvent {
    if changes.is_empty() {
        *converged = false;
        return TableEvent::Converged;
    }
    TableEvent::Changes(std::mem::take(changes).into_values().collect())
}
