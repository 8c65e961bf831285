//! The owner: one loop that feeds the speaker and carries out what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::connection::Link;
use super::dialer::Attempt;
use super::handle::{Commands, Request};
use super::keyed::Keyed;
use super::listener::Listeners;
use super::socket::{Security, set_hop_limit};
use super::table_queue::TableQueue;
use super::{AbortOnDrop, Event, TableEvent, dialer, words};
use crate::config::{PeerId, SpeakerConfig};
use crate::snapshot::Snapshot;
use crate::speaker::{ConnId, Input, Note, Output, Speaker};

/// Events of tasks that may wait for the owner.
const EVENTS: usize = 1024;
/// Events the owner takes before it decides: many small messages share one decision.
const BATCH: usize = 128;
/// Octets read at once, and how often of one connection before others have their turn.
const READ: usize = 128 * 1024;
const READS: usize = 2;
/// Few tables are this long: a connection that went on for so many octets without a pause is read in small pieces with
/// pauses from then on ([`Link::resume_later`]), about 16 MB a second, so that nobody waits for it.
const LONG: usize = 16 << 20;
const PIECE: usize = 16 * 1024;
/// It is no table at all but a flood when it took so many octets for each route that there is of it. Then it is 2 MB a
/// second, most of which others would be told again.
const PER_ROUTE: usize = 1024;
const TRICKLE: usize = 2 * 1024;
/// Octets taken from the speaker before they are written.
const ROUND: usize = 1 << 18;

/// The owner of a speaker and its tasks.
#[derive(Debug)]
pub(super) struct Owner {
    speaker: Speaker,
    security: BTreeMap<PeerId, Security>,
    links: BTreeMap<ConnId, Link>,
    dials: BTreeMap<ConnId, Attempt>,
    keyed: Keyed,
    listeners: Listeners,
    table: TableQueue,
    events: mpsc::Sender<Event>,
    queue: mpsc::Receiver<Event>,
    tasks: JoinSet<()>,
    accepted: u64,
    /// What is read lands here first.
    buffer: Vec<u8>,
    /// A connection just accepted, until the speaker says whether it wants it.
    arriving: Option<Arriving>,
    /// Connections with octets to be written in this round.
    round: Vec<ConnId>,
}

/// A connection the peer made, not yet a [`Link`].
#[derive(Debug)]
struct Arriving {
    conn: ConnId,
    stream: TcpStream,
    peer: IpAddr,
}

/// Why the loop was woken.
enum Wake {
    Event(Event),
    Config(Option<SpeakerConfig>),
    Originated,
    Request(Request),
    Time,
    TableSent,
    Abandoned,
}

impl Owner {
    /// Without `table` nobody wants to know the learned routes.
    pub(super) fn new(restarted: bool, table: Option<mpsc::Sender<TableEvent>>) -> Owner {
        let (events, queue) = mpsc::channel(EVENTS);
        let speaker = if table.is_some() { Speaker::new } else { Speaker::silent };
        Owner {
            speaker: speaker(restarted, Instant::now()),
            security: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            keyed: Keyed::default(),
            listeners: Listeners::new(events.clone()),
            table: TableQueue::new(table),
            events,
            queue,
            tasks: JoinSet::new(),
            accepted: 0,
            buffer: vec![0; READ],
            arriving: None,
            round: Vec::new(),
        }
    }

    /// Runs until shut down or abandoned.
    pub(super) async fn run(mut self, mut commands: Commands) {
        let answer: Option<oneshot::Sender<()>> = loop {
            match self.wake(&mut commands).await {
                Wake::Event(event) => self.take_events(event),
                Wake::Config(config) => self.configure(config),
                Wake::Originated => {
                    let routes = commands.originated.borrow_and_update().clone();
                    routes.into_iter().for_each(|routes| self.input(Input::Originate(routes)));
                }
                Wake::Request(Request::Shutdown(answer)) => break Some(answer),
                Wake::Request(request) => self.answer(request),
                Wake::Time | Wake::TableSent => {}
                Wake::Abandoned => break None,
            }
            self.tick_if_due().await;
            self.carry_out();
            self.table.try_send();
            while self.tasks.try_join_next().is_some() {}
        };
        self.stop().await;
        answer.into_iter().for_each(|answer| answer.send(()).unwrap_or(()));
    }

