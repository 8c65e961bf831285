//! Listening sockets: opened, retried, closed and keyed as the configuration says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::socket::{BACKLOG, bound, set_md5_key};
use super::{AbortOnDrop, Event, words};

/// Pause before an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    events: mpsc::Sender<Event>,
    open: BTreeMap<SocketAddr, Listener>,
    failed: BTreeMap<SocketAddr, String>,
    wanted: BTreeSet<SocketAddr>,
    keys: BTreeMap<IpAddr, String>,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    socket: Arc<TcpListener>,
    keys: Keys,
    _task: AbortOnDrop,
}

/// TCP-MD5 keys of one socket.
#[derive(Debug)]
struct Keys {
    address: SocketAddr,
    /// Those the kernel has.
    set: BTreeMap<IpAddr, String>,
    /// Peers whose key could not be set, and why: nothing is accepted from them.
    failed: BTreeMap<IpAddr, String>,
}

impl Listeners {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Listeners {
        Listeners {
            events,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            wanted: BTreeSet::new(),
            keys: BTreeMap::new(),
            retry_at: None,
        }
    }

    /// Listens on these addresses, with these TCP-MD5 keys by peer.
    pub(super) fn configure(
        &mut self,
        wanted: BTreeSet<SocketAddr>,
        keys: BTreeMap<IpAddr, String>,
        now: Instant,
    ) {
        self.open.retain(|address, _| wanted.contains(address));
        self.failed.retain(|address, _| wanted.contains(address));
        self.wanted = wanted;
        self.keys = keys;
        for listener in self.open.values_mut() {
            listener.keys.update(&listener.socket, &self.keys);
        }
        self.retry(now);
    }

    /// When [`Listeners::retry`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Opens what is not open.
    pub(super) fn retry(&mut self, now: Instant) {
        for address in &self.wanted {
            if self.open.contains_key(address) {
                continue;
            }
            match Listener::open(*address, &self.keys, &self.events) {
                Ok(listener) => {
                    self.failed.remove(address);
                    self.open.insert(*address, listener);
                    tracing::info!(%address, "listening for BGP");
                }
                Err(error) => {
                    let reason = words(&error);
                    if self.failed.insert(*address, reason.clone()).as_ref() != Some(&reason) {
                        tracing::warn!(%address, reason, "cannot listen for BGP; trying again");
                    }
                }
            }
        }
        self.retry_at = (!self.failed.is_empty()).then(|| now + RETRY);
    }

    /// Addresses that cannot be listened on, and why.
    pub(super) fn failed(&self) -> &BTreeMap<SocketAddr, String> {
        &self.failed
    }

    /// Why nothing may be accepted from a peer.
    pub(super) fn refusal(&self, peer: IpAddr) -> Option<&str> {
        self.open.values().find_map(|listener| listener.keys.failed.get(&peer)).map(String::as_str)
    }
}

impl Listener {
    fn open(
        address: SocketAddr,
        keys: &BTreeMap<IpAddr, String>,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<Listener> {
        let socket = bound(address)?;
        let mut known = Keys { address, set: BTreeMap::new(), failed: BTreeMap::new() };
        known.update(&socket, keys);
        socket.listen(BACKLOG)?;
        let socket = Arc::new(TcpListener::from_std(socket.into())?);
        let task = tokio::spawn(accept_all(Arc::clone(&socket), events.clone()));
        Ok(Listener { socket, keys: known, _task: AbortOnDrop(task.abort_handle()) })
    }
}

impl Keys {
    fn update(&mut self, socket: &impl AsFd, wanted: &BTreeMap<IpAddr, String>) {
        let gone: Vec<IpAddr> = self.set.keys().filter(|peer| !wanted.contains_key(peer)).copied().collect();
        for peer in gone {
            self.set.remove(&peer);
            if let Err(error) = set_md5_key(socket, peer, None) {
                tracing::warn!(%peer, reason = words(&error), "old TCP-MD5 key stays");
            }
        }
        self.failed.clear();
        for (peer, key) in wanted.iter().filter(|(peer, _)| peer.is_ipv4() == self.address.is_ipv4()) {
            if self.set.get(peer) == Some(key) {
                continue;
            }
            match set_md5_key(socket, *peer, Some(key)) {
                Ok(()) => {
                    self.set.insert(*peer, key.clone());
                }
                Err(error) => {
                    self.failed.insert(*peer, words(&error));
                }
            }
        }
    }
}

async fn accept_all(socket: Arc<TcpListener>, events: mpsc::Sender<Event>) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                if events.send(Event::Accepted { stream, remote }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: the connection waits in the backlog meanwhile.
                tracing::warn!(reason = words(&error), "cannot accept a BGP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
