//! A peer that behaves badly, in a thread of its own so that it does not keep the others waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use socket2::{Domain, Socket, Type};

use crate::wire::{self, Prefix};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Announces and withdraws the same hundred prefixes as fast as it can
    Flood,
    /// Is told everything and reads nothing
    Stall,
    /// Announces a thousand prefixes and closes the connection, again and again
    Reset,
    /// Announces two million prefixes
    Routes,
}

/// Prefixes of `Routes`.
pub(crate) const MANY: u32 = 2_000_000;

/// The attack under way.
pub(crate) struct Attack {
    stop: Arc<AtomicBool>,
    /// UPDATEs, connections or prefixes so far.
    done: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Attack {
    pub(crate) fn start(kind: Kind, from: Ipv4Addr, asn: u32, target: Ipv4Addr) -> Attack {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let attacker = Attacker { from, asn, target, stop: Arc::clone(&stop), done: Arc::clone(&done) };
        let thread = spawn(move || {
            while !attacker.stop.load(Ordering::Relaxed) {
                // A session that ends is made anew, the sooner the worse.
                if attacker.session(kind).is_err() && kind != Kind::Reset {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Attack { stop, done, thread }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        // What it died of does not matter any more.
        let _ = self.thread.join();
    }
}

struct Attacker {
    from: Ipv4Addr,
    asn: u32,
    target: Ipv4Addr,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

fn prefixes(first: u32, count: u32) -> impl Iterator<Item = Prefix> {
    (first..first + count).map(|number| (0x3000_0000 + number * 16, 28))
}

impl Attacker {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn session(&self, kind: Kind) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((self.from, 0)).into())?;
        if kind == Kind::Stall {
            socket.set_recv_buffer_size(4096)?;
        }
        socket.connect(&SocketAddr::from((self.target, 179)).into())?;
        if kind == Kind::Reset {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(&wire::hello(self.asn, self.from))?;
        // Its OPEN and KEEPALIVE.
        let mut buffer = vec![0; 1 << 16];
        stream.read(&mut buffer).context("no answer")?;
        let attributes = wire::attributes(Some(self.asn), self.from, 1);
        let mut octets = Vec::new();
        match kind {
            Kind::Flood => {
                wire::announce(&attributes, prefixes(0, 100), &mut octets);
                wire::withdraw(prefixes(0, 100), &mut octets);
                let octets = octets.repeat(50);
                while !self.stopped() {
                    self.write(&mut stream, &octets, &mut buffer)?;
                    self.done.fetch_add(100, Ordering::Relaxed);
                }
            }
            Kind::Stall => {
                while !self.stopped() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Kind::Reset => {
                wire::announce(&attributes, prefixes(0, 1000), &mut octets);
                self.write(&mut stream, &octets, &mut buffer)?;
            }
            Kind::Routes => {
                for first in (0..MANY).step_by(1000) {
                    let attributes = wire::attributes(Some(self.asn), self.from, first);
                    octets.clear();
                    wire::announce(&attributes, prefixes(first, 1000), &mut octets);
                    self.write(&mut stream, &octets, &mut buffer)?;
                    self.done.fetch_add(1000, Ordering::Relaxed);
                }
                while !self.stopped() {
                    self.listen(&mut stream, &mut buffer)?;
                }
            }
        }
        Ok(())
    }

    /// Writes all, reading what comes so that nobody waits for that.
    fn write(&self, stream: &mut TcpStream, mut octets: &[u8], buffer: &mut [u8]) -> Result<()> {
        while !octets.is_empty() && !self.stopped() {
            match stream.write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.listen(stream, buffer)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn listen(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
        match stream.read(buffer) {
            Ok(0) => anyhow::bail!("closed"),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