    /// Who asked may have gone meanwhile.
    fn answer(&self, request: Request) {
        match request {
            Request::Snapshot(answer) => {
                let snapshot = self.speaker.snapshot(Instant::now());
                answer.send(self.with_listeners(snapshot)).ok();
            }
            Request::Sessions(answer) => {
                let sessions = self.speaker.sessions(Instant::now());
                answer.send(self.with_listeners(sessions)).ok();
            }
            Request::Routes(query, answer) => {
                answer.send(self.speaker.routes(&query)).ok();
            }
            Request::Explain(prefix, peer, answer) => {
                answer.send(self.speaker.explain(prefix, peer.as_deref())).ok();
            }
            Request::Shutdown(answer) => {
                answer.send(()).ok();
            }
        }
    }

    fn with_listeners(&self, snapshot: Snapshot) -> Snapshot {
        Snapshot { listen_errors: self.listeners.failed().clone(), ..snapshot }
    }

    async fn wake(&mut self, commands: &mut Commands) -> Wake {
        let deadline = self.speaker.next_deadline().into_iter().chain(self.listeners.deadline()).min();
        let sleep = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        // What was said first counts first: a question finds the configuration before it, routes the keys before them.
        tokio::select! {
            biased;
            changed = commands.config.changed() => match changed {
                Ok(()) => Wake::Config(commands.config.borrow_and_update().clone()),
                Err(_) => Wake::Abandoned,
            },
            changed = commands.originated.changed() => match changed {
                Ok(()) => Wake::Originated,
                Err(_) => Wake::Abandoned,
            },
            request = commands.requests.recv() => request.map_or(Wake::Abandoned, Wake::Request),
            Some(event) = self.queue.recv() => Wake::Event(event),
            () = self.table.send() => Wake::TableSent,
            () = sleep => Wake::Time,
        }
    }

    /// Looks at the clock. What arrived while the owner was busy counts first: a peer is not silent because we did not
    /// listen. And keepalives are not late because there is much to read.
    async fn tick_if_due(&mut self) {
        let deadline = self.speaker.next_deadline().into_iter().chain(self.listeners.deadline()).min();
        if deadline.is_none_or(|at| at > Instant::now()) {
            return;
        }
        // The first turn lets the runtime look at the sockets, the second the readers speak.
        for _ in 0..2 {
            tokio::task::yield_now().await;
            for _ in 0..self.links.len() {
                let Ok(event) = self.queue.try_recv() else { break };
                self.take_event(event);
            }
        }
        self.tick();
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(input, Instant::now());
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.listeners.deadline().is_some_and(|at| at <= now) {
            self.listeners.retry(now);
        }
        self.input(Input::Tick);
    }

    fn configure(&mut self, config: Option<SpeakerConfig>) {
        let Some(config) = config else { return };
        let security = |(id, peer): (&PeerId, &crate::PeerConfig)| {
            (*id, Security { password: peer.password.clone(), ttl_security: peer.ttl_security })
        };
        let security = config.peers.iter().map(security).collect();
        let old = std::mem::replace(&mut self.security, security);
        let listen: BTreeSet<_> = config.listen.iter().copied().collect();
        let keys =
            self.security.iter().filter_map(|(id, security)| Some((id.ip(), security.password.clone()?)));
        self.listeners.configure(listen, keys.collect(), Instant::now());
        self.input(Input::Configure(config));
        self.change_keys(&old);
    }

