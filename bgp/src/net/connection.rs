//! One TCP connection: the owner reads and writes as far as the kernel goes along; two tasks wait when it does not, one
//! until there is something to read, one until there is room for what is queued.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{AbortOnDrop, Event, words};
use crate::speaker::ConnId;

/// How long a closing connection may take to send the rest, and to see the other end close.
const LINGER: Duration = Duration::from_secs(2);
/// How long one that goes on and on waits before it is read again.
const PAUSE: Duration = Duration::from_millis(1);
/// Pieces written at once.
const WRITE: usize = 64;

/// The owner's end of a connection; dropping it closes the connection after the rest is sent.
#[derive(Debug)]
pub(super) struct Link {
    stream: Arc<TcpStream>,
    /// To be written in this round.
    round: VecDeque<Bytes>,
    /// Octets the writer has; what comes later goes behind them.
    queued: usize,
    writer: mpsc::UnboundedSender<Bytes>,
    resume: Arc<Resume>,
    /// Tells the writer that this end is dropped.
    _open: watch::Sender<()>,
    /// Octets read since there was nothing to read last, and half of what was before.
    unbroken: usize,
    _reader: AbortOnDrop,
}

/// Lets the reader go on.
#[derive(Debug, Default)]
struct Resume {
    now: Notify,
    /// Not at once.
    later: AtomicBool,
}

impl Link {
    /// Starts the tasks of a connection.
    pub(super) fn open(
        conn: ConnId,
        stream: TcpStream,
        events: &mpsc::Sender<Event>,
        tasks: &mut JoinSet<()>,
    ) -> Link {
        let stream = Arc::new(stream);
        let (writer, queue) = mpsc::unbounded_channel();
        let resume = Arc::new(Resume::default());
        let reader =
            tasks.spawn(wait_to_read(conn, Arc::clone(&stream), events.clone(), Arc::clone(&resume)));
        let (open, closing) = watch::channel(());
        tasks.spawn(write_all(conn, Arc::clone(&stream), queue, events.clone(), closing));
        let (round, _reader) = (VecDeque::new(), AbortOnDrop(reader));
        Link { stream, round, queued: 0, writer, resume, _open: open, unbroken: 0, _reader }
    }

    /// Reads into `buffer`: how many octets, 0 when there are none at present.
    ///
    /// # Errors
    /// In words, why the connection is over.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        match self.stream.try_read(buffer) {
            Ok(0) => Err("connection closed by peer".to_owned()),
            Ok(octets) => {
                self.unbroken = self.unbroken.saturating_add(octets);
                Ok(octets)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Half of it is remembered: a flood that takes breath is one.
                self.unbroken /= 2;
                Ok(0)
            }
            Err(error) => Err(format!("connection lost: {}", words(&error))),
        }
    }

    /// Octets read with little pause.
    pub(super) fn unbroken(&self) -> usize {
        self.unbroken
    }

    /// The owner has read: tell it when there is more.
    pub(super) fn resume(&self) {
        self.resume.now.notify_one();
    }

    /// The owner has read and has enough for the moment: tell it after a pause.
    pub(super) fn resume_later(&self) {
        self.resume.later.store(true, Ordering::Release);
        self.resume();
    }

    /// Adds octets to this round; true when they are its first.
    pub(super) fn send(&mut self, data: Bytes) -> bool {
        self.round.push_back(data);
        self.round.len() == 1
    }

    /// Writes what the kernel takes and leaves the rest to the writer. Returns the octets taken.
    pub(super) fn flush(&mut self) -> usize {
        let mut taken = 0;
        while self.queued == 0 && !self.round.is_empty() {
            match try_write(&self.stream, &mut self.round) {
                Ok(octets) => taken += octets,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The reader sees it too and says so.
                Err(_) => self.round.clear(),
            }
        }
        for data in self.round.drain(..) {
            self.queued += data.len();
            self.writer.send(data).ok();
        }
        taken
    }

    /// The writer has written.
    pub(super) fn written(&mut self, octets: usize) {
        self.queued = self.queued.saturating_sub(octets);
    }
}

/// Writes from the front of `queue` and drops what is written.
fn try_write(stream: &TcpStream, queue: &mut VecDeque<Bytes>) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = queue.iter().take(WRITE).map(|data| IoSlice::new(data)).collect();
    let octets = stream.try_write_vectored(&slices)?;
    let mut rest = octets;
    while let Some(first) = queue.front_mut() {
        if first.len() > rest {
            first.advance(rest);
            break;
        }
        rest -= first.len();
        queue.pop_front();
    }
    Ok(octets)
}

/// Says that there is something to read, and waits until the owner has read.
async fn wait_to_read(
    conn: ConnId,
    stream: Arc<TcpStream>,
    events: mpsc::Sender<Event>,
    resume: Arc<Resume>,
) {
    loop {
        // An error shows when the owner reads.
        stream.readable().await.ok();
        if events.send(Event::Readable { conn }).await.is_err() {
            return;
        }
        resume.now.notified().await;
        if resume.later.swap(false, Ordering::Acquire) {
            sleep(PAUSE).await;
        }
    }
}

async fn write_all(
    conn: ConnId,
    stream: Arc<TcpStream>,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    events: mpsc::Sender<Event>,
    mut open: watch::Receiver<()>,
) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, WRITE).await > 0 {
        let written = write_batch(conn, &stream, waiting.drain(..).collect(), &events);
        let patience = async {
            while open.changed().await.is_ok() {}
            sleep(LINGER).await;
        };
        let complete = tokio::select! {
            result = written => result.is_ok(),
            () = patience => false,
        };
        if !complete {
            break; // The owner sees it when it reads, or it has gone.
        }
    }
    // A NOTIFICATION reaches the peer only if the kernel does not answer its last octets with a reset: say that we
    // are done and read on until the peer closes.
    if SockRef::from(&*stream).shutdown(std::net::Shutdown::Write).is_ok() {
        timeout(LINGER, read_out(&stream)).await.ok();
    }
}

async fn write_batch(
    conn: ConnId,
    stream: &TcpStream,
    mut queue: VecDeque<Bytes>,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    while !queue.is_empty() {
        stream.writable().await?;
        match try_write(stream, &mut queue) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(octets) => {
                if events.send(Event::Sent { conn, octets }).await.is_err() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the other end closes.
async fn read_out(stream: &TcpStream) {
    let mut nothing = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut nothing) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
