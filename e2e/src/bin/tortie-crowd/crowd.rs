//! Many peers of one speaker in one thread: they dial it, or wait to be dialled, whichever is asked for.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::wire::{self, HEADER, Prefix};

/// `EINPROGRESS`.
const UNDER_WAY: i32 = nix::libc::EINPROGRESS;
/// A dial that led to nothing is repeated after this.
const RETRY: Duration = Duration::from_millis(20);
const KEEPALIVES: Duration = Duration::from_secs(30);
/// Marks the listening socket among the events.
const LISTENER: u64 = u64::MAX;

/// One peer.
pub(crate) struct Peer {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    pub(crate) established: bool,
    /// Prefixes it was told less those withdrawn again; each is told once here.
    pub(crate) routes: i64,
    /// What it says once the session is up.
    pub(crate) says: Vec<u8>,
    /// The last of these prefixes that was announced or withdrawn, and when.
    pub(crate) saw: Option<(Prefix, bool, Instant)>,
    /// Only such prefixes are noted in `saw`.
    pub(crate) watches: Option<Prefix>,
    stream: Option<TcpStream>,
    connected: bool,
    received: Vec<u8>,
    waiting: Vec<u8>,
    sent: usize,
    retry: Instant,
}

impl Peer {
    pub(crate) fn new(address: Ipv4Addr, asn: u32, says: Vec<u8>) -> Peer {
        Peer {
            address,
            asn,
            established: false,
            routes: 0,
            says,
            saw: None,
            watches: None,
            stream: None,
            connected: false,
            received: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            retry: Instant::now(),
        }
    }

    fn lose(&mut self) {
        self.stream = None;
        (self.established, self.connected) = (false, false);
        self.routes = 0;
        (self.received, self.waiting, self.sent) = (Vec::new(), Vec::new(), 0);
        self.retry = Instant::now() + RETRY;
    }

    fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while self.sent < self.waiting.len() {
            match stream.write(&self.waiting[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lose(),
            }
        }
        self.waiting.clear();
        self.sent = 0;
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.waiting.extend_from_slice(octets);
        self.flush();
    }
}

/// All of them.
pub(crate) struct Crowd {
    pub(crate) all: Vec<Peer>,
    target: SocketAddr,
    epoll: Epoll,
    listener: Option<TcpListener>,
    by_address: HashMap<Ipv4Addr, usize>,
    buffer: Vec<u8>,
    kept_alive: Instant,
    /// Sessions lost.
    pub(crate) lost: usize,
}