    /// Gives living connections the new key of their peer, and begins anew to dial those that were dialled with the
    /// old one. From no key to a key or back is another session, which the speaker has ended by now.
    fn change_keys(&mut self, old: &BTreeMap<PeerId, Security>) {
        let changed: BTreeMap<PeerId, String> = self
            .security
            .iter()
            .filter_map(|(id, security)| {
                let (old, new) = (old.get(id)?.password.as_ref()?, security.password.as_ref()?);
                (old != new).then(|| (*id, new.clone()))
            })
            .collect();
        for (peer, password) in &changed {
            for (conn, error) in self.keyed.change(peer.ip(), password) {
                self.close(conn);
                self.input(Input::Closed { conn, reason: words(&error) });
            }
        }
        let stale: Vec<ConnId> = self
            .dials
            .iter()
            .filter(|(_, attempt)| changed.contains_key(&attempt.peer))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in stale {
            self.dials.remove(&conn);
            self.input(Input::DialFailed { conn, reason: "the TCP-MD5 key changed".to_owned() });
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.keyed.remove(conn);
        self.links.remove(&conn);
    }

    /// A connection that is ready: the speaker hears of it next.
    fn open(&mut self, conn: ConnId, stream: TcpStream, peer: IpAddr) -> std::io::Result<()> {
        let mut of_peer = self.security.iter().filter(|(id, _)| id.ip() == peer);
        if let Some(password) = of_peer.find_map(|(_, security)| security.password.as_ref()) {
            self.keyed.insert(conn, &stream, peer, password)?;
        }
        self.links.insert(conn, Link::open(conn, stream, &self.events, &mut self.tasks));
        Ok(())
    }

    fn take_events(&mut self, first: Event) {
        self.take_event(first);
        for _ in 0..BATCH {
            match self.queue.try_recv() {
                Ok(event) => self.take_event(event),
                Err(_) => return,
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Readable { conn } => self.read(conn),
            Event::Sent { conn, octets } => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.written(octets);
                    self.input(Input::Sent { conn, octets });
                }
            }
            Event::Dialled { conn, result } => {
                if let Some(attempt) = self.dials.remove(&conn) {
                    self.dialled(conn, attempt.peer, result);
                }
            }
            Event::Accepted { stream, remote } => {
                let remote = std::net::SocketAddr::new(remote.ip().to_canonical(), remote.port());
                self.take_accepted(stream, remote);
            }
        }
    }

    /// Reads until there is nothing more, or others have their turn.
    fn read(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let unbroken = link.unbroken();
        let long = unbroken > LONG;
        let (reads, most) = match long {
            false => (READS, READ),
            true if unbroken / PER_ROUTE > self.speaker.received(conn) => (1, TRICKLE),
            true => (1, PIECE),
        };
        for _ in 0..reads {
            let Some(link) = self.links.get_mut(&conn) else { return };
            match link.read(&mut self.buffer[..most]) {
                Ok(0) => break,
                Ok(octets) => self.speaker.receive(conn, &self.buffer[..octets], Instant::now()),
                Err(reason) => {
                    self.close(conn);
                    return self.input(Input::Closed { conn, reason });
                }
            }
        }
        match self.links.get(&conn) {
            Some(link) if long => link.resume_later(),
            Some(link) => link.resume(),
            None => {}
        }
    }

    fn dialled(&mut self, conn: ConnId, peer: PeerId, result: std::io::Result<TcpStream>) {
        let opened = result.and_then(|stream| {
            let local = stream.local_addr()?.ip();
            self.open(conn, stream, peer.ip())?;
            Ok(local)
        });
        match opened {
            Ok(local) => self.input(Input::Connected { conn, local }),
            Err(error) => self.input(Input::DialFailed { conn, reason: words(&error) }),
        }
    }

    /// Takes a connection, unless the protection its peer asks for cannot be had. One that the speaker refuses without a
    /// word costs no more than that: whoever connects in a loop is no burden to others.
    fn take_accepted(&mut self, stream: TcpStream, remote: std::net::SocketAddr) {
        let conn = ConnId::Accepted(self.accepted);
        let peer = remote.ip();
        let prepared = self.protect(&stream, peer).and_then(|()| {
            let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
            local.map_err(|error| words(&error))
        });
        match prepared {
            Ok(local) => {
                self.accepted += 1;
                self.arriving = Some(Arriving { conn, stream, peer });
                self.input(Input::Accepted { conn, local: local.ip().to_canonical(), remote });
                self.take_outputs();
                self.welcome(conn);
            }
            Err(reason) => {
                let peers: Vec<PeerId> = self.security.keys().filter(|id| id.ip() == peer).copied().collect();
                for peer in peers {
                    self.input(Input::PeerFault { peer, reason: format!("connection refused: {reason}") });
                }
            }
        }
    }

