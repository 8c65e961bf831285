//! All peers of the speaker, in one thread around one epoll instance.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::wire::{self, Format, HEADER};

const KEEPALIVES: Duration = Duration::from_secs(15);
/// A dial that led to nothing is repeated after this.
const RETRY: Duration = Duration::from_millis(300);
/// `EINPROGRESS`.
const UNDER_WAY: i32 = nix::libc::EINPROGRESS;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Down,
    Connecting,
    OpenSent,
    OpenConfirm,
    Established,
}

/// Address, BGP identifier and AS of a peer.
pub(crate) type Identity = (IpAddr, Ipv4Addr, u32);

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    id: Ipv4Addr,
    /// How many of the plan's routes it has.
    pub(crate) routes: u32,
    /// UPDATEs received.
    pub(crate) updates: u64,
    stage: Stage,
    stream: Option<TcpStream>,
    received: Vec<u8>,
    waiting: Vec<u8>,
    sent: usize,
    /// A bit for each route.
    have: Vec<u64>,
}

impl Peer {
    fn new((address, id, asn): Identity, universe: u32) -> Peer {
        let words = usize::try_from(universe.div_ceil(64)).unwrap_or_default();
        Peer {
            address,
            asn,
            id,
            routes: 0,
            updates: 0,
            stage: Stage::Down,
            stream: None,
            received: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            have: vec![0; words],
        }
    }

    /// Whether it has a route of the plan.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.have.get(place(number)).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn set(&mut self, number: u32, on: bool) {
        let Some(word) = self.have.get_mut(place(number)) else { return };
        let bit = 1 << (number % 64);
        match (on, *word & bit != 0) {
            (true, false) => self.routes += 1,
            (false, true) => self.routes -= 1,
            _ => return,
        }
        *word ^= bit;
    }

    /// Whether everything to be sent is with the kernel.
    pub(crate) fn is_drained(&self) -> bool {
        self.sent == self.waiting.len()
    }

    fn drop_stream(&mut self) {
        // Closing the descriptor takes it out of epoll.
        self.stream = None;
        self.stage = Stage::Down;
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number / 64).unwrap_or(usize::MAX)
}

/// All of them.
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    target: SocketAddr,
    format: Format,
    epoll: Epoll,
    buffer: Vec<u8>,
    kept_alive: Instant,
    /// NOTIFICATIONs received, by code and subcode.
    notifications: BTreeMap<(u8, u8), u32>,
}

impl Peers {
    /// Peers of the speaker at `target`, none connected. Routes are numbered below `universe`.
    pub(crate) fn new(
        target: IpAddr,
        format: Format,
        universe: u32,
        peers: impl Iterator<Item = Identity>,
    ) -> Result<Peers> {
        Ok(Peers {
            all: peers.map(|identity| Peer::new(identity, universe)).collect(),
            target: (target, 179).into(),
            format,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("no epoll")?,
            buffer: vec![0; 1 << 18],
            kept_alive: Instant::now(),
            notifications: BTreeMap::new(),
        })
    }

