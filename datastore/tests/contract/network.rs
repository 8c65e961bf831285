//! The network between the members of a cluster, which can be cut between any two of them.
//!
//! Members know each other by addresses that exist nowhere (RFC 5737) and reach them through a SOCKS proxy (RFC 1928), which
//! Go's HTTP client takes from its environment. Each member has a proxy of its own, so that a connection's both ends are
//! known. A cut closes what is open and leaves new connections unanswered.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// From whom to whom.
type Link = (usize, usize);

/// Proxies of all members. They end with the runtime.
pub(crate) struct Network {
    cuts: watch::Sender<BTreeSet<Link>>,
    proxies: Vec<u16>,
}

/// The port members name in their addresses; the proxies know the real one.
const PORT: u16 = 2380;

/// The address other members know a member by.
pub(crate) fn peer_url(member: usize) -> String {
    format!("http://192.0.2.{}:{PORT}", member + 1)
}

impl Network {
    /// Between members that listen for each other on these loopback ports.
    pub(crate) async fn new(ports: Vec<u16>) -> Network {
        let cuts = watch::Sender::new(BTreeSet::new());
        let ports: Arc<[u16]> = ports.into();
        let mut proxies = Vec::new();
        for member in 0..ports.len() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            proxies.push(listener.local_addr().unwrap().port());
            let (ports, cuts) = (ports.clone(), cuts.subscribe());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // A connection that fails is the members' affair.
                    tokio::spawn(carry(stream, member, ports.clone(), cuts.clone()));
                }
            });
        }
        Network { cuts, proxies }
    }

    /// What a member's process needs in its environment.
    pub(crate) fn environment(&self, member: usize) -> (&'static str, String) {
        ("HTTP_PROXY", format!("socks5://127.0.0.1:{}", self.proxies[member]))
    }

    /// Cuts a member off from all others.
    pub(crate) fn isolate(&self, member: usize) {
        let others = (0..self.proxies.len()).filter(|other| *other != member);
        self.cuts
            .send_modify(|cuts| cuts.extend(others.flat_map(|other| [(member, other), (other, member)])));
    }

    /// Everybody reaches everybody.
    pub(crate) fn heal(&self) {
        self.cuts.send_modify(BTreeSet::clear);
    }
}

/// One connection, until either end or a cut ends it.
async fn carry(
    mut near: TcpStream,
    from: usize,
    ports: Arc<[u16]>,
    mut cuts: watch::Receiver<BTreeSet<Link>>,
) -> io::Result<()> {
    let to = destination(&mut near).await?;
    let port = *ports.get(to).ok_or(io::ErrorKind::AddrNotAvailable)?;
    // The sender lives as long as the test.
    let _ = cuts.wait_for(|cuts| !cuts.contains(&(from, to))).await;
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // Succeeded; the address bound is of no interest.
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut near, &mut far) => carried.map(drop),
        _ = cuts.wait_for(|cuts| cuts.contains(&(from, to))) => Ok(()),
    }
}

/// The member asked for: without authentication, by IPv4 address.
async fn destination(stream: &mut TcpStream) -> io::Result<usize> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    stream.read_exact(&mut vec![0; usize::from(greeting[1])]).await?;
    stream.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    stream.read_exact(&mut request).await?;
    match request {
        [5, 1, 0, 1, 192, 0, 2, last, ..] => Ok(usize::from(last.wrapping_sub(1))),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
