//! The tokio shell around [`Speaker`](crate::Speaker). It moves octets and keeps time; it decides nothing.
//!
//! ```text
//!  Handle ── watch<config>, watch<originated> ──▶ ┌───────┐ ── bounded, merged per prefix ──▶ Receiver<TableEvent>
//!         ── snapshot, shutdown requests ───────▶ │ owner │
//!  listener (one per address) ── accepted ──────▶ │ task  │ ── unbounded, counted by the speaker ──▶ writer ──▶ TCP
//!  dialler (one per attempt) ── stream ─────────▶ │       │
//!  reader (one per connection) ── octets ───────▶ └───────┘
//! ```
//!
//! - `task` owns the speaker and every other task; dropping it ends them all.
//! - Events to the owner share one bounded queue: a busy owner stops the readers, and TCP stops the peers.
//! - Nothing makes the owner wait: a slow reader of the table gets merged changes, a slow peer is the speaker's affair.

mod connection;
mod dialer;
mod handle;
mod keyed;
mod listener;
mod md5_drops;
mod socket;
mod table_queue;
mod task;

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::SpeakerConfig;
use crate::speaker::ConnId;
use crate::table::TableChange;

pub use handle::Handle;

/// What the speaker says about learned routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// Best routes changed. Several changes of one prefix may have become one.
    Changes(Vec<TableChange>),
    /// The table is complete: every peer expected back has told its routes, or the time for that is over. Routes of
    /// an earlier run that are not in it may go now.
    Converged,
}

/// Starts a speaker on the current runtime. `restarted` says that this process follows another one on this node whose
/// routes peers may still keep: it sets the restart flag of graceful restart.
///
/// The speaker says End-of-RIB only after the first [`Handle::originate`].
#[must_use]
pub fn start(config: Option<SpeakerConfig>, restarted: bool) -> (Handle, mpsc::Receiver<TableEvent>) {
    let (table, receiver) = mpsc::channel(16);
    let (handle, commands) = handle::channel(config);
    tokio::spawn(task::Owner::new(restarted, table).run(commands));
    (handle, receiver)
}

/// What tasks tell the owner.
#[derive(Debug)]
enum Event {
    Dialled { conn: ConnId, result: std::io::Result<TcpStream> },
    Accepted { stream: TcpStream, remote: SocketAddr },
    Bytes { conn: ConnId, data: Vec<u8> },
    Sent { conn: ConnId, octets: usize },
    Closed { conn: ConnId, reason: String },
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An error in words, without the number of the operating system.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