    /// The NOTIFICATIONs received, for the end of an error.
    pub(crate) fn told(&self) -> String {
        let told = self.notifications.iter();
        told.map(|((code, subcode), count)| format!(", NOTIFICATION {code}/{subcode} × {count}")).collect()
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let peer = &mut self.all[index];
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((peer.address, 0)).into())?;
        match socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(UNDER_WAY) => return Err(error.into()),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(wanted, u64::try_from(index)?))?;
        peer.stream = Some(stream);
        peer.stage = Stage::Connecting;
        peer.received.clear();
        peer.waiting.clear();
        peer.sent = 0;
        peer.have.fill(0);
        peer.routes = 0;
        Ok(())
    }

    /// Ends a session with a Cease.
    pub(crate) fn close(&mut self, index: usize) {
        let peer = &mut self.all[index];
        if let Some(stream) = &mut peer.stream {
            // Should there be no room for it, the closed connection says as much.
            let _ = stream.write(&wire::cease());
        }
        peer.drop_stream();
    }

    /// Sends, as far as the kernel takes it now and the rest when it does.
    pub(crate) fn send(&mut self, index: usize, octets: &[u8]) {
        let peer = &mut self.all[index];
        if peer.is_drained() {
            peer.waiting.clear();
            peer.sent = 0;
        }
        peer.waiting.extend_from_slice(octets);
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let peer = &mut self.all[index];
        let Some(stream) = &mut peer.stream else { return };
        while peer.sent < peer.waiting.len() {
            match stream.write(&peer.waiting[peer.sent..]) {
                Ok(count) => peer.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return peer.drop_stream(),
            }
        }
    }

    /// Plays the peers until `done`, at most for `limit`; whether it was done.
    ///
    /// # Errors
    /// When the kernel cannot wait for them.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&[Peer]) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut events = [EpollEvent::empty(); 256];
        loop {
            if done(&self.all) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }
            if now - self.kept_alive > KEEPALIVES {
                self.kept_alive = now;
                self.keep_alive();
            }
            let wait = (end - now).min(Duration::from_millis(200));
            let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::from(200_u8));
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                other => other.context("epoll")?,
            };
            for event in events.iter().take(count) {
                let index = usize::try_from(event.data())?;
                if event.events().contains(EpollFlags::EPOLLOUT) {
                    self.writable(index);
                }
                if event
                    .events()
                    .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                {
                    self.readable(index);
                }
            }
        }
    }

    fn keep_alive(&mut self) {
        let up = |peer: &Peer| peer.stage == Stage::Established;
        let indices: Vec<usize> = (0..self.all.len()).filter(|index| up(&self.all[*index])).collect();
        indices.into_iter().for_each(|index| self.send(index, &wire::keepalive()));
    }

    fn writable(&mut self, index: usize) {
        let peer = &mut self.all[index];
        if peer.stage != Stage::Connecting {
            return self.flush(index);
        }
        let Some(stream) = &peer.stream else { return };
        if stream.peer_addr().is_err() {
            if !matches!(stream.take_error(), Ok(None)) {
                peer.drop_stream();
            }
            return;
        }
        peer.stage = Stage::OpenSent;
        let open = self.format.open(peer.asn, peer.id);
        self.send(index, &open);
    }

    fn readable(&mut self, index: usize) {
        loop {
            let peer = &mut self.all[index];
            let Some(stream) = &mut peer.stream else { return };
            match stream.read(&mut self.buffer) {
                Ok(0) => return peer.drop_stream(),
                Ok(count) => {
                    peer.received.extend_from_slice(&self.buffer[..count]);
                    self.messages(index);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return peer.drop_stream(),
            }
        }
    }

    fn messages(&mut self, index: usize) {
        let received = std::mem::take(&mut self.all[index].received);
        let mut rest = &received[..];
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            let Some((message, more)) = rest.split_at_checked(length.max(HEADER)) else { break };
            rest = more;
            self.message(index, header[18], &message[HEADER..]);
        }
        self.all[index].received = rest.to_vec();
    }

    fn message(&mut self, index: usize, kind: u8, body: &[u8]) {
        let format = self.format;
        let peer = &mut self.all[index];
        match kind {
            wire::UPDATE => {
                peer.updates += 1;
                let Some((withdrawn, announced)) = format.update(body) else { return };
                withdrawn
                    .filter_map(|prefix| format.number(prefix))
                    .for_each(|number| peer.set(number, false));
                announced
                    .filter_map(|prefix| format.number(prefix))
                    .for_each(|number| peer.set(number, true));
            }
            wire::OPEN => {
                peer.stage = Stage::OpenConfirm;
                self.send(index, &wire::keepalive());
            }
            wire::KEEPALIVE if peer.stage == Stage::OpenConfirm => {
                peer.stage = Stage::Established;
                if format.graceful {
                    // Nobody is to wait for us.
                    self.send(index, &format.end_of_rib());
                }
            }
            wire::NOTIFICATION => {
                peer.drop_stream();
                if let [code, subcode, ..] = body {
                    *self.notifications.entry((*code, *subcode)).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Brings these sessions up, dialling again what was refused or dropped; whether all are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn establish(&mut self, which: &[usize], limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            for &index in which {
                if self.all[index].stage == Stage::Down {
                    // Refused at once, perhaps, since nobody listens yet; the next round dials again.
                    let _ = self.connect(index);
                }
            }
            let up = |peers: &[Peer]| which.iter().all(|&index| peers[index].stage == Stage::Established);
            if self.run(RETRY, up)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