    /// Opens the connection if it is the one that arrives: the speaker does not refuse it, or has a word for it.
    fn welcome(&mut self, conn: ConnId) {
        let Some(arriving) = self.arriving.take_if(|arriving| arriving.conn == conn) else { return };
        if let Err(error) = self.open(conn, arriving.stream, arriving.peer) {
            self.input(Input::Closed { conn, reason: format!("connection refused: {}", words(&error)) });
        }
    }

    fn protect(&self, stream: &TcpStream, peer: IpAddr) -> Result<(), String> {
        if let Some(reason) = self.listeners.refusal(peer) {
            return Err(reason.to_owned());
        }
        let of_peer = self.security.iter().filter(|(id, _)| id.ip() == peer);
        for (_, security) in of_peer {
            set_hop_limit(stream, peer, security).map_err(|error| words(&error))?;
        }
        Ok(())
    }

    /// Does what the speaker says until it has no more to say; writes in between, so that little waits in memory.
    fn carry_out(&mut self) {
        loop {
            self.take_outputs();
            if self.round.is_empty() {
                return;
            }
            for conn in std::mem::take(&mut self.round) {
                let octets = self.links.get_mut(&conn).map_or(0, Link::flush);
                if octets > 0 {
                    self.input(Input::Sent { conn, octets });
                }
            }
        }
    }

    fn take_outputs(&mut self) {
        let mut octets = 0;
        while octets < ROUND
            && let Some(output) = self.speaker.poll_output()
        {
            match output {
                Output::Send { conn, data } => {
                    octets += data.len();
                    self.welcome(conn);
                    if self.links.get_mut(&conn).is_some_and(|link| link.send(data)) {
                        self.round.push(conn);
                    }
                }
                Output::Dial { conn, peer, from } => self.dial(conn, peer, from),
                Output::Close { conn } => {
                    self.arriving.take_if(|arriving| arriving.conn == conn);
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.flush();
                    }
                    self.close(conn);
                    if let Some(attempt) = self.dials.remove(&conn)
                        && let Some(reason) = attempt.suspicion()
                    {
                        self.input(Input::PeerFault { peer: attempt.peer, reason });
                    }
                }
                Output::Changes(changes) => self.table.push(changes),
                Output::Converged => {
                    tracing::info!("BGP table complete");
                    self.table.converged();
                }
                Output::Note(note) => log(&note),
            }
        }
    }

    fn dial(&mut self, conn: ConnId, peer: PeerId, from: Option<IpAddr>) {
        let security = self.security.get(&peer).cloned().unwrap_or_default();
        let (events, signed) = (self.events.clone(), security.password.is_some());
        let task = self.tasks.spawn(async move {
            let result = dialer::dial(peer, from, security).await;
            events.send(Event::Dialled { conn, result }).await.ok();
        });
        self.dials.insert(conn, Attempt::new(peer, AbortOnDrop(task), signed));
    }

    /// Closes every connection without a NOTIFICATION; see [`super::Handle::shutdown`].
    async fn stop(mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        self.links.clear();
        self.keyed.clear();
        self.dials.clear();
        // Readers that wait for room in the queue must not keep their sockets open.
        self.queue.close();
        timeout(PATIENCE, async { while self.tasks.join_next().await.is_some() {} }).await.ok();
        self.tasks.shutdown().await;
    }
}

fn log(note: &Note) {
    match note {
        Note::Up { name, peer } => tracing::info!(%peer, name, "BGP session established"),
        Note::Down { name, peer, reason } => tracing::warn!(%peer, name, reason, "BGP session ended"),
        Note::Fault { name, peer, fault } => tracing::warn!(%peer, name, fault, "faulty BGP update"),
        Note::Stranger { remote } => {
            tracing::debug!(%remote, "BGP connection from an unknown address refused")
        }
    }
}
