//! The tokio shell around [`Speaker`](crate::Speaker). It moves octets and keeps time; it decides nothing.
//!
//! ```text
//!  Handle ── watch<config>, watch<originated> ──▶ ┌───────┐ ── bounded, merged per prefix ──▶ Receiver<TableEvent>
//!         ── snapshot, shutdown requests ───────▶ │ owner │ ◀──────── reads, writes ────────▶ TCP
//!  listener (one per address) ── accepted ──────▶ │ task  │ ── unbounded, counted by the speaker ──▶ writer ──▶ TCP
//!  dialler (one per attempt) ── stream ─────────▶ │       │
//!  reader (one per connection) ── readable ─────▶ └───────┘
//! ```
//!
//! - `task` owns the speaker and every other task; dropping it ends them all.
//! - The owner reads and writes sockets itself, in turns; a writer waits only for a kernel that takes no more.
//! - A connection has one event waiting at most: a busy owner does not read, and TCP stops the peers.
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

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::SpeakerConfig;
use crate::speaker::ConnId;
use crate::table::TableChange;

pub use handle::Handle;
pub use socket::raise_descriptor_limit;

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
    tokio::spawn(task::Owner::new(restarted, Some(table)).run(commands));
    (handle, receiver)
}

/// Starts a speaker as [`start`] does, but on a thread of its own: nothing else of the process makes a keepalive late.
///
/// # Errors
/// When there can be no runtime or thread.
pub fn start_on_thread(
    config: Option<SpeakerConfig>,
    restarted: bool,
) -> io::Result<(Handle, mpsc::Receiver<TableEvent>)> {
    let (table, receiver) = mpsc::channel(16);
    let (handle, commands) = handle::channel(config);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let owner = move || runtime.block_on(task::Owner::new(restarted, Some(table)).run(commands));
    std::thread::Builder::new().name("bgp".into()).spawn(owner)?;
    Ok((handle, receiver))
}

/// Starts a speaker as [`start`] does that only passes routes on between its peers: a reflector or a route server.
#[must_use]
pub fn start_relay(config: Option<SpeakerConfig>, restarted: bool) -> Handle {
    let (handle, commands) = handle::channel(config);
    tokio::spawn(task::Owner::new(restarted, None).run(commands));
    handle
}

/// What tasks tell the owner.
#[derive(Debug)]
enum Event {
    Dialled { conn: ConnId, result: io::Result<TcpStream> },
    Accepted { stream: TcpStream, remote: SocketAddr },
    Readable { conn: ConnId },
    Sent { conn: ConnId, octets: usize },
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
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