impl Crowd {
    /// `dial`: they dial the speaker; else they wait for it.
    pub(crate) fn new(target: Ipv4Addr, all: Vec<Peer>, dial: bool) -> Result<Crowd> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("no epoll")?;
        let listener = if dial { None } else { Some(listen(&epoll)?) };
        let by_address = all.iter().enumerate().map(|(at, peer)| (peer.address, at)).collect();
        let target = (target, 179).into();
        let buffer = vec![0; 1 << 18];
        Ok(Crowd { all, target, epoll, listener, by_address, buffer, kept_alive: Instant::now(), lost: 0 })
    }

    /// Lives until `done`, at most for `limit`; whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut [Peer]) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut events = [EpollEvent::empty(); 512];
        loop {
            if done(&mut self.all) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }
            if now - self.kept_alive > KEEPALIVES {
                self.kept_alive = now;
                let keepalive = wire::keepalive();
                self.all.iter_mut().filter(|peer| peer.established).for_each(|peer| peer.send(&keepalive));
            }
            let mut idle = Duration::from_millis(100);
            if self.listener.is_none() && self.dial(now)? {
                idle = RETRY;
            }
            let wait = (end - now).min(idle);
            let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::from(100_u8));
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                other => other.context("epoll")?,
            };
            for event in events.iter().take(count) {
                self.event(event)?;
            }
        }
    }

    /// Dials for those without a connection; whether there are any left to dial for.
    fn dial(&mut self, now: Instant) -> Result<bool> {
        let mut left = false;
        for index in 0..self.all.len() {
            let peer = &mut self.all[index];
            left |= peer.stream.is_none();
            if peer.stream.is_some() || peer.retry > now {
                continue;
            }
            peer.retry = now + RETRY;
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
            socket.set_tcp_nodelay(true)?;
            socket.bind(&SocketAddr::from((peer.address, 0)).into())?;
            match socket.connect(&self.target.into()) {
                Err(error) if error.raw_os_error() != Some(UNDER_WAY) => continue,
                _ => {}
            }
            peer.stream = Some(watch(&self.epoll, socket.into(), index)?);
        }
        Ok(left)
    }

    fn event(&mut self, event: &EpollEvent) -> Result<()> {
        if event.data() == LISTENER {
            return self.accept();
        }
        let index = usize::try_from(event.data())?;
        if event.events().contains(EpollFlags::EPOLLOUT) {
            let peer = &mut self.all[index];
            if peer.connected {
                peer.flush();
            } else if peer.stream.as_ref().is_some_and(|stream| stream.peer_addr().is_ok()) {
                self.begin(index);
            } else if peer.stream.as_ref().is_some_and(|stream| !matches!(stream.take_error(), Ok(None))) {
                peer.lose();
            }
        }
        if event.events().intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read(index);
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            let IpAddr::V4(address) = stream.local_addr()?.ip() else { continue };
            let Some(index) = self.by_address.get(&address).copied() else { continue };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.all[index].lose();
            self.all[index].stream = Some(watch(&self.epoll, stream, index)?);
            self.begin(index);
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) {
        let peer = &mut self.all[index];
        peer.connected = true;
        let hello = wire::hello(peer.asn, peer.address);
        peer.send(&hello);
    }

    fn read(&mut self, index: usize) {
        loop {
            let peer = &mut self.all[index];
            let Some(stream) = &mut peer.stream else { return };
            match stream.read(&mut self.buffer) {
                Ok(count @ 1..) => {
                    peer.received.extend_from_slice(&self.buffer[..count]);
                    self.messages(index);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.lost += usize::from(peer.established);
                    return peer.lose();
                }
            }
        }
    }

    fn messages(&mut self, index: usize) {
        let peer = &mut self.all[index];
        let received = std::mem::take(&mut peer.received);
        let mut rest = &received[..];
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let size = usize::from(u16::from_be_bytes([header[16], header[17]])).max(HEADER);
            let Some((message, more)) = rest.split_at_checked(size) else { break };
            rest = more;
            match header[18] {
                wire::UPDATE => peer.told(&message[HEADER..]),
                wire::KEEPALIVE if !peer.established => {
                    peer.established = true;
                    let says = std::mem::take(&mut peer.says);
                    peer.send(&says);
                    peer.says = says;
                }
                wire::NOTIFICATION => {
                    self.lost += usize::from(peer.established);
                    return peer.lose();
                }
                _ => {}
            }
        }
        peer.received = rest.to_vec();
    }
}

impl Peer {
    fn told(&mut self, body: &[u8]) {
        let (mut routes, mut saw) = (self.routes, self.saw);
        let watches = self.watches;
        wire::update(body, |prefix, announced| {
            routes += if announced { 1 } else { -1 };
            if watches == Some(prefix) {
                saw = Some((prefix, announced, Instant::now()));
            }
        });
        (self.routes, self.saw) = (routes, saw);
    }
}

fn watch(epoll: &Epoll, stream: TcpStream, index: usize) -> Result<TcpStream> {
    let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
    epoll.add(&stream, EpollEvent::new(wanted, u64::try_from(index)?))?;
    Ok(stream)
}

fn listen(epoll: &Epoll) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 179)).into())?;
    socket.listen(4096)?;
    let listener = TcpListener::from(socket);
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    Ok(listener)
}
