//! One TCP connection: a reader that hands octets to the owner and a writer that drains what the owner queued.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{AbortOnDrop, Event, words};
use crate::speaker::ConnId;

/// How long a closing connection may take to send the rest, and to see the other end close.
const LINGER: Duration = Duration::from_secs(2);
/// Octets read at once, and messages written at once.
const READ: usize = 64 * 1024;
const WRITE: usize = 64;

/// The owner's end of a connection; dropping it closes the connection after the rest is sent.
#[derive(Debug)]
pub(super) struct Link(mpsc::UnboundedSender<Arc<[u8]>>);

impl Link {
    /// Starts the tasks of a connection.
    pub(super) fn open(
        conn: ConnId,
        stream: TcpStream,
        events: &mpsc::Sender<Event>,
        tasks: &mut JoinSet<()>,
    ) -> Link {
        let (read, write) = stream.into_split();
        let (sender, queue) = mpsc::unbounded_channel();
        let (alive, ended) = oneshot::channel();
        let reader = AbortOnDrop(tasks.spawn(read_all(conn, read, events.clone(), alive)));
        tasks.spawn(write_all(conn, write, queue, events.clone(), Reader { ended, _task: reader }));
        Link(sender)
    }

    /// Queues octets; lost when the connection is gone, which its reader reports.
    pub(super) fn send(&self, data: Arc<[u8]>) {
        self.0.send(data).ok();
    }
}

/// The reader as the writer knows it: it goes with the writer.
struct Reader {
    ended: oneshot::Receiver<()>,
    _task: AbortOnDrop,
}

/// `_alive` is dropped at the end, which tells the writer.
async fn read_all(
    conn: ConnId,
    stream: OwnedReadHalf,
    events: mpsc::Sender<Event>,
    _alive: oneshot::Sender<()>,
) {
    let reason = loop {
        match read(&stream).await {
            Ok(data) if data.is_empty() => break "connection closed by peer".to_owned(),
            Ok(data) => {
                if events.send(Event::Bytes { conn, data }).await.is_err() {
                    return;
                }
            }
            Err(error) => break format!("connection lost: {}", words(&error)),
        }
    };
    // The owner is gone when nobody takes it.
    events.send(Event::Closed { conn, reason }).await.ok();
}

/// What has arrived, at most [`READ`] octets; nothing at the end. Idle connections hold no buffer.
async fn read(stream: &OwnedReadHalf) -> io::Result<Vec<u8>> {
    loop {
        stream.readable().await?;
        let mut data = Vec::with_capacity(READ);
        match stream.try_read_buf(&mut data) {
            Ok(_) => {
                data.shrink_to_fit();
                return Ok(data);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(
    conn: ConnId,
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Arc<[u8]>>,
    events: mpsc::Sender<Event>,
    reader: Reader,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, WRITE).await > 0 {
        let closing = queue.is_closed();
        let written = write_batch(conn, &mut stream, &batch, &events);
        let result = if closing { timeout(LINGER, written).await.unwrap_or(Ok(())) } else { written.await };
        if result.is_err() {
            break; // The reader sees it too and says so.
        }
        batch.clear();
    }
    // A NOTIFICATION reaches the peer only if the kernel does not answer its last octets with a reset: say that we
    // are done and read on until the peer closes.
    if stream.shutdown().await.is_ok() {
        timeout(LINGER, reader.ended).await.ok();
    }
}

async fn write_batch(
    conn: ConnId,
    stream: &mut OwnedWriteHalf,
    batch: &[Arc<[u8]>],
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|data| IoSlice::new(data)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let octets = stream.write_vectored(rest).await?;
        if octets == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, octets);
        if events.send(Event::Sent { conn, octets }).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    Ok(())
}
